"""What the scheduler's looking costs: with 200 processes of 50 jobs, while nothing wants a processor and while all is short.

Processor time and wake-ups are those of all threads of llmosd, from /proc/PID/task; those with the scheduler off are
measured in the same run. The machine itself may be under pressure from others, which `seen` tells.
"""

import os
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.private_daemon import private_daemon
from llmos import Client

JOBS, EACH = 50, 4
SECONDS = 30
_SLEEPERS = "for i in 2 3 4; do sleep 1000 & done; exec sleep 1000"
_BURNERS = "while True: pass"


def measure() -> list[dict[str, Any]]:
    """Percent of one core and wake-ups a second, without and with the scheduler, idle and under pressure."""
    with private_daemon() as client:
        for number in range(JOBS):
            client.run(["sh", "-c", _SLEEPERS], name=f"job-{number}", cwd="/")
        client.call("scheduler.off")
        off = _over(client)
        client.call("scheduler.on")
        idle = _over(client)
        for number in range((os.cpu_count() or 1) + 2):
            client.run([sys.executable, "-c", _BURNERS], name=f"burn-{number}", cwd="/")
        time.sleep(5)
        pressed = _over(client)
        status = client.call("scheduler.status")
    processes = JOBS * EACH
    return [
        _row(f"idle, {processes} processes, scheduler off, % of a core", f"{off[0]:.2f}", ""),
        _row(f"idle, {processes} processes, % of a core", f"{idle[0]:.2f}", "≤ 1"),
        _row(f"idle, {processes} processes, wake-ups a second", f"{idle[1]:.1f} (off: {off[1]:.1f})", "≤ 5"),
        _row(f"under pressure, {processes} processes, % of a core", f"{pressed[0]:.2f}", "≤ 1"),
        _row("under pressure, wake-ups a second", f"{pressed[1]:.1f}", ""),
        _row("one look under pressure, ms of processor time", f"{status['last_look_cpu_ms']:.2f}", ""),
        _row("resident, off / idle / under pressure, MiB", f"{off[2]:.1f} / {idle[2]:.1f} / {pressed[2]:.1f}", ""),
        _row("seen: pressure on the processors by all of the machine", f"{status['pressure'].get('cpu')}", ""),
    ]


def _over(client: Client) -> tuple[float, float, float]:
    """Percent of a core, wake-ups a second, MiB resident."""
    pid = client.status()["pid"]
    time.sleep(2)
    (cpu, switches), began = _spent(pid), time.monotonic()
    time.sleep(SECONDS)
    (cpu_now, switches_now), passed = _spent(pid), time.monotonic() - began
    resident = int(Path(f"/proc/{pid}/statm").read_text("ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
    return 100 * (cpu_now - cpu) / passed, (switches_now - switches) / passed, resident


def _spent(pid: int) -> tuple[float, int]:
    cpu, switches = 0, 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        cpu += int((task / "schedstat").read_text("ascii").split()[0])
        status = (task / "status").read_text("utf-8", "replace")
        switches += int(status.partition("\nvoluntary_ctxt_switches:")[2].split()[0])
    return cpu / 1e9, switches


def _row(what: str, measured: str, target: str) -> dict[str, Any]:
    return {"what": what, "measured": measured, "target": target}
