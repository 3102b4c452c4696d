"""The adapters that were learned on this machine: `STATE/learned/NUMBER/`, and which of them is in use.

A folder holds adapter.gguf, which goes upon the shipped one, adapter.json (its card, with the figures before and after) and
taught.json (`llmos.nlui.taught`). `STATE/learned/current` holds the numbers in use, newest first: the first is served, the
second comes back when it is rolled back, the shipped adapter alone stands behind the last. Reads files: blocks.
"""

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmos.errors import ModelError, NotFound
from llmos.nlui.models import sha256_of
from llmos.nlui.taught import Taught

MAX_OLD = 3
"""Adapters kept behind the one in use."""
ADAPTER, CARD, TAUGHT, RESULT = "adapter.gguf", "adapter.json", "taught.json", "result.json"


@dataclass(frozen=True, slots=True)
class Adopted:
    """An adapter that was learned here and is in use."""

    number: int
    adapter: Path
    taught: Path
    card: dict[str, Any]

    @property
    def upon(self) -> str:
        """The sha256 of the adapter that it was learned upon; upon another it would be noise."""
        return str(self.card["upon"])

    def check(self) -> None:
        """Raise `ModelError` where the adapter's bytes are not what its card says."""
        try:
            right = sha256_of(self.adapter) == self.card["sha256"]
        except (OSError, KeyError):
            right = False
        if not right:
            raise ModelError(f"the adapter {self.adapter} is not what its card says; learn again")


def adopted(state_dir: Path) -> Adopted | None:
    """The learned adapter in use, or None where it is the shipped one.

    :raises ModelError: its files are gone or damaged.
    """
    numbers = in_use(state_dir)
    return _adapter(state_dir, numbers[0]) if numbers else None


def in_use(state_dir: Path) -> list[int]:
    """The numbers of the adapters in use, newest first; none where it is the shipped one."""
    try:
        return [int(word) for word in (home(state_dir) / "current").read_text(encoding="ascii").split()]
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        current = home(state_dir) / "current"
        raise ModelError(f"{current} is damaged ({error}); llmos learn forget --adapters mends it") from None


def home(state_dir: Path) -> Path:
    """Where all of them lie."""
    return state_dir / "learned"


def new_folder(state_dir: Path) -> Path:
    """Make the folder of the next adapter; numbers are not given twice."""
    learned = home(state_dir)
    learned.mkdir(mode=0o700, exist_ok=True)
    numbers = [int(path.name) for path in learned.iterdir() if path.name.isdigit()]
    folder = learned / str(max([0, *numbers, *in_use(state_dir)]) + 1)
    folder.mkdir(mode=0o700)
    return folder


def adopt(state_dir: Path, number: int) -> Adopted:
    """Put an adapter to use; those that nothing leads back to are removed.

    :raises ModelError: its files are not whole.
    """
    found = _adapter(state_dir, number)
    found.check()
    _use(state_dir, [number, *in_use(state_dir)][: 1 + MAX_OLD])
    remove_unused(state_dir)
    return found


def roll_back(state_dir: Path) -> Adopted | None:
    """Go back to the adapter that was in use before; None where that is the shipped one.

    :raises NotFound: the shipped one is in use already.
    """
    numbers = in_use(state_dir)
    if not numbers:
        raise NotFound("the shipped adapter is in use; there is nothing to go back to")
    _use(state_dir, numbers[1:])
    remove_unused(state_dir)
    return adopted(state_dir)


def remove_unused(state_dir: Path) -> None:
    """Remove the folders of adapters that are not in use and nothing leads back to."""
    kept = [str(number) for number in in_use(state_dir)]
    for folder in home(state_dir).glob("[0-9]*"):
        if folder.name not in kept:
            shutil.rmtree(folder, ignore_errors=True)


def forget(state_dir: Path) -> None:
    """Remove every learned adapter; the shipped one is in use then."""
    shutil.rmtree(home(state_dir), ignore_errors=True)


def _use(state_dir: Path, numbers: Sequence[int]) -> None:
    current = home(state_dir) / "current"
    draft = current.with_suffix(".part")
    draft.write_text(" ".join(map(str, numbers)) + "\n", encoding="ascii")
    draft.replace(current)


def _adapter(state_dir: Path, number: int) -> Adopted:
    folder = home(state_dir) / str(number)
    try:
        card = json.loads((folder / CARD).read_text(encoding="utf-8"))
        found = Adopted(number, folder / ADAPTER, folder / TAUGHT, card)
        Taught.read(found.taught)
        if not found.adapter.is_file() or not found.upon:
            raise FileNotFoundError(found.adapter)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"the learned adapter {folder} is damaged ({error}); llmos learn rollback leaves it") from None
    return found
