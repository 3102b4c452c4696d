"""Processor time of llmosd and its reaper while 100 jobs run and nobody asks for anything."""

import time
from typing import Any

import psutil

from benchmarks.private_daemon import private_daemon

JOBS = 100
SECONDS = 20


def measure() -> list[dict[str, Any]]:
    """Percent of one core, and voluntary context switches a second, of both processes together."""
    with private_daemon() as client:
        for number in range(JOBS):
            client.run(["sleep", "1000"], name=f"job-{number}")
        status = client.status()
        both = [psutil.Process(status["pid"]), psutil.Process(status["reaper"]["pid"])]
        time.sleep(2)
        before = [_spent(process) for process in both]
        time.sleep(SECONDS)
        after = [_spent(process) for process in both]
    cpu, switches = (sum(new[part] - old[part] for old, new in zip(before, after, strict=True)) for part in (0, 1))
    return [
        {"what": f"idle with {JOBS} jobs, % of a core", "measured": f"{100 * cpu / SECONDS:.3f}", "target": "≤ 0.3"},
        {"what": f"idle with {JOBS} jobs, wake-ups a second", "measured": f"{switches / SECONDS:.1f}", "target": ""},
    ]


def _spent(process: psutil.Process) -> tuple[float, int]:
    with open(f"/proc/{process.pid}/schedstat", encoding="ascii") as file:
        nanoseconds = int(file.read().split()[0])
    return nanoseconds / 1e9, process.num_ctx_switches().voluntary
