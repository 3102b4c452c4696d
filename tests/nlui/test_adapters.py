"""Adapters are found by the bytes of their base, and refused when their own bytes are wrong."""

import hashlib
import json
from pathlib import Path

import pytest

from llmos.errors import ModelError
from llmos.nlui.adapters import adapter_for
from llmos.nlui.models import DEFAULT, MODELS, Installed

BASE = Installed("base", "A base", Path("base.gguf"), 4, "ab" * 32)


def _ship(folder: Path, base: str) -> Path:
    adapter = folder / "some.gguf"
    adapter.write_bytes(b"an adapter")
    card = {"file": adapter.name, "sha256": hashlib.sha256(b"an adapter").hexdigest(), "base": {"sha256": base}}
    (folder / "some.json").write_text(json.dumps(card))
    return adapter


def test_it_is_found_by_the_bytes_of_its_base(tmp_path: Path) -> None:
    adapter = _ship(tmp_path, BASE.sha256)
    assert adapter_for(BASE, tmp_path) == adapter


def test_another_base_has_none(tmp_path: Path) -> None:
    _ship(tmp_path, "cd" * 32)
    assert adapter_for(BASE, tmp_path) is None
    assert adapter_for(BASE, tmp_path / "nowhere") is None


@pytest.mark.parametrize("damage", [lambda path: path.write_bytes(b"other"), lambda path: path.unlink()])
def test_wrong_bytes_are_refused(tmp_path: Path, damage: object) -> None:
    adapter = _ship(tmp_path, BASE.sha256)
    assert callable(damage)
    damage(adapter)
    with pytest.raises(ModelError, match="install llmos again"):
        adapter_for(BASE, tmp_path)


def test_the_shipped_adapter_is_what_its_card_says_and_small_enough() -> None:
    pinned = MODELS[DEFAULT]
    shipped = adapter_for(Installed(DEFAULT, pinned.title, Path("default.gguf"), pinned.size, pinned.sha256))
    assert shipped is not None and shipped.stat().st_size <= 20_000_000
