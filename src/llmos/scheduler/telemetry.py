"""Telemetry: what each job or process uses and waits for, sampled from its control group and its members' /proc files.

The files of a process stay open between samples: reading an open one costs a third of opening it anew, and one of a
process that has ended answers ESRCH, whoever has its number now. Processor time comes from the group where one counts
it, else from the members, with what their ended children used. The wait for a processor is that of
/proc/PID/schedstat (kernel documentation, scheduler/sched-stats). Synchronous: llmosd calls `sample` in a thread.
"""

import os
import time
from array import array
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from llmos.kernel import members
from llmos.machine import procfs
from llmos.machine.identity import Identity, boot_id

KEPT = 32
"""Samples of each that are remembered."""
MAX_PROCESSES = 256
"""Of one job that are looked at."""
MAX_OPEN = 2048
"""Processes whose files stay open, of all."""
_MAX_THREADS = 32
"""Threads of one process whose waiting is counted."""
_IO_EVERY = 8
"""Samples from one look at the bytes read and written to the next."""
_SEARCH_EVERY = 8
"""Samples from one search for members to the next, where no group lists them."""
_TICK = 1.0 / procfs.CLOCK_TICKS


class Sample(NamedTuple):
    """One look: the instant (monotonic), seconds of processor time and of waiting for a processor since it was first
    seen (what it had used by then included), resident bytes, storage bytes since its processes began, processes."""

    at: float
    cpu_seconds: float
    wait_seconds: float
    memory_bytes: float
    io_bytes: float
    processes: float


_WIDTH = len(Sample._fields)


class Ring:
    """The newest samples, as bare numbers."""

    __slots__ = ("_next", "_rows")

    def __init__(self) -> None:
        self._rows = array("d")
        self._next = 0

    def __len__(self) -> int:
        return len(self._rows) // _WIDTH

    def add(self, sample: Sample) -> None:
        """Put it in the place of the oldest."""
        if len(self) < KEPT:
            self._rows.extend(sample)
        else:
            self._rows[self._next * _WIDTH : (self._next + 1) * _WIDTH] = array("d", sample)
        self._next = (self._next + 1) % KEPT

    def __iter__(self) -> Iterator[Sample]:
        """From the newest to the oldest."""
        for back in range(1, len(self) + 1):
            at = (self._next - back) % KEPT * _WIDTH
            yield Sample(*self._rows[at : at + _WIDTH])

    def newest(self) -> Sample | None:
        """The newest, if there is one."""
        return next(iter(self), None)

    def since(self, seconds: float) -> tuple[Sample, Sample] | None:
        """The newest and the oldest of the last seconds, or the one before it where it stands alone."""
        samples = iter(self)
        newest = next(samples, None)
        if newest is None:
            return None
        oldest = newest
        for sample in samples:
            if newest.at - sample.at > seconds and oldest is not newest:
                break
            oldest = sample
        return (newest, oldest) if oldest.at < newest.at else None


