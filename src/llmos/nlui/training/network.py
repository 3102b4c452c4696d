"""The decoder of the llama and qwen2 architectures with a low-rank adapter on every linear layer.

The base is frozen, in bf16; the adapter's parameters are float32 and named after the tensors they change. The residual
stream is float32, as in llama.cpp. Rows of a batch are padded on the right, where the causal mask keeps padding out.
"""

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import nn
from torch.nn import functional

from llmos.nlui.training.gguf_weights import ATTENTION, GATED, GROUPS, Weights
from llmos.nlui.training.kernels import adapted_linear, gated, rms_norm

Seen = Callable[[int, Sequence[str], torch.Tensor], None]


class Adapter(nn.Module):
    """Low-rank matrices for every linear layer: `down` (rank, columns) and `up` (rows, rank), by tensor name.

    What is added to a layer's output is `scale` * up(down(x)); `up` begins at zero, so nothing is changed at first.
    """

    def __init__(self, weights: Weights, rank: int, alpha: float) -> None:
        super().__init__()
        self.rank, self.alpha, self.scale = rank, alpha, alpha / rank
        self.down, self.up = nn.ParameterDict(), nn.ParameterDict()
        shape = weights.shape
        for block in range(shape.blocks):
            for name in (name for group in GROUPS for name in group):
                bound = 1 / math.sqrt(shape.columns(name))
                key = _key(block, name)
                self.down[key] = torch.empty(rank, shape.columns(name)).uniform_(-bound, bound)
                self.up[key] = torch.zeros(shape.rows(name), rank)

    def group(self, block: int, names: Sequence[str], dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
        """The matrices of one group of layers, as one: downs one below the other, ups on a diagonal, scaled."""
        keys = [_key(block, name) for name in names]
        down = torch.cat([self.down[key] for key in keys])
        up = torch.block_diag(*(self.up[key] for key in keys)) * self.scale
        return down.to(dtype), up.to(dtype)

    def tensors(self) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
        """(down, up) by the name of the GGUF tensor they belong to, in float32 on the CPU."""
        return {_tensor_name(key): (self.down[key].detach().cpu(), self.up[key].detach().cpu()) for key in self.down}

    def load_tensors(self, tensors: Mapping[str, tuple[torch.Tensor, torch.Tensor]]) -> None:
        """Take the values of `tensors()`."""
        with torch.no_grad():
            for key in self.down:
                down, up = tensors[_tensor_name(key)]
                self.down[key].copy_(down)
                self.up[key].copy_(up)


class Cache:
    """Keys and values of each block for `rows` sequences of at most `length` tokens."""

    def __init__(self, weights: Weights, rows: int, length: int) -> None:
        shape = weights.shape
        size = (shape.blocks, rows, length, shape.key_heads, shape.head_width)
        self.keys = torch.zeros(size, dtype=weights.embedding.dtype, device=weights.embedding.device)
        self.values = torch.zeros_like(self.keys)

    def put(
        self, block: int, positions: torch.Tensor, keys: torch.Tensor, values: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write (rows, tokens, heads, width) at positions (rows, tokens); returns all of this block's."""
        rows = torch.arange(len(positions), device=positions.device)[:, None]
        self.keys[block, rows, positions] = keys
        self.values[block, rows, positions] = values
        return self.keys[block], self.values[block]

    def keep(self, rows: torch.Tensor) -> None:
        """Go on with some of the sequences only."""
        self.keys, self.values = self.keys[:, rows], self.values[:, rows]


class Network:
    """A frozen model and the adapter that is trained on it."""

    def __init__(self, weights: Weights, adapter: Adapter) -> None:
        self.weights, self.adapter = weights, adapter
        shape, device = weights.shape, weights.embedding.device
        half = torch.arange(0, shape.head_width, 2, dtype=torch.float32, device=device)
        self._frequencies = shape.rope_base ** (-half / shape.head_width)

    def hidden(
        self,
        tokens: torch.Tensor,
        positions: torch.Tensor,
        picked: torch.Tensor,
        *,
        cache: Cache | None = None,
        dropout: float = 0.0,
        seen: Seen = lambda block, names, inputs: None,
    ) -> torch.Tensor:
        """The normed output (picked, width) of the last block at some of the tokens.

        Args:
            tokens, positions: (rows, tokens); a token's own place in its sequence.
            picked: indices into the flattened tokens; elsewhere the last block is not computed to its end.
            cache: what earlier tokens left; without it the tokens are whole sequences.
            seen: is told the inputs (tokens, columns) of each group of layers, by block and names.
        """
        shape, dtype = self.weights.shape, self.weights.embedding.dtype
        stream = self.weights.embedding[tokens.flatten()].float()
        angles = positions.flatten()[:, None, None] * self._frequencies
        turn = angles.cos(), angles.sin()
        mask = self._mask(positions, cache)
        for block, (norms, layers) in enumerate(zip(self.weights.norms, self.weights.groups, strict=True)):
            pairs = [
                (*layer, *self.adapter.group(block, names, dtype)) for layer, names in zip(layers, GROUPS, strict=True)
            ]
            attention_in, attention_out, gates, ffn_out = pairs
            x = rms_norm(stream, norms[0], shape.norm_epsilon, dtype)
            seen(block, ATTENTION, x)
            x = self._attention(adapted_linear(x, *attention_in, dropout), turn, mask, positions, block, cache)
            if block == shape.blocks - 1:
                x, stream = x[picked], stream[picked]
            seen(block, ("attn_output",), x)
            stream = stream + adapted_linear(x, *attention_out, dropout)
            x = rms_norm(stream, norms[1], shape.norm_epsilon, dtype)
            seen(block, GATED, x)
            x = gated(adapted_linear(x, *gates, dropout))
            seen(block, ("ffn_down",), x)
            stream = stream + adapted_linear(x, *ffn_out, dropout)
        return rms_norm(stream, self.weights.output_norm, shape.norm_epsilon, dtype)

    def _attention(
        self,
        mixed: torch.Tensor,
        turn: tuple[torch.Tensor, torch.Tensor],
        mask: torch.Tensor,
        positions: torch.Tensor,
        block: int,
        cache: Cache | None,
    ) -> torch.Tensor:
        """Causal attention of (tokens, q + k + v); the query heads that share a key head are its rows."""
        shape, (rows, length) = self.weights.shape, positions.shape
        heads = mixed.view(len(mixed), -1, shape.head_width)
        turned = self._turn(heads[:, : shape.heads + shape.key_heads], turn)
        query = turned[:, : shape.heads].view(rows, length, shape.key_heads, -1, shape.head_width)
        key = turned[:, shape.heads :].view(rows, length, shape.key_heads, shape.head_width)
        value = heads[:, shape.heads + shape.key_heads :].view(key.shape)
        if cache:
            key, value = cache.put(block, positions, key, value)
        query = query.permute(0, 2, 3, 1, 4).reshape(rows, shape.key_heads, -1, shape.head_width)
        scores = query @ key.permute(0, 2, 3, 1)
        shares = shape.heads // shape.key_heads
        scores = scores.view(rows, shape.key_heads, shares, length, -1).float() / math.sqrt(shape.head_width) + mask
        odds = functional.softmax(scores, dim=-1).to(value.dtype).view(rows, shape.key_heads, shares * length, -1)
        result = (odds @ value.transpose(1, 2)).view(rows, shape.key_heads, shares, length, shape.head_width)
        return result.permute(0, 3, 1, 2, 4).reshape(len(mixed), -1)

    def _turn(self, heads: torch.Tensor, turn: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        """Rotary positions (https://arxiv.org/abs/2104.09864) on (tokens, heads, width)."""
        cosine, sine = turn
        if self.weights.shape.interleaved:
            first, second = heads[..., 0::2], heads[..., 1::2]
            turned = first * cosine - second * sine, first * sine + second * cosine
            return torch.stack(turned, dim=-1).flatten(-2).to(heads.dtype)
        first, second = heads.chunk(2, dim=-1)
        return torch.cat((first * cosine - second * sine, first * sine + second * cosine), dim=-1).to(heads.dtype)

    @staticmethod
    def _mask(positions: torch.Tensor, cache: Cache | None) -> torch.Tensor:
        """What is added to scores (rows, key heads, shares, tokens, seen): minus infinity at what comes later."""
        seen = cache.keys.shape[2] if cache else positions.shape[1]
        later = torch.arange(seen, device=positions.device) > positions[:, None, None, :, None]
        return torch.zeros(later.shape, device=positions.device).masked_fill_(later, -math.inf)


def _key(block: int, name: str) -> str:
    # Names of parameters hold no dots.
    return f"blk-{block}-{name}"


def _tensor_name(key: str) -> str:
    return key.replace("-", ".") + ".weight"
