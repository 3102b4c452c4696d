"""The llmosd that is fired at: started, killed, and asked until it answers again."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from llmos import Client
from llmos.errors import LlmosError

from .tally import Tally

SETTINGS = """
[policy]
methods_allow = "destroy"
[jobs]
backoff_first_seconds = 0.05
backoff_cap_seconds = 0.2
stop_timeout_seconds = 30
log_bytes = 1048576
[model]
timeout_seconds = 20
"""
START_SECONDS = 90.0
EARLY_THREADS = 4
ASK_SECONDS = 0.004
"""Between two tries to be answered."""
WRITES = {"x86_64": {"18", "74", "75"}, "aarch64": {"68", "82", "83"}}.get(os.uname().machine, set())
"""Numbers of pwrite64, fsync and fdatasync, as /proc/PID/task/TID/syscall tells them."""


@dataclass
class UnderFire:
    """A real llmosd with socket, settings and state of its own, under `folder`."""

    folder: Path
    tally: Tally
    environment: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None
    reapers: set[int] = field(default_factory=set)

    @property
    def socket(self) -> Path:
        """Where it listens."""
        return self.folder / "llmosd.sock"

    @property
    def state_dir(self) -> Path:
        """Where its journal and logs lie."""
        return self.folder / "state"

    @property
    def pid(self) -> int:
        """Its process."""
        assert self.process is not None
        return self.process.pid

    def client(self, timeout: float = 60.0) -> Client:
        """A connection to it."""
        return Client(self.socket, timeout=timeout)

    def log(self) -> str:
        """What it and its reaper have said."""
        paths = (self.folder / "llmosd.log", self.state_dir / "reaper.log")
        return "".join(path.read_text(errors="replace") for path in paths if path.exists())

    def launch(self) -> None:
        """Start it, and do not wait."""
        settings = self.folder / "llmosd.toml"
        if not settings.exists():
            settings.write_text(SETTINGS)
        command: list[str | Path] = [sys.executable, "-m", "llmos.kernel.daemon", "--config", settings]
        command += ["--socket", self.socket, "--state-dir", self.state_dir]
        with (self.folder / "llmosd.log").open("ab") as log:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                start_new_session=True,
                env={**os.environ, **self.environment},
            )

    def start(self, since: float | None = None, *, counted: bool = True) -> None:
        """Start it and wait until it answers; the time that takes, from `since` (monotonic) on, is counted.

        One that ends before it answers, as it must where the disk is full, is started again.
        """
        began = time.monotonic() if since is None else since
        self.launch()
        deadline = time.monotonic() + START_SECONDS
        while not self.answers():
            assert time.monotonic() < deadline, f"llmosd does not answer:\n{self.log()[-3000:]}"
            assert self.process is not None
            if self.process.poll() is not None:
                time.sleep(0.1)
                self.launch()
            time.sleep(ASK_SECONDS)
        if counted:
            self.tally.answered.append(time.monotonic() - began)
            times = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[11:13]
            self.tally.worked.append(sum(map(int, times)) / os.sysconf("SC_CLK_TCK"))

    def wait_for_answer(self, began: float) -> None:
        """Wait until it answers, and count the time since `began` (monotonic)."""
        deadline = time.monotonic() + START_SECONDS
        while not self.answers():
            assert time.monotonic() < deadline, f"llmosd does not answer:\n{self.log()[-3000:]}"
            time.sleep(ASK_SECONDS)
        self.tally.answered.append(time.monotonic() - began)

    def answers(self) -> bool:
        """Whether it answers now."""
        try:
            with self.client(timeout=START_SECONDS) as client:
                self.reapers.add(client.status()["reaper"]["pid"])
            return True
        except LlmosError:
            return False

    def kill(self, number: int = signal.SIGKILL) -> float:
        """Signal it, and wait where that ends it; returns when that was (monotonic)."""
        assert self.process is not None
        self.process.send_signal(number)
        began = time.monotonic()
        if number == signal.SIGKILL:
            self.process.wait()
            self.tally.did("kills")
        return began

    def restart(self) -> None:
        """SIGKILL, and start it again at once, as a service manager would."""
        self.start(self.kill())

    def wait_for_write(self, seconds: float) -> bool:
        """Wait until a thread of it is inside a system call that writes or syncs the journal; whether one was seen."""
        deadline = time.monotonic() + seconds
        tasks = Path(f"/proc/{self.pid}/task")
        # The journal's thread is one of the first, and to look at all would take longer than most writes.
        first = sorted(int(name) for name in os.listdir(tasks))[:EARLY_THREADS]
        while time.monotonic() < deadline:
            with suppress(OSError):
                for task in [tasks / str(number) for number in first]:
                    number, descriptor, *_ = [*(task / "syscall").read_text().split(), ""]
                    if number in WRITES:
                        target = os.readlink(f"/proc/{self.pid}/fd/{int(descriptor, 16)}")
                        if "/journal.db" in target:
                            return True
        return False

    def reaper(self) -> int:
        """The reaper of it now."""
        while True:
            with self.client() as client:
                client.call("jobs")
                pid: int = client.status()["reaper"]["pid"]
            try:
                if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
                    return pid
            except OSError:
                pass
            time.sleep(0.02)  # it has just died, and another is not there yet

    def end(self) -> None:
        """End it, its jobs and its reaper."""
        if self.process is None:
            return
        with suppress(LlmosError, AssertionError):
            if self.process.poll() is not None or not self.answers():
                self.process.kill()
                self.process.wait()
                self.start(counted=False)
            with self.client() as client:
                client.shutdown(jobs=True)
            self.process.wait(60)
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
