"""Syscalls on managed jobs: start, stop, schedule, look at and forget them."""

from typing import Literal

from llmos.syscalls.process import Priority
from llmos.syscalls.registry import (
    Argv,
    Cores,
    Count,
    Cron,
    Duration,
    Job,
    Moment,
    NewName,
    Node,
    Path,
    Risk,
    Size,
    Syscall,
    Target,
    Text,
    Time,
)


class Jobs(Syscall, verb="jobs", risk=Risk.READ):
    """Managed jobs."""

    state: Literal["running", "paused", "failed", "scheduled", "stopped"] | None = None


class Logs(Syscall, verb="logs", risk=Risk.READ):
    """Output of a job."""

    target: Target
    lines: Count | None = None
    grep: Text | None = None
    since: Duration | None = None


class Wait(Syscall, verb="wait", risk=Risk.READ, blocks=True):
    """Until it ends."""

    target: Target
    timeout: Duration | None = None


class Run(Syscall, verb="run", risk=Risk.CHANGE, inverse="stop"):
    """Start a managed job: now; daily (at); one time (once); repeatedly (every, cron); or when JOB has ended well (after).

    `cpu` is in cores, 0.5 allowed; `gpu` says how many cards.
    """

    name: NewName | None = None
    cwd: Path | None = None
    restart: Literal["never", "on-failure", "always"] = "never"
    memory: Size | None = None
    cpu: Cores | None = None
    gpu: Count | None = None
    priority: Priority = "normal"
    timeout: Duration | None = None
    at: Time | None = None
    once: Moment | None = None
    every: Duration | None = None
    cron: Cron | None = None
    after: Job | None = None
    on: Node | None = None
    argv: Argv


class Start(Syscall, verb="start", risk=Risk.CHANGE, inverse="stop"):
    """Start a known job that is not running."""

    job: Job


class Stop(
    Syscall, verb="stop", risk=Risk.DESTROY, inverse="start", risk_note="for what is not a job, else change"
):
    """Graceful end, then KILL after the timeout."""

    target: Target
    timeout: Duration | None = None


class Restart(Syscall, verb="restart", risk=Risk.CHANGE):
    """Running or not."""

    target: Target


class Schedule(Syscall, verb="schedule", risk=Risk.CHANGE, inverse="schedule back"):
    """Set when a job runs, as in run."""

    job: Job
    at: Time | None = None
    once: Moment | None = None
    every: Duration | None = None
    cron: Cron | None = None


class Unschedule(Syscall, verb="unschedule", risk=Risk.CHANGE, inverse="schedule"):
    """Take a job off its schedule."""

    job: Job


class Remove(Syscall, verb="remove", risk=Risk.DESTROY):
    """Forget a job; it must be stopped."""

    job: Job
