"""The numbers that standing watches compare: one metric of the machine or of a target, now.

Synchronous and cheap: the daemon calls it in a thread at every tick. It never sleeps: what is a rate is measured since
the call before.
"""

import os
import time
from collections.abc import Iterable
from typing import Literal

import psutil

from llmos.errors import BadInput, Unsupported
from llmos.machine import procfs
from llmos.machine.gpu import gpus
from llmos.machine.paths import locate
from llmos.machine.state import temperatures

MachineMetric = Literal["cpu", "memory", "memory_bytes", "disk", "gpu", "load", "temperature"]
ProcessMetric = Literal["cpu", "memory", "memory_bytes", "gpu"]

SHORTEST = 0.1  # seconds: over less, ticks of 10 ms tell nothing, and the last value is repeated


class MetricSampler:
    """The samples of one watch: each watch has its own, so that its rates are over its own intervals."""

    def __init__(self) -> None:
        self._at = 0.0
        self._before: dict[tuple[int, int], float] = {}
        self._cpu: float | None = None
        self._gpu_since = 0

    def machine(self, metric: MachineMetric, path: str = "/") -> float | None:
        """A metric of the whole machine.

        cpu, memory, gpu (the busiest card) and disk (the file system that holds `path`) are percents, memory_bytes is
        bytes in use, load the average of the last minute, temperature the hottest sensor in °C. None: not known yet,
        as for cpu at the first call.

        Raises:
            Unsupported: the machine has no such thing.
            NotFound: there is nothing at `path`.
        """
        match metric:
            case "cpu":
                idle, total = _machine_cpu_seconds()
                return self._rate({(0, 0): total - idle}, scale=100 / (os.cpu_count() or 1))
            case "memory":
                return float(psutil.virtual_memory().percent)
            case "memory_bytes":
                memory = psutil.virtual_memory()
                return float(memory.total - memory.available)
            case "disk":
                return float(psutil.disk_usage(locate(path)[0]).percent)
            case "gpu":
                percents = [card.percent for card in gpus().probe() if card.percent is not None]
                if not percents:
                    raise Unsupported("no GPU of this machine tells how busy it is")
                return max(percents)
            case "load":
                return os.getloadavg()[0]
            case "temperature":
                return temperatures()[0][1]

    def process(self, metric: ProcessMetric, pids: Iterable[int]) -> float | None:
        """A metric of a target, summed over its processes; those that have vanished count nothing.

        cpu is percent of one core and may pass 100; memory is percent of the machine's, memory_bytes the resident
        bytes, where pages that processes share count for each; gpu is percent of one card. None: not known, as for cpu
        at the first call, or no process is left.

        Raises:
            Unsupported: the machine has no GPU.
            BadInput: a metric that only the machine has.
        """
        stats = [stat for pid in pids if (stat := procfs.read_stat(pid)) is not None]
        match metric:
            case "cpu":
                return self._rate(
                    {
                        (stat.pid, stat.start_ticks): seconds
                        for stat in stats
                        if (seconds := procfs.read_cpu_seconds(stat.pid)) is not None
                    },
                    scale=100,
                )
            case "memory" | "memory_bytes":
                if not stats:
                    return None
                resident = float(sum(stat.rss_bytes for stat in stats))
                return resident if metric == "memory_bytes" else 100 * resident / psutil.virtual_memory().total
            case "gpu":
                since, self._gpu_since = self._gpu_since, int(time.time() * 1_000_000)
                busy = gpus().percent_by_process(since)
                return sum(busy.get(stat.pid, 0.0) for stat in stats) if stats else None
        raise BadInput(f"{metric} is the machine's alone, no process has it: watch it without a target", field="metric")

    def _rate(self, seconds: dict[tuple[int, int], float], scale: float) -> float | None:
        """Processor seconds a second since the call before, of what was there then and is there now."""
        now = time.monotonic()
        if self._before and now - self._at < SHORTEST:
            return self._cpu
        spent = [each - self._before[key] for key, each in seconds.items() if key in self._before]
        self._cpu = max(0.0, scale * sum(spent) / (now - self._at)) if spent else None
        self._before, self._at = seconds, now
        return self._cpu


def _machine_cpu_seconds() -> tuple[float, float]:
    """Seconds of all cores since boot: idle (waiting for the disk included), and in all (guests lie in user's)."""
    times = psutil.cpu_times()
    return times.idle + times.iowait, sum(times) - times.guest - times.guest_nice
