"""What each input of the network adds to what it expects of a job: Shapley values, exact, over groups of inputs.

The value of a set of groups is log2 of the median of the job's size, with the inputs of the others as those of a job of
which nothing is known (Shapley 1953; Strumbelj and Kononenko 2014). The values add up to the difference between the two
medians, so 2 to the power of each is the factor by which the group makes the job longer or shorter.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from llmos.scheduler.hazard import HazardNetwork, quantile
from llmos.scheduler.history import ALIKE, BINS, LEVELS, Array
from llmos.scheduler.workload import Job

_LAST = 4 * LEVELS
"""Where the inputs of the last run begin."""
_REQUESTED, _WIDTH, _HOUR = _LAST + 7, _LAST + 9, _LAST + 10


@dataclass(frozen=True, slots=True)
class _Group:
    """Inputs that mean one thing to a person; `levels` are the kinds whose counts belong to it."""

    name: str
    levels: tuple[int, ...] = ()
    inputs: tuple[int, ...] = ()

    def columns(self) -> list[int]:
        """The inputs that it has."""
        return [*self.inputs, *(level + block * LEVELS for level in self.levels for block in range(4))]


_GROUPS = (
    _Group("runs of the program", (0, 1, 2)),
    _Group("runs of the job", (3, 5)),
    _Group("runs of the user", (4,)),
    _Group("last run", (), tuple(range(_LAST, _LAST + 6))),
    _Group("timeout", (), (_REQUESTED, _REQUESTED + 1)),
    _Group("width and timeout", (6,), (_WIDTH,)),
    _Group("hour", (), (_HOUR, _HOUR + 1)),
    _Group("others alike", (), (ALIKE,)),
)


def contributions(
    network: HazardNetwork, job: Job, runs: Sequence[float], seen: Array, nobody: Array, served: float
) -> dict[str, Any]:
    """The median that is expected, that of a job of which nothing is known, both in seconds, and what each group adds:
    its factor, and what it says, the strongest first.

    :param runs: the earlier runs of the job's user and program, seconds.
    :param seen: what the network sees of the job: shape (BINS, INPUTS); `nobody` likewise.
    """
    groups = [group for group in _GROUPS if not np.array_equal(seen[:, group.columns()], nobody[:, group.columns()])]
    count = len(groups)
    inputs = np.repeat(nobody[None], 2**count, axis=0)
    for number, group in enumerate(groups):
        with_it = [at for at in range(2**count) if at >> number & 1]
        columns = group.columns()
        inputs[np.ix_(with_it, range(BINS), columns)] = seen[:, columns]
    medians = [quantile(hazards, 0.5, served) for hazards in network(inputs)]
    values = [math.log2(median) for median in medians]
    shares = _shapley(values, count)
    parts = [
        {"input": group.name, "factor": round(2.0**share, 3), "says": _says(group.name, job, runs, seen)}
        for group, share in zip(groups, shares, strict=True)
    ]
    parts.sort(key=lambda part: -abs(math.log2(max(1e-3, part["factor"]))))
    return {"median": round(medians[-1], 1), "of_any_job": round(medians[0], 1), "inputs": parts}


def _shapley(values: Sequence[float], count: int) -> list[float]:
    """By player, from the value of each set of players; a set is a number whose bits are its players."""
    weight = [math.factorial(size) * math.factorial(count - size - 1) / math.factorial(count) for size in range(count)]
    return [
        sum(
            weight[without.bit_count()] * (values[without | 1 << player] - values[without])
            for without in range(2**count)
            if not without >> player & 1
        )
        for player in range(count)
    ]


def _says(name: str, job: Job, runs: Sequence[float], seen: Array) -> str:
    """What the group tells of the job, to be said after "because"."""
    match name:
        case "runs of the program":
            if not runs:
                return f"no run of {job.program} has ended yet"
            middle = sorted(runs)[len(runs) // 2]
            many = f"{len(runs)} earlier runs" if len(runs) > 1 else "one earlier run"
            return f"the {many} of {job.program} took {middle:.1f} s"
        case "runs of the job":
            return f"of what earlier runs of {job.queue} took" if job.queue else "of what jobs without a name took"
        case "runs of the user":
            return "of what other runs of this user took"
        case "last run":
            return f"the last run took {runs[-1]:.1f} s" if runs else "no run like it has ended yet"
        case "timeout":
            return f"its timeout is {job.requested:g} s" if job.requested else "it has no timeout"
        case "width and timeout":
            return "of what jobs as wide and with the same timeout took"
        case "hour":
            return "of the time of day"
        case _:
            others = round(math.expm1(4.0 * float(seen[0, ALIKE]))) - 1
            return (
                f"{others or 'no'} other{'s' if others != 1 else ''} like it run{'s' if others == 1 else ''} beside it"
            )
