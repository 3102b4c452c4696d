"""One run of one arm: an llmosd of its own, the jobs of one draw, and a program beside them that a person works with."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from statistics import fmean

import psutil

from benchmarks.private_daemon import private_daemon
from benchmarks.sched_live import body
from benchmarks.sched_live.arms import Arm, put_in_the_background, set_autogroup
from benchmarks.sched_live.arrivals import KINDS, Arrival, Kind, sizes
from llmos import Client
from llmos.scheduler.fingerprint import fingerprint
from llmos.scheduler.run_history import PastRun

FLOOR = 0.1
"""Seconds below which a size does not count as shorter in the slowdown: a person takes less than that for at once."""
EARLIER = 200
"""Runs that llmosd knows of beforehand, drawn as those of the run are."""
IDLERS, EACH = 50, 4
"""Jobs that only sleep, and processes of each: what looking costs is that of a machine with 200 processes."""
_SLEEP = "for i in 2 3 4; do sleep 100000 & done; exec sleep 100000"
_SETTLE_SECONDS = 1.0
_PATIENCE = 30.0
"""Times the span of the arrivals after which a run has failed."""


@dataclass(frozen=True, slots=True)
class Figures:
    """What came of a run. Seconds, but slowdowns and percent of a core."""

    mean_slowdown: float
    p95_slowdown: float
    mean_completion: float
    makespan: float
    longest_starvation: float
    late_p50: float
    """How late the program beside the jobs woke."""
    late_p99: float
    done_p50: float
    """How long after it should have woken its moment's work was done."""
    done_p99: float
    daemon_percent: float
    """Processor time of llmosd, its starting of jobs included."""
    cyclic_p99: float | None
    """How late cyclictest woke; None where it is not installed or may not run."""


def measure(arm: Arm, arrivals: Sequence[Arrival], seed: int, tell: Callable[[str], None]) -> Figures:
    """Run it to its end.

    :raises TimeoutError: the jobs did not end in time.
    """
    set_autogroup(arm.autogroup)
    with tempfile.TemporaryDirectory(prefix="llmos-live-") as text:
        folder = Path(text)
        for kind in KINDS:
            shutil.copy(body.__file__, folder / f"{kind.program}.py")
        with private_daemon(arm.settings, _earlier(seed)) as client:
            for number in range(IDLERS):
                client.run(["sh", "-c", _SLEEP], name=f"idler-{number}", cwd="/")
            time.sleep(_SETTLE_SECONDS)
            beside = _Beside(folder)
            try:
                daemon = psutil.Process(client.status()["pid"])
                before, began = _cpu_seconds(daemon), time.monotonic()
                ends = _submit(client, arm, arrivals, folder, began, tell)
                percent = 100 * (_cpu_seconds(daemon) - before) / (time.monotonic() - began)
            finally:
                beside.end()
        late, done, cyclic = beside.figures()
    completion = [ends[n][1] - began - each.at for n, each in enumerate(arrivals)]
    slowdown = [max(1.0, took / max(each.size, FLOOR)) for took, each in zip(completion, arrivals, strict=True)]
    starved = [max(ends[n][0] - began - each.at, ends[n][2]) for n, each in enumerate(arrivals)]
    return Figures(
        mean_slowdown=fmean(slowdown),
        p95_slowdown=quantile(slowdown, 0.95),
        mean_completion=fmean(completion),
        makespan=max(end for _, end, _ in ends.values()) - began,
        longest_starvation=max(starved),
        late_p50=quantile(late, 0.5),
        late_p99=quantile(late, 0.99),
        done_p50=quantile(done, 0.5),
        done_p99=quantile(done, 0.99),
        daemon_percent=percent,
        cyclic_p99=cyclic,
    )


def quantile(values: Sequence[float], level: float) -> float:
    """The value that a share of them does not exceed."""
    return sorted(values)[min(len(values) - 1, int(level * len(values)))]


def _command(folder: Path, kind: Kind, size: float, number: int) -> list[str]:
    script = folder / f"{kind.program}.py"
    return [sys.executable, "-S", "-E", str(script), f"{size:.4f}", str(number), str(folder / "ends")]


def _earlier(seed: int) -> list[PastRun]:
    """Runs of the same programs before this one, for all arms the same."""
    drawn = list(islice(sizes(random.Random(f"earlier {seed}")), EARLIER))
    now, uid = time.time(), os.geteuid()
    return [
        PastRun(
            fingerprint=fingerprint(_command(Path("/"), kind, size, at)),
            uid=uid,
            job=kind.program,
            ended_at=now - EARLIER + at,
            runtime=size,
            cpu_seconds=size,
            peak_bytes=None,
            io_bytes=None,
            exit=0,
        )
        for at, (kind, size) in enumerate(drawn)
    ]


def _submit(
    client: Client, arm: Arm, arrivals: Sequence[Arrival], folder: Path, began: float, tell: Callable[[str], None]
) -> dict[int, tuple[float, float, float]]:
    """Start each job when it comes; returns when each began and ended, and its longest standstill, by number."""
    for number, each in enumerate(arrivals):
        time.sleep(max(0.0, began + each.at - time.monotonic()))
        argv = _command(folder, each.kind, each.size, number)
        job = client.run(argv, name=f"{each.kind.program}-{number}", cwd="/")
        if arm.rules and each.kind.background and job["pid"] is not None:
            put_in_the_background(job["pid"])
        if number % 10 == 0:
            tell(f"{number} of {len(arrivals)} jobs have come")
    tell("the last jobs run")
    deadline = began + _PATIENCE * max(10.0, arrivals[-1].at)
    while True:
        ends = _ends(folder / "ends")
        if len(ends) == len(arrivals):
            return ends
        if time.monotonic() > deadline:
            raise TimeoutError(f"{len(arrivals) - len(ends)} of {len(arrivals)} jobs have not ended")
        time.sleep(0.25)


def _ends(path: Path) -> dict[int, tuple[float, float, float]]:
    if not path.exists():
        return {}
    lines = [line.split() for line in path.read_text("ascii").splitlines()]
    return {int(number): (float(start), float(end), float(still)) for number, start, end, still in lines}


def _cpu_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


class _Beside:
    """The probe, and cyclictest where it is installed: each in a session of its own, as what a person starts is."""

    def __init__(self, folder: Path) -> None:
        self._probed, self._cyclic = folder / "probe.json", folder / "cyclic.json"
        command = [sys.executable, "-m", "benchmarks.sched_live.probe", str(self._probed)]
        self._probe = subprocess.Popen(command, start_new_session=True)
        self._cyclictest: subprocess.Popen[bytes] | None = None
        if cyclictest := shutil.which("cyclictest"):
            options = ["--policy=other", "--interval=10000", "--histogram=100000", "--quiet"]
            self._cyclictest = subprocess.Popen(
                [cyclictest, *options, f"--json={self._cyclic}"],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )

    def end(self) -> None:
        self._probe.send_signal(signal.SIGTERM)
        self._probe.wait(30)
        if self._cyclictest is not None:
            self._cyclictest.send_signal(signal.SIGINT)
            self._cyclictest.wait(30)

    def figures(self) -> tuple[list[float], list[float], float | None]:
        probed = json.loads(self._probed.read_text("utf-8"))
        if not self._cyclic.exists():
            return probed["late"], probed["done"], None
        counts = json.loads(self._cyclic.read_text("utf-8"))["thread"]["0"]["histogram"]
        total, seen = sum(counts.values()), 0
        for microseconds in sorted(counts, key=int):
            seen += counts[microseconds]
            if seen > 0.99 * total:
                break
        return probed["late"], probed["done"], int(microseconds) / 1e6
