"""Greedy generation by the network in training, many requests at once."""

from collections.abc import Sequence

import torch

from llmos.nlui.training.network import Cache, Network

ROWS = 64
"""Requests generated at the same time."""


def generate(network: Network, prompts: Sequence[Sequence[int]], end: int, *, max_tokens: int = 96) -> list[list[int]]:
    """The likeliest continuation of each prompt, without the `end` token, at most `max_tokens` long."""
    results: list[list[int]] = [[] for _ in prompts]
    # Prompts of about one length go together, and short ones are done early.
    order = sorted(range(len(prompts)), key=lambda n: len(prompts[n]))
    with torch.inference_mode():
        for start in range(0, len(order), ROWS):
            numbers = order[start : start + ROWS]
            for number, tokens in zip(
                numbers, _generate([prompts[n] for n in numbers], network, end, max_tokens), strict=True
            ):
                results[number] = tokens
    return results


def _generate(prompts: Sequence[Sequence[int]], network: Network, end: int, max_tokens: int) -> list[list[int]]:
    output = network.weights.output
    device = output.device
    lengths = torch.tensor([len(prompt) for prompt in prompts], device=device)
    width = int(lengths.max())
    cache = Cache(network.weights, len(prompts), width + max_tokens)
    tokens = torch.tensor([[*prompt, *[0] * (width - len(prompt))] for prompt in prompts], device=device)
    positions = torch.arange(width, device=device).expand(tokens.shape)
    picked = torch.arange(len(prompts), device=device) * width + lengths - 1
    results: list[list[int]] = [[] for _ in prompts]
    live = torch.arange(len(prompts), device=device)
    for count in range(1, max_tokens + 1):
        hidden = network.hidden(tokens, positions, picked, cache=cache)
        chosen = (hidden @ output.T).argmax(dim=-1)
        going = chosen != end
        for number, token in zip(live[going].tolist(), chosen[going].tolist(), strict=True):
            results[number].append(token)
        if count == max_tokens or not bool(going.any()):
            break
        if not bool(going.all()):
            cache.keep(going)
            live, lengths, chosen = live[going], lengths[going], chosen[going]
        # What was padding in the cache is overwritten by what is generated, and until then lies behind the mask.
        tokens, positions = chosen[:, None], lengths[:, None]
        lengths = lengths + 1
        picked = torch.arange(len(live), device=device)
    return results
