"""A machine of identical processors under a policy that ranks jobs: event-driven, preemptive, deterministic.

A job holds all of its processors or none. Whenever something happens, the jobs are taken in the order of their ranks
and each that still fits runs; what does not fit is skipped. A rank may depend on what a job has been served, so a
policy says with each rank after how much more service it wants to be asked again.
"""

import heapq
from bisect import bisect_left, insort
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from llmos.scheduler.workload import Job

FLOOR = 10.0
"""Seconds below which a runtime does not count as shorter in the bounded slowdown (Feitelson et al., 1997)."""
SWITCH_SECONDS = 0.02
"""What a resume costs a job: thawing its cgroup (a few ms) and filling cold caches (32 MiB at some 2 GB/s)."""
_EPSILON = 1e-6


class Policy(Protocol):
    """Ranks jobs; the lowest rank runs first. Jobs are told by their position in the window."""

    def submitted(self, position: int, job: Job, now: float) -> Iterable[int]:
        """A job came; returns the other jobs whose rank that may have changed."""
        ...

    def rank(self, position: int, served: float, now: float) -> tuple[float, float]:
        """A job's rank, and the seconds of service after which it may be another. The latter is above 0."""
        ...

    def finished(self, position: int, runtime: float, now: float) -> Iterable[int]:
        """A job ended; returns the jobs whose rank that may have changed."""
        ...


