"""Who goes first among what runs now, by one of the policies that the simulator knows, and what it expects of each.

A job's service is its processor seconds, and so is its size. The static baseline ranks beside the policy in use, as the
runner-up. Nothing is read or loaded before somebody has to wait for the first time, for what is learned takes memory.
"""

import time
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol, cast

from llmos.errors import LlmosError
from llmos.scheduler.forecasts import Expected, Forecasts
from llmos.scheduler.policies import LeastAttained, Runs, ScaledHybrid
from llmos.scheduler.run_history import PastRun
from llmos.scheduler.simulator import Policy
from llmos.scheduler.workload import Job

if TYPE_CHECKING:
    from llmos.scheduler.hazard import HazardNetwork
    from llmos.scheduler.learned import Learned

STATIC = "hybrid"
"""What is used where nothing is learned, and beside what is."""
RUNNER_UP = {"learned": STATIC, "hybrid": "las", "las": "hybrid"}
_RENEW_AFTER = 1000
"""Runs that end before a policy is begun anew from what is known, so that what it holds of them does not pile up."""


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

    def __init__(
        self, name: str, past: Callable[[], Iterable[PastRun]], network: "Callable[[], HazardNetwork] | None" = None
    ) -> None:
        """
        :param network: gives the network of the learned policy, the shipped one where this is left out.
        """
        self.fallen_back = ""
        """Why the policy that was wanted cannot be used; empty where it can."""
        self.standing_in = ""
        """Why the static policy stands in for the learned one; empty where it does not."""
        self.forecasts = Forecasts()
        self._wanted = name
        self._past = past
        self._network = network
        self._jobs: dict[int, Job] = {}
        self._news: deque[Callable[[], None]] = deque()
        self._knowledge: _Knowledge | None = None
        self._policies: tuple[Policy, Policy] | None = None
        self._submitted: set[int] = set()
        self._ended = 0
        self._stale = False

    @property
    def name(self) -> str:
        """The policy in use."""
        return STATIC if self.standing_in or self.fallen_back else self._wanted

    @property
    def runner_up(self) -> str:
        """The name of the policy beside."""
        return "learned" if self.standing_in and not self.fallen_back else RUNNER_UP[self.name]

    @property
    def loaded(self) -> bool:
        """Whether somebody has had to wait, so that what was learned is in memory."""
        return self._policies is not None

    def stand_in(self, reason: str) -> None:
        """Have the static policy stand in for the learned one, or, without a reason, no longer."""
        self.standing_in = reason
        self.renew()

    def renew(self) -> None:
        """Have the next `order` load anew what was learned."""
        self.fallen_back = ""
        self._stale = True

    def came(self, position: int, job: Job) -> None:
        """Something lives that may have to be ranked, by a number of its own."""
        self._jobs[position] = job
        if self._policies is not None:
            self._news.append(lambda: self._submit(position, job))

    def ended(self, position: int, size: float | None) -> None:
        """It has ended after so much service; None where that is not its size, for it was ended by somebody."""
        job = self._jobs.pop(position)
        self.forecasts.ended(position, size)
        if self._policies is not None:
            self._news.append(lambda: self._finish(position, job, size))

    def order(self, served: Mapping[int, float]) -> dict[int, Order]:
        """Where each stands that has had so much service. Blocks: it may load what was learned, and computes."""
        if self._policies is None or self._stale:
            self._stale = False
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
            if (job := self._jobs.get(position)) is not None:
                rank, review = policy.rank(position, seconds, now)
                expected = self._expected(self.name, position, job, seconds)
                found[position] = Order(rank, review, beside.rank(position, seconds, now)[0], expected)
        return found

    def contributions(self, position: int, served: float) -> dict[str, Any] | None:
        """What each input of the learned policy adds to what it expects of a job; None by another policy. Blocks."""
        job = self._jobs.get(position)  # it may have ended
        if self.name != "learned" or self._policies is None or job is None or position not in self._submitted:
            return None
        assert self._knowledge is not None
        return self._learned_policy().contributions(position, served, time.time(), self._knowledge.runs.of(job))

    def _know(self) -> None:
        self._knowledge = self._learned() if self._wanted == "learned" else _Runs()
        for run in self._past():
            if run.size:
                self._knowledge.note(Job(0, run.ended_at, run.size, 1, str(run.uid), run.fingerprint, run.job))
        self._begin()

    def _learned(self) -> _Knowledge:
        try:
            from llmos.scheduler.contest import Knowledge

            return Knowledge(self._network() if self._network is not None else None)
        except (OSError, ValueError, ImportError, LlmosError) as error:
            self.fallen_back = f"what was learned cannot be used ({error}), so the policy is {STATIC}"
            return _Runs()

    def _learned_policy(self) -> "Learned":
        """The learned policy, in use or beside."""
        assert self._policies is not None
        return cast("Learned", self._policies[0 if self.name == "learned" else 1])

    def _begin(self) -> None:
        self._ended = 0
        self._submitted.clear()
        self._policies = self._make(self.name), self._make(self.runner_up)
        self._news.clear()
        for position, job in list(self._jobs.items()):
            self._submit(position, job)

    def _make(self, name: str) -> Policy:
        assert self._knowledge is not None
        if name == "las":
            return LeastAttained()
        if name == "hybrid":
            return ScaledHybrid(self._knowledge.runs)
        from llmos.scheduler.contest import POLICIES, Knowledge

        make = POLICIES[name]
        assert make is not None and isinstance(self._knowledge, Knowledge)
        return make(self._knowledge)

    def _submit(self, position: int, job: Job) -> None:
        assert self._policies is not None
        if position in self._submitted:  # told twice, while all was begun anew
            return
        self._submitted.add(position)
        for policy in self._policies:
            policy.submitted(position, job, time.time())
        if position in self._jobs:
            expected = {name: self._expected(name, position, job, 0.0) for name in (self.name, self.runner_up)}
            self.forecasts.made(position, self.name, expected)

    def _finish(self, position: int, job: Job, size: float | None) -> None:
        assert self._policies is not None and self._knowledge is not None
        self._ended += 1
        if not size:  # a policy would learn a size that is none; it forgets the job when it is begun anew
            return
        if position in self._submitted:
            self._submitted.discard(position)
            for policy in self._policies:
                policy.finished(position, size, time.time())
        self._knowledge.note(replace(job, runtime=size))

    def _expected(self, name: str, position: int, job: Job, served: float) -> Expected | None:
        """What remains: by the network where the policy is the learned one, else by the earlier runs of the same user and
        program that took longer than it has had."""
        assert self._knowledge is not None and self._policies is not None
        sizes = sorted(self._knowledge.runs.of(job))
        if name == "learned":
            sized = self._learned_policy().expected(position, served, time.time())
            low, middle, high = (size - served for size in sized)
            return Expected(low, middle, high, len(sizes), "network")
        longer = sizes[bisect_right(sizes, served) :]
        if not longer:
            return None

        def at(share: float) -> float:
            return longer[min(len(longer) - 1, int(share * len(longer)))] - served

        return Expected(at(0.1), at(0.5), at(0.9), len(longer), "runs")
