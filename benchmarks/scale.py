"""How llmosd grows from 50 to 5,000 jobs: `python -m benchmarks.scale [--json] [--plot FILE.svg] [SIZES …]`.

For each size a fresh llmosd: all jobs are started by job files of 500; the state of all is asked for just after one has
changed; one job is killed and comes back; llmosd is killed and started again and has all jobs as before; all are stopped,
each by a call of its own, 64 at a time. Resident memory is that of llmosd and its reaper, without the model. The scheduler
is off: what is measured is supervision.
"""

import argparse
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.growth_plot import plot
from llmos import Client
from llmos.errors import LlmosError

SIZES = (50, 500, 1000, 2000, 5000)
JOBS_A_FILE = 500
AT_A_TIME = 64
REPEATS = 15
IDLE_SECONDS = 5.0
ANSWER_SECONDS = 600.0
STEPS = {
    "start_s": "all jobs started, s",
    "status_ms": "state of all, just after a change, ms",
    "crash_ms": "one job crashed → runs again, ms",
    "adopt_s": "llmosd killed → all adopted, s",
    "stop_s": "all jobs stopped, s",
    "llmosd_mib": "llmosd, resident MiB",
    "reaper_mib": "reaper, resident MiB",
    "idle_percent": "idle, % of a core",
    "wakeups": "idle, wake-ups a second",
}
"""What is measured, in words."""


def measure(size: int) -> dict[str, float]:
    """Every step with that many jobs; KiB a job are against the same llmosd before its first job."""
    with tempfile.TemporaryDirectory(prefix="llmos-scale-") as folder, _Daemon(Path(folder)) as daemon:
        empty = daemon.resident()
        names = [f"job-{number}" for number in range(size)]
        found = {"jobs": float(size), "start_s": _seconds(lambda: daemon.start(names))}
        found["status_ms"] = 1000 * statistics.median(daemon.states(names[0]) for _ in range(REPEATS))
        found["crash_ms"] = 1000 * statistics.median(daemon.crash(names[-1]) for _ in range(REPEATS))
        full = daemon.resident()
        found |= {"llmosd_mib": full[0], "reaper_mib": full[1], "kib_a_job": 1024 * (sum(full) - sum(empty)) / size}
        found["idle_percent"], found["wakeups"] = daemon.idle()
        pids = daemon.pids()
        found["adopt_s"] = _seconds(daemon.kill_and_restart)
        assert daemon.pids() == pids, "a job was lost or started twice"
        found["stop_s"] = _seconds(lambda: daemon.stop(names))
        assert not daemon.pids()
        return found


