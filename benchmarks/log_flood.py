"""What a job that writes 100 MB a second costs: processor time and memory of llmosd and its reaper, and disk.

Bare: what the kernel alone takes to free as much of such a file, once a second.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from benchmarks.private_daemon import private_daemon
from llmos.kernel.log_file import punch_hole
from llmos.settings import JobSettings

BYTES_PER_SECOND = 100_000_000
SECONDS = 10
SETTLE_SECONDS = 3
MIB = 1024**2
WRITER = f"""
import os, time
lines = b"".join(b"%08d %s\\n" % (number, b"x" * 90) for number in range(1000))
began, written = time.monotonic(), 0
while True:
    written += os.write(1, lines)
    time.sleep(max(0, began + written / {BYTES_PER_SECOND} - time.monotonic()))
"""


def measure() -> list[dict[str, Any]]:
    """Percent of one core and growth of resident memory over ten seconds, and the most disk that the log took."""
    with private_daemon() as client:
        client.run([sys.executable, "-c", WRITER], name="flood")
        path = client.call("show", target="flood")["log"]
        status = client.status()
        both = [psutil.Process(status["pid"]), psutil.Process(status["reaper"]["pid"])]
        time.sleep(SETTLE_SECONDS)
        size, before, memory = os.stat(path).st_size, sum(map(_spent, both)), sum(map(_resident, both))
        most, seconds = 0, 0.0
        began = time.monotonic()
        while seconds < SECONDS:
            time.sleep(0.05)
            most = max(most, os.stat(path).st_blocks * 512)
            seconds = time.monotonic() - began
        spent, grown = sum(map(_spent, both)) - before, sum(map(_resident, both)) - memory
        rate = f"a job writes {(os.stat(path).st_size - size) / seconds / 1e6:.0f} MB/s"
    measured, bare = 100 * spent / seconds, 100 * _bare()
    return [
        {
            "what": f"{rate}, % of a core",
            "measured": f"{measured:.2f}",
            "bare": f"{bare:.2f}",
            "ratio": f"{measured / bare:.2f}",
            "target": "≤ 1",
        },
        {"what": f"{rate}, memory grows, MiB", "measured": f"{grown / MIB:.1f}", "target": "0"},
        {"what": f"{rate}, most disk that its log takes, MiB", "measured": f"{most / MIB:.0f}", "target": ""},
    ]


def _bare() -> float:
    """The share of a core that the freeing takes."""
    keep = JobSettings().log_bytes
    with tempfile.NamedTemporaryFile(prefix="llmos-bench-", buffering=0) as file:

        def free() -> None:
            punch_hole(file.fileno(), max(4096, os.fstat(file.fileno()).st_size - keep) // 4096 * 4096)

        with open(file.name, "ab") as out, subprocess.Popen([sys.executable, "-c", WRITER], stdout=out) as job:
            try:
                _every_second(free, SETTLE_SECONDS)
                before, began = time.thread_time(), time.monotonic()
                _every_second(free, SECONDS)
                return (time.thread_time() - before) / (time.monotonic() - began)
            finally:
                job.kill()


def _every_second(act: Callable[[], None], times: int) -> None:
    for _ in range(times):
        time.sleep(1)
        act()


def _spent(process: psutil.Process) -> float:
    """Seconds that all its threads have had of a processor."""
    threads = Path(f"/proc/{process.pid}/task").glob("*/schedstat")
    return sum(int(each.read_text().split()[0]) for each in threads) / 1e9


def _resident(process: psutil.Process) -> int:
    return int(process.memory_info().rss)
