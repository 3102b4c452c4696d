"""A managed job: what was asked for it, and how it stands."""

import shlex
import signal
from collections.abc import Sequence
from dataclasses import MISSING, dataclass, field, fields
from pathlib import PurePath
from sys import intern
from typing import Annotated, Any, Self

from pydantic import AfterValidator
from pydantic_core import to_json

from llmos.kernel.states import State
from llmos.machine.identity import Identity, boot_id
from llmos.plan import values

MAX_RECENT_EXITS = 10
_RARE = {
    "ready", "health", "restart_limit", "restart_on", "restart_prevent", "success_exit", "nice", "umask", "env_files",
    "stop_signal", "stop_timeout", "missed", "overlap", "output", "stderr", "cards",
}  # fmt: skip
"""What few jobs have, and callers see only of those."""
_INTERPRETERS = {"python", "node", "ruby", "perl", "bash", "sh", "zsh", "java", "php", "deno", "bun", "env", "sudo"}


def _span(value: str) -> str:
    if values.seconds_of(checked := values.duration(value)) == 0:
        raise ValueError(f"{values.shown(value)} is no time at all; write at least 1s")
    return checked


Span = Annotated[str, AfterValidator(_span)]
"""A DUR text of at least a second, in what a job says beside its arguments."""


@dataclass(slots=True)
class Job:
    """One job. `memory`, `io` are SIZE texts, `cpu` cores, `timeout` a DUR text; times are epoch seconds.

    `after`, given as a name or None too, are the jobs that it waits for; `ready`, `health` and `restart_limit` are what
    `readiness.Ready`, `health.Health` and `restarts.RestartLimit` read. `missed` says what follows when its time came
    and nobody saw it, `overlap` what follows when the run before is not over.
    """

    name: str
    argv: list[str]
    cwd: str
    env: dict[str, str]
    uid: int
    gid: int
    restart: str = "never"
    memory: str | None = None
    cpu: str | None = None
    io: str | None = None
    gpu: int | None = None
    priority: str = "normal"
    timeout: str | None = None
    schedule: dict[str, str] = field(default_factory=dict)
    after: list[str] = field(default_factory=list)
    ready: dict[str, Any] | None = None
    health: dict[str, Any] | None = None
    pids: int | None = None
    open_files: int | None = None
    nice: int | None = None
    umask: str | None = None
    env_files: list[str] = field(default_factory=list)
    restart_limit: dict[str, Any] | None = None
    restart_on: list[int | str] = field(default_factory=list)
    restart_prevent: list[int | str] = field(default_factory=list)
    success_exit: list[int | str] = field(default_factory=list)
    stop_signal: str = "TERM"
    stop_timeout: str | None = None
    missed: str = "run-once"
    overlap: str = "skip"
    output: str = "file"
    stderr: str = "merged"

    state: State = State.STOPPED
    reason: str = ""
    run: str | None = None
    pid: int | None = None
    start_ticks: int | None = None
    boot: str = ""
    started_at: float | None = None
    ended_at: float | None = None
    exit_code: int | None = None
    exit_signal: int | None = None
    restarts: int = 0
    failures: int = 0
    next_run_at: float | None = None
    """When its schedule comes next."""
    armed: dict[str, Any] | None = None
    """When that was set (`at`), in which boot, and when of that boot's time it is `due` where it counts time."""
    queued: bool = False
    """Whether it is started again once its run has ended."""
    retry_at: float | None = None
    """When it is tried again, in back-off."""
    paused: dict[str, Any] | None = None
    cards: list[str] = field(default_factory=list)
    """The GPUs that it holds, by UUID."""
    gpu_since: float | None = None
    """Since when it waits for GPUs."""
    held: dict[str, Any] | None = None
    """What lifting its limits needs where no control group keeps them: `limits.Held`."""
    recent: list[dict[str, Any]] = field(default_factory=list)
    restarted_at: list[float] = field(default_factory=list)
    """When it was restarted by itself, as far back as its limit looks."""
    failed_checks: int = 0
    """Checks of its health that failed in a row."""
    log_from: list[int] = field(default_factory=list)
    """Where in its log files the output of its run begins, where a line of that is what shows it ready."""
    oom_kills: int = 0
    """Kills for want of memory that its control group had counted before its run."""
    machine_oom_kills: int = 0
    """The same of the whole machine, where it had no such group then."""

    def __post_init__(self) -> None:
        if not isinstance(self.after, list):  # as records of before and calls of `run` have it
            self.after = [self.after] if self.after else []
        # Most jobs share most of their variables, and a thousand jobs should hold them once.
        self.env = {intern(name): intern(value) for name, value in self.env.items()}

    @property
    def identity(self) -> Identity | None:
        """The main process, while there is one."""
        if self.pid is None or self.start_ticks is None:
            return None
        return Identity(self.pid, self.start_ticks, self.boot or boot_id())

    @property
    def recurs(self) -> bool:
        """Whether its schedule comes again after a run."""
        return bool(self.schedule) and "once" not in self.schedule

    def record(self) -> dict[str, Any]:
        """The whole job as JSON, for the journal: to be written at once, for it shares what the job holds."""
        return {name: getattr(self, name) for name in _FIELDS}

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> Self:
        """The job of a journal record; fields that are no longer known are dropped."""
        job = cls(**{name: value for name, value in record.items() if name in _FIELDS})
        job.state = State(job.state)
        return job

    def as_json(self) -> dict[str, Any]:
        """The job as callers see it; what few jobs have is left out where this one has not."""
        return {
            "name": self.name,
            "state": str(self.state),
            "pid": self.pid,
            "started_at": self.started_at,
            "ended_at": self.ended_at,
            "exit_code": self.exit_code,
            "exit_signal": self.exit_signal,
            "restarts": self.restarts,
            "argv": self.argv,
            "cwd": self.cwd,
            "uid": self.uid,
            "restart": self.restart,
            "priority": self.priority,
            "limits": {
                "memory": self.memory,
                "cpu": self.cpu,
                "io": self.io,
                "gpu": self.gpu,
                "pids": self.pids,
                "open_files": self.open_files,
            },
            "timeout": self.timeout,
            "schedule": self.schedule or None,
            "next_run_at": self.next_run_at if self.retry_at is None else self.retry_at,
            "after": self.after,
            "reason": self.reason,
            **{name: value for name, default in _DEFAULTS.items() if (value := getattr(self, name)) != default},
            **({"failed_checks": self.failed_checks} if self.health is not None else {}),
        }

    def exited(self, exit_record: dict[str, Any]) -> None:
        """Take down how its process ended."""
        self.exit_code, self.exit_signal = exit_record.get("code"), exit_record.get("signal")
        self.ended_at = exit_record["at"]
        self.recent = [*self.recent[-MAX_RECENT_EXITS + 1 :], {"started_at": self.started_at, **exit_record}]
        self.pid = self.start_ticks = self.run = self.paused = self.held = None

    def ended_well(self) -> bool:
        """Whether its last run ended with exit code 0, or as its `success_exit` has it."""
        return self.exit_code == 0 or self.ended_as(self.success_exit)

    def ended_as(self, ends: list[int | str]) -> bool:
        """Whether its last run ended with one of these exit codes or signals (names without SIG)."""
        return self.exit_code in ends or (self.exit_signal is not None and _signal_name(self.exit_signal) in ends)

    def ended_how(self) -> str:
        """How its last run ended, in words; whether the kernel killed something of it for want of memory."""
        known = self.recent[-1].get("oom") if self.recent else False
        oom = {True: ", out of memory", "perhaps": ", perhaps out of memory"}.get(known or False, "")
        if self.exit_signal is not None:
            return f"killed by signal {self.exit_signal}{oom}"
        return "ended in a way nobody saw" if self.exit_code is None else f"exit code {self.exit_code}{oom}"


