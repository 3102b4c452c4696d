"""The processes of the machine: which there are, found by name, ranked, described one by one, and as a tree.

Synchronous: the daemon calls it in a thread. A list with rates takes as long as its sampling interval. Processes come
and go at every step; one that vanishes is left out.
"""

import time
from collections import defaultdict
from dataclasses import dataclass, replace
from typing import Literal

import psutil
from pydantic import JsonValue

from llmos.errors import NotFound
from llmos.machine import procfs
from llmos.machine.gpu import gpus
from llmos.machine.procfs import Stat
from llmos.machine.program_names import goes_by, names_of
from llmos.machine.row import Row
from llmos.machine.users import UserNames, uid_of

Sort = Literal["cpu", "memory", "io", "gpu", "age"]
State = Literal["running", "sleeping", "stopped", "zombie"]

COMMAND_LENGTH = 1024  # characters of a command line that are kept
INTERVAL = 0.2  # seconds between the two samples of a rate

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
    gpu_memory = gpus().memory_by_process() if sort == "gpu" else gpus().memory_by_process_if_any()
    rows = [
        row
        for row, names in _scan(gpu_memory)
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
    found = stat and _row(stat, UserNames(), psutil.virtual_memory().total, gpus().memory_by_process_if_any())
    if not found:
        raise NotFound(f"there is no process {pid}: it may have ended; `ps` lists what runs", pid=pid)
    return found[0]


def process_tree(pid: int | None = None) -> list[TreeRow]:
    """A process and all below it, or every process, parents before children, siblings by age, without rates.

    Raises:
        NotFound: there is no process of that number.
    """
    rows = {row.pid: row for row, _ in _scan(gpus().memory_by_process_if_any())}
    if pid is not None and pid not in rows:
        raise NotFound(f"there is no process {pid}: it may have ended; `ps` lists what runs", pid=pid)
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

    Besides the fields of its row: cwd, exe, threads, open_files (a count), niceness, io_class and io_priority,
    affinity (cores), cgroups (path by controller; "" is version 2), children (pids), cpu_user_seconds,
    cpu_system_seconds and peak_memory_bytes.

    Raises:
        NotFound: there is none of that number.
    """
    row = process_row(pid)
    details: dict[str, JsonValue] = row.as_json()
    try:
        process = psutil.Process(pid)
        with process.oneshot():
            times = process.cpu_times()
            details |= {
                "threads": process.num_threads(),
                "niceness": process.nice(),
                "children": [child.pid for child in process.children()],
                "cpu_user_seconds": times.user,
                "cpu_system_seconds": times.system,
                "cwd": _permitted(process.cwd),
                "exe": _permitted(process.exe),
                "open_files": _permitted(process.num_fds),
                "affinity": _permitted(process.cpu_affinity),
            }
            io = process.ionice()
            details |= {"io_class": io.ioclass.name.removeprefix("IOPRIO_CLASS_").lower(), "io_priority": io.value}
    except psutil.NoSuchProcess:
        raise NotFound(f"process {pid} ended while it was looked at", pid=pid) from None
    details["cgroups"] = dict(procfs.read_cgroups(pid))
    details["peak_memory_bytes"] = procfs.read_peak_memory_bytes(pid)
    return details
