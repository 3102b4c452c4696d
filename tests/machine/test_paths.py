"""Paths that exist, and those that cannot."""

from pathlib import Path

import pytest

from llmos.errors import BadInput, NotFound
from llmos.machine.paths import locate


def test_links_are_followed(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("file")
    real, status = locate(str(tmp_path / "link"))
    assert Path(real).name == "file"
    assert status.st_ino == (tmp_path / "file").stat().st_ino


def test_what_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in ("missing", "file/below"):
        with pytest.raises(NotFound, match="check the spelling"):
            locate(str(tmp_path / path))


def test_what_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    for path in ("a", "nul\0", "x" * 5000):
        with pytest.raises(BadInput, match="cannot be a path"):
            locate(str(tmp_path / path))