_FIELDS = tuple(item.name for item in fields(Job))
_DEFAULTS: dict[str, Any] = {
    item.name: [] if item.default is MISSING else item.default for item in fields(Job) if item.name in _RARE
}


class JobRow(dict[str, Any]):
    """A job as callers see it, with its JSON text, made once: the state of jobs is what programs ask most."""

    __slots__ = ("json",)

    def __init__(self, job: Job) -> None:
        super().__init__(job.as_json())
        self.json: bytes = to_json(self)


class JobList(list[dict[str, Any]]):
    """Jobs as callers see them, with the JSON text of the whole."""

    __slots__ = ("json",)

    def __init__(self, rows: Sequence[JobRow]) -> None:
        super().__init__(rows)
        self.json = b"[%b]" % b",".join([row.json for row in rows])


def name_from(argv: list[str]) -> str:
    """A name for a job that was given none: its program's, or its script's where the program runs scripts."""
    words = [word for word in argv if not ("=" in word and argv[0] == "env")]
    program = PurePath(words[0]).name
    if program.rstrip("0123456789.") in _INTERPRETERS:
        script = next((word for word in words[1:] if not word.startswith("-") and " " not in word), "")
        program = PurePath(script).stem or program
    name = "".join(char if char.isalnum() or char in "-_." else "-" for char in program).strip("-.")[:64] or "job"
    return f"job-{name}" if name.isdigit() else name


def _signal_name(number: int) -> str | None:
    known = set(signal.Signals)
    return signal.Signals(number).name.removeprefix("SIG") if number in known else None


def command_line(argv: list[str]) -> str:
    """The command as a person would type it."""
    return shlex.join(argv)


def timeout_seconds(job: Job) -> float | None:
    """How long one run of it may take, in seconds."""
    return float(values.seconds_of(job.timeout)) if job.timeout else None
