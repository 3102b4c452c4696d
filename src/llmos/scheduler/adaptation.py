"""The weights that were adapted to this machine's runs: `STATE/scheduler/NUMBER/`, which are in use, and which are tried.

A folder holds hazard.npz and hazard.json, its card, which pins it by its sha256 and has the figures that it was chosen
by. `current` says which are in use (`llmos.generations`); `candidate` holds the number of the one that won on recorded
runs and has yet to win on runs to come. The shipped weights are those of the package. Reads files: blocks.
"""

import hashlib
import json
from contextlib import suppress
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmos.errors import ModelError, NotFound
from llmos.generations import Generations

if TYPE_CHECKING:
    from llmos.scheduler.hazard import HazardNetwork

WEIGHTS, CARD, RESULT = "hazard.npz", "hazard.json", "result.json"
"""RESULT says what came of a training, beside the weights that it made."""


@dataclass(frozen=True, slots=True)
class Weights:
    """Weights and their card; `number` is 0 for the shipped ones."""

    number: int
    path: Path
    card: dict[str, Any]

    @property
    def name(self) -> str:
        """As a person reads it."""
        return f"adapted {self.number}" if self.number else "shipped"

    def as_json(self) -> dict[str, Any]:
        """Which they are, since when, and their figures."""
        return {
            "weights": self.name,
            "sha256": str(self.card["sha256"])[:12],
            "since": self.card.get("at"),
            **self.card.get("figures", {}),
        }

    def load(self) -> "HazardNetwork":
        """The network.

        :raises ModelError: the bytes are not what the card says, or no network.
        """
        from llmos.scheduler.hazard import HazardNetwork

        try:
            if hashlib.sha256(self.path.read_bytes()).hexdigest() != self.card["sha256"]:
                raise ValueError("its bytes are not what its card says")
            return HazardNetwork.read(str(self.path))
        except (OSError, ValueError, KeyError, IndexError) as error:
            raise ModelError(
                f"the weights {self.path} cannot be used ({error}); llmos scheduler rollback leaves them"
            ) from None


class Adaptation:
    """The weights of one state folder."""

    def __init__(self, state_dir: Path) -> None:
        self.generations = Generations(state_dir / "scheduler", "llmos scheduler rollback")

    def in_use(self) -> Weights:
        """Those that are used, the shipped ones at last.

        :raises ModelError: their card is gone or damaged.
        """
        numbers = self.generations.in_use()
        return self._weights(numbers[0]) if numbers else shipped()

    def before(self) -> Weights | None:
        """Those that a rollback goes back to; None where the shipped ones are in use."""
        numbers = self.generations.in_use()
        return None if not numbers else self._weights(numbers[1]) if len(numbers) > 1 else shipped()

    def candidate(self) -> Weights | None:
        """Those that have yet to win on runs to come; None where there are none, or they are damaged."""
        try:
            return self._weights(int(self._candidate.read_text(encoding="ascii")))
        except (OSError, ValueError, ModelError):
            return None

    def try_out(self, number: int) -> Weights:
        """Have these be the candidate; one before is given up.

        :raises ModelError: they are not whole.
        """
        found = self._weights(number)
        found.load()
        self._candidate.write_text(f"{number}\n", encoding="ascii")
        self.generations.remove_unused(number)
        return found

    def adopt(self, candidate: Weights) -> None:
        """Put the candidate to use."""
        self.generations.use(candidate.number)
        self.reject()

    def reject(self) -> None:
        """Give the candidate up; one that was put to use stays."""
        self._candidate.unlink(missing_ok=True)
        self.generations.remove_unused()

    def roll_back(self) -> Weights:
        """Go back to the weights that were in use before.

        :raises NotFound: the shipped ones are in use already.
        """
        try:
            numbers = self.generations.in_use()
        except ModelError:  # nothing tells what was before: the shipped ones are whole
            (self.generations.home / "current").unlink()
            return shipped()
        if not numbers:
            raise NotFound("the shipped weights are in use; there is nothing to go back to")
        self.generations.go_back()
        candidate = self.candidate()
        self.generations.remove_unused(*([candidate.number] if candidate else []))
        return self.in_use()

    def last(self) -> dict[str, Any] | None:
        """What came of the last training; None where there was none."""
        with suppress(OSError, ValueError):
            found = json.loads(self._last.read_text(encoding="utf-8"))
            return found if isinstance(found, dict) else None
        return None

    def judged(self, folder: Path) -> dict[str, Any] | None:
        """Take in what a training made: its result, None where it made none. What won becomes the candidate, anything
        else is removed.

        :raises ModelError: it made no whole weights.
        """
        try:
            result: dict[str, Any] = json.loads((folder / RESULT).read_text(encoding="utf-8"))
            self._last.write_text(json.dumps(result), encoding="utf-8")
            if result["won"]:
                self.try_out(int(folder.name))
                return result
        except (OSError, ValueError, KeyError, TypeError):
            result = {}
        candidate = self.candidate()
        self.generations.remove_unused(*([candidate.number] if candidate else []))
        return result or None

    def _weights(self, number: int) -> Weights:
        folder = self.generations.folder(number)
        try:
            card = json.loads((folder / CARD).read_text(encoding="utf-8"))
            return Weights(number, folder / WEIGHTS, {**card, "sha256": card["sha256"]})
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ModelError(
                f"the weights in {folder} are damaged ({error}); llmos scheduler rollback leaves them"
            ) from None

    @property
    def _candidate(self) -> Path:
        return self.generations.home / "candidate"

    @property
    def _last(self) -> Path:
        return self.generations.home / "last.json"


def shipped() -> Weights:
    """Those that come with llmos."""
    folder = Path(str(files("llmos.scheduler") / "trained"))
    return Weights(0, folder / WEIGHTS, json.loads((folder / CARD).read_text(encoding="utf-8")))
