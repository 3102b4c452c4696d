"""Which living processes belong to a run: found in /proc by session, ancestry, LLMOS_RUN and cgroup, held by pidfd.

Standard library only, for the reaper imports it. Synchronous: it reads /proc, so llmosd calls it in a thread.
"""

from __future__ import annotations

import fcntl
import os
import signal
import struct
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Protocol

    class Owner(Protocol):
        """A run, as far as finding its processes goes.

        `start_ticks` as in Process; `cgroups` are folders of cgroups; `adopted`: its main process is not our child, so
        once that has ended its pid may be used again unseen.
        """

        id: str
        pid: int
        start_ticks: int
        cgroups: list[str]
        adopted: bool


RUN_VARIABLE = b"LLMOS_RUN"
DEAD = frozenset(b"ZX")
EXEC_CHECKS = 5
EXEC_SECONDS = 0.001
"""How often and how long apart an orphan with an empty environment is looked at: it may be in the middle of an exec."""
PIDFD_GET_INFO = 0xC040FF0B
PIDFD_INFO = struct.Struct("=QQ12I")
"""struct pidfd_info of include/uapi/linux/pidfd.h as first published: mask, cgroup id, eleven ids, wait status."""
PIDFD_INFO_EXIT = 1 << 3


class Process:
    """One process as /proc/PID/stat tells it; `start_ticks` (field 22) are clock ticks since boot, `state` one byte."""

    __slots__ = ("exit_status", "pid", "ppid", "session", "start_ticks", "state")

    def __init__(self, pid: int, fields: list[bytes]) -> None:
        self.pid = pid
        self.state = fields[0][0]
        self.ppid = int(fields[1])
        self.session = int(fields[3])
        self.start_ticks = int(fields[19])
        # Field 52: what wait() would return. Zero for a reader who may not know it, and while the process lives.
        self.exit_status = int(fields[49]) if len(fields) > 49 else 0


def read_process(pid: int) -> Process | None:
    """The process, living or a zombie, or None when there is none of that pid."""
    stat = _read(f"/proc/{pid}/stat")
    # The name in parentheses may hold spaces and parentheses itself; nothing after it does.
    return Process(pid, stat[stat.rindex(b")") + 2 :].split()) if stat else None


def scan() -> dict[int, Process]:
    """Every process of the machine, zombies too, by pid."""
    found = (read_process(int(name)) for name in os.listdir("/proc") if name.isdigit())
    return {process.pid: process for process in found if process}


def cgroup_pids(folder: str) -> list[int]:
    """The pids in one cgroup; none when the cgroup is gone."""
    return [int(pid) for pid in _read(f"{folder}/cgroup.procs").split()]


def run_in_environment(pid: int) -> str | None:
    """The LLMOS_RUN that the process was started with, or None when it has none or may not be read."""
    return _run_named(_read(f"/proc/{pid}/environ"))


