"""Targets: what PID, NAME, JOB and WATCH of a line stand for, resolved to something that cannot be mistaken later."""

import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any

from llmos.errors import NotFound
from llmos.kernel.job import command_line
from llmos.kernel.supervisor import Supervisor
from llmos.machine.identity import Identity, boot_id
from llmos.machine.processes import ProcessRow, find_by_name, process_row
from llmos.machine.users import UserNames

MAX_COMMAND = 1024
"""Characters of a command line that a plan shows."""


@dataclass(frozen=True, slots=True)
class ProcessTarget:
    """A process that is no job, held by pid, start time and boot id."""

    identity: Identity
    name: str
    user: str
    uid: int
    started_at: float
    command: str

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.identity.pid

    @property
    def key(self) -> str:
        """What the hash of a plan is bound to."""
        return f"process {self.identity.as_text()}"

    def as_json(self) -> dict[str, Any]:
        """As a plan shows it."""
        return {
            "kind": "process",
            "name": self.name,
            "pid": self.pid,
            "user": self.user,
            "age_seconds": round(max(0.0, time.time() - self.started_at), 1),
            "command": self.command,
            "resolved": True,
        }


@dataclass(frozen=True, slots=True)
class JobTarget:
    """A managed job, whatever process it has; `pid` and `started_at` are those of now."""

    name: str
    uid: int
    run: str | None
    pid: int | None
    started_at: float | None
    argv: tuple[str, ...]

    @property
    def key(self) -> str:
        """What the hash of a plan is bound to: the job and its present run."""
        return f"{self.label} {self.run}"

    @property
    def label(self) -> str:
        """How a sentence names it."""
        return f"job {self.name}"

    def as_json(self) -> dict[str, Any]:
        """As a plan shows it."""
        return {
            "kind": "job",
            "name": self.name,
            "pid": self.pid,
            "user": user_name(self.uid),
            "age_seconds": round(time.time() - self.started_at, 1) if self.pid and self.started_at else None,
            "command": command_line(list(self.argv))[:MAX_COMMAND],
            "resolved": True,
        }


@dataclass(frozen=True, slots=True)
class WatchTarget:
    """A standing watch, by its number."""

    number: int
    uid: int
    line: str

    @property
    def key(self) -> str:
        """What the hash of a plan is bound to."""
        return self.label

    @property
    def label(self) -> str:
        """How a sentence names it."""
        return f"watch {self.number}"

    def as_json(self) -> dict[str, Any]:
        """As a plan shows it."""
        return {"kind": "watch", "name": str(self.number), "pid": None, "command": self.line, "resolved": True}


Resolved = ProcessTarget | JobTarget | WatchTarget


def job_target(supervisor: Supervisor, name: str) -> JobTarget:
    """The target that a job is.

    :raises NotFound: there is no such job.
    """
    job = supervisor.get(name)
    return JobTarget(job.name, job.uid, job.run, job.pid, job.started_at, tuple(job.argv))


def process_targets(rows: Iterable[ProcessRow], supervisor: Supervisor) -> list[Resolved]:
    """The targets that process rows are; the main process of a job stands for the job."""
    found: dict[str, Resolved] = {}
    for row in rows:
        job = supervisor.by_pid(row.pid)
        target = job_target(supervisor, job.name) if job is not None else of_row(row)
        found.setdefault(target.key, target)
    return list(found.values())


def of_row(row: ProcessRow) -> ProcessTarget:
    """The target that one process is."""
    identity = Identity(row.pid, row.start_ticks, boot_id())
    return ProcessTarget(identity, row.name, row.user, row.uid, row.started_at, row.command)


def by_text(text: str, supervisor: Supervisor, excluded: frozenset[int]) -> list[Resolved]:
    """What TARGET stands for: a pid; else the job of that name; else every process of that name.

    Reads /proc: called in a thread. `excluded` are pids that a name never means: llmos's own and the caller's.

    :raises NotFound: nothing goes by it.
    """
    if text.isascii() and text.isdigit():
        return process_targets([process_row(int(text))], supervisor)
    if text in supervisor.jobs:
        return [job_target(supervisor, text)]
    rows = [row for row in find_by_name(text) if row.pid not in excluded and row.state != "zombie"]
    if not rows:
        raise NotFound(
            f"there is no job and no process called {text!r}; `llmos ps` and `llmos jobs` list them", name=text
        )
    return process_targets(rows, supervisor)


@cache
def user_name(uid: int) -> str:
    """The name of a user, or the number where it has none; looked up once, for the owners of jobs are few."""
    return UserNames()[uid]
