"""The kernel's clocks as the loop needs them: read, and a descriptor that wakes it at an instant of one.

timerfd_create(2). The wall clock may be set; who waits on it is woken then, too (TFD_TIMER_CANCEL_ON_SET). Boot time
goes on while the machine is suspended, monotonic time does not; neither can be set.
"""

import ctypes
import math
import os
import time

_LIBC = ctypes.CDLL(None, use_errno=True)
_ABSOLUTE, _CANCEL_ON_SET = 1, 2
_FLAGS = os.O_NONBLOCK | os.O_CLOEXEC
_LATEST_SECONDS = 2**33
"""In the year 2242: an instant that never comes."""


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _Itimerspec(ctypes.Structure):
    _fields_ = (("interval", _Timespec), ("value", _Timespec))


class Clock:
    """One clock of the kernel, by its number (`time.CLOCK_…`)."""

    def __init__(self, number: int) -> None:
        self.number = number

    def now(self) -> float:
        """What it shows, in seconds."""
        return time.clock_gettime(self.number)

    def open(self) -> int:
        """A new timer's descriptor, which can be read once its time has come.

        :raises OSError: there are no descriptors left.
        """
        if (descriptor := _LIBC.timerfd_create(self.number, _FLAGS)) < 0:
            raise _error()
        return int(descriptor)

    def arm(self, descriptor: int, at: float | None) -> None:
        """Have a timer come at an instant, at once where that has passed, or (None) only when the clock is set.

        :raises OSError: the descriptor is no timer.
        """
        nanoseconds = max(1, math.ceil(min(_LATEST_SECONDS if at is None else at, _LATEST_SECONDS) * 1e9))
        value = _Itimerspec(_Timespec(0, 0), _Timespec(*divmod(nanoseconds, 10**9)))
        flags = _ABSOLUTE | (_CANCEL_ON_SET if self.number == time.CLOCK_REALTIME else 0)
        if _LIBC.timerfd_settime(descriptor, flags, ctypes.byref(value), None) != 0:
            raise _error()

    def was_set(self, descriptor: int) -> bool:
        """Take down why a timer can be read: whether its clock was set."""
        try:
            os.read(descriptor, 8)
        except BlockingIOError:
            return False
        except OSError:  # ECANCELED
            return True
        return False


def _error() -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number))


WALL = Clock(time.CLOCK_REALTIME)
BOOT = Clock(time.CLOCK_BOOTTIME)
MONOTONIC = Clock(time.CLOCK_MONOTONIC)
