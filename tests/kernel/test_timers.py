"""Timers in a real loop on the kernel's clocks; only setting the wall clock by hours is played."""

import asyncio
import time

import pytest

from llmos.kernel.timers import SPARE_ENTRIES, Timers
from llmos.machine.clocks import BOOT, MONOTONIC, WALL, Clock


class MovedClock(Clock):
    """A clock that shows more than the kernel's; setting it moves nobody else's."""

    ahead = 0.0

    def now(self) -> float:
        return super().now() + self.ahead

    def arm(self, descriptor: int, at: float | None) -> None:
        super().arm(descriptor, None if at is None else at - self.ahead)


@pytest.mark.parametrize("clock", [WALL, BOOT, MONOTONIC])
async def test_each_comes_once_in_order_and_never_early(clock: Clock) -> None:
    timers = Timers(clock)
    came: list[str] = []
    done = asyncio.Event()
    begin = clock.now()
    timers.set("late", begin + 0.2, done.set)
    timers.set("early", begin + 0.1, lambda: came.append(f"early {clock.now() >= begin + 0.1 - 1e-6}"))
    timers.set("past", begin - 5, lambda: came.append("past"))
    timers.set("dropped", begin + 0.05, lambda: came.append("dropped"))
    timers.set("moved", begin + 0.05, lambda: came.append("before it was moved"))
    timers.set("moved", begin + 0.15, lambda: came.append("moved"))
    timers.cancel("dropped")
    timers.cancel("never there")
    await asyncio.wait_for(done.wait(), 20)
    assert came == ["past", "early True", "moved"]
    timers.close()
    timers.close()


async def test_one_that_is_due_may_set_drop_and_close_others() -> None:
    timers = Timers(MONOTONIC)
    came: list[str] = []
    done = asyncio.Event()

    def first() -> None:
        came.append("first")
        timers.cancel("second")
        timers.set("third", 0, third)

    def third() -> None:
        came.append("third")
        timers.close()
        done.set()

    timers.set("first", 0, first)
    timers.set("second", 0, lambda: came.append("second"))
    await asyncio.wait_for(done.wait(), 20)
    await asyncio.sleep(0.01)
    assert came == ["first", "third"]
    timers.set("again", 0, timers.close)
    await asyncio.sleep(0.05)


async def test_dropped_timers_do_not_pile_up() -> None:
    timers = Timers(MONOTONIC)
    for _ in range(10_000):
        timers.set("one", MONOTONIC.now() + 1000, lambda: None)
    assert len(timers._heap) <= SPARE_ENTRIES + 3
    timers.close()


async def test_a_wall_clock_that_is_set_forwards_brings_what_is_due_at_once_and_says_so_first() -> None:
    clock = MovedClock(time.CLOCK_REALTIME)
    told: list[str] = []
    done = asyncio.Event()
    timers = Timers(clock, lambda: told.append("set"))

    def noon() -> None:
        told.append("noon")
        done.set()

    timers.set("noon", clock.now() + 3600, noon)
    timers.set("midnight", clock.now() + 40_000, lambda: told.append("midnight"))
    clock.ahead = 7200
    timers.wake(was_set=True)
    await asyncio.wait_for(done.wait(), 20)
    assert told == ["set", "noon"]
    clock.ahead = -7200
    timers.wake(was_set=True)
    await asyncio.sleep(0.05)
    assert told == ["set", "noon", "set"]
    timers.close()


async def test_the_kernel_tells_that_the_clock_was_set_also_where_there_is_no_timer() -> None:
    done = asyncio.Event()
    timers = Timers(WALL, done.set)
    timers.watch()
    try:
        time.clock_settime_ns(time.CLOCK_REALTIME, time.time_ns())  # to what it shows: nobody else is misled
        await asyncio.wait_for(done.wait(), 20)
    except PermissionError:
        pytest.skip("may not set the clock")
    finally:
        timers.close()
