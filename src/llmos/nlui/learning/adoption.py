"""The adapters that were learned on this machine: `STATE/learned/NUMBER/`, and which of them is in use.

A folder holds adapter.gguf, which goes upon the shipped one, adapter.json (its card, with the figures before and after) and
taught.json (`llmos.nlui.taught`). Reads files: blocks.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmos.errors import ModelError, NotFound
from llmos.generations import Generations
from llmos.nlui.models import sha256_of
from llmos.nlui.taught import Taught

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


def generations(state_dir: Path) -> Generations:
    """All of them, and which are in use."""
    return Generations(state_dir / "learned", "llmos learn forget --adapters")


def adopted(state_dir: Path) -> Adopted | None:
    """The learned adapter in use, or None where it is the shipped one.

    :raises ModelError: its files are gone or damaged.
    """
    numbers = generations(state_dir).in_use()
    return _adapter(state_dir, numbers[0]) if numbers else None


def adopt(state_dir: Path, number: int) -> Adopted:
    """Put an adapter to use; those that nothing leads back to are removed.

    :raises ModelError: its files are not whole.
    """
    found = _adapter(state_dir, number)
    found.check()
    all_of_them = generations(state_dir)
    all_of_them.use(number)
    all_of_them.remove_unused()
    return found


def roll_back(state_dir: Path) -> Adopted | None:
    """Go back to the adapter that was in use before; None where that is the shipped one.

    :raises NotFound: the shipped one is in use already.
    """
    all_of_them = generations(state_dir)
    if not all_of_them.in_use():
        raise NotFound("the shipped adapter is in use; there is nothing to go back to")
    all_of_them.go_back()
    all_of_them.remove_unused()
    return adopted(state_dir)


def _adapter(state_dir: Path, number: int) -> Adopted:
    folder = generations(state_dir).folder(number)
    try:
        card = json.loads((folder / CARD).read_text(encoding="utf-8"))
        found = Adopted(number, folder / ADAPTER, folder / TAUGHT, card)
        Taught.read(found.taught)
        if not found.adapter.is_file() or not found.upon:
            raise FileNotFoundError(found.adapter)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"the learned adapter {folder} is damaged ({error}); llmos learn rollback leaves it") from None
    return found
