"""The learned policy: the Gittins index on the distribution that the hazard network gives, for people who wait.

An end is worth 1 + weight / max(runtime, 10 s): the first is for the completion time, the second for the slowdown. The
index of a job that was served is the most worth a second of service that any further span promises (Gittins 1979,
with a reward that is known at the end only); its inverse is the rank. The network sees runtimes in bins; where there
are runs of the same kind, the rank is the geometric mean of its own and of the one that these runs give exactly. Of a job of
which nothing is known but its width, it is the geometric mean with what it was served. Where
the predictions tell jobs from one another worse than none would, the rank is what a job was served, as in LAS.
"""

from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmos.scheduler.contributions import contributions
from llmos.scheduler.hazard import HazardNetwork, quantile
from llmos.scheduler.history import ALIKE, BINS, EDGES, OF_SOMEBODY, RATIO, History, alike, bin_of, kinds
from llmos.scheduler.policies import Runs, gittins_seconds, quantum
from llmos.scheduler.simulator import FLOOR, Policy
from llmos.scheduler.workload import Job

_LENGTHS = np.diff(EDGES)
_ENDS = np.sqrt(np.maximum(EDGES[:-1], 0.5) * EDGES[1:])
_UPPER = np.triu(np.ones((BINS, BINS), bool))
_TYPICAL = 1000.0
"""Seconds that a mean runtime is taken to be before any job has ended."""
MIX = 0.1
"""The weight of the slowdown, in mean runtimes."""
_INFORMED, _UNINFORMED = 0.0, -0.15
"""Nats a job by which predictions must beat those for a job of nobody: to be used again, and to be used still."""
_PATIENCE = 128
"""Ends over which that is measured."""
_SAMPLED = 16
"""Of the jobs of a history, one in so many is predicted before it is learned from."""


_PARTS = -np.log1p(-(np.arange(12) + 0.5) / 12.0)
_ENOUGH = 3
"""Runs of a kind from which on they count by themselves."""


def _particular(job: Job) -> Hashable:
    return job.user, job.program, job.queue, job.requested


def worths(hazards: NDArray[np.float64], weight: float) -> NDArray[np.float64]:
    """The Gittins index at the lower edge of each bin, in ends (weighted) a second: shape (BINS,)."""
    reach = np.concatenate([[0.0], np.cumsum(np.log1p(-hazards))])  # logarithm of reaching each bin
    with np.errstate(over="ignore"):
        alive = np.where(_UPPER, np.exp(reach[None, :-1] - reach[:-1, None]), 0.0)  # from a bin, to reach a later one
    gained = np.cumsum(alive * (hazards * (1.0 + weight / np.maximum(_ENDS, FLOOR))), axis=1)
    spent = np.cumsum(alive * (_LENGTHS * (1.0 - 0.5 * hazards)), axis=1)
    rates = np.divide(gained, spent, out=np.zeros_like(gained), where=_UPPER)
    best: NDArray[np.float64] = rates.max(axis=1)
    return best


def _scores(hazards: NDArray[np.float64]) -> list[float]:
    """The log-likelihood of an end in each bin."""
    outlived = np.concatenate([[0.0], np.cumsum(np.log1p(-hazards))[:-1]])
    scores: list[float] = (outlived + np.log(hazards)).tolist()
    return scores


