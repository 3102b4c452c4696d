"""What each policy would have made of the runs that really came: the newest of them, replayed in the simulator.

Arrivals, sizes (processor seconds) and processors are the recorded ones; each policy knows what had ended before the
window and learns on as it goes. The cost of a policy against another is the geometric mean of its ratios in mean
completion time and in mean bounded slowdown. Blocks for some tenths of a second: called in a thread.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import TYPE_CHECKING, Any

from llmos.scheduler.policies import Runs, ScaledHybrid
from llmos.scheduler.run_history import PastRun
from llmos.scheduler.simulator import Outcome, Policy, simulate
from llmos.scheduler.workload import Job

if TYPE_CHECKING:
    from llmos.scheduler.hazard import HazardNetwork

WINDOW = 64
"""Ended runs over which policies are compared."""
_KNOWN = 2000
"""Runs before the window that a policy knows."""
MARGIN = 0.05
"""The cost beyond that of the static policy from which on the learned one is switched off."""
BETTER = 0.01
"""What must be gained over the policy in use by another, for it to take the place."""
STATIC = "static"
_DAY = 86400.0


def replayable(run: PastRun) -> Job | None:
    """A run as the simulator takes it: its runtime is what it takes on all of its processors.

    None where its size is not known, for it was ended by a signal or nobody saw what it used.
    """
    size = run.size
    if not size:
        return None
    width = max(1, round(size / run.runtime)) if run.runtime > 0 else 1
    came = run.ended_at - run.runtime
    return Job(0, came, size / width, width, str(run.uid), run.fingerprint, run.job)


def sized(job: Job) -> Job:
    """A replayable job as policies learn of it: its size is in processor seconds."""
    return replace(job, runtime=job.runtime * job.processors, processors=1)


class _BySize:
    """A policy that ranks by processor seconds, whatever the processors of a job."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._width: dict[int, int] = {}

    def submitted(self, position: int, job: Job, now: float) -> Iterable[int]:
        self._width[position] = job.processors
        return self._policy.submitted(position, sized(job), now)

    def rank(self, position: int, served: float, now: float) -> tuple[float, float]:
        width = self._width[position]
        rank, review = self._policy.rank(position, served * width, now)
        return rank, review / width

    def finished(self, position: int, runtime: float, now: float) -> Iterable[int]:
        return self._policy.finished(position, runtime * self._width[position], now)


def outcomes(
    known: Iterable[Job], window: Sequence[Job], networks: Mapping[str, "HazardNetwork"], cores: int
) -> dict[str, Outcome]:
    """What `static` and the learned policy with each of these networks make of a window.

    :param known: replayable jobs that ended before, the oldest first.
    """
    from llmos.scheduler.contest import POLICIES, Knowledge

    learned = POLICIES["learned"]
    assert learned is not None
    knowledge = {name: Knowledge(network) for name, network in networks.items()}
    runs = Runs()
    for job in known:
        size = sized(job)
        runs.note(size)
        for each in knowledge.values():
            each.note(size)
    policies: dict[str, Policy] = {STATIC: ScaledHybrid(runs)}
    policies |= {name: learned(each) for name, each in knowledge.items()}
    fitting = [replace(job, processors=min(job.processors, cores)) for job in window]
    return {name: simulate(fitting, _BySize(policy), processors=cores) for name, policy in policies.items()}


@dataclass(frozen=True, slots=True)
class Comparison:
    """Means by policy over a window of so many runs, in seconds and as bounded slowdown, and when it ended."""

    runs: int
    at: float
    completion: dict[str, float]
    slowdown: dict[str, float]

    def cost(self, policy: str, against: str) -> float:
        """The cost of a policy, 1 being that of the other."""
        completion = self.completion[policy] / self.completion[against]
        return float((completion * self.slowdown[policy] / self.slowdown[against]) ** 0.5)

    def as_json(self) -> dict[str, Any]:
        """For the journal and for a person."""
        return {
            "runs": self.runs,
            "at": self.at,
            "mean_completion_seconds": {name: round(value, 2) for name, value in self.completion.items()},
            "mean_slowdown": {name: round(value, 3) for name, value in self.slowdown.items()},
        }


def compared(results: Sequence[Mapping[str, Outcome]], at: float) -> Comparison:
    """The means over all jobs of some windows."""

    def mean(name: str, figure: str) -> float:
        return fmean(value for result in results for value in getattr(result[name], figure))

    names = results[0]
    return Comparison(
        sum(len(result[STATIC].completion) for result in results),
        at,
        {name: mean(name, "completion") for name in names},
        {name: mean(name, "slowdown") for name in names},
    )


def compare(
    past: Sequence[PastRun], networks: Mapping[str, "HazardNetwork"], *, since: float, cores: int
) -> Comparison | None:
    """Policies on the newest window of runs that ended after `since`; None where these are too few.

    :param past: the oldest first.
    """
    jobs = [(job, run.ended_at) for run in past if (job := replayable(run)) is not None]
    window = sorted((job for job, ended_at in jobs[-WINDOW:] if ended_at > since), key=lambda job: job.submit)
    if len(window) < WINDOW:
        return None
    known = [job for job, _ in jobs[:-WINDOW][-_KNOWN:]]
    midnight = window[0].submit - window[0].submit % _DAY  # the hour of the day stays what it was
    shifted = [replace(job, submit=job.submit - midnight) for job in window]
    return compared([outcomes(known, shifted, networks, cores)], jobs[-1][1])
