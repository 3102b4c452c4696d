"""Heavy processes that are no jobs: which use much of a processor or wait for one, and may be slowed down."""

import os
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING

from llmos.kernel.policy import NEEDED_NAMES
from llmos.machine import procfs
from llmos.machine.identity import Identity, boot_id
from llmos.scheduler import task, workload
from llmos.scheduler.fingerprint import fingerprint
from llmos.scheduler.protection import Protection
from llmos.scheduler.task import Task
from llmos.scheduler.telemetry import Watched

if TYPE_CHECKING:
    from llmos.kernel.kernel import Kernel

EVERY_SECONDS = 5.0
"""From one look at all processes to the next."""
HEAVY = 0.5
"""Of a processor, used or waited for, from which on one is."""
MAX_HEAVY = 64


class HeavyProcesses:
    """Those of one kernel's scope, by what they used since the last look at all processes."""

    def __init__(self, kernel: "Kernel") -> None:
        self._kernel = kernel
        self._at = 0.0
        self._before: dict[tuple[int, int], float] = {}
        self._waited: dict[tuple[int, int], float] = {}
        self._found: dict[Identity, Callable[[int], Task]] = {}

    def find(self, of_jobs: Collection[int], known: Collection[Identity]) -> dict[Identity, Callable[[int], Task]]:
        """Each of them with what makes its task of a position. `of_jobs` are the pids that jobs have. Blocks."""
        now = time.monotonic()
        if now - self._at < EVERY_SECONDS:
            return self._found
        passed, self._at = now - self._at, now
        before, self._before = self._before, {}
        waited, self._waited = self._waited, {}
        busy: list[tuple[float, procfs.Stat]] = []
        for stat in procfs.stats():
            key = stat.pid, stat.start_ticks
            self._before[key] = stat.cpu_seconds
            share = (stat.cpu_seconds - before[key]) / passed if key in before else 0.0
            if stat.state == "running" and (wait := _wait_seconds(stat.pid)) is not None:
                self._waited[key] = wait
                share += (wait - waited[key]) / passed if key in waited else 0.0
            if stat.pid not in of_jobs and (share >= HEAVY or Identity(*key, boot_id()) in known):
                busy.append((share, stat))
        settings = self._kernel.settings
        uid = None if settings.scheduler.scope == "all" and os.geteuid() == 0 else os.geteuid()
        needed = NEEDED_NAMES | set(settings.policy.protected)
        protection = Protection(needed, self._kernel.own_pids(), uid) if busy else None
        usual = os.getpriority(os.PRIO_PROCESS, 0)
        self._found = {}
        for _, stat in sorted(busy, key=lambda each: -each[0])[:MAX_HEAVY]:
            assert protection is not None
            identity = Identity(stat.pid, stat.start_ticks, boot_id())
            if not protection.why(stat.pid) and (identity in known or task.niceness(identity) == usual):
                self._found[identity] = _maker(identity, stat)
        return self._found


def _wait_seconds(pid: int) -> float | None:
    """Seconds that its main thread has waited for a processor; None where the kernel does not tell."""
    try:
        return int(Path(f"/proc/{pid}/schedstat").read_bytes().split()[1]) * 1e-9
    except (OSError, IndexError):
        return None


def _maker(identity: Identity, stat: procfs.Stat) -> Callable[[int], Task]:
    argv, uid = procfs.read_argv(stat.pid), procfs.read_uid(stat.pid)
    kind = fingerprint(argv or [stat.comm])

    def make(position: int) -> Task:
        key = f"process {identity.as_text()}"
        ranked = workload.Job(position, time.time(), 0.0, 1, str(uid), kind)
        name = f"{stat.comm} (pid {stat.pid})"
        return Task(
            key, name, uid or 0, identity, position, Watched(key, identity), ranked, nice=task.niceness(identity)
        )

    return make