class Experience:
    """All that is learned from jobs that ended: counts, the mean runtime, and how much the predictions tell."""

    def __init__(self, network: HazardNetwork) -> None:
        self.network = network
        self.history = History()
        self.runs = Runs(kind=_particular)
        self.mean = _TYPICAL
        self.told = 0.0
        """Nats a job by which the predictions beat those for a job of nobody, lately."""
        self._ended = 0
        self._nobody: list[float] = []

    def copy(self) -> "Experience":
        """The same, to go on from; nothing runs in it."""
        other = Experience(self.network)
        other.history, other.mean, other.told = self.history.copy(), self.mean, self.told
        other.runs = Runs(self.runs, _particular)
        other._ended = self._ended
        return other

    def note(self, job: Job) -> None:
        """A job ended that no policy of this experience ran."""
        rows = self.history.rows(job)
        if self._ended % _SAMPLED == 0:
            hazards = self.network(self.history.inputs(job, rows, 12.0))
            self._weigh(_scores(hazards)[bin_of(job.runtime)], job.runtime, _PATIENCE / _SAMPLED)
        self.history.note(rows, job.runtime)
        self._count(job)

    def ended(self, job: Job, rows: NDArray[np.intp], reached: int, score: float) -> None:
        """A job that a policy ran ended; the score is the log-likelihood that its runtime was given."""
        self._weigh(score, job.runtime, _PATIENCE)
        self.history.end(rows, reached, job.runtime)
        self._count(job)

    def _count(self, job: Job) -> None:
        self._ended += 1
        self.mean += (job.runtime - self.mean) / min(self._ended + 5.0, 500.0)
        self.runs.note(job)

    def _weigh(self, score: float, runtime: float, patience: float) -> None:
        if not self._nobody or self._ended % 64 == 0:
            nobody = Job(0, 0.0, 1.0)
            everyone = np.repeat(self.history.rows(nobody)[-1:], len(self.history.rows(nobody)))
            self._nobody = _scores(self.network(self.history.inputs(nobody, everyone, 12.0)))
        gain = score - self._nobody[bin_of(runtime)]
        self.told += (max(-3.0, min(3.0, gain)) - self.told) / patience


class _Table:
    """Ranks by bin for jobs of the same most particular kind, and the hazards that they come from."""

    __slots__ = ("fresh_until", "hazards", "hour", "ranks", "scores")

    def __init__(self, hazards: NDArray[np.float64], ranks: list[float], fresh_until: int, hour: int) -> None:
        self.hazards, self.ranks, self.fresh_until, self.hour = hazards, ranks, fresh_until, hour
        self.scores = _scores(hazards)


