"""The processes of the machine: which there are, found by name, ranked, described one by one, and as a tree.

Synchronous: the daemon calls it in a thread. A list with rates takes as long as its sampling interval. Processes come
and go at every step; one that vanishes is left out.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Literal, TypeVar

import psutil
from pydantic import JsonValue

from llmos.errors import NotFound, Unsupported
from llmos.machine import procfs
from llmos.machine.gpu import gpus
from llmos.machine.procfs import Stat
from llmos.machine.program_names import goes_by, names_of
from llmos.machine.row import Row
from llmos.machine.users import UserNames, uid_of

Sort = Literal["cpu", "memory", "io", "gpu", "age"]
State = Literal["running", "sleeping", "stopped", "zombie"]
_T = TypeVar("_T")

COMMAND_LENGTH = 1024  # characters of a command line that are kept
INTERVAL = 0.2  # seconds between the two samples of a rate

_IO_CLASSES = ("none", "realtime", "best-effort", "idle")  # by number: ioprio_set(2)

# As top(1) counts them: what waits for the disk or for nothing sleeps.
_STATES: dict[State, frozenset[str]] = {
    "running": frozenset({"running"}),
    "sleeping": frozenset({"sleeping", "disk", "idle"}),
    "stopped": frozenset({"stopped"}),
    "zombie": frozenset({"zombie"}),
}


@dataclass(frozen=True, slots=True)
class ProcessRow(Row):
    """One process. `pid` and `start_ticks` (clock ticks since boot) name it until the next boot.

    `cpu_percent` is of one core and may pass 100; it and `io_bytes_per_second` (storage, read and written) are None
    where they were not sampled or may not be seen. `gpu_memory_bytes` is None on a machine without NVML. `user` and
    `uid` are the real ones. `state` is running, sleeping, disk, stopped, zombie, idle or dead.
    """

    pid: int
    start_ticks: int
    ppid: int
    name: str
    user: str
    uid: int
    state: str
    cpu_percent: float | None
    memory_bytes: int
    memory_percent: float
    io_bytes_per_second: float | None
    gpu_memory_bytes: int | None
    started_at: float
    age_seconds: float
    command: str


@dataclass(frozen=True, slots=True)
class TreeRow(Row):
    """A process at its depth below the root of the tree that was asked for."""

    depth: int
    process: ProcessRow


def list_processes(
    *,
    name: str | None = None,
    user: str | None = None,
    state: State | None = None,
    sort: Sort = "cpu",
    limit: int | None = None,
    interval: float = INTERVAL,
) -> list[ProcessRow]:
    """The processes that match, the largest first; by age the oldest first.

    `name` is matched as `program_names` says, `user` is a name or a number, `interval` is in seconds: zero samples no
    rates and returns at once.

    Raises:
        NotFound: no such user.
        Unsupported: sorted by gpu on a machine without NVML.
    """
    uid = None if user is None else uid_of(user)
    rows = [
        row
        for row, names in _scan(_Machine.now(gpu_wanted=sort == "gpu"))
        if (name is None or goes_by(name, names))
        and (uid is None or row.uid == uid)
        and (state is None or row.state in _STATES[state])
    ]
    if interval > 0:
        rows = _with_rates(rows, interval)
    rows.sort(key=lambda row: _rank(row, sort))
    return rows[:limit]


def find_by_name(name: str) -> list[ProcessRow]:
    """Every process that goes by this name, the oldest first, without rates: for resolving targets."""
    return list_processes(name=name, sort="age", interval=0)


def process_row(pid: int) -> ProcessRow:
    """One process, without rates.

    Raises:
        NotFound: there is none of that number.
    """
    stat = procfs.read_stat(pid)
    found = stat and _row(stat, _Machine.now())
    if not found:
        raise no_process(pid)
    return found[0]


def process_tree(pid: int | None = None) -> list[TreeRow]:
    """A process and all below it, or every process, parents before children, siblings by age, without rates.

    Raises:
        NotFound: there is no process of that number.
    """
    rows = {row.pid: row for row, _ in _scan(_Machine.now())}
    if pid is not None and pid not in rows:
        raise no_process(pid)
    children: dict[int, list[ProcessRow]] = defaultdict(list)
    for row in sorted(rows.values(), key=lambda row: (row.start_ticks, row.pid), reverse=True):
        children[row.ppid if row.ppid in rows else 0].append(row)

    waiting = [TreeRow(0, row) for row in (children[0] if pid is None else [rows[pid]])]
    tree = []
    while waiting:
        node = waiting.pop()
        tree.append(node)
        # Taken out, so that a number reused during the scan cannot make a circle.
        waiting += [TreeRow(node.depth + 1, child) for child in children.pop(node.process.pid, [])]
    return tree


def describe(pid: int) -> dict[str, JsonValue]:
    """All about one process that may be shown; what the caller may not see is None. The environment is left out.

    Besides the fields of its row: cgroups (path by controllers; "" is version 2), peak_memory_bytes, cwd, exe, threads,
    open_files (how many), niceness, io_class, io_priority, affinity (cores), children (pids) and the processor time so
    far.

    Raises:
        NotFound: there is none of that number.
    """
    row = process_row(pid)
    details: dict[str, JsonValue] = {
        **row.as_json(),
        "cgroups": dict(procfs.read_cgroups(pid)),
        "peak_memory_bytes": procfs.read_peak_memory_bytes(pid),
    }
    try:
        process = psutil.Process(pid)
        with process.oneshot():
            times, io = process.cpu_times(), process.ionice()
            details |= {
                "cwd": _permitted(process.cwd),
                "exe": _permitted(process.exe),
                "threads": process.num_threads(),
                "open_files": _permitted(process.num_fds),
                "niceness": process.nice(),
                "io_class": _IO_CLASSES[io.ioclass],
                "io_priority": io.value,
                "affinity": [*process.cpu_affinity()],
                "children": [child.pid for child in process.children()],
                "cpu_user_seconds": times.user,
                "cpu_system_seconds": times.system,
            }
    except psutil.NoSuchProcess:
        raise no_process(pid) from None
    if not procfs.is_still(pid, row.start_ticks):
        raise no_process(pid)
    return details


def no_process(pid: int) -> NotFound:
    """The error for a number that no process has, now or any more."""
    return NotFound(f"there is no process {pid}: it may have ended; `ps` lists what runs", pid=pid)


@dataclass(frozen=True, slots=True)
class _Machine:
    """What every row of one listing is measured against."""

    users: UserNames
    memory_bytes: int
    gpu_memory: dict[int, int] | None

    @classmethod
    def now(cls, *, gpu_wanted: bool = False) -> "_Machine":
        try:
            gpu_memory = gpus().memory_by_process()
        except Unsupported:
            if gpu_wanted:
                raise
            gpu_memory = None
        return cls(UserNames(), psutil.virtual_memory().total, gpu_memory)


def _scan(machine: _Machine) -> Iterator[tuple[ProcessRow, set[str]]]:
    return (found for stat in procfs.stats() if (found := _row(stat, machine)))


def _row(stat: Stat, machine: _Machine) -> tuple[ProcessRow, set[str]] | None:
    """The row of a process and the names that find it; None if it has vanished or the number is a thread's."""
    uid = procfs.read_uid(stat.pid)
    if uid is None:
        return None
    argv = procfs.read_argv(stat.pid)
    name = procfs.display_name(stat, argv)
    command = " ".join(argv) or f"[{name}]"
    age = procfs.age_seconds(stat.start_ticks)
    row = ProcessRow(
        pid=stat.pid,
        start_ticks=stat.start_ticks,
        ppid=stat.ppid,
        name=name,
        user=machine.users[uid],
        uid=uid,
        state=stat.state,
        cpu_percent=None,
        memory_bytes=stat.rss_bytes,
        memory_percent=round(100 * stat.rss_bytes / machine.memory_bytes, 2),
        io_bytes_per_second=None,
        gpu_memory_bytes=None if machine.gpu_memory is None else machine.gpu_memory.get(stat.pid, 0),
        started_at=round(time.time() - age, 2),
        age_seconds=round(age, 2),
        command=command if len(command) <= COMMAND_LENGTH else command[: COMMAND_LENGTH - 1] + "…",
    )
    return row, names_of(name, argv)


