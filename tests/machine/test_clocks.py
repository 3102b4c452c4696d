"""The kernel's clocks: what they show, and that a timer of each wakes, also when the clock is set."""

import os
import select
import time

import pytest

from llmos.machine.clocks import BOOT, MONOTONIC, WALL, Clock


@pytest.fixture(params=[WALL, BOOT, MONOTONIC], ids=["wall", "boot", "monotonic"])
def clock(request: pytest.FixtureRequest) -> Clock:
    found: Clock = request.param
    return found


def ready(descriptor: int, seconds: float) -> bool:
    return bool(select.select([descriptor], [], [], seconds)[0])


def test_a_timer_can_be_read_at_its_time_and_not_before(clock: Clock) -> None:
    timer = clock.open()
    try:
        at = clock.now() + 0.1
        clock.arm(timer, at)
        assert not ready(timer, 0) and not clock.was_set(timer)
        assert ready(timer, 20) and clock.now() >= at - 1e-6
        assert not clock.was_set(timer)
        assert not ready(timer, 0)
        for passed in (clock.now() - 10, 0.0, -1.0):
            clock.arm(timer, passed)
            assert ready(timer, 20) and not clock.was_set(timer)
        clock.arm(timer, None)
        assert not ready(timer, 0.05)
        clock.arm(timer, 1e300)
        assert not ready(timer, 0.05)
    finally:
        os.close(timer)


def test_what_is_no_timer_is_an_error(clock: Clock) -> None:
    reader, writer = os.pipe()
    try:
        with pytest.raises(OSError, match="Invalid argument"):
            clock.arm(reader, 1.0)
    finally:
        os.close(reader)
        os.close(writer)


def test_setting_the_wall_clock_wakes_who_waits_on_it_alone() -> None:
    wall, boot = WALL.open(), BOOT.open()
    try:
        WALL.arm(wall, None)
        BOOT.arm(boot, None)
        try:
            time.clock_settime_ns(time.CLOCK_REALTIME, time.time_ns())  # to what it shows: nobody else is misled
        except PermissionError:
            pytest.skip("may not set the clock")
        assert ready(wall, 20) and WALL.was_set(wall)
        assert not ready(boot, 0.05)
        WALL.arm(wall, WALL.now() + 0.01)
        assert ready(wall, 20) and not WALL.was_set(wall)
    finally:
        os.close(wall)
        os.close(boot)
