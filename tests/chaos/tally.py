"""What a campaign counts: everything that should not have been, each with its first cases, and how much was tried."""

import threading
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

FAULTS = {
    "children_lost": "children lost",
    "started_twice": "started twice",
    "signalled_wrongly": "signalled wrongly",
    "exit_codes_lost": "exit codes lost",
    "lines_lost": "log lines lost",
    "lines_doubled": "log lines doubled",
    "calls_forgotten": "acknowledged calls forgotten",
    "other": "anything else",
}
"""What must be 0, as programs and as people read it."""
TRIED = {
    "kills": "kills",
    "inside_write": "of them inside a journal write",
    "jobs": "jobs",
    "runs": "runs",
    "lines": "lines of output",
    "calls": "acknowledged calls",
    "unknown": "exits said to be unknown",
}
"""How much was tried."""
LIMIT_SECONDS = 1.0
"""Longest time until the API answers again, for 99 of 100 times."""
MAX_CASES = 40


@dataclass
class Tally:
    """The counts of one scenario; threads may share it."""

    name: str
    wrong: Counter[str] = field(default_factory=Counter)
    tried: Counter[str] = field(default_factory=Counter)
    cases: list[str] = field(default_factory=list)
    answered: list[float] = field(default_factory=list)
    """Seconds until the API answered again, one for each time that it was away."""
    worked: list[float] = field(default_factory=list)
    """Seconds of a processor that llmosd had used by then, one for each start of it."""
    notes: list[str] = field(default_factory=list)
    skipped: str = ""
    _turn: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def fault(self, kind: str, case: str) -> None:
        """Count something that should not have been."""
        assert kind in FAULTS
        with self._turn:
            self.wrong[kind] += 1
            if len(self.cases) < MAX_CASES:
                self.cases.append(f"{FAULTS[kind]}: {case}")

    def did(self, kind: str, count: int = 1) -> None:
        """Count something that was tried."""
        assert kind in TRIED
        with self._turn:
            self.tried[kind] += count

    def as_json(self) -> dict[str, Any]:
        """All of it, for programs."""
        return {
            "name": self.name,
            "skipped": self.skipped or None,
            **{kind: self.wrong[kind] for kind in FAULTS},
            "tried": {kind: self.tried[kind] for kind in TRIED},
            "answered_seconds": {"count": len(self.answered), "p50": quantile(self.answered, 0.5)}
            | {"p99": quantile(self.answered, 0.99), "max": max(self.answered, default=None)},
            "worked_seconds": {"p50": quantile(self.worked, 0.5), "p99": quantile(self.worked, 0.99)},
            "notes": self.notes,
            "cases": self.cases,
        }


def total(tallies: list[Tally]) -> Tally:
    """The sum of scenarios."""
    whole = Tally("total")
    for tally in tallies:
        whole.wrong += tally.wrong
        whole.tried += tally.tried
        whole.answered += tally.answered
        whole.worked += tally.worked
        whole.notes += tally.notes
        whole.cases += [f"{tally.name}: {case}" for case in tally.cases]
    return whole


def good(tallies: list[Tally]) -> bool:
    """Whether nothing was wrong and the API was back in time, in each scenario: the quick ones must not hide the slow."""
    return all(
        not tally.wrong.total() and (quantile(tally.answered, 0.99) or 0.0) <= LIMIT_SECONDS for tally in tallies
    )


def quantile(values: list[float], share: float) -> float | None:
    """The smallest value that at least that share of the values does not exceed; None of none."""
    if not values:
        return None
    ordered = sorted(values)
    rank = max(0, min(len(ordered) - 1, -(-len(ordered) * share // 1) - 1))
    return ordered[int(rank)]
