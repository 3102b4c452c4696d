"""Pressure: how the kernel tells that work waits for CPU, memory or disk (PSI), as events and as numbers.

A trigger on /proc/pressure is armed by what is written to it, and reported by POLLPRI alone; the file is always readable,
so an epoll of its own stands between it and the event loop (kernel documentation, accounting/psi). Nothing is polled.
"""

import asyncio
import os
import select
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from llmos.machine import cgroup_files

Kind = Literal["cpu", "memory", "io"]
KINDS: tuple[Kind, ...] = get_args(Kind)
_FILES = Path("/proc/pressure")
_WINDOW = 2_000_000
"""Microseconds; whole windows of 2 s are what a process without privileges may ask for."""
_STALL: dict[Kind, int] = {"cpu": 300_000, "memory": 100_000, "io": 400_000}
"""Microseconds of stall in a window that are worth an event."""


class PressureEvents:
    """Calls `told` with the kind whenever the machine comes under pressure, at most once in two seconds a kind."""

    def __init__(self, told: Callable[[Kind], None]) -> None:
        self._told = told
        self._armed: dict[Kind, tuple[select.epoll, int]] = {}
        self._resting: asyncio.TimerHandle | None = None

    async def begin(self) -> list[Kind]:
        """Arm what this kernel has; returns the kinds."""
        self._armed = await asyncio.to_thread(self._arm)
        self._listen()
        return list(self._armed)

    def rest(self, seconds: float) -> None:
        """Hear nothing for a while; what is told meanwhile is heard then."""
        if self._resting is None:
            self._deaf()
            self._resting = asyncio.get_running_loop().call_later(seconds, self._listen)

    def close(self) -> None:
        """Disarm them."""
        if self._resting is not None:
            self._resting.cancel()
        self._deaf()
        for events, file in self._armed.values():
            events.close()
            os.close(file)
        self._armed = {}

    def _listen(self) -> None:
        self._resting = None
        for kind, (events, _) in self._armed.items():
            asyncio.get_running_loop().add_reader(events.fileno(), self._ready, kind, events)

    def _deaf(self) -> None:
        for events, _ in self._armed.values():
            asyncio.get_running_loop().remove_reader(events.fileno())

    def _arm(self) -> dict[Kind, tuple[select.epoll, int]]:
        armed: dict[Kind, tuple[select.epoll, int]] = {}
        for kind in KINDS:
            with suppress(OSError):  # a kernel without PSI, or one that lets only root do this
                file = os.open(_FILES / kind, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
                try:
                    os.write(file, f"some {_STALL[kind]} {_WINDOW}\0".encode())
                    events = select.epoll()
                    events.register(file, select.EPOLLPRI)
                except OSError:
                    os.close(file)
                    raise
                armed[kind] = events, file
        return armed

    def _ready(self, kind: Kind, events: select.epoll) -> None:
        events.poll(0)  # asking takes the event
        self._told(kind)


def stall_seconds(kind: Kind) -> float | None:
    """Seconds since boot in which something waited (`some`), to be compared over time; None without PSI."""
    try:
        line = (_FILES / kind).read_text(encoding="ascii").partition("\n")[0]
    except OSError:
        return None
    return int(line.rpartition("total=")[2]) / 1e6


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes that the jobs may use in all, and those that are left for something new without swapping."""

    total_bytes: int
    available_bytes: int

    @property
    def free_share(self) -> float:
        """What is left, as a share of all."""
        return self.available_bytes / max(1, self.total_bytes)


def memory(group: Path | None = None) -> Memory:
    """The machine's, or that of a memory cgroup in which the jobs lie where this is bounded more narrowly."""
    fields = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines())
    machine = Memory(int(fields["MemTotal"].split()[0]) * 1024, int(fields["MemAvailable"].split()[0]) * 1024)
    return min([machine, *_bounds(group)], key=lambda each: each.available_bytes)


def _bounds(group: Path | None) -> list[Memory]:
    """Of each bounded group from this one upwards."""
    found: list[Memory] = []
    while group is not None and (group / "cgroup.procs").exists():
        for limit, usage, inactive in (
            ("memory.max", "memory.current", "inactive_file"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        ):
            if (group / limit).exists():
                words = cgroup_files.read(group / limit)
                if words != "max" and int(words) < 2**62:
                    reclaimable = cgroup_files.read_table(group / "memory.stat").get(inactive, 0)
                    used = int(cgroup_files.read(group / usage)) - reclaimable
                    found.append(Memory(int(words), max(0, int(words) - used)))
        group = group.parent
    return found
