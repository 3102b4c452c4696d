"""Small file systems of one test's own: full ones, and such as lack what others have."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest


@contextmanager
def mounted(folder: Path, kind: str, options: str = "") -> Iterator[Path]:
    """A fresh file system of a kind that lives in memory; skips the test where this root may not mount."""
    place = folder / kind
    place.mkdir()
    done = subprocess.run(["mount", "-t", kind, "-o", options or "rw", kind, place], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"{kind} cannot be mounted: {done.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)


def fill(path: Path) -> None:
    """Append to a file until its disk is full."""
    with suppress(OSError), path.open("ab", buffering=0) as file:
        while file.write(b"x" * 4095 + b"\n"):
            pass
