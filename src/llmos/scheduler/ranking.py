"""Who goes first among what runs now, by one of the policies that the simulator knows, and what it expects of each.

A job's service is its processor seconds, and so is its size. The static baseline ranks beside the policy in use, as the
runner-up. Nothing is read or loaded before somebody has to wait for the first time, for what is learned takes memory.
"""

import time
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from llmos.scheduler.policies import Hybrid, LeastAttained, Runs
from llmos.scheduler.run_history import PastRun
from llmos.scheduler.simulator import Policy
from llmos.scheduler.workload import Job

STATIC = "hybrid"
"""What is used where nothing is learned, and beside what is."""
RUNNER_UP = {"learned": STATIC, "hybrid": "las", "las": "hybrid"}
_RENEW_AFTER = 1000
"""Runs that end before a policy is begun anew from what is known, so that what it holds of them does not pile up."""


@dataclass(frozen=True, slots=True)
class Expected:
    """What remains of a job, in processor seconds: the middle and the bounds of the middle 80 %, from so many runs."""

    low: float
    middle: float
    high: float
    runs: int

    def as_json(self) -> dict[str, float]:
        """For the journal, to a tenth of a second."""
        seconds = {"low": self.low, "middle": self.middle, "high": self.high}
        return {**{name: round(value, 1) for name, value in seconds.items()}, "runs": self.runs}


@dataclass(frozen=True, slots=True)
class Order:
    """Where somebody stands: ranks, the lowest first, and the seconds of service until the rank may be another."""

    rank: float
    review: float
    runner_up: float
    expected: Expected | None


class _Knowledge(Protocol):
    runs: Runs

    def note(self, job: Job) -> None: ...


class _Runs:
    """What the static policies know."""

    def __init__(self) -> None:
        self.runs = Runs()

    def note(self, job: Job) -> None:
        self.runs.note(job)


class Ranking:
    """Ranks by the policy of a name. What lives and what ended is told at once, and taken in by the next `order`."""

    def __init__(self, name: str, past: Callable[[], Iterable[PastRun]]) -> None:
        self.name, self.fallen_back = name, ""
        """The policy in use, and why it is not the one that was wanted."""
        self._past = past
        self._jobs: dict[int, Job] = {}
        self._news: deque[Callable[[], None]] = deque()
        self._knowledge: _Knowledge | None = None
        self._policies: tuple[Policy, Policy] | None = None
        self._ended = 0

    @property
    def runner_up(self) -> str:
        """The name of the policy beside."""
        return RUNNER_UP[self.name]

    def came(self, position: int, job: Job) -> None:
        """Something lives that may have to be ranked, by a number of its own."""
        self._jobs[position] = job
        if self._policies is not None:
            self._news.append(lambda: self._submit(position, job))

    def ended(self, position: int, size: float | None) -> None:
        """It has ended after so much service; None where that is not its size, for it was ended by somebody."""
        job = self._jobs.pop(position)
        if self._policies is not None:
            self._news.append(lambda: self._finish(position, job, size))

    def order(self, served: Mapping[int, float]) -> dict[int, Order]:
        """Where each stands that has had so much service. Blocks: it may load what was learned, and computes."""
        if self._policies is None:
            self._know()
        while self._news:
            self._news.popleft()()
        if self._ended >= _RENEW_AFTER:
            self._begin()
        assert self._policies is not None
        policy, beside = self._policies
        now = time.time()
        found = {}
        for position, seconds in served.items():
            if position in self._jobs:
                rank, review = policy.rank(position, seconds, now)
                expected = self._expected(self._jobs[position], seconds)
                found[position] = Order(rank, review, beside.rank(position, seconds, now)[0], expected)
        return found

    def _know(self) -> None:
        self._knowledge = self._learned() if self.name == "learned" else _Runs()
        for run in self._past():
            if run.cpu_seconds:
                self._knowledge.note(Job(0, run.ended_at, run.cpu_seconds, 1, str(run.uid), run.fingerprint, run.job))
        self._begin()

    def _learned(self) -> _Knowledge:
        try:
            from llmos.scheduler.contest import Knowledge

            return Knowledge()
        except (OSError, ValueError, ImportError) as error:
            self.fallen_back = f"what was learned cannot be used ({error}), so the policy is {STATIC}"
            self.name = STATIC
            return _Runs()

    def _begin(self) -> None:
        self._ended = 0
        self._policies = self._make(self.name), self._make(self.runner_up)
        self._news.clear()
        for position, job in list(self._jobs.items()):
            self._submit(position, job)

    def _make(self, name: str) -> Policy:
        assert self._knowledge is not None
        if name == "las":
            return LeastAttained()
        if name == "hybrid":
            return Hybrid(self._knowledge.runs)
        from llmos.scheduler.contest import POLICIES, Knowledge

        make = POLICIES[name]
        assert make is not None and isinstance(self._knowledge, Knowledge)
        return make(self._knowledge)

    def _submit(self, position: int, job: Job) -> None:
        assert self._policies is not None
        for policy in self._policies:
            policy.submitted(position, job, time.time())

    def _finish(self, position: int, job: Job, size: float | None) -> None:
        assert self._policies is not None and self._knowledge is not None
        self._ended += 1
        if size:  # else a policy would learn a size that is none; it forgets the job when it is begun anew
            for policy in self._policies:
                policy.finished(position, size, time.time())
            self._knowledge.note(replace(job, runtime=size))

    def _expected(self, job: Job, served: float) -> Expected | None:
        """What remains, by the earlier runs of the same user and program that took longer than it has had."""
        assert self._knowledge is not None
        sizes = sorted(self._knowledge.runs.of(job))
        longer = sizes[bisect_right(sizes, served) :]
        if not longer:
            return None

        def at(share: float) -> float:
            return longer[min(len(longer) - 1, int(share * len(longer)))] - served

        return Expected(at(0.1), at(0.5), at(0.9), len(longer))
