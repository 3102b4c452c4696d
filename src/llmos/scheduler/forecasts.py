"""What was expected of each job when it was first ranked, and how that compares with what came.

The pinball loss is of log2 of the processor seconds, the mean of the 10th, 50th and 90th percentile (Koenker and Bassett
1978), as in `llmos.scheduler.predictions`.
"""

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import Any

KEPT = 64
"""Ended runs over which forecasts are weighed."""
_LIVING = 2000
"""Jobs whose forecasts are kept until they end."""


@dataclass(frozen=True, slots=True)
class Expected:
    """What remains of a job, in processor seconds: the middle and the bounds of the middle 80 %, with so many earlier
    runs; `by` is what says so, those runs or the network."""

    low: float
    middle: float
    high: float
    runs: int
    by: str

    def as_json(self) -> dict[str, Any]:
        """For the journal, to a tenth of a second."""
        seconds = {"low": self.low, "middle": self.middle, "high": self.high}
        return {**{name: round(value, 1) for name, value in seconds.items()}, "runs": self.runs, "by": self.by}

    def loss(self, size: float) -> float:
        """The pinball loss when it came to so many processor seconds."""
        levels = ((0.1, self.low), (0.5, self.middle), (0.9, self.high))
        return fmean(_pinball(level, predicted, size) for level, predicted in levels)


def _pinball(level: float, predicted: float, size: float) -> float:
    error = math.log2(max(size, 1.0)) - math.log2(max(predicted, 1.0))
    return max(level * error, (level - 1.0) * error)


class Forecasts:
    """Of the jobs that live, and how good those of the last that ended were. Made in one thread, asked in another."""

    def __init__(self) -> None:
        self._made: dict[int, tuple[str, Mapping[str, Expected | None]]] = {}
        self._losses: deque[dict[str, float]] = deque(maxlen=KEPT)

    def made(self, position: int, policy: str, expected: Mapping[str, Expected | None]) -> None:
        """A job is ranked for the first time: what each policy expects, and which is in use."""
        self._made.setdefault(position, (policy, expected))
        if len(self._made) > _LIVING:
            self._made.pop(next(iter(self._made)), None)

    def of(self, position: int) -> Expected | None:
        """What the policy that was in use expected of the whole of a job; None where nothing told."""
        policy, expected = self._made.get(position, ("", {}))
        return expected.get(policy)

    def ended(self, position: int, size: float | None) -> None:
        """It has ended, and came to so many processor seconds; None where that is not known."""
        _, expected = self._made.pop(position, ("", {}))
        losses = {name: each.loss(size) for name, each in expected.items() if each is not None} if size else {}
        if len(losses) > 1:
            self._losses.append(losses)

    def as_json(self) -> dict[str, Any] | None:
        """The mean loss of each policy over the last runs of which all of them told something; None without any."""
        losses = self._losses.copy()
        if not losses:
            return None
        names = losses[-1].keys()
        same = [each for each in losses if each.keys() == names]
        return {"runs": len(same), "pinball": {name: round(fmean(each[name] for each in same), 3) for name in names}}
