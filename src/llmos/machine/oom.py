"""What the kernel killed for want of memory, anywhere on the machine: how many processes, and which.

The count is in /proc/vmstat. Which ones the kernel's log tells who may read it (dev-kmsg in the kernel's ABI documents;
the line is that of `dump_oom_victim` in mm/oom_kill.c, Linux 5.0). Synchronous; llmosd calls it in threads.
"""

import os
import re
import time
from pathlib import Path
from typing import NamedTuple

from llmos.machine.identity import Identity

_KMSG = Path("/dev/kmsg")
_RECORD_BYTES = 8192  # as the kernel asks of readers: a shorter read fails
_FIRST_PID_NAMESPACE = 0xEFFFFFFC  # PROC_PID_INIT_INO: the pids of the log are those of this one
_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
_CLOCK_SLACK = 5.0  # seconds by which the clock of the log may have drifted off
_KILL = re.compile(
    rb"(?P<priority>\d+),\d+,(?P<at>\d+),[^;]*;oom-kill:.*?,(?:oom_memcg=(?P<limited>[^,]*)|global_oom)"
    rb",task_memcg=(?P<group>[^,]*),task=.*,pid=(?P<pid>\d+),uid=\d+\n"
)


class OomKill(NamedTuple):
    """One kill; `at` in seconds after boot without suspends, `group` and `limited` as paths in their hierarchy."""

    pid: int
    at: float
    group: str
    limited: str | None
    """The group whose limit was reached; None when the whole machine had no memory left."""


def count(vmstat: Path = Path("/proc/vmstat")) -> int:
    """How many processes the kernel has killed for want of memory since boot; 0 where it does not count them."""
    try:
        with vmstat.open("rb", buffering=0) as file:
            _, _, kills = file.read().partition(b"\noom_kill ")
    except OSError:
        return 0
    return int(kills.split(maxsplit=1)[0]) if kills else 0


def kill_of(identity: Identity) -> OomKill | None:
    """The kill of that process, which has ended, as far as the kernel's log goes back.

    :raises PermissionError: we may not read the log, or it tells the pids of another pid namespace.
    """
    if os.stat("/proc/self/ns/pid").st_ino != _FIRST_PID_NAMESPACE:
        raise PermissionError("the kernel's log tells other pids than ours")
    suspended = time.clock_gettime(time.CLOCK_BOOTTIME) - time.clock_gettime(time.CLOCK_MONOTONIC)
    started = identity.start_ticks / _TICKS_PER_SECOND - suspended - _CLOCK_SLACK
    found = [kill for kill in kills(_records()) if kill.pid == identity.pid and kill.at >= started]
    return found[-1] if found else None


def kills(records: list[bytes]) -> list[OomKill]:
    """Those told by records of /dev/kmsg; what programs have written there is none of the kernel's."""
    found = []
    for record in records:
        match = _KILL.match(record)
        if match and int(match["priority"]) < 8:  # above that, the facility is not the kernel's
            limited = None if match["limited"] is None else os.fsdecode(match["limited"])
            found.append(OomKill(int(match["pid"]), int(match["at"]) / 1e6, os.fsdecode(match["group"]), limited))
    return found


def _records() -> list[bytes]:
    """All that the log holds about kills, the oldest first."""
    descriptor = os.open(_KMSG, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    found = []
    try:
        while True:
            try:
                record = os.read(descriptor, _RECORD_BYTES)
            except BrokenPipeError:  # overwritten meanwhile; the next read goes on behind that
                continue
            if b"oom-kill:" in record:
                found.append(record)
    except BlockingIOError:
        return found
    finally:
        os.close(descriptor)
