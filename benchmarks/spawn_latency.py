"""How long from asking for a process until it runs its first instruction: through llmosd, and by a bare fork and exec.

Both start /bin/true's smallest relative: a shell built-in that writes the monotonic clock would cost more than what is
measured, so the end is taken from outside: bare, when the exec closes a pipe; through llmosd, when `run` has answered,
which is after the exec, the journal's sync and the reaper's record. Pairs are interleaved.
"""

import os
import statistics
import time
from typing import Any

from benchmarks.private_daemon import private_daemon

ROUNDS = 200


def measure() -> list[dict[str, Any]]:
    """Medians and 95th percentiles in milliseconds, and the ratio of the medians."""
    bare, ours = [], []
    with private_daemon() as client:
        for number in range(ROUNDS):
            bare.append(_bare())
            began = time.perf_counter()
            client.run(["/bin/sleep", "0"], name=f"job{number % 10}-{number}")
            ours.append((time.perf_counter() - began) * 1000)
    ratio = statistics.median(ours) / statistics.median(bare)
    return [
        {
            "what": "spawn, ms (p50 / p95)",
            "measured": _both(ours),
            "bare": _both(bare),
            "ratio": f"{ratio:.2f}",
            "target": "≤ 3",
        }
    ]


def _bare() -> float:
    """Milliseconds of a fork and exec, until the exec has closed the pipe."""
    began = time.perf_counter()
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.execv("/bin/sleep", ["sleep", "0"])
        finally:
            os._exit(127)
    os.close(writer)
    os.read(reader, 1)
    took = (time.perf_counter() - began) * 1000
    os.close(reader)
    os.waitpid(pid, 0)
    return took


def _both(values: list[float]) -> str:
    return f"{statistics.median(values):.2f} / {statistics.quantiles(values, n=20)[-1]:.2f}"
