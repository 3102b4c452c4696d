"""Policies on the same windows: what each knows before a window, and what it makes of it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from llmos.scheduler import generators
from llmos.scheduler.admission_search import AdmissionSearch
from llmos.scheduler.hazard import HazardNetwork, shipped
from llmos.scheduler.learned import Experience, Learned
from llmos.scheduler.policies import FirstCome, Gittins, Hybrid, LeastAttained, Runs, ShortestFirst, ShortestRemaining
from llmos.scheduler.sharing import share
from llmos.scheduler.simulator import SWITCH_SECONDS, Outcome, Policy, Starvation, simulate
from llmos.scheduler.workload import WINDOW, Job, Window, read_swf
from llmos.scheduler.workload import windows as cut


class Knowledge:
    """What has been learned from jobs that ended, with a network, or the shipped one."""

    def __init__(self, network: HazardNetwork | None = None) -> None:
        self.runs = Runs()
        self.experience = Experience(network or shipped())

    def note(self, job: Job) -> None:
        """A job ended."""
        self.runs.note(job)
        self.experience.note(job)


Make = Callable[[Knowledge], Policy] | None
POLICIES: dict[str, Make] = {
    "fcfs": lambda knowledge: FirstCome(),
    "ps": None,
    "sjf": lambda knowledge: ShortestFirst(),
    "las": lambda knowledge: LeastAttained(),
    "gittins": lambda knowledge: Gittins(knowledge.runs),
    "hybrid": lambda knowledge: Hybrid(knowledge.runs),
    "srtf": lambda knowledge: ShortestRemaining(),
    "learned": lambda knowledge: Learned(knowledge.experience),
}
"""By name; processor sharing ranks nobody."""
BOUNDED = {"learned": Starvation()}
"""What the envelope adds, by policy."""


@dataclass(frozen=True, slots=True)
class Contest:
    """Windows, in the order of time, and the jobs before them.

    With a history, what learns goes on learning between the windows: before a window it knows the history and the jobs
    of the trace that ended before the window begins. Without one it knows nothing before each window.
    """

    windows: Sequence[Window]
    trace: Sequence[Job]
    history: Sequence[Job]
    processors: int

    @classmethod
    def of(
        cls, trace: str, history: Path | None, *, processors: int, load: float, windows: int, seed: int
    ) -> "Contest":
        """Read or draw what a contest needs.

        :raises NotFound: there is no such file.
        :raises BadInput: it is not a trace.
        """
        jobs = generators.draw(trace, WINDOW * windows, seed) if trace in generators.NAMES else read_swf(Path(trace))
        earlier = read_swf(history) if history else []
        drawn = cut(jobs, windows, load=load, processors=processors, seed=seed)
        return cls(drawn, jobs, earlier, processors)

    def run(
        self,
        policies: Mapping[str, Make],
        *,
        switch_seconds: float = SWITCH_SECONDS,
        bounded: Mapping[str, Starvation] = BOUNDED,
        searched: Mapping[str, int] | None = None,
    ) -> dict[str, list[Outcome]]:
        """Each policy's outcomes, by window.

        :param searched: for learned policies by name, the trials with which a search admits where not all fit.
        """
        results: dict[str, list[Outcome]] = {name: [] for name in policies}
        knowledge = Knowledge()
        for job in sorted(self.history, key=_end):
            knowledge.note(job)
        between = sorted(self.trace, key=_end) if self.history else []
        at = 0
        for window in self.windows:
            begin = self.trace[window.begin].submit
            while at < len(between) and _end(between[at]) < begin:
                knowledge.note(between[at])
                at += 1
            for name, make in policies.items():
                if make is None:
                    outcome = share(window.jobs, self.processors)
                else:
                    policy = make(knowledge)
                    admission = None
                    if searched and name in searched and isinstance(policy, Learned):
                        admission = AdmissionSearch(policy, trials=searched[name])
                    outcome = simulate(
                        window.jobs,
                        policy,
                        processors=self.processors,
                        switch_seconds=switch_seconds,
                        starvation=bounded.get(name),
                        admission=admission,
                    )
                results[name].append(outcome)
        return results


def _end(job: Job) -> float:
    return job.submit + job.runtime