class Watched:
    """A job or a process that is looked at: its main process, and the cgroup files that tell more, where it has them."""

    def __init__(self, key: str, main: Identity, group: Path | None = None, usage: Path | None = None) -> None:
        self.key, self.main = key, main
        self.ring = Ring()
        self.peak_bytes = 0
        self._group = group / "cgroup.procs" if group is not None else None
        self._procs: int | None = None
        self._usage = usage
        self._processes: dict[int, _Process] = {}
        self._cpu = self._wait = 0.0
        self._counted: float | None = None  # what the group had counted at the last look
        self._unclaimed = 0.0  # what ended members had used, of which their parents may yet tell
        self._io = 0.0
        self._looks = 0
        self._rates: tuple[int, float, tuple[float, float, float]] | None = None

    @property
    def cpu_seconds(self) -> float:
        """Processor seconds that it has had."""
        return self._cpu

    def rates(self, seconds: float) -> tuple[float, float, float]:
        """Cores used, threads that waited for one, and growth of memory in bytes a second, over the last seconds."""
        if self._rates is not None and self._rates[:2] == (self._looks, seconds):  # asked often between two looks
            return self._rates[2]
        span = self.ring.since(seconds)
        found = (0.0, 0.0, 0.0)
        if span is not None:
            now, then = span
            passed = now.at - then.at
            found = (
                (now.cpu_seconds - then.cpu_seconds) / passed,
                (now.wait_seconds - then.wait_seconds) / passed,
                (now.memory_bytes - then.memory_bytes) / passed,
            )
        self._rates = self._looks, seconds, found
        return found

    def look(self, room: Callable[[int], bool]) -> None:
        """Take a sample. `room` says whether one more process may be kept open."""
        self._find(room)
        used = waited = memory = 0.0
        ended: list[_Process] = []
        for process in self._processes.values():
            if process.look():
                used += process.used_now
                waited += process.waited_now
                memory += process.memory_bytes
            else:
                ended.append(process)
        children = sum(process.children_now for process in self._processes.values())
        for process in ended:
            self._close(process)
        gone = sum(process.used + process.children for process in ended)
        claimed = min(self._unclaimed + gone, children)  # a parent tells of it now, or at the next look
        self._unclaimed = min(self._unclaimed + gone - claimed, gone)
        counted = _usage_seconds(self._usage) if self._usage is not None else None
        if counted is not None and self._counted is not None:
            self._cpu += max(0.0, counted - self._counted)
        else:
            self._cpu += used + children - claimed
        self._counted = counted
        self._wait += waited
        if self._looks % _IO_EVERY == 0:
            self._io = max(self._io, float(sum(process.io_bytes() for process in self._processes.values())))
        self._looks += 1
        self.peak_bytes = max(self.peak_bytes, int(memory))
        self.ring.add(Sample(time.monotonic(), self._cpu, self._wait, memory, self._io, len(self._processes)))

    def close(self) -> None:
        """Close what is open."""
        for process in list(self._processes.values()):
            self._close(process)
        if self._procs is not None:
            os.close(self._procs)
            self._procs = None

    def processes(self) -> list[Identity]:
        """Its processes at the last look, the main one first where it lives."""
        boot = boot_id()
        return [Identity(each.pid, each.start_ticks, boot) for each in self._processes.values()]

    @property
    def open_processes(self) -> int:
        """How many processes it keeps open."""
        return len(self._processes)

    @property
    def io_bytes(self) -> int:
        """Bytes read from and written to storage, as far as was seen."""
        return int(self._io)

    def _find(self, room: Callable[[int], bool]) -> None:
        """Take up members that came. Where no group tells them they are searched for, and not at every look."""
        pids = self._listed()
        if pids is None:
            if self._looks % _SEARCH_EVERY and self._processes:
                return
            pids = [process.pid for process in members.descend([self.main.pid])]
        for pid in [self.main.pid, *(pid for pid in pids if pid != self.main.pid)][:MAX_PROCESSES]:
            if pid not in self._processes and room(1):
                ticks = self.main.start_ticks if pid == self.main.pid else None
                if (process := _Process.open(pid, ticks)) is not None:
                    self._processes[pid] = process

    def _listed(self) -> list[int] | None:
        """The pids in its group; None where it has none, or has never been in it."""
        if self._group is None:
            return None
        try:
            if self._procs is None:
                self._procs = os.open(self._group, os.O_RDONLY | os.O_CLOEXEC)
            return [int(pid) for pid in os.pread(self._procs, 65536, 0).split()] or None
        except OSError:  # the group was taken away
            return None

    def _close(self, process: "_Process") -> None:
        process.close()
        self._processes.pop(process.pid, None)


