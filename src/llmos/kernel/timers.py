"""Named timers on one clock of the kernel, in the loop: one descriptor wakes it for the nearest, and nothing polls."""

import asyncio
import heapq
import os
from collections.abc import Callable
from itertools import count

from llmos.machine.clocks import WALL, Clock

SPARE_ENTRIES = 64
"""Entries of dropped timers that may stand in the heap beside as many as there are timers."""


class Timers:
    """At most one timer a name.

    `moved` is called when the clock was set, before anything that is due by that: it may set the timers anew.
    """

    def __init__(self, clock: Clock = WALL, moved: Callable[[], None] | None = None) -> None:
        self.clock = clock
        self._moved = moved
        self._timers: dict[str, tuple[float, int, Callable[[], None]]] = {}
        self._heap: list[tuple[float, int, str]] = []
        self._serials = count()
        self._descriptor: int | None = None

    def set(self, name: str, at: float, due: Callable[[], None]) -> None:
        """Call `due` at an instant (seconds of the clock), soon where it has passed; replaces the timer of that name."""
        serial = next(self._serials)
        self._timers[name] = at, serial, due
        heapq.heappush(self._heap, (at, serial, name))
        if len(self._heap) > 2 * len(self._timers) + SPARE_ENTRIES:
            self._heap = [(at, serial, name) for name, (at, serial, _) in self._timers.items()]
            heapq.heapify(self._heap)
        if self._heap[0][1] == serial:
            self.watch()

    def cancel(self, name: str) -> None:
        """Drop the timer of that name, if there is one."""
        self._timers.pop(name, None)

    def close(self) -> None:
        """Drop all."""
        self._timers.clear()
        self._heap.clear()
        if self._descriptor is not None:
            asyncio.get_running_loop().remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = None

    def watch(self) -> None:
        """Be woken for the nearest timer and when the clock is set, and for the latter also where there is no timer."""
        if self._descriptor is None:
            self._descriptor = self.clock.open()
            asyncio.get_running_loop().add_reader(self._descriptor, self._wake)
        self.clock.arm(self._descriptor, self._heap[0][0] if self._heap else None)

    def wake(self, *, was_set: bool = False) -> None:
        """Have called what is due by now, after `moved` where the clock was set."""
        if was_set and self._moved is not None:
            self._moved()
        now = self.clock.now()
        loop = asyncio.get_running_loop()
        while self._heap and (self._heap[0][0] <= now or not self._stands(self._heap[0])):
            loop.call_soon(self._fire, heapq.heappop(self._heap))
        self.watch()

    def _wake(self) -> None:
        if self._descriptor is not None:
            self.wake(was_set=self.clock.was_set(self._descriptor))

    def _fire(self, entry: tuple[float, int, str]) -> None:
        if self._stands(entry):  # it may have been dropped or set anew meanwhile
            self._timers.pop(entry[2])[2]()

    def _stands(self, entry: tuple[float, int, str]) -> bool:
        timer = self._timers.get(entry[2])
        return timer is not None and timer[1] == entry[1]
