"""A task: one run of a job, or one heavy process, as the scheduler has it before its eyes."""

import os
import time
from dataclasses import dataclass, field
from typing import Any

from llmos.kernel.job import Job, timeout_seconds
from llmos.machine.identity import Identity
from llmos.scheduler import workload
from llmos.scheduler.envelope import Place
from llmos.scheduler.fingerprint import fingerprint
from llmos.scheduler.ranking import Order
from llmos.scheduler.run_history import PastRun
from llmos.scheduler.telemetry import Watched

RECENT_SECONDS = 3.0
"""Over which a demand is taken."""
WANTS = 0.3
"""Processors used and waited for, from which on somebody wants one."""
FRESH_SECONDS = 2.0
"""How long something that has just come is taken to want one."""
_NOTHING = 0.01
"""Processors that count as none."""


@dataclass(slots=True, eq=False)
class Task:
    """One of them. `position` is its number in the ranking; `subject` and `key` name it in the journal."""

    key: str
    name: str
    uid: int
    main: Identity
    position: int
    watched: Watched
    ranked: workload.Job
    job: Job | None = None
    came_at: float = field(default_factory=time.monotonic)
    nice: int | None = None
    """Its niceness when it was first seen."""
    theirs: str = ""
    """Why it was left to a person who set something of it from outside."""
    order: Order | None = None
    """Where it stood in the ranking when it was last asked for."""
    place: Place | None = None
    """Where it stands, while the processors are short."""
    contributions: dict[str, Any] | None = None
    """What made the prediction, when it was last put behind."""
    explained_until: float = 0.0
    """Seconds of service until which that holds."""
    starving_since: float | None = None
    placed_behind: int = 0

    @property
    def run(self) -> str | None:
        """The run of the job that it is."""
        return self.job.run if self.job is not None else None

    @property
    def subject(self) -> str:
        """What events about it are about."""
        return self.job.name if self.job is not None else self.key

    @property
    def served(self) -> float:
        """Processor seconds that it has had."""
        return self.watched.cpu_seconds

    @property
    def fresh(self) -> bool:
        """Whether it has just come, so that its samples tell nothing yet."""
        return time.monotonic() - self.came_at < FRESH_SECONDS

    @property
    def rank(self) -> float:
        """Its rank, the lowest first; by the service that it has had where it was not ranked yet."""
        return self.order.rank if self.order is not None else self.served

    def demand(self) -> float:
        """Processors that it uses and waits for, as far as was seen."""
        used, waited, _ = self.watched.rates(RECENT_SECONDS)
        return used + waited

    def wants(self) -> bool:
        """Whether it wants a processor of its own."""
        return self.fresh or self.demand() >= WANTS

    def starved(self, now: float) -> float:
        """For how many seconds it has wanted a processor and had nothing. Asked once a sample."""
        used, waited, _ = self.watched.rates(RECENT_SECONDS)
        if self.fresh or used > _NOTHING or waited < WANTS:
            self.starving_since = None
        elif self.starving_since is None:
            self.starving_since = now
        return now - self.starving_since if self.starving_since is not None else 0.0

    def serves(self) -> bool:
        """Whether it is a service, for which somebody may be waiting all the time."""
        return self.job is not None and serves(self.job)

    def as_json(self) -> dict[str, Any]:
        """As a person sees it."""
        used, waited, growth = self.watched.rates(RECENT_SECONDS)
        newest = self.watched.ring.newest()
        return {
            "target": self.name,
            "place": "usual" if self.place is None else "first" if self.place.first else "behind",
            "share": self.place.share if self.place is not None else 100,
            "cores": round(used, 2),
            "waiting": round(waited, 2),
            "cpu_seconds": round(self.served, 2),
            "memory_bytes": int(newest.memory_bytes) if newest is not None else None,
            "memory_growth": round(growth),
            "left_alone": self.theirs or None,
        }


def of_job(job: Job, position: int, watched: Watched) -> Task:
    """The task of a job that has a process. Reads its niceness: called in a thread."""
    ranked = workload.Job(
        position,
        time.time(),
        0.0,
        1,
        str(job.uid),
        fingerprint(job.argv),
        job.name,
        timeout_seconds(job) or 0.0,
    )
    main = watched.main
    return Task(f"job {job.name}", job.name, job.uid, main, position, watched, ranked, job, nice=niceness(main))


def niceness(identity: Identity) -> int | None:
    """The niceness of a process; None once it has ended."""
    try:
        return os.getpriority(os.PRIO_PROCESS, identity.pid)
    except ProcessLookupError:
        return None


def past_run(job: Job, found: Task | None) -> PastRun | None:
    """What the last run of a job took, by the reaper and by what was sampled; None where nobody saw it end."""
    last = job.recent[-1]
    started = last.get("started_at")
    if started is None or last.get("unknown"):
        return None
    cpu, peak = last.get("cpu_seconds"), last.get("max_rss_bytes")
    if found is not None:  # what was no child of its main process, or outlived it, was seen here alone
        cpu = max(cpu or 0.0, found.served) or None
        peak = max(peak or 0, found.watched.peak_bytes) or None
    signal = last.get("signal")
    return PastRun(
        fingerprint=fingerprint(job.argv),
        uid=job.uid,
        job=job.name,
        ended_at=last["at"],
        runtime=max(0.0, last["at"] - started),
        cpu_seconds=cpu,
        peak_bytes=peak,
        io_bytes=found.watched.io_bytes if found is not None else None,
        exit=-signal if signal is not None else last.get("code"),
        gpus=len(last.get("cards", ())) or None,
        gpu_peak_bytes=last.get("gpu_peak_bytes"),
    )


def serves(job: Job) -> bool:
    """Whether a job is a service."""
    return job.restart == "always" or job.ready is not None or job.health is not None
