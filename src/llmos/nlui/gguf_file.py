"""What is read out of GGUF files: values of their head, and tensors as numbers."""

from pathlib import Path
from typing import Any

import gguf
import numpy as np
from numpy.typing import NDArray

from llmos.errors import ModelError


def read(path: Path) -> gguf.GGUFReader:
    """A file's head, its tensors mapped into memory.

    :raises ModelError: it cannot be read.
    """
    try:
        return gguf.GGUFReader(path)
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read as GGUF: {error}") from None


def metadata(reader: gguf.GGUFReader, key: str, default: Any = None) -> Any:
    """A value of the file's head, or the default."""
    field = reader.fields.get(key)
    return field.contents() if field else default


def dequantised(tensor: Any) -> NDArray[np.float32]:
    """A tensor of a `GGUFReader` as a new float32 array of shape (rows, columns)."""
    return np.require(gguf.quants.dequantize(tensor.data, tensor.tensor_type), np.float32, "W")
