"""A set of jobs that does not fit into memory together: without the scheduler, and with it, knowing their kind or not.

The jobs lie in a memory cgroup with a limit. Each takes memory step by step, works on all of it, and ends.
"""

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from benchmarks.private_daemon import private_daemon
from llmos import Client
from llmos.machine.cgroup import Cgroups
from llmos.machine.identity import Identity
from llmos.scheduler.fingerprint import fingerprint
from llmos.scheduler.run_history import PastRun


@dataclass(frozen=True, slots=True)
class Scale:
    """How many jobs, MiB of each and for all, MiB of a step."""

    jobs: int = 6
    each: int = 160
    limit: int = 420
    step: int = 8

    @property
    def command(self) -> list[str]:
        """That of a job."""
        return [sys.executable, "-c", _BODY.format(steps=self.each // self.step, step=self.step)]


KNOWN = 5
"""Earlier runs of the kind, where they are known."""
_BODY = """
import time
held = []
for _ in range({steps}):
    held.append(bytearray({step} << 20))
    time.sleep(0.25)
for _ in range(40):
    for part in held:
        part[::4096] = bytes(len(part[::4096]))
    time.sleep(0.05)
"""
_PATIENCE = 300.0
OFF = "[scheduler]\nenabled = false\n"


def measure(scale: Scale = Scale()) -> list[dict[str, Any]]:
    """Jobs that finished and that were killed, and seconds until the last had ended."""
    if "memory" not in Cgroups.probe().controllers:
        return [{"what": f"skipped: {Cgroups.probe().why_not('memory')}", "measured": "–", "target": ""}]
    arms: list[tuple[str, str, list[PastRun]]] = [
        ("scheduler off", OFF, []),
        ("scheduler on, nothing known of them", "", []),
        ("scheduler on, earlier runs known", "", _earlier(scale)),
    ]
    rows = []
    what = f"{scale.jobs} jobs of {scale.each} MiB in {scale.limit} MiB"
    for title, settings, history in arms:
        finished, killed, held, makespan = run(scale, settings, history)
        rows.append(
            {
                "what": f"{what}, {title}: finished / killed / held, makespan in s",
                "measured": f"{finished} / {killed} / {held}, {makespan:.1f}",
                "target": "" if settings == OFF else f"{scale.jobs} / 0",
            }
        )
    return rows


def run(scale: Scale, settings: str, history: Iterable[PastRun]) -> tuple[int, int, int, float]:
    """Jobs finished, killed, held at some time; seconds from the first start to the last end."""
    with _bounded(scale.limit) as bound, private_daemon(settings, history) as client:
        bound(client)
        if settings != OFF:
            client.call("scheduler.off")
            client.call("scheduler.on")  # it looks for bounds when it begins
        names = [f"grow-{number}" for number in range(scale.jobs)]
        began = time.monotonic()
        for name in names:
            client.run(scale.command, name=name, cwd="/")
            time.sleep(0.3)
        while True:
            rows = [row for row in client.call("jobs") if row["name"] in names]
            if all(row["state"] in ("stopped", "failed") for row in rows):
                break
            if time.monotonic() > began + _PATIENCE:
                raise TimeoutError(f"jobs that have not ended: {[row['name'] for row in rows if row['pid']]}")
            time.sleep(0.1)
        makespan = time.monotonic() - began
        held = sum(_was_held(client, name) for name in names)
    finished = sum(row["exit_code"] == 0 for row in rows)
    return finished, len(rows) - finished, held, makespan


def _was_held(client: Client, name: str) -> bool:
    return any(event["kind"] == "scheduler.held" for event in client.call("why", target=name)["events"])


def _earlier(scale: Scale) -> list[PastRun]:
    kind, now = fingerprint(scale.command), time.time()
    return [PastRun(kind, os.geteuid(), "grow", now, 8.0, 1.0, (scale.each + 10) << 20, None, 0) for _ in range(KNOWN)]


@contextmanager
def _bounded(limit: int) -> Iterator[Callable[[Client], None]]:
    """What bounds the memory of a client's reaper, and so of all its jobs, which have to have ended at the end."""
    cgroups = Cgroups.probe(parent="llmos-bench")
    group = f"pressure-{os.getpid()}"
    cgroups.create(group, ["memory"])

    def bound(client: Client) -> None:
        cgroups.attach(group, [Identity.of(client.status()["reaper"]["pid"])], ["memory"])

    try:
        cgroups.set_memory(group, limit << 20)
        yield bound
    finally:
        cgroups.remove(group)
