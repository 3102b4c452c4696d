"""Named timers towards instants of the wall clock, in the loop; a clock that is set is noticed within a minute."""

import asyncio
import time
from collections.abc import Callable

LONGEST_SECONDS = 60.0
"""A timer is set anew at least this often, for the loop's clock does not follow the wall clock."""
EARLY_SECONDS = 0.01
"""A timer may go off this much before its time: the loop's clock is no finer."""


class Timers:
    """At most one timer a name."""

    def __init__(self) -> None:
        self._handles: dict[str, asyncio.TimerHandle] = {}

    def set(self, name: str, at: float, due: Callable[[], None]) -> None:
        """Call `due` at an instant (epoch seconds), at once where it has passed; replaces the timer of that name."""

        def wake() -> None:
            if time.time() < at - EARLY_SECONDS:
                self.set(name, at, due)
            else:
                del self._handles[name]
                due()

        self.cancel(name)
        delay = min(max(0.0, at - time.time()), LONGEST_SECONDS)
        self._handles[name] = asyncio.get_running_loop().call_later(delay, wake)

    def cancel(self, name: str) -> None:
        """Drop the timer of that name, if there is one."""
        if (handle := self._handles.pop(name, None)) is not None:
            handle.cancel()

    def close(self) -> None:
        """Drop all."""
        for name in list(self._handles):
            self.cancel(name)
