"""Syscalls on processes, managed or not: look at them, signal them, freeze them, set what they may use."""

from typing import Literal

from llmos.syscalls.registry import (
    CoresLimit,
    Count,
    Path,
    Port,
    ProcessName,
    Risk,
    SizeLimit,
    Syscall,
    Target,
    User,
    positional,
)

Signal = Literal["TERM", "KILL", "INT", "HUP", "QUIT", "USR1", "USR2"]
Priority = Literal["idle", "low", "normal", "high"]


class Ps(Syscall, verb="ps", risk=Risk.READ):
    """List processes, the largest first; age: the oldest first."""

    name: ProcessName | None = None
    user: User | None = None
    sort: Literal["cpu", "memory", "io", "gpu", "age"] | None = None
    limit: Count | None = None
    state: Literal["running", "sleeping", "stopped", "zombie"] | None = None


class Show(Syscall, verb="show", risk=Risk.READ):
    """All about one process or job: state, health, limits, recent exits."""

    target: Target


class Tree(Syscall, verb="tree", risk=Risk.READ):
    """Process tree."""

    target: Target | None = positional()


class PortOwner(Syscall, verb="port", risk=Risk.READ):
    """Processes that listen on a port."""

    port: Port


class Files(Syscall, verb="files", risk=Risk.READ):
    """Open files and sockets of a process."""

    target: Target


class Holders(Syscall, verb="holders", risk=Risk.READ):
    """Processes that hold a file, folder or device open."""

    path: Path


class Pause(Syscall, verb="pause", risk=Risk.CHANGE, inverse="resume"):
    """Freeze."""

    target: Target


class Resume(Syscall, verb="resume", risk=Risk.CHANGE, inverse="pause"):
    """Let go on what is frozen."""

    target: Target


class Renice(Syscall, verb="renice", risk=Risk.CHANGE, inverse="renice back"):
    """Set priority; a person's choice outranks the scheduler's."""

    target: Target
    priority: Priority


class Limit(Syscall, verb="limit", risk=Risk.CHANGE, inverse="limit back"):
    """Bound what it may use; io is bytes a second, `none` lifts a limit."""

    target: Target
    memory: SizeLimit | None = None
    cpu: CoresLimit | None = None
    io: SizeLimit | None = None


class Kill(
    Syscall, verb="kill", risk=Risk.DESTROY, inverse=None, risk_note="HUP, USR1, USR2: change"
):
    """Send a signal; TERM when absent."""

    target: Target
    signal: Signal = "TERM"
