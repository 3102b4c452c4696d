"""Trained adapters as files: a GGUF file that llama.cpp puts on the model, and a card that says where it comes from."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch

from llmos.errors import ModelError
from llmos.nlui import frame
from llmos.nlui.adapters import BASE_KEY
from llmos.nlui.gguf_file import dequantised, metadata
from llmos.nlui.models import sha256_of
from llmos.nlui.training.gguf_weights import Weights
from llmos.nlui.training.network import Adapter


def write_adapter(adapter: Adapter, path: Path, *, architecture: str, base_sha256: str) -> None:
    """Write the adapter in float16, all or nothing.

    The tensors keep the layout of the model file, interleaved heads included, so q and k need no permutation.
    """
    partial = path.with_suffix(".part")
    writer = gguf.GGUFWriter(partial, architecture)
    writer.add_type(gguf.GGUFType.ADAPTER)
    writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
    writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, adapter.alpha)
    writer.add_string(BASE_KEY, base_sha256)
    for name, (down, up) in adapter.tensors().items():
        writer.add_tensor(f"{name}.lora_a", down.numpy().astype(np.float16))
        writer.add_tensor(f"{name}.lora_b", up.numpy().astype(np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    partial.replace(path)


def read_adapter(path: Path, weights: Weights) -> Adapter:
    """An adapter as `write_adapter` wrote it, to go on with or to check.

    Raises:
        ModelError: it does not fit these weights.
    """
    reader = gguf.GGUFReader(path)
    parts = {tensor.name: torch.from_numpy(dequantised(tensor)) for tensor in reader.tensors}
    rank = min(part.shape[0] for name, part in parts.items() if name.endswith(".lora_a"))
    adapter = Adapter(weights, rank, float(metadata(reader, gguf.Keys.Adapter.LORA_ALPHA)))
    try:
        adapter.load_tensors({
            name: (parts[f"{name}.lora_a"], parts[f"{name}.lora_b"]) for name in adapter.tensors()
        })  # fmt: skip
    except (KeyError, RuntimeError) as error:
        raise ModelError(f"{path} does not fit this model: {error}") from None
    return adapter.to(weights.output.device)


def write_card(adapter: Path, facts: Mapping[str, Any]) -> Path:
    """Write `ADAPTER.json` beside the adapter: the facts, the frame, and the file's size and sha256."""
    card = {
        "file": adapter.name,
        "size": adapter.stat().st_size,
        "sha256": sha256_of(adapter),
        "frame": f"{frame.OPENING}REQUEST{frame.CLOSING}PLAN{frame.END}",
        **facts,
    }
    path = adapter.with_suffix(".json")
    path.write_text(json.dumps(card, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return path
