"""The weights of a GGUF file, dequantised: an adapter is trained against the very numbers it will be served with.

Weights keep the layout of the file. Llama-architecture files hold q and k with the two halves of each head interleaved;
`Shape.interleaved` says so and the network rotates such heads in adjacent pairs, so that nothing is permuted here or
when an adapter is written.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import torch

from llmos.errors import Unsupported
from llmos.nlui import gguf_file
from llmos.nlui.gguf_file import dequantised, metadata

CPU = torch.device("cpu")
ARCHITECTURES = ("llama", "qwen2")
ATTENTION = ("attn_q", "attn_k", "attn_v")
GATED = ("ffn_gate", "ffn_up")
GROUPS = (ATTENTION, ("attn_output",), GATED, ("ffn_down",))
"""The linear layers of a block, those with the same input together: each group is computed as one matrix."""


@dataclass(frozen=True, slots=True)
class Shape:
    """The size of a model: `width` of the residual stream, `hidden` of the gated layer, `head_width` of a head."""

    architecture: str
    blocks: int
    width: int
    hidden: int
    heads: int
    key_heads: int
    head_width: int
    rope_base: float
    norm_epsilon: float

    @property
    def interleaved(self) -> bool:
        """Whether rotary positions turn adjacent pairs of a head rather than its halves."""
        return self.architecture == "llama"

    def rows(self, name: str) -> int:
        """Outputs of a linear layer of a block."""
        heads = {"attn_q": self.heads, "attn_k": self.key_heads, "attn_v": self.key_heads}
        if name in heads:
            return heads[name] * self.head_width
        return self.hidden if name in GATED else self.width

    def columns(self, name: str) -> int:
        """Inputs of a linear layer of a block."""
        return {"attn_output": self.heads * self.head_width, "ffn_down": self.hidden}.get(name, self.width)


@dataclass(frozen=True, slots=True)
class Weights:
    """A model's tensors: linear layers, tables and biases in bf16, norms in float32.

    `groups[block]` holds, for each of GROUPS, the matrix (rows, columns) of its layers one below the other, and the
    bias or None.
    """

    shape: Shape
    embedding: torch.Tensor
    output: torch.Tensor
    output_norm: torch.Tensor
    norms: list[tuple[torch.Tensor, torch.Tensor]]
    groups: list[list[tuple[torch.Tensor, torch.Tensor | None]]]


def read_weights(path: Path, device: torch.device = CPU) -> Weights:
    """Read and dequantise a model file; takes seconds and, for the time, as much memory again as its largest tensor.

    Raises:
        ModelError: the file cannot be read.
        Unsupported: the network is not one of ARCHITECTURES.
    """
    reader = gguf_file.read(path)
    shape = _shape(reader)
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    if "rope_freqs.weight" in tensors:
        raise Unsupported("models with their own rotary frequencies cannot be trained; choose another model")

    def load(name: str, dtype: torch.dtype = torch.bfloat16) -> torch.Tensor:
        return torch.from_numpy(dequantised(tensors[name])).to(device, dtype)

    def group(block: int, names: tuple[str, ...]) -> tuple[torch.Tensor, torch.Tensor | None]:
        stems = [f"blk.{block}.{name}" for name in names]
        bias = torch.cat([load(f"{stem}.bias") for stem in stems]) if f"{stems[0]}.bias" in tensors else None
        return torch.cat([load(f"{stem}.weight") for stem in stems]), bias

    embedding = load("token_embd.weight")
    return Weights(
        shape,
        embedding,
        load("output.weight") if "output.weight" in tensors else embedding,
        load("output_norm.weight", torch.float32),
        [
            (load(f"blk.{n}.attn_norm.weight", torch.float32), load(f"blk.{n}.ffn_norm.weight", torch.float32))
            for n in range(shape.blocks)
        ],
        [[group(n, names) for names in GROUPS] for n in range(shape.blocks)],
    )


def _shape(reader: gguf.GGUFReader) -> Shape:
    architecture = metadata(reader, "general.architecture")
    if architecture not in ARCHITECTURES:
        known = " and ".join(ARCHITECTURES)
        raise Unsupported(f"only {known} networks can be trained, this one is {architecture!r}; choose another model")

    def fact(key: str, default: Any = None) -> Any:
        return metadata(reader, f"{architecture}.{key}", default)

    width, heads = fact("embedding_length"), fact("attention.head_count")
    return Shape(
        architecture=architecture,
        blocks=fact("block_count"),
        width=width,
        hidden=fact("feed_forward_length"),
        heads=heads,
        key_heads=fact("attention.head_count_kv", heads),
        head_width=fact("attention.key_length", width // heads),
        rope_base=fact("rope.freq_base", 10_000.0),
        norm_epsilon=fact("attention.layer_norm_rms_epsilon"),
    )
