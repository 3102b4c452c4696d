"""Merging an adapter into its model: dequantise, add, quantise again with llama.cpp's own quantiser.

    python -m llmos.nlui.merge ADAPTER OUT [--base NAME] [--type Q8_0]

An adapter costs two small products a layer at each token; in a merged model it costs nothing.
"""

import argparse
import ctypes
import errno
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import gguf
import llama_cpp
import numpy as np
from numpy.typing import NDArray

from llmos.errors import LlmosError, ModelError
from llmos.nlui import gguf_file, models
from llmos.nlui.adapters import BASE_KEY, importance_for
from llmos.nlui.decoding import usable_cores
from llmos.nlui.gguf_file import dequantised, metadata
from llmos.nlui.merged import MERGED_TYPE
from llmos.nlui.models import Installed, Progress

TYPES = ("IQ4_NL", "Q4_0", "Q4_1", "Q4_K_S", "Q4_K_M", "Q5_0", "Q5_K_M", "Q6_K", "Q8_0", "F16")
_LARGEST = {**dict.fromkeys(TYPES, 34 / 32), "F16": 2.0}
"""Bytes that a weight takes at most."""

_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, None})
"""None: numpy gives no reason when it could write only a part."""
_SILENCE = llama_cpp.llama_log_callback(lambda level, text, data: None)
_POLL_SECONDS = 0.2
"""How often a file that llama.cpp writes is looked at for its progress."""


def merge(
    base: Installed,
    adapter: Path,
    out: Path,
    *,
    quantisation: str = MERGED_TYPE,
    importance: Path | None = None,
    progress: Progress = lambda done, total: None,
) -> str:
    """Write the merged model, all or nothing, and return its sha256; takes half a minute for half a billion weights.

    Args:
        importance: file of `llmos.nlui.training.importance`; what matters more is rounded less.

    Raises:
        ModelError: the adapter belongs to another model, there is no room, or llama.cpp could not quantise.
    """
    llama_cpp.llama_log_set(_SILENCE, None)  # what goes wrong is raised; the rest is nothing to a person
    trained, whole_base = gguf_file.read(adapter), gguf_file.read(base.path)
    trained_on = metadata(trained, BASE_KEY)
    if trained_on != base.sha256:
        raise ModelError(f"{adapter} was trained on another model than {base.path} (sha256 {str(trained_on)[:12]}…)")
    weights = sum(int(tensor.n_elements) for tensor in whole_base.tensors)
    read, written = sum(int(tensor.n_bytes) for tensor in whole_base.tensors), int(weights * _LARGEST[quantisation])
    total, room = read + written, 2 * weights + written
    try:
        if (free := shutil.disk_usage(out.parent).free) < room:
            raise _no_room(out, room, free)
        with tempfile.TemporaryDirectory(prefix=".merge-", dir=out.parent) as folder:
            whole, quantised = Path(folder, "whole.gguf"), Path(folder, "quantised.gguf")
            _write_whole(whole_base, _Changes(trained), whole, lambda done: progress(done, total))
            _quantise(whole, quantised, quantisation, importance, lambda done: progress(min(read + done, total), total))
            digest = models.sha256_of(quantised)
            quantised.replace(out)
            progress(total, total)
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise _no_room(out, room, shutil.disk_usage(out.parent).free) from None
        raise ModelError(f"the merged model cannot be written to {out.parent}: {error.strerror}") from None
    return digest


class _Changes:
    """What an adapter adds to each weight, by the name of its tensor."""

    def __init__(self, adapter: gguf.GGUFReader) -> None:
        self._parts = {tensor.name: dequantised(tensor) for tensor in adapter.tensors}
        self._alpha = float(metadata(adapter, gguf.Keys.Adapter.LORA_ALPHA))

    def add(self, name: str, matrix: NDArray[np.float32]) -> None:
        """Add to a matrix in place; nothing where the adapter does not change it."""
        if (down := self._parts.get(f"{name}.lora_a")) is not None:
            matrix += self._parts[f"{name}.lora_b"] @ down * np.float32(self._alpha / len(down))


def _write_whole(base: gguf.GGUFReader, changes: _Changes, path: Path, progress: Callable[[int], None]) -> None:
    """Copy a model file with its matrices dequantised to float16 and the changes added; tells the bytes read."""
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
    done = 0
    for tensor in base.tensors:
        matrix = dequantised(tensor)
        changes.add(tensor.name, matrix)
        writer.write_tensor_data(matrix.astype(kinds[tensor.name]))
        done += int(tensor.n_bytes)
        progress(done)
    writer.close()


def _quantise(
    whole: Path, out: Path, quantisation: str, importance: Path | None, progress: Callable[[int], None]
) -> None:
    """Write a float16 model anew in another quantisation; tells the bytes written."""
    kept = _importance(importance) if importance else []
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype = getattr(llama_cpp, f"LLAMA_FTYPE_MOSTLY_{quantisation}")
    params.nthread = usable_cores()
    if kept:
        rows = (llama_cpp.llama_model_imatrix_data * (len(kept) + 1))()  # the last, empty one ends it
        for row, (name, values) in zip(rows, kept, strict=False):
            row.name, row.size = name, len(values)
            row.data = values.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
        params.imatrix = rows
    with ThreadPoolExecutor(1) as pool:
        quantising = pool.submit(llama_cpp.llama_model_quantize, os.fsencode(whole), os.fsencode(out), params)
        while not wait([quantising], _POLL_SECONDS).done:
            progress(out.stat().st_size if out.exists() else 0)
    if status := quantising.result():
        raise ModelError(f"llama.cpp could not quantise the merged model to {quantisation} (status {status})")


def _importance(path: Path) -> list[tuple[bytes, NDArray[np.float32]]]:
    """Mean squares (columns,) of the inputs of each tensor, by its name."""
    parts = {tensor.name: dequantised(tensor).ravel() for tensor in gguf_file.read(path).tensors}
    names = [name.removesuffix(".in_sum2") for name in parts if name.endswith(".in_sum2")]
    return [(name.encode(), parts[f"{name}.in_sum2"] / parts[f"{name}.counts"]) for name in names]


def _no_room(out: Path, room: int, free: int) -> ModelError:
    return ModelError(
        f"no room to merge a model in {out.parent}: {room:,} bytes are needed for the time and {free:,} are free; "
        "make room there"
    )


def main() -> int:
    """Merge one adapter; prints the sha256 of the merged model."""
    parser = argparse.ArgumentParser(prog="llmos.nlui.merge", description="Merge an adapter into its model.")
    parser.add_argument("adapter", type=Path)
    parser.add_argument("out", type=Path, help="the GGUF file to write")
    parser.add_argument("--base", default=models.DEFAULT, help="the model it was trained on, by name or path")
    parser.add_argument("--type", choices=TYPES, default=MERGED_TYPE, help="quantisation (%(default)s)")
    options = parser.parse_args()
    show = _show if sys.stderr.isatty() else lambda done, total: None
    try:
        base = models.locate(options.base)
        digest = merge(
            base,
            options.adapter,
            options.out,
            quantisation=options.type,
            importance=importance_for(base),
            progress=show,
        )
    except LlmosError as error:
        print(f"merge: {error.message}", file=sys.stderr)
        return error.exit_code
    print(digest)
    return 0


def _show(done: int, total: int) -> None:
    print(f"\rmerging {done / total:4.0%}", end="\n" if done == total else "", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
