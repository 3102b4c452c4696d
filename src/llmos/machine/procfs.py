"""One process as /proc shows it: the files of /proc/PID parsed, and nothing else.

psutil gives most of this too, but not the start time in clock ticks (which names a process for good), nor a processor
time finer than a tick, and one object a process costs it several times as much. Synchronous and short: the daemon calls
it in a thread. A process may vanish before every read: then the answer is None, which callers skip.
"""

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass

CLOCK_TICKS = os.sysconf("SC_CLK_TCK")
PAGE_SIZE = os.sysconf("SC_PAGE_SIZE")

_COMM_LENGTH = 15  # TASK_COMM_LEN without its NUL: longer names are cut there
_PF_KTHREAD = 0x00200000  # include/linux/sched.h
_CPUCLOCK_SCHED = 2  # include/linux/posix-timers.h

STATES = {
    "R": "running",
    "S": "sleeping",
    "D": "disk",
    "T": "stopped",
    "t": "stopped",
    "Z": "zombie",
    "X": "dead",
    "I": "idle",
}


@dataclass(frozen=True, slots=True)
class Stat:
    """What /proc/PID/stat says: the fields that llmos uses, in bytes, seconds and clock ticks since boot."""

    pid: int
    comm: str
    state: str
    ppid: int
    kernel_thread: bool
    cpu_seconds: float
    start_ticks: int
    rss_bytes: int


def pids() -> list[int]:
    """Every process that the caller can see, ascending."""
    return sorted(int(name) for name in os.listdir("/proc") if name.isdigit())


def stats() -> Iterator[Stat]:
    """The stat of every process that is still there when its turn comes."""
    return (stat for pid in pids() if (stat := read_stat(pid)) is not None)


def read_stat(pid: int) -> Stat | None:
    """Parse /proc/PID/stat. The name stands in parentheses and may itself hold spaces, parentheses and newlines."""
    raw = _read(pid, "stat")
    if not raw:
        return None
    opening, closing = raw.index(b"("), raw.rindex(b")")
    # Fields are numbered from 3 after the name: proc_pid_stat(5).
    field = raw[closing + 2 :].split()
    return Stat(
        pid=pid,
        comm=decode(raw[opening + 1 : closing]),
        state=STATES.get(field[0].decode(), "unknown"),
        ppid=int(field[1]),
        kernel_thread=bool(int(field[6]) & _PF_KTHREAD),
        cpu_seconds=(int(field[11]) + int(field[12])) / CLOCK_TICKS,
        start_ticks=int(field[19]),
        rss_bytes=int(field[21]) * PAGE_SIZE,
    )


def read_uid(pid: int) -> int | None:
    """The real uid: whose process it is, and who may signal it. None also for a number that names only a thread."""
    raw = _read(pid, "status")
    if not raw:
        return None
    fields = dict(line.split(b":\t", 1) for line in raw.splitlines() if b":\t" in line)
    if int(fields[b"Tgid"]) != pid:
        return None
    return int(fields[b"Uid"].split()[0])


def read_argv(pid: int) -> list[str]:
    """The command line; empty for kernel threads, zombies and what has vanished."""
    raw = (_read(pid, "cmdline") or b"").rstrip(b"\0")
    return [decode(argument) for argument in raw.split(b"\0")] if raw else []


def read_io_bytes(pid: int) -> int | None:
    """Bytes read from and written to storage since its start (not what the page cache served); None if not permitted."""
    try:
        raw = _read(pid, "io")
    except PermissionError:
        return None
    if not raw:
        return None
    fields = dict(line.split(b": ") for line in raw.splitlines())
    return int(fields[b"read_bytes"]) + int(fields[b"write_bytes"])


def read_peak_memory_bytes(pid: int) -> int | None:
    """The most physical memory it has held; None for kernel threads and zombies, which hold none."""
    for line in (_read(pid, "status") or b"").splitlines():
        if line.startswith(b"VmHWM:"):
            return int(line.split()[1]) * 1024
    return None


def read_cgroups(pid: int) -> dict[str, str]:
    """The path in each hierarchy by its comma-joined controllers; the unified one of version 2 is ""."""
    lines = decode(_read(pid, "cgroup") or b"").splitlines()
    return {controllers: path for _, controllers, path in (line.split(":", 2) for line in lines)}


def descriptors(pid: int) -> Iterator[tuple[int, str]]:
    """Number and link of each open file: a path, `socket:[INODE]`, `pipe:[INODE]`, `anon_inode:…`; none once vanished.

    Raises:
        PermissionError: it is another user's.
    """
    folder = f"/proc/{pid}/fd"
    try:
        numbers = os.listdir(folder)
    except (FileNotFoundError, ProcessLookupError):
        return
    for number in numbers:
        link = read_link(f"{folder}/{number}")
        if link is not None:
            yield int(number), link


@dataclass(frozen=True, slots=True)
class Mapping:
    """A file mapped into memory: its name, and its device and inode."""

    name: str
    identity: tuple[int, int]


def mappings(pid: int) -> set[Mapping]:
    """The files that a process has mapped, from /proc/PID/maps; none once vanished.

    Raises:
        PermissionError: it is another user's.
    """
    found = set()
    for line in (_read(pid, "maps") or b"").splitlines():
        field = line.split(maxsplit=5)
        if field[4] != b"0" and len(field) > 5:
            major, minor = field[3].split(b":")
            device = os.makedev(int(major, 16), int(minor, 16))
            found.add(Mapping(os.fsdecode(field[5].replace(rb"\012", b"\n")), (device, int(field[4]))))
    return found


def read_link(path: str) -> str | None:
    """Where a link of /proc points; None once it has vanished.

    Raises:
        PermissionError: it is another user's.
    """
    try:
        return os.readlink(path)
    except (FileNotFoundError, ProcessLookupError):
        return None


def is_still(pid: int, start_ticks: int) -> bool:
    """Whether the number still means the process that started then."""
    stat = read_stat(pid)
    return stat is not None and stat.start_ticks == start_ticks


def read_cpu_seconds(pid: int) -> float | None:
    """Processor time of all its threads since its start, in seconds.

    The process's CPU clock counts nanoseconds where /proc counts ticks of 10 ms, so that a share can be told from a
    short interval. The clock's number is what clock_getcpuclockid(3) computes. Falls back to /proc where a sandbox
    knows no such clocks.
    """
    try:
        return time.clock_gettime((~pid << 3) | _CPUCLOCK_SCHED)
    except OSError:
        stat = read_stat(pid)
        return stat.cpu_seconds if stat else None


def display_name(stat: Stat, argv: list[str]) -> str:
    """The name that a person knows it by: comm, or the whole word where the kernel has cut it at 15 bytes."""
    if argv and len(stat.comm.encode()) >= _COMM_LENGTH:
        program = os.path.basename(argv[0])
        if program.startswith(stat.comm.rstrip("\N{REPLACEMENT CHARACTER}")):
            return program
    return stat.comm


def age_seconds(start_ticks: int) -> float:
    """Seconds since a start time in ticks: both count from boot, time asleep included."""
    return max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - start_ticks / CLOCK_TICKS)


def decode(raw: bytes) -> str:
    """Bytes from the kernel as text that JSON can carry: what is not UTF-8 is replaced."""
    return raw.decode("utf-8", "replace")


def _read(pid: int, name: str) -> bytes | None:
    try:
        with open(f"/proc/{pid}/{name}", "rb", buffering=0) as file:
            return file.readall()
    except (FileNotFoundError, ProcessLookupError, NotADirectoryError):
        return None
