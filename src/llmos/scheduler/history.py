"""What earlier runs say of a job: for each kind that it belongs to, when such jobs ended and when they had not yet.

A kind is a combination of user, program, queue, processors and requested time, from the most particular to all jobs.
For each, the runs that ended in each bin of service and those that reached it are counted twice, with a short and a
long memory, so that a hazard can be read off at every level (a discrete-time life table with censoring; Cox 1972,
Singer and Willett 1993). Jobs that still run count as having reached what they were served.
"""

import math
from collections import OrderedDict

import numpy as np
from numpy.typing import NDArray

from llmos.scheduler.workload import Job

RATIO = 1.3
BINS = 56
"""Bins of service: bin b ends at RATIO ** (b + 1) seconds, the last at 28 days."""
EDGES: NDArray[np.float64] = np.concatenate([[0.0], RATIO ** np.arange(1, BINS + 1)])
_MIDDLES = np.log(RATIO) * (np.arange(BINS) + 0.5)
LEVELS = 8
OF_SOMEBODY = 6
"""So many of the levels, the first, are of a user, a program or a queue."""
_FAST, _SLOW = 0.6, 0.97
_ALL_SLOW = 0.998
"""What a run still counts when another of its kind has ended; of all jobs there are more."""
_KINDS = 16_384
_NEVER_LAST = math.nan
INPUTS = 4 * LEVELS + 13
ALIKE = INPUTS - 1
"""The input that tells how many jobs of the kind run."""
Array = NDArray[np.float32]


def alike(running: int) -> float:
    """The input that tells of so many jobs of a kind which run, the job itself among them."""
    return math.log1p(running) / 4.0


def bin_of(seconds: float) -> int:
    """The bin that a service falls into."""
    if seconds < RATIO:
        return 0
    return min(BINS - 1, int(math.log(seconds) / math.log(RATIO)))


def kinds(job: Job) -> tuple[tuple[object, ...], ...]:
    """The kinds of a job, from the most particular to all, LEVELS of them."""
    user, program, queue, requested = job.user, job.program, job.queue, job.requested
    return (
        (0, user, program, queue, job.processors, requested),
        (1, user, program, requested),
        (2, user, program),
        (3, user, queue),
        (4, user),
        (5, queue, requested),
        (6, job.processors, requested),
        (7,),
    )


