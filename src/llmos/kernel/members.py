"""Which living processes belong to a run: found in /proc by session, ancestry, mark, LLMOS_RUN and cgroup.

The mark is a soft limit of real-time CPU time (RLIMIT_RTTIME), longer than any process lives and different for each run.
Of all that a process hands on, limits alone outlast a double fork, a new session and `env -i`, cost nothing, need no
right to set and are read by anybody.

Standard library only, for the reaper imports it. Synchronous: it reads /proc, so llmosd calls it in a thread.
"""

from __future__ import annotations

import fcntl
import os
import resource
import signal
import struct
import time
from binascii import crc32

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any, Protocol

    class Owner(Protocol):
        """A run, as far as finding its processes goes.

        `start_ticks` as in Process; `cgroups` are folders of cgroups; `exit`: None while its main process lives;
        `adopted`: that is not our child, so once it has ended its pid may be used again unseen.
        """

        id: str
        pid: int
        start_ticks: int
        started_at: float
        cgroups: list[str]
        exit: dict[str, Any] | None
        adopted: bool


RUN_VARIABLE = b"LLMOS_RUN"
STRAY = ""
"""Whose the orphans are that can only be of runs that have ended, without a sign of which one."""
MARK_BIT = 62
"""Set in every mark, and in no limit that anybody else has use for."""
DEAD = frozenset(b"ZX")
STOPPED = frozenset(b"T")
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


def mark(run: str, started_at: float) -> None:
    """Mark the calling process, and all that it will start, as of a run that begins at that time (epoch seconds).

    Where its limits leave no room for the mark it stays without one.
    """
    soft, (_, hard) = _mark(run, started_at), resource.getrlimit(resource.RLIMIT_RTTIME)
    if hard == resource.RLIM_INFINITY or hard >= soft:
        resource.setrlimit(resource.RLIMIT_RTTIME, (soft, hard))


def run_marked(runs: Iterable[Owner], pid: int) -> str:
    """The id of the run whose mark the process bears; STRAY for none of them."""
    borne = _mark_borne(pid)
    return next((run.id for run in runs if _mark(run.id, run.started_at) == borne), STRAY)


def oldest_marked(run: str, started_at: float) -> Process | None:
    """The oldest living process that bears the mark of a run, which is its main process while that lives."""
    bearers = {pid: process for pid, process in scan().items() if _mark_borne(pid) == _mark(run, started_at)}
    alive = [each for each in bearers.values() if each.state not in DEAD and each.ppid not in bearers]
    return min(alive, key=lambda process: process.start_ticks, default=None)


def members(
    runs: Iterable[Owner], reaper: int, *, everywhere: bool = False, strays: bool = False
) -> dict[str, list[Process]]:
    """The living processes of each run, by run id.

    A process belongs to the run whose main process it is or whose session it is in; else, when it was orphaned, to the
    run whose mark it bears, or that its LLMOS_RUN names; else to the only run whose cgroup it is in; else to the run of
    its parent.

    Args:
        runs: those that may have processes. Leave out a run once nothing of it is left, for its pid may be used again.
        reaper: pid of the subreaper, whose direct children are the orphans (and the main processes).
        everywhere: orphans may also be elsewhere, as those of an earlier reaper are.
        strays: find, as those of STRAY, orphans that no sign gives to a run, older than every run that lives without a
            cgroup: the run that they are of has ended, and so may they.
    """
    table = scan()
    by_id = {run.id: run for run in runs}
    mains: dict[int, str] = {}
    marks = {_mark(run.id, run.started_at): run.id for run in by_id.values()}
    unbound = min((run.start_ticks for run in by_id.values() if run.exit is None and not run.cgroups), default=None)
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
        borne = _mark_borne(process.pid) if owner is None and (everywhere or process.ppid == reaper) else 0
        if borne >> MARK_BIT:
            owner = marks.get(borne)  # else it is of another reaper's run, whatever it says in its environment
        elif owner is None and (everywhere or process.ppid == reaper):
            named = (_run_of_orphan if process.ppid == reaper else run_in_environment)(process.pid)
            owner = named if named in by_id else None
        claims = grouped.get(process.pid, set())
        if owner is None and len(claims) == 1:
            (owner,) = claims
        if strays and owner is None and process.ppid == reaper and not claims:
            owner = STRAY if unbound is None or process.start_ticks < unbound else None
        return owner

    # The reaper may itself be below a run of another reaper with the same ids; it and what is above belong to no run.
    owners: dict[int, str | None] = {0: None, 1: None, 2: None, reaper: None}
    found: dict[str, list[Process]] = {run: [] for run in (*by_id, *([STRAY] if strays else []))}
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


def freezer_state(folder: str) -> bytes:
    """What a cgroup of version 1 that can freeze is: THAWED, FREEZING or FROZEN; nothing where it is none."""
    return _read(f"{folder}/freezer.state").strip()


def freezer_cgroup() -> bytes:
    """The path of our own cgroup in the hierarchy of version 1 that can freeze; nothing where there is none."""
    for line in _read("/proc/self/cgroup").splitlines():
        _, controllers, path = line.split(b":", 2)
        if b"freezer" in controllers.split(b","):
            return path
    return b""


def freeze(folder: str) -> None:
    """Have nothing more be born in a cgroup of version 1, so that all of it can be signalled; `thaw` it then.

    Raises:
        PermissionError: the cgroup belongs to somebody else.
    """
    _command(f"{folder}/freezer.state", b"FROZEN")


def thaw(folder: str) -> None:
    """Let a frozen cgroup of version 1 run, for only then its processes can die; in version 2 they die frozen.

    Raises:
        PermissionError: the cgroup belongs to somebody else.
    """
    _command(f"{folder}/freezer.state", b"THAWED")


def kill_cgroup(folder: str) -> None:
    """Kill all of a cgroup of version 2 at once, and of those below it, where the kernel can (Linux 5.14).

    Raises:
        PermissionError: the cgroup belongs to somebody else.
    """
    _command(f"{folder}/cgroup.kill", b"1")


def descend(roots: Iterable[int]) -> list[Process]:
    """These processes and all below them, those that live; where the kernel does not list children, these alone."""
    found: dict[int, Process | None] = {}
    ahead = list(roots)
    while ahead:
        pid = ahead.pop()
        if pid not in found:
            found[pid] = read_process(pid)
            ahead += _children_of_threads(pid)
    return [process for process in found.values() if process and process.state not in DEAD]


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


def _children_of_threads(pid: int) -> list[int]:
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError:  # it has ended
        return []
    return [int(child) for thread in threads for child in _read(f"/proc/{pid}/task/{thread}/children").split()]


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


def _mark(run: str, started_at: float) -> int:
    """The mark of a run, in microseconds: more than 146,000 years, from its id and when it began."""
    began = round(started_at * 1e6) & 0x3FFFFFFF
    return 1 << MARK_BIT | began << 32 | crc32(run.encode("utf-8", "surrogateescape"))


def _mark_borne(pid: int) -> int:
    """The limit of real-time CPU time that the process has, in microseconds; 0 for none."""
    _, _, line = _read(f"/proc/{pid}/limits").partition(b"Max realtime timeout")
    soft = line.split(maxsplit=1)[:1]
    return int(soft[0]) if soft and soft[0].isdigit() else 0


def _command(path: str, word: bytes) -> None:
    """Write to a control file, where there is one."""
    try:
        control = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    with os.fdopen(control, "wb", buffering=0) as file:
        file.write(word)


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