class Learned(Policy):
    """Ranks by what the network predicts from an experience, and learns while it runs."""

    def __init__(self, experience: Experience, *, mix: float = MIX, guarded: bool = True) -> None:
        self._experience = experience.copy()
        self._history = self._experience.history
        self._mix = mix
        self._guarded = guarded
        self._informed = not guarded or experience.told >= _INFORMED
        self._jobs: dict[int, tuple[Job, NDArray[np.intp], tuple[object, ...]]] = {}
        self._bins: dict[int, int] = {}
        self._first_scores: dict[int, list[float]] = {}
        self._tables: dict[tuple[object, ...], _Table] = {}
        self._sorted: dict[Hashable, Sequence[float]] = {}
        self._kin: dict[tuple[object, ...], set[int]] = defaultdict(set)
        self._news: dict[tuple[object, ...], int] = defaultdict(int)

    def submitted(self, position: int, job: Job, now: float) -> Iterable[int]:
        """Count it among its kinds, and note what is predicted of it."""
        rows = self._history.rows(job)
        kin = kinds(job)[1]
        self._jobs[position] = job, rows, kin
        self._bins[position] = 0
        self._kin[kin].add(position)
        self._history.begin(rows)
        self._first_scores[position] = self._table(position, now).scores
        return ()

    def rank(self, position: int, served: float, now: float) -> tuple[float, float]:
        """The inverse of its index, in seconds an end (weighted)."""
        job, rows, kin = self._jobs[position]
        bin_ = bin_of(served)
        before = self._bins[position]
        if bin_ > before:
            self._history.reach(rows, before, bin_)
            self._bins[position] = bin_
            if len(self._kin[kin]) > 1:  # what it tells of itself, its own table knows
                self._news[kin] += 1
        if not self._informed:
            return served, quantum(served)
        rank = self._table(position, now).ranks[bin_]
        # the last bin has no end
        review = max(RATIO ** (bin_ + 1) - served, 1e-3) + 1e-6 if bin_ < BINS - 1 else quantum(served)
        if not (job.user or job.program or job.queue or job.requested):
            # a distribution of all jobs tells them apart by their width and their service alone
            return (rank * max(served, 1.0)) ** 0.5, min(review, quantum(served))
        exact = self.by_runs(job, served)
        if exact is None:
            return rank, review
        return (rank * max(exact, 1e-3)) ** 0.5, min(review, quantum(served))

    def expected(self, position: int, served: float, now: float) -> tuple[float, float, float]:
        """The 10th, 50th and 90th percentile of its size in seconds, when it was served for so long."""
        hazards = self._table(position, now).hazards
        low, middle, high = (quantile(hazards, level, served) for level in (0.1, 0.5, 0.9))
        return low, middle, high

    def weight(self, size: float) -> float:
        """What the end of a job of so many seconds is worth."""
        return 1.0 + self._mix * self._experience.mean / max(size, FLOOR)

    def remaining(self, position: int, served: float, now: float) -> list[float]:
        """Equally likely values of what remains of it, in seconds, by the network and by the runs of its kind."""
        job = self._jobs[position][0]
        first = bin_of(served)
        outlived = np.concatenate([[0.0], np.cumsum(np.log1p(-self._table(position, now).hazards[first:]))])
        ends = _ENDS[np.minimum(first + np.searchsorted(-outlived, _PARTS) - 1, BINS - 1)]
        found = [max(float(end) - served, 0.1 * served, 1.0) for end in ends]
        longer = [runtime - served for runtime in self._experience.runs.of(job) if runtime > served]
        if len(longer) >= _ENOUGH:
            found += [longer[int(part * len(longer))] for part in (np.arange(len(found)) + 0.5) / len(found)]
        return found

    def contributions(self, position: int, served: float, now: float, runs: Sequence[float]) -> dict[str, Any]:
        """What each input adds to the median that is expected of it, beside a job of nobody: alone of its kind, with one
        processor and no timeout, at noon.

        :param runs: the earlier runs of its user and program, seconds.
        """
        job, rows, _ = self._jobs[position]
        seen = self._history.inputs(job, rows, 4.0 * (int(now / 14400.0) % 6) + 2.0)
        return contributions(self._experience.network, job, runs, seen, self._nobody(), served)

    def _nobody(self) -> NDArray[np.float32]:
        nobody = Job(0, 0.0, 1.0)
        rows = self._history.rows(nobody)
        rows[:OF_SOMEBODY] = rows[-1]
        seen = self._history.inputs(nobody, rows, 12.0)
        seen[:, ALIKE] = alike(1)
        return seen

    def by_runs(self, job: Job, served: float) -> float | None:
        """The inverse index by the runs of the job's kind alone; None where they are few or all shorter, or where
        nothing is known that would make it a kind."""
        if not (job.user or job.program or job.queue):
            return None
        kind = _particular(job)
        if kind not in self._sorted:
            self._sorted[kind] = sorted(self._experience.runs.of(job))
        runtimes = self._sorted[kind]
        if len(runtimes) < _ENOUGH:
            return None
        return gittins_seconds(runtimes, served, self._mix * self._experience.mean)

    def _table(self, position: int, now: float) -> _Table:
        job, rows, kin = self._jobs[position]
        kind = kinds(job)[0]
        table = self._tables.get(kind)
        hour = int(now / 14400.0) % 6
        if table is None or self._news[kin] >= table.fresh_until or table.hour != hour:
            hazards = self._experience.network(self._history.inputs(job, rows, 4.0 * hour + 2.0))
            ranks = 1.0 / worths(hazards, self._mix * self._experience.mean)
            fresh_until = self._news[kin] + 1 + len(self._kin[kin])
            table = _Table(hazards, ranks.tolist(), fresh_until, hour)
            self._tables[kind] = table
        return table

    def finished(self, position: int, runtime: float, now: float) -> Iterable[int]:
        """Learn from it; its kin are to be ranked anew, or all when predictions came into use or out of it."""
        job, rows, kin = self._jobs.pop(position)
        score = self._first_scores.pop(position)[bin_of(runtime)]
        if job.runtime != runtime:  # it was not known, or not what came
            job = replace(job, runtime=runtime)
        self._experience.ended(job, rows, self._bins.pop(position), score)
        self._sorted.pop(_particular(job), None)
        self._kin[kin].discard(position)
        self._news[kin] += 2 + len(self._kin[kin])
        if self._guarded:
            informed = self._experience.told >= (_UNINFORMED if self._informed else _INFORMED)
            if informed != self._informed:
                self._informed = informed
                return tuple(self._jobs)
        return tuple(self._kin[kin])