class History:
    """Counts by kind, at most 16,384 kinds; the longest unused is forgotten."""

    def __init__(self) -> None:
        self._rows: OrderedDict[tuple[object, ...], int] = OrderedDict()
        self._counts: Array = np.zeros((256, 2, 2, BINS), np.float32)  # row, fast or slow, ended or reached, bin
        self._last: Array = np.full((256, 2), _NEVER_LAST, np.float32)  # logarithms of the last two runtimes
        self._reached: Array = np.zeros((256, BINS), np.float32)  # by jobs that still run
        self._running: NDArray[np.int32] = np.zeros(256, np.int32)
        fading = np.full((LEVELS, 2), _SLOW, np.float32)
        fading[:, 0] = _FAST
        fading[-1] = _SLOW, _ALL_SLOW
        self._fading = fading[:, :, None, None]

    def copy(self) -> "History":
        """The same counts, to go on from; nothing runs in it."""
        other = History()
        other._rows = self._rows.copy()
        other._counts = self._counts.copy()
        other._last = self._last.copy()
        other._reached = np.zeros_like(self._reached)
        other._running = np.zeros_like(self._running)
        return other

    def rows(self, job: Job) -> NDArray[np.intp]:
        """Where the kinds of a job are counted. They may be given away once 16,384 others were asked for."""
        return np.array([self._row(kind) for kind in kinds(job)])

    def _row(self, kind: tuple[object, ...]) -> int:
        row = self._rows.get(kind)
        if row is not None:
            self._rows.move_to_end(kind)
            return row
        row = len(self._rows)
        if row >= _KINDS:
            row = self._rows.popitem(last=False)[1]
            self._counts[row], self._last[row] = 0.0, _NEVER_LAST
            self._reached[row], self._running[row] = 0.0, 0
        elif row >= len(self._counts):
            self._grow()
        self._rows[kind] = row
        return row

    def _grow(self) -> None:
        self._counts = np.concatenate([self._counts, np.zeros_like(self._counts)])
        self._last = np.concatenate([self._last, np.full_like(self._last, _NEVER_LAST)])
        self._reached = np.concatenate([self._reached, np.zeros_like(self._reached)])
        self._running = np.concatenate([self._running, np.zeros_like(self._running)])

    def begin(self, rows: NDArray[np.intp]) -> None:
        """A job of these kinds came."""
        self._running[rows] += 1

    def reach(self, rows: NDArray[np.intp], before: int, after: int) -> None:
        """A job that runs got from one bin to a later one."""
        self._reached[rows, before:after] += 1.0

    def end(self, rows: NDArray[np.intp], reached: int, runtime: float) -> None:
        """A job that came and got to a bin has ended."""
        self._running[rows] -= 1
        self._reached[rows, :reached] -= 1.0
        self.note(rows, runtime)

    def note(self, rows: NDArray[np.intp], runtime: float) -> None:
        """A run of these kinds ended after `runtime` seconds."""
        bin_ = bin_of(runtime)
        counts = self._counts[rows]
        counts *= self._fading
        counts[:, :, 0, bin_] += 1.0
        counts[:, :, 1, : bin_ + 1] += 1.0
        self._counts[rows] = counts
        self._last[rows, 1] = self._last[rows, 0]
        self._last[rows, 0] = math.log(max(runtime, 1.0))

    def inputs(self, job: Job, rows: NDArray[np.intp], hour: float) -> Array:
        """What the network sees of a job, for every bin: shape (BINS, INPUTS)."""
        counts = self._counts[rows]
        reached = counts[:, :, 1] + self._reached[rows][:, None]
        ended = counts[:, :, 0]
        smooth = ended[:, 0].copy()  # a short memory holds few runs: they speak for the bins beside theirs too
        smooth[:, 1:] += 0.5 * ended[:, 0, :-1]
        smooth[:, :-1] += 0.5 * ended[:, 0, 1:]
        seen = np.empty((INPUTS, BINS), np.float32)
        sure = np.log1p(reached)
        seen[0:LEVELS] = np.log((smooth + 0.05) / (np.maximum(reached[:, 0] - ended[:, 0], 0.0) + 0.5)) + 2.3
        seen[LEVELS : 2 * LEVELS] = (
            np.log((ended[:, 1] + 0.05) / (np.maximum(reached[:, 1] - ended[:, 1], 0.0) + 0.5)) + 2.3
        )
        seen[2 * LEVELS : 3 * LEVELS] = sure[:, 0]
        seen[3 * LEVELS : 4 * LEVELS] = sure[:, 1]
        at = 4 * LEVELS
        for row in (0, 2, 4):
            last = self._last[rows[row], 0]
            if last == last:
                away = (last - _MIDDLES) * 0.5
                seen[at] = np.minimum(np.maximum(away, -2.0), 2.0)
                seen[at + 1] = np.exp(-4.0 * away * away)
            else:
                seen[at : at + 2] = 0.0
            at += 2
        seen[at] = _MIDDLES / 10.0
        if job.requested > 0:
            seen[at + 1] = 1.0
            seen[at + 2] = np.minimum(np.maximum((math.log(job.requested) - _MIDDLES) * 0.5, -2.0), 2.0)
        else:
            seen[at + 1 : at + 3] = 0.0
        seen[at + 3] = math.log2(job.processors) / 8.0
        seen[at + 4] = math.sin(hour * math.pi / 12.0)
        seen[at + 5] = math.cos(hour * math.pi / 12.0)
        seen[ALIKE] = alike(int(self._running[rows[1]]))
        return seen.T
