"""Whether an adapter does when served what it did in training: greedy plans of both, request by request.

    python -m llmos.nlui.training.check ADAPTER PAIRS [--base NAME] [--count 200]

The two compute in other precisions (bf16 here, activations of 8 bits there), so a near tie may fall otherwise: where two
plans part, the network in training must have held the two tokens for about as likely.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from llmos.errors import LlmosError
from llmos.nlui.decoding import LanguageModel
from llmos.nlui.plan_match import plan_matches
from llmos.nlui.training import trained, validation
from llmos.nlui.training.batches import Pair
from llmos.nlui.training.network import Network
from llmos.nlui.training.vocabulary import Vocabulary

TIE = 1.0
"""Nats by which one token may be likelier than another and still be in a near tie with it."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """A request, its plan by the trainer's network and by llama.cpp, and which of them were accepted.

    `lead`: by how many nats the network held its own token for likelier where the plans part; 0 where they do not.
    """

    request: str
    trained: str
    served: str
    trained_right: bool
    served_right: bool
    lead: float


def compare(network: Network, vocabulary: Vocabulary, served: LanguageModel, pairs: Sequence[Pair]) -> list[Comparison]:
    """Let both answer each pair's request, greedily and without a grammar."""
    results = []
    for answer in validation.answers(network, vocabulary, pairs):
        text = served.generate(answer.pair.prompt, None, max_tokens=96).text
        right = plan_matches(text, answer.pair.accepted)
        ahead = lead(network, answer.pair.prompt, *(vocabulary.completion([plan]) for plan in (answer.plan, text)))
        results.append(Comparison(answer.pair.request, answer.plan, text, answer.right, right, ahead))
    return results


def lead(network: Network, prompt: Sequence[int], ours: Sequence[int], theirs: Sequence[int]) -> float:
    """The difference of two continuations' logits where they first differ, in nats; 0 where they are the same."""
    parting = next((at for at, pair in enumerate(zip(ours, theirs, strict=False)) if pair[0] != pair[1]), None)
    if parting is None:
        return 0.0
    device = network.weights.output.device
    tokens = torch.tensor([[*prompt, *ours[:parting]]], device=device)
    positions = torch.arange(tokens.shape[1], device=device)[None]
    with torch.inference_mode():
        hidden = network.hidden(tokens, positions, positions[0, -1:])
        one, other = (hidden @ network.weights.output[[ours[parting], theirs[parting]]].T).float()[0]
    return float(one - other)


def main() -> int:
    """Compare on some pairs; the exit status is 1 when two plans part elsewhere than at a near tie."""
    parser = argparse.ArgumentParser(prog="llmos.nlui.training.check", description="Compare training and serving.")
    trained.add_options(parser, count=200)
    options = parser.parse_args()
    try:
        ours = trained.load(options)
        served = LanguageModel(ours.base, adapter=options.adapter)
        results = compare(ours.network, ours.vocabulary, served, ours.pairs)
    except LlmosError as error:
        print(f"check: {error.message}", file=sys.stderr)
        return error.exit_code
    for result in results:
        if result.trained != result.served:
            print(f"{result.request}\n    trained {result.trained!r}, by {result.lead:.2f} nats")
            print(f"    served  {result.served!r}")
    same = sum(result.trained == result.served for result in results) / len(results)
    right = [
        sum(flags) / len(results) for flags in zip(*((r.trained_right, r.served_right) for r in results), strict=True)
    ]
    largest = max(result.lead for result in results)
    print(
        f"{same:.1%} of {len(results)} plans are the same, the others part where one token leads by {largest:.2f} nats at "
        f"most; exact: trained {right[0]:.1%}, served {right[1]:.1%}"
    )
    return 0 if largest <= TIE else 1


if __name__ == "__main__":
    sys.exit(main())
