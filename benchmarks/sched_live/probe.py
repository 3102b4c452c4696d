"""`python -m benchmarks.sched_live.probe FILE`: a program that a person works with, beside the jobs, until it is ended.

It sleeps and then computes for a moment, over and over: how late it wakes, and how long after it should have woken the
moment's work is done. Both are written to FILE, as JSON lists of seconds, when TERM comes.
"""

import gc
import json
import random
import signal
import sys
import time
from array import array
from pathlib import Path

PAUSE = 0.02, 0.08
"""Seconds that it sleeps, from and to, evenly spread."""
BURST_SECONDS = 0.004
"""Processor time of each burst."""


def main() -> None:
    """Measure until TERM."""
    ended = False

    def end(*_: object) -> None:
        nonlocal ended
        ended = True

    signal.signal(signal.SIGTERM, end)
    draw = random.Random(0)
    late, done = array("d"), array("d")
    gc.disable()
    while not ended:
        due = time.monotonic() + draw.uniform(*PAUSE)
        time.sleep(max(0.0, due - time.monotonic()))
        late.append(time.monotonic() - due)
        until = time.thread_time() + BURST_SECONDS
        while time.thread_time() < until:
            pass
        done.append(time.monotonic() - due)
    Path(sys.argv[1]).write_text(json.dumps({"late": late.tolist(), "done": done.tolist()}), "utf-8")


if __name__ == "__main__":
    main()