class Admission(Protocol):
    """Says in which order jobs are taken where not all fit."""

    def order(
        self, ranked: Sequence[int], widths: Sequence[int], served: Sequence[float], processors: int, now: float
    ) -> Sequence[int]:
        """The positions of `ranked`, in the order in which they are to be taken."""
        ...


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a policy made of a window; lists are by position, times in seconds."""

    completion: list[float]
    """From submission to end."""
    slowdown: list[float]
    makespan: float
    resumes: int
    longest_wait: float
    """The longest time that a job went without service."""


def simulate(
    jobs: Sequence[Job],
    policy: Policy,
    *,
    processors: int,
    switch_seconds: float = SWITCH_SECONDS,
    hysteresis: float = 0.0,
    starvation: "Starvation | None" = None,
    admission: "Admission | None" = None,
) -> Outcome:
    """Run a window to its end.

    :param switch_seconds: service that a job loses whenever it is resumed after a preemption.
    :param hysteresis: a job that runs keeps its place until another's rank is lower by this share.
    :param starvation: the bound on waiting, or None.
    :param admission: who runs where not all fit, or None: in the order of the ranks.
    """
    machine = Machine(
        jobs,
        policy,
        processors,
        switch_seconds=switch_seconds,
        hysteresis=hysteresis,
        starvation=starvation,
        admission=admission,
    )
    while machine.advance():
        machine.dispatch()
    return machine.outcome()


@dataclass(frozen=True, slots=True)
class Starvation:
    """No job goes without service for longer than `bound` seconds, as long as the floor's share of the machine allows.

    A job that waited for that long runs ahead of all others for `slice_seconds`; `share` is the part of the
    processors that such slices may take.
    """

    bound: float = 4 * 3600.0
    slice_seconds: float = 60.0
    share: float = 0.02


class Machine:
    """A window that runs: `advance` to what happens next, then `dispatch`, until there is nothing more."""

    def __init__(
        self,
        jobs: Sequence[Job],
        policy: Policy,
        processors: int,
        *,
        switch_seconds: float = SWITCH_SECONDS,
        hysteresis: float = 0.0,
        starvation: Starvation | None = None,
        admission: Admission | None = None,
    ) -> None:
        self.now = 0.0
        self.coming = 0
        """How many jobs have come."""
        self.ended = 0
        """And how many have ended."""
        count = len(jobs)
        self._jobs = jobs
        self._policy = policy
        self._processors = processors
        self._switch = switch_seconds
        self._keep = 1.0 - hysteresis
        self._starvation = starvation
        self._admission = admission
        self._left = [job.runtime for job in jobs]
        self._width = [min(job.processors, processors) for job in jobs]
        self._served = [0.0] * count
        self._rank = [0.0] * count
        self._review = [0.0] * count
        self._order: list[tuple[float, int]] = []  # of all jobs that are there
        self._running: dict[int, float] = {}  # since when each runs; what it was served is brought up to then
        self._stamp = [0] * count  # tells a job's current event from outdated ones
        self._events: list[tuple[float, int, int]] = []
        self._stopped: dict[int, float] = {}  # since when each waits
        self._begun = [False] * count
        self._promoted: dict[int, float] = {}  # until when a starving job goes first
        self._ends = [0.0] * count
        self._resumes = 0
        self._longest_wait = 0.0
        self._next_promotion = 0.0  # not before: the floor has its share until then

    def advance(self) -> bool:
        """Let the next thing happen, an arrival, an end or a review; False where all jobs have ended."""
        jobs, events = self._jobs, self._events
        if self.done:
            return False
        while events and events[0][2] != self._stamp[events[0][1]]:
            heapq.heappop(events)
        arrival = jobs[self.coming].submit if self.coming < len(jobs) else float("inf")
        due = events[0][0] if events else float("inf")
        check = self._next_check(self.now) if self._starvation is not None and self._stopped else float("inf")
        self.now = now = min(arrival, due, check)
        if check <= now and check < min(arrival, due):
            self._promote(now)
        elif arrival <= due:
            self._come(self.coming, now)
            self.coming += 1
        else:
            position = heapq.heappop(events)[1]
            self._serve(position, now)
            if self._left[position] <= _EPSILON:
                self._end(position, now)
            else:
                self._move(position, now)
        return True

    @property
    def done(self) -> bool:
        """Whether all jobs have ended."""
        return self.ended == len(self._jobs)

    @property
    def there(self) -> list[int]:
        """The jobs that have come and not ended, in the order of their ranks."""
        return [position for _, position in self._order]

    def outcome(self) -> Outcome:
        """What the policy made of the window, when all jobs have ended."""
        completion = [end - job.submit for end, job in zip(self._ends, self._jobs, strict=True)]
        slowdown = [max(1.0, took / max(job.runtime, FLOOR)) for took, job in zip(completion, self._jobs, strict=True)]
        makespan = max(self._ends) - self._jobs[0].submit
        return Outcome(completion, slowdown, makespan, self._resumes, self._longest_wait)

    def _come(self, position: int, now: float) -> None:
        self._bring_up(now)
        changed = self._policy.submitted(position, self._jobs[position], now)
        self._stopped[position] = now
        self._place(position, now)
        self.reorder(changed)

    def reorder(self, positions: Iterable[int]) -> None:
        """Rank some jobs anew."""
        for position in positions:
            if position in self._running:
                self._serve(position, self.now)
            self._move(position, self.now)

    def _serve(self, position: int, now: float) -> None:
        since = self._running[position]
        self._served[position] += now - since
        self._left[position] -= now - since
        self._running[position] = now

    def _bring_up(self, now: float) -> None:
        """What runs is ranked by what it was served until now, and will be waited for anew."""
        for position in self._running:
            self._serve(position, now)
            self._move(position, now)

    def _place(self, position: int, now: float) -> None:
        rank, review = self._policy.rank(position, self._served[position], now)
        self._rank[position], self._review[position] = rank, review
        insort(self._order, (rank, position))

    def _remove(self, position: int) -> None:
        del self._order[bisect_left(self._order, (self._rank[position], position))]

    def _move(self, position: int, now: float) -> None:
        rank, review = self._policy.rank(position, self._served[position], now)
        self._review[position] = review
        if rank != self._rank[position]:
            self._remove(position)
            self._rank[position] = rank
            insort(self._order, (rank, position))

    def _end(self, position: int, now: float) -> None:
        self._remove(position)
        del self._running[position]
        self._stamp[position] += 1
        self._ends[position] = now
        self.ended += 1
        self._promoted.pop(position, None)
        self.reorder(self._policy.finished(position, self._jobs[position].runtime, now))

    def dispatch(self) -> None:
        """Let those run that are to run now."""
        now = self.now
        chosen = self._chosen(now)
        for position in [position for position in self._running if position not in chosen]:
            self._serve(position, now)
            del self._running[position]
            self._stamp[position] += 1
            self._stopped[position] = now
            self._move(position, now)
        contended = len(chosen) < len(self._order)
        for position in chosen:
            if position not in self._running:
                self._start(position, now)
            elif self._running[position] != now:
                continue  # its event stands
            self._stamp[position] += 1
            ahead = self._left[position]
            if contended:
                ahead = min(ahead, self._review[position])
            if position in self._promoted:
                ahead = min(ahead, max(self._promoted[position] - now, _EPSILON))
            heapq.heappush(self._events, (now + ahead, position, self._stamp[position]))

    def _start(self, position: int, now: float) -> None:
        self._longest_wait = max(self._longest_wait, now - self._stopped.pop(position))
        self._running[position] = now
        if self._begun[position]:
            self._resumes += 1
            self._left[position] += self._switch
        self._begun[position] = True

    def _chosen(self, now: float) -> set[int]:
        free = self._processors
        width = self._width
        chosen = set()
        for position, until in list(self._promoted.items()):
            if until <= now + _EPSILON:
                del self._promoted[position]
            elif width[position] <= free:
                chosen.add(position)
                free -= width[position]
        ranked = self._order if self._keep == 1.0 else self._kept_order()
        order: Iterable[int] = (position for _, position in ranked)
        if self._admission is not None:
            order = [position for position in order if position not in chosen]
            order = self._admission.order(order, width, self._served, free, now)
        for position in order:
            if free <= 0:
                break
            if width[position] <= free and position not in chosen:
                chosen.add(position)
                free -= width[position]
        return chosen

    def _kept_order(self) -> list[tuple[float, int]]:
        """The order with hysteresis: what runs is taken to rank lower than it does. Ranks are positive then."""
        keep, running = self._keep, self._running
        return sorted((rank * keep if position in running else rank, position) for rank, position in self._order)

    def _next_check(self, now: float) -> float:
        assert self._starvation is not None
        oldest = next(iter(self._stopped.values()))
        return max(oldest + self._starvation.bound, self._next_promotion, now)

    def _promote(self, now: float) -> None:
        """Let the job that waited longest run ahead, if the floor's share of the machine is not used up."""
        rule = self._starvation
        assert rule is not None
        position = next(iter(self._stopped))
        self._promoted[position] = now + rule.slice_seconds
        used = rule.slice_seconds * self._width[position]
        self._next_promotion = now + used / (rule.share * self._processors)