class Telemetry:
    """All that is looked at, by key."""

    def __init__(self) -> None:
        self.watched: dict[str, Watched] = {}
        self.cost_seconds = 0.0
        """Processor time that the last whole `sample` took."""

    def sample(self, watched: Iterable[Watched], only: Iterable[Watched] | None = None) -> None:
        """Look at each of these, or only at some of them."""
        began = time.thread_time()
        open_now = sum(each.open_processes for each in watched)

        def room(more: int) -> bool:
            nonlocal open_now
            open_now += more
            return open_now <= MAX_OPEN

        for each in watched if only is None else only:
            each.look(room)
        if only is None:
            self.cost_seconds = time.thread_time() - began


class _Process:
    """One member, its files open. Numbers that end in `_now` are what came since the look before."""

    __slots__ = (
        "_sched", "_stat", "children", "children_now", "memory_bytes", "pid", "start_ticks", "threads", "used",
        "used_now", "waited", "waited_now",
    )  # fmt: skip

    def __init__(self, pid: int, start_ticks: int, stat: int, sched: int | None) -> None:
        self.pid, self.start_ticks, self._stat, self._sched = pid, start_ticks, stat, sched
        self.used = self.used_now = self.children = self.children_now = self.waited = self.waited_now = 0.0
        self.memory_bytes = 0
        self.threads = 1

    @classmethod
    def open(cls, pid: int, start_ticks: int | None) -> "_Process | None":
        """The process of that number, which has to have started then; None where it has gone or is not ours to see."""
        try:
            stat = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            fields = _fields(stat)
        except OSError:
            fields = []
        if not fields or (start_ticks is not None and int(fields[19]) != start_ticks):
            os.close(stat)
            return None
        sched = None
        with suppress(OSError):  # a kernel without scheduler statistics
            sched = os.open(f"/proc/{pid}/schedstat", os.O_RDONLY | os.O_CLOEXEC)
        return cls(pid, int(fields[19]), stat, sched)

    def look(self) -> bool:
        """Read it; False once it has ended."""
        self.used_now = self.children_now = self.waited_now = 0.0
        try:
            field = _fields(self._stat)
        except OSError:
            return False
        if field[0] in (b"Z", b"X"):
            return False
        used, children = (int(field[11]) + int(field[12])) * _TICK, (int(field[13]) + int(field[14])) * _TICK
        self.used_now, self.used = used - self.used, used
        self.children_now, self.children = children - self.children, children
        self.threads, self.memory_bytes = int(field[17]), int(field[21]) * procfs.PAGE_SIZE
        waited = self._waited()
        self.waited_now, self.waited = max(0.0, waited - self.waited), waited
        return True

    def io_bytes(self) -> int:
        """Bytes read from and written to storage; 0 where that is not ours to see."""
        return procfs.read_io_bytes(self.pid) or 0

    def close(self) -> None:
        """Close its files."""
        os.close(self._stat)
        if self._sched is not None:
            os.close(self._sched)

    def _waited(self) -> float:
        """Seconds that its threads have waited for a processor."""
        if self._sched is None:
            return 0.0
        try:
            if self.threads == 1:
                return int(os.pread(self._sched, 128, 0).split()[1]) * 1e-9
            folder = f"/proc/{self.pid}/task"
            total = 0
            for tid in os.listdir(folder)[:_MAX_THREADS]:
                with suppress(FileNotFoundError, ProcessLookupError), open(f"{folder}/{tid}/schedstat", "rb") as file:
                    total += int(file.read(128).split()[1])
        except (OSError, IndexError):
            return self.waited
        return total * 1e-9


def _fields(stat: int) -> list[bytes]:
    """The fields of /proc/PID/stat from the state on: proc_pid_stat(5), numbered from 3 there."""
    raw = os.pread(stat, 4096, 0)
    return raw[raw.rindex(b")") + 2 :].split()


def _usage_seconds(file: Path) -> float | None:
    """Seconds that a group has counted: cpuacct.usage of version 1 in nanoseconds, cpu.stat of version 2."""
    try:
        raw = file.read_bytes()
    except OSError:
        return None
    if raw.startswith(b"usage_usec "):
        return int(raw.split(maxsplit=2)[1]) * 1e-6
    return int(raw) * 1e-9 if raw.strip().isdigit() else None