def members(runs: Iterable[Owner], reaper: int, *, everywhere: bool = False) -> dict[str, list[Process]]:
    """The living processes of each run, by run id.

    A process belongs to the run whose main process it is or whose session it is in; else, when it was orphaned, to the
    run that its LLMOS_RUN names; else to the only run whose cgroup it is in; else to the run of its parent.

    Args:
        runs: those that may have processes. Leave out a run once nothing of it is left, for its pid may be used again.
        reaper: pid of the subreaper, whose direct children are the orphans (and the main processes).
        everywhere: orphans may also be elsewhere, as those of an earlier reaper are.
    """
    table = scan()
    by_id = {run.id: run for run in runs}
    mains: dict[int, str] = {}
    grouped: dict[int, set[str]] = {}
    for run in by_id.values():
        main = table.get(run.pid)
        if main.start_ticks == run.start_ticks if main else not run.adopted:
            mains[run.pid] = run.id
        for folder in run.cgroups:
            for pid in cgroup_pids(folder):
                grouped.setdefault(pid, set()).add(run.id)

    def own(process: Process) -> str | None:
        owner = mains.get(process.pid) or mains.get(process.session)
        if owner is None and (everywhere or process.ppid == reaper):
            named = (_run_of_orphan if process.ppid == reaper else run_in_environment)(process.pid)
            owner = named if named in by_id else None
        if owner is None and len(claims := grouped.get(process.pid, set())) == 1:
            (owner,) = claims
        return owner

    # The reaper may itself be below a run of another reaper with the same ids; it and what is above belong to no run.
    owners: dict[int, str | None] = {0: None, 1: None, 2: None, reaper: None}
    found: dict[str, list[Process]] = {run: [] for run in by_id}
    for process in table.values():
        path = []
        step: Process | None = process
        owner = None
        while step is not None:
            if step.pid in owners:
                owner = owners[step.pid]
                break
            path.append(step.pid)
            owners[step.pid] = None  # a scan is no snapshot: reused pids could make a circle
            owner = own(step)
            if owner is not None:
                break
            step = table.get(step.ppid)
        owners.update(dict.fromkeys(path, owner))
        if owner is not None and process.state not in DEAD:
            found[owner].append(process)
    return found


def send(process: Process, number: int) -> bool:
    """Signal exactly that process, never another that got its pid; False when it has ended.

    Raises:
        PermissionError: the process belongs to somebody else.
    """
    try:
        pidfd = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return False
    try:
        # Read after the pidfd was opened: if the start time is right now, the pidfd is of that process.
        now = read_process(process.pid)
        if now is None or now.start_ticks != process.start_ticks or now.state in DEAD:
            return False
        signal.pidfd_send_signal(pidfd, number)
        return True
    except ProcessLookupError:
        return False
    finally:
        os.close(pidfd)


def wait_status(pidfd: int) -> int | None:
    """How an ended process ended, as waitpid tells it, after its parent waited for it; None before Linux 6.15."""
    try:
        answer = fcntl.ioctl(pidfd, PIDFD_GET_INFO, PIDFD_INFO.pack(PIDFD_INFO_EXIT, *[0] * 13))
    except OSError:
        return None
    mask, *_, status = PIDFD_INFO.unpack(answer)
    return status if mask & PIDFD_INFO_EXIT else None


def thaw(folder: str) -> None:
    """Let a frozen cgroup of version 1 run, for only then its processes can die; in version 2 they die frozen.

    Raises:
        PermissionError: the cgroup belongs to somebody else.
    """
    try:
        state = os.open(f"{folder}/freezer.state", os.O_WRONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    with os.fdopen(state, "wb", buffering=0) as file:
        file.write(b"THAWED")


def children(pid: int) -> list[int] | None:
    """The direct children of a single-threaded process in one read, or None where the kernel does not list them."""
    try:
        descriptor = os.open(f"/proc/{pid}/task/{pid}/children", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return [int(child) for child in _read_all(descriptor).split()]
    finally:
        os.close(descriptor)


def _run_of_orphan(pid: int) -> str | None:
    """As run_in_environment, but waits out an exec, during which the environment looks empty for some microseconds."""
    for _ in range(EXEC_CHECKS):
        if environment := _read(f"/proc/{pid}/environ"):
            return _run_named(environment)
        time.sleep(EXEC_SECONDS)
    return None


def _run_named(environment: bytes) -> str | None:
    for variable in environment.split(b"\0"):
        name, _, value = variable.partition(b"=")
        if name == RUN_VARIABLE:
            return value.decode("utf-8", "surrogateescape")
    return None


def _read(path: str) -> bytes:
    """The whole file, or nothing when the process or cgroup has gone or is not ours to read."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return _read_all(descriptor)
    except OSError:
        return b""
    finally:
        os.close(descriptor)


def _read_all(descriptor: int) -> bytes:
    # A short read does not mean the end in /proc, where large files come a page at a time.
    parts = []
    while part := os.read(descriptor, 65536):
        parts.append(part)
    return b"".join(parts)
