"""A random adapter as one is shipped, with its card, in a folder of the test's own."""

import json
from functools import partial
from pathlib import Path

import pytest

from llmos.nlui import serving
from llmos.nlui.adapters import adapter_for
from llmos.nlui.models import sha256_of
from nlui.training_model import write_random_adapter


def ship(base: Path, folder: Path, patch: pytest.MonkeyPatch) -> Path:
    """Write one for a model, have `serving` look for the shipped ones there, and return its path."""
    folder.mkdir(exist_ok=True)
    adapter = write_random_adapter(folder / "some.gguf", base)
    card = {"file": adapter.name, "sha256": sha256_of(adapter), "base": {"sha256": sha256_of(base)}}
    adapter.with_suffix(".json").write_text(json.dumps(card))
    patch.setattr(serving, "adapter_for", partial(adapter_for, folder=folder))
    return adapter
