"""The policies without a network: what is known to everyone, the yardstick (LAS, SRTF), and the analytic baseline.

Ranks are in seconds, lower first. LAS: Rai et al., SIGMETRICS 2003. Gittins: Gittins 1979; Aalto, Ayesta and Righter,
Queueing Systems 2009. The mean of the last two runs: Tsafrir, Etsion and Feitelson, TPDS 2007.
"""

from bisect import bisect_right
from collections import defaultdict, deque
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import replace
from statistics import fmean

from llmos.scheduler.simulator import FLOOR, Policy
from llmos.scheduler.workload import Job

NEVER = float("inf")
_QUANTUM = 1.0
_QUANTUM_SHARE = 0.05
_REMEMBERED = 50
"""Runs of one kind that are kept."""
_KINDS = 100_000
_TRIAL_SHARE = 0.1
_ENOUGH = 3
"""Runs of a kind from which on they count."""


def quantum(served: float) -> float:
    """Seconds of service between two looks at a job that others wait for: 5 % of what it had, 1 s at least."""
    return max(_QUANTUM, _QUANTUM_SHARE * served)


class Static(Policy):
    """Ranks that service does not change, and that nothing is learned for."""

    def submitted(self, position: int, job: Job, now: float) -> Iterable[int]:
        """Nothing to note."""
        return ()

    def finished(self, position: int, runtime: float, now: float) -> Iterable[int]:
        """Nobody's rank changes."""
        return ()

    def rank(self, position: int, served: float, now: float) -> tuple[float, float]:
        """In the order of arrival."""
        return float(position), NEVER


class FirstCome(Static):
    """First come, first served; who does not fit is passed by those who do."""


class LeastAttained(Static):
    """LAS: who was served least goes first, to a quantum."""

    def rank(self, position: int, served: float, now: float) -> tuple[float, float]:
        """What it was served."""
        return served, quantum(served)


class ShortestFirst(Static):
    """SJF: clairvoyant, without preemption."""

    def __init__(self) -> None:
        self._runtime: list[float] = []

    def submitted(self, position: int, job: Job, now: float) -> Iterable[int]:
        """See its runtime."""
        self._runtime.append(job.runtime)
        return ()

    def rank(self, position: int, served: float, now: float) -> tuple[float, float]:
        """Its runtime, or ahead of all once it has begun."""
        return (self._runtime[position] if served == 0.0 else 0.0), _QUANTUM if served == 0.0 else NEVER


class ShortestRemaining(ShortestFirst):
    """SRTF: clairvoyant, preemptive; the ceiling."""

    def rank(self, position: int, served: float, now: float) -> tuple[float, float]:
        """What remains."""
        return self._runtime[position] - served, NEVER


def user_and_program(job: Job) -> Hashable:
    """The kind of the published baselines."""
    return job.user, job.program


class Runs:
    """The last runtimes of each kind, by default of each user and program, and of all; going on from `below`, which
    is left as it is."""

    def __init__(self, below: "Runs | None" = None, kind: Callable[[Job], Hashable] = user_and_program) -> None:
        self._below = below
        self._kind = kind
        self._kinds: dict[Hashable, deque[float]] = {}
        self.everyone: deque[float] = deque(below.everyone if below else (), maxlen=500)

    def note(self, job: Job) -> None:
        """A run ended."""
        kind = self._kind(job)
        if kind not in self._kinds:
            if len(self._kinds) >= _KINDS:
                del self._kinds[next(iter(self._kinds))]
            self._kinds[kind] = deque(self._below.of(job) if self._below else (), maxlen=_REMEMBERED)
        self._kinds[kind].append(job.runtime)
        self.everyone.append(job.runtime)

    def of(self, job: Job) -> Sequence[float]:
        """The last runtimes of the job's kind, oldest first."""
        kind = self._kind(job)
        if kind in self._kinds:
            return self._kinds[kind]
        return self._below.of(job) if self._below else ()


def gittins_seconds(runtimes: Sequence[float], served: float, weight: float = 0.0) -> float | None:
    """The inverse Gittins index over sorted runtimes of a job that was served: the least expected seconds of service
    a completion, over all spans that it could be served for; None when all of them are over.

    :param weight: seconds; a completion counts as 1 + weight / max(runtime, 10 s), 1 for the completion time alone.
    """
    first = bisect_right(runtimes, served)
    there = len(runtimes) - first
    best, spent, gained = None, 0.0, 0.0
    for done in range(there):
        runtime = runtimes[first + done]
        more = runtime - served
        gained += 1.0 + weight / max(runtime, FLOOR)
        cost = (spent + more * (there - done)) / gained
        spent += more
        if best is None or cost < best:
            best = cost
    return best


class Gittins(Policy):
    """The Gittins index over the runs of the same user and program, or of all where there are none."""

    trial = 0.0
    """Seconds of service during which a job is ranked by them alone, ahead of those beyond."""

    def __init__(self, runs: Runs) -> None:
        self._runs = Runs(runs)
        self._jobs: dict[int, Job] = {}
        self._sorted: dict[int, list[float]] = {}
        self._kin: dict[tuple[str, str], set[int]] = defaultdict(set)

    def submitted(self, position: int, job: Job, now: float) -> Iterable[int]:
        """Remember whose it is."""
        self._jobs[position] = job
        self._kin[job.user, job.program].add(position)
        return ()

    def rank(self, position: int, served: float, now: float) -> tuple[float, float]:
        """Its service during the trial, then the inverse Gittins index, in seconds."""
        if served < self.trial:
            return served - self.trial, min(quantum(served), max(self.trial - served, 1e-3))
        if position not in self._sorted:
            self._sorted[position] = sorted(self._of(self._jobs[position]))
        best = gittins_seconds(self._sorted[position], served)
        return (served if best is None else best), quantum(served)

    def _of(self, job: Job) -> Sequence[float]:
        return self._runs.of(job) or self._runs.everyone

    def finished(self, position: int, runtime: float, now: float) -> Iterable[int]:
        """The kin of what ended are to be ranked anew."""
        job = self._jobs.pop(position)
        kin = self._kin[job.user, job.program]
        kin.discard(position)
        self._runs.note(job if job.runtime == runtime else replace(job, runtime=runtime))
        for other in kin:
            self._sorted.pop(other, None)
        return kin


class Hybrid(Gittins):
    """LAS for the first 300 s of service, then Gittins; the analytic baseline."""

    trial = 300.0

    def _of(self, job: Job) -> Sequence[float]:
        return self._runs.of(job)


class ScaledHybrid(Hybrid):
    """The hybrid where sizes may be of seconds or of days: its LAS lasts for a tenth of the mean runtime that is known,
    300 s at most, and goes on for kinds of which few runs are known."""

    def __init__(self, runs: Runs) -> None:
        super().__init__(runs)
        if runs.everyone:
            self.trial = min(Hybrid.trial, _TRIAL_SHARE * fmean(runs.everyone))

    def _of(self, job: Job) -> Sequence[float]:
        runs = self._runs.of(job)
        return runs if len(runs) >= _ENOUGH else ()