def _with_rates(rows: list[ProcessRow], interval: float) -> list[ProcessRow]:
    """The rows that live through the interval, with their rates over it."""
    before = {row.pid: _counters(row.pid) for row in rows}
    time.sleep(interval)
    rated = []
    for row in rows:
        then, now = before[row.pid], _counters(row.pid)
        if then is None or now is None:
            continue
        seconds = now.at - then.at
        io = None if now.io_bytes is None or then.io_bytes is None else max(0, now.io_bytes - then.io_bytes) / seconds
        cpu = 100 * max(0.0, now.cpu_seconds - then.cpu_seconds) / seconds
        rated.append(replace(row, cpu_percent=round(cpu, 1), io_bytes_per_second=io and round(io, 1)))
    return rated


@dataclass(frozen=True, slots=True)
class _Counters:
    at: float
    cpu_seconds: float
    io_bytes: int | None


def _counters(pid: int) -> _Counters | None:
    io_bytes = procfs.read_io_bytes(pid)
    cpu_seconds = procfs.read_cpu_seconds(pid)
    return None if cpu_seconds is None else _Counters(time.monotonic(), cpu_seconds, io_bytes)


def _rank(row: ProcessRow, sort: Sort) -> tuple[float, int]:
    match sort:
        case "cpu":
            rank = -(row.cpu_percent or 0)
        case "memory":
            rank = -row.memory_bytes
        case "io":
            rank = -(row.io_bytes_per_second or 0)
        case "gpu":
            rank = -(row.gpu_memory_bytes or 0)
        case "age":
            rank = row.start_ticks
    return rank, row.pid


def _permitted(read: Callable[[], _T]) -> _T | None:
    try:
        return read()
    except (psutil.AccessDenied, psutil.ZombieProcess):
        return None