class _Daemon:
    """One llmosd with folders of its own."""

    def __init__(self, folder: Path) -> None:
        self._socket, self._state, self._log = folder / "socket", folder / "state", folder / "log"
        self._config = folder / "llmos.toml"
        self._config.write_text("[scheduler]\nenabled = false\n")

    def __enter__(self) -> "_Daemon":
        self._exec()
        return self

    def __exit__(self, *_: object) -> None:
        self._client.shutdown(jobs=True)
        self._client.close()
        self._process.wait(ANSWER_SECONDS)

    def start(self, names: Sequence[str]) -> None:
        for begin in range(0, len(names), JOBS_A_FILE):
            jobs = {name: {"argv": ["sleep", "100000"], "restart": "always"} for name in names[begin:][:JOBS_A_FILE]}
            answer = self._client.call("jobs.apply", jobs=jobs)
            assert answer["ok"], [result for result in answer["results"] if not result["ok"]][:1]
        assert len(self.pids()) == len(names)

    def pids(self) -> dict[str, int]:
        return {job["name"]: job["pid"] for job in self._client.jobs() if job["state"] == "running"}

    def states(self, changed: str) -> float:
        self._client.renice(changed, priority="normal")
        return _seconds(self._client.jobs)

    def crash(self, name: str) -> float:
        """Seconds from the death of a job that has run well until llmosd says that it runs again."""
        self._client.restart(name)  # as a person does, so that its back-off begins anew
        [pid] = [job["pid"] for job in self._client.jobs() if job["name"] == name]
        with _events(self._socket) as events:
            began = time.perf_counter()
            os.kill(pid, signal.SIGKILL)
            next(event for event in events if event["kind"] == "job.running")
            return time.perf_counter() - began

    def resident(self) -> tuple[float, float]:
        """MiB of llmosd and the reaper."""
        time.sleep(1)
        status = self._client.status()
        return status["memory_bytes"] / 2**20, status["reaper"]["memory_bytes"] / 2**20

    def idle(self) -> tuple[float, float]:
        """Percent of a core, and how often a second they woke up, of all threads of both while nobody asks."""
        status = self._client.status()
        time.sleep(2)
        before = _spent(status["pid"]), _spent(status["reaper"]["pid"])
        time.sleep(IDLE_SECONDS)
        after = _spent(status["pid"]), _spent(status["reaper"]["pid"])
        cpu, switches = (sum(new[part] - old[part] for old, new in zip(before, after, strict=True)) for part in (0, 1))
        return 100 * cpu / IDLE_SECONDS, switches / IDLE_SECONDS

    def kill_and_restart(self) -> None:
        self._client.close()
        self._process.kill()
        self._process.wait()
        self._exec()

    def stop(self, names: Sequence[str]) -> None:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(self._socket))
            answers = connection.makefile("rb")
            for number, name in enumerate(names):
                call = {"jsonrpc": "2.0", "id": number, "method": "stop", "params": {"target": name}}
                connection.sendall(json.dumps(call).encode() + b"\n")
                if number >= AT_A_TIME:
                    assert "result" in json.loads(answers.readline())
            for _ in range(min(AT_A_TIME, len(names))):
                assert "result" in json.loads(answers.readline())

    def _exec(self) -> None:
        command = [sys.executable, "-m", "llmos.kernel.daemon", "--config", self._config, "--socket", self._socket]
        command += ["--state-dir", self._state]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        self._client = Client(self._socket, timeout=ANSWER_SECONDS)
        deadline = time.monotonic() + ANSWER_SECONDS
        while True:
            try:
                self._client.status()
                return
            except LlmosError:
                if time.monotonic() > deadline or self._process.poll() is not None:
                    raise RuntimeError(self._log.read_text()[-2000:]) from None
                time.sleep(0.01)


@contextmanager
def _events(path: Path) -> Iterator[Iterator[dict[str, Any]]]:
    """Events of jobs from now on."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(path))
        connection.sendall(b'{"jsonrpc":"2.0","id":1,"method":"events.subscribe","params":{"kinds":["job."]}}\n')
        lines = connection.makefile("rb")
        lines.readline()
        yield (json.loads(line)["params"] for line in lines)


def _seconds(work: Any) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _spent(pid: int) -> tuple[float, int]:
    """Seconds of processor time and voluntary switches of all threads."""
    nanoseconds = switches = 0
    for thread in Path(f"/proc/{pid}/task").iterdir():
        nanoseconds += int((thread / "schedstat").read_text().split()[0])
        status = (thread / "status").read_text()
        switches += int(status.partition("\nvoluntary_ctxt_switches:")[2].split()[0])
    return nanoseconds / 1e9, switches


def main() -> None:
    """Measure the sizes one after the other."""
    parser = argparse.ArgumentParser(prog="benchmarks.scale", description=__doc__)
    parser.add_argument(
        "sizes", nargs="*", type=int, default=SIZES, help="how many jobs; 50 to 5,000 when none is given"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--plot", type=Path, help="draw how it grows, as SVG")
    arguments = parser.parse_args()
    rows = []
    console = Console(stderr=True)
    for size in arguments.sizes:
        with console.status(f"{size} jobs"):
            rows.append(measure(size))
        console.print({name: round(value, 2) for name, value in rows[-1].items()})
    if arguments.plot:
        arguments.plot.write_text(
            plot(rows, "jobs", [name for name in STEPS if name.endswith(("_s", "_ms", "_mib"))], STEPS)
        )
    if arguments.json:
        print(json.dumps(rows))
        return
    table = Table("", *(f"{row['jobs']:,.0f}" for row in rows))
    for name, words in (STEPS | {"kib_a_job": "KiB a job"}).items():
        table.add_row(words, *(f"{row[name]:.2f}" for row in rows))
    Console().print(table)


if __name__ == "__main__":
    main()
