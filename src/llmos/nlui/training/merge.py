"""Merging an adapter into its model: dequantise, add, quantise again with llama.cpp's own quantiser.

    python -m llmos.nlui.training.merge ADAPTER OUT [--base NAME] [--type Q4_K_M]

An adapter costs two small products a layer at each token; in a merged model it costs nothing.
"""

import argparse
import logging
import os
import sys
import tempfile
from pathlib import Path

import gguf
import llama_cpp
import numpy as np
from numpy.typing import NDArray

from llmos.errors import LlmosError, ModelError
from llmos.nlui import models
from llmos.nlui.decoding import usable_cores
from llmos.nlui.training.export import BASE_KEY
from llmos.nlui.training.gguf_weights import dequantised, metadata

TYPES = ("Q4_0", "Q4_1", "Q4_K_S", "Q4_K_M", "Q5_0", "Q5_K_M", "Q6_K", "Q8_0", "F16")


def merge(base: Path, adapter: Path, out: Path, *, quantisation: str = "Q4_K_M") -> str:
    """Write the merged model and return its sha256; takes 3 bytes of disk a weight for the time.

    Raises:
        ModelError: the adapter belongs to another model, or llama.cpp could not quantise.
    """
    trained = gguf.GGUFReader(adapter)
    trained_on = metadata(trained, BASE_KEY)
    if trained_on != models.sha256_of(base):
        raise ModelError(f"{adapter} was trained on another model than {base} (sha256 {str(trained_on)[:12]}…)")
    with tempfile.TemporaryDirectory(prefix=".merge-", dir=out.parent) as folder:
        whole, quantised = Path(folder, "whole.gguf"), Path(folder, "quantised.gguf")
        _write_whole(gguf.GGUFReader(base), _Changes(trained), whole)
        params = llama_cpp.llama_model_quantize_default_params()
        params.ftype = getattr(llama_cpp, f"LLAMA_FTYPE_MOSTLY_{quantisation}")
        params.nthread = usable_cores()
        if status := llama_cpp.llama_model_quantize(os.fsencode(whole), os.fsencode(quantised), params):
            raise ModelError(f"llama.cpp could not quantise the merged model to {quantisation} (status {status})")
        quantised.replace(out)
    return models.sha256_of(out)


class _Changes:
    """What an adapter adds to each weight, by the name of its tensor."""

    def __init__(self, adapter: gguf.GGUFReader) -> None:
        self._parts = {tensor.name: dequantised(tensor) for tensor in adapter.tensors}
        self._alpha = float(metadata(adapter, gguf.Keys.Adapter.LORA_ALPHA))

    def add(self, name: str, matrix: NDArray[np.float32]) -> None:
        """Add to a matrix in place; nothing where the adapter does not change it."""
        if (down := self._parts.get(f"{name}.lora_a")) is not None:
            matrix += self._parts[f"{name}.lora_b"] @ down * np.float32(self._alpha / len(down))


def _write_whole(base: gguf.GGUFReader, changes: _Changes, path: Path) -> None:
    """Copy a model file with its matrices dequantised to float16 and the changes added."""
    writer = gguf.GGUFWriter(path, metadata(base, gguf.Keys.General.ARCHITECTURE))
    for field in base.fields.values():
        if field.name != gguf.Keys.General.ARCHITECTURE and not field.name.startswith("GGUF."):
            kind = field.types[0]
            items = field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None
            writer.add_key_value(field.name, field.contents(), kind, sub_type=items)
    kinds = {tensor.name: np.float16 if len(tensor.shape) > 1 else np.float32 for tensor in base.tensors}
    for tensor in base.tensors:
        shape, number = tuple(int(n) for n in reversed(tensor.shape)), np.dtype(kinds[tensor.name])
        writer.add_tensor_info(tensor.name, shape, number, int(np.prod(shape)) * number.itemsize)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for tensor in base.tensors:
        matrix = dequantised(tensor)
        changes.add(tensor.name, matrix)
        writer.write_tensor_data(matrix.astype(kinds[tensor.name]))
    writer.close()


def main() -> int:
    """Merge one adapter; prints the sha256 of the merged model."""
    parser = argparse.ArgumentParser(prog="llmos.nlui.training.merge", description="Merge an adapter into its model.")
    parser.add_argument("adapter", type=Path)
    parser.add_argument("out", type=Path, help="the GGUF file to write")
    parser.add_argument("--base", default=models.DEFAULT, help="the model it was trained on, by name or path")
    parser.add_argument("--type", choices=TYPES, default="Q4_K_M", help="quantisation (%(default)s)")
    options = parser.parse_args()
    logging.getLogger("llama-cpp-python").setLevel(logging.ERROR)
    try:
        print(merge(models.locate(options.base).path, options.adapter, options.out, quantisation=options.type))
    except LlmosError as error:
        print(f"merge: {error.message}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
