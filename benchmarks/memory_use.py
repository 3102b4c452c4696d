"""Resident memory of llmosd and its reaper, without the model: with no job and with 100."""

from typing import Any

from benchmarks.private_daemon import private_daemon

MIB = 1024**2


def measure() -> list[dict[str, Any]]:
    """Resident MiB of the daemon, the reaper, and both."""
    rows = []
    with private_daemon() as client:
        for jobs in (0, 100):
            for number in range(jobs):
                client.run(["sleep", "1000"], name=f"job-{number}")
            status = client.status()
            daemon, reaper = status["memory_bytes"] / MIB, status["reaper"]["memory_bytes"] / MIB
            rows.append(
                {
                    "what": f"resident, {jobs} jobs, MiB",
                    "measured": f"{daemon:.1f} + {reaper:.1f} = {daemon + reaper:.1f}",
                    "target": "≤ 60",
                }
            )
    return rows
