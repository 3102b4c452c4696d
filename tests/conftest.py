"""Fixtures of all tests: a real llmosd in a folder of its own, and a wait that has a deadline."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from llmos import Client


@dataclass
class Daemon:
    """A real llmosd; `start` again after `kill`."""

    folder: Path
    arguments: list[str] = field(default_factory=list)
    process: subprocess.Popen[bytes] | None = None

    @property
    def socket(self) -> Path:
        """Where it listens."""
        return self.folder / "llmosd.sock"

    @property
    def state_dir(self) -> Path:
        """Where its journal and logs lie."""
        return self.folder / "state"

    @property
    def log(self) -> str:
        """What it has said."""
        return (self.folder / "llmosd.log").read_text(errors="replace")

    def start(self) -> "Daemon":
        """Start it, and return when it answers."""
        command: list[str | Path] = [sys.executable, "-X", "dev", "-m", "llmos.kernel.daemon"]
        command += ["--socket", self.socket, "--state-dir", self.state_dir, *self.arguments]
        with (self.folder / "llmosd.log").open("ab") as log:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                cwd=self.folder,
            )
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            assert self.process.poll() is None, self.log
            try:
                with self.client() as client:
                    client.status()
                return self
            except Exception:
                time.sleep(0.02)
        self.kill()
        raise AssertionError(f"llmosd does not answer:\n{self.log}")

    def client(self, timeout: float | None = 60) -> Client:
        """A connection to it."""
        return Client(str(self.socket), timeout=timeout)

    def kill(self) -> None:
        """SIGKILL, as a crash would."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        """End it and all its jobs, and the reaper."""
        if self.process is None or self.process.poll() is not None:
            self.start()
        assert self.process is not None
        with self.client() as client:
            client.shutdown(jobs=True)
        self.process.wait(30)


@contextmanager
def running(folder: Path, settings: str = "") -> Iterator[Daemon]:
    """An llmosd with these settings, ended with all it started; its log must hold no traceback."""
    (folder / "llmosd.toml").write_text(settings)
    daemon = Daemon(folder, ["--config", str(folder / "llmosd.toml")]).start()
    try:
        yield daemon
    finally:
        daemon.stop()
        assert "Traceback" not in daemon.log, daemon.log


@pytest.fixture
def llmosd(tmp_path: Path) -> Iterator[Daemon]:
    """An llmosd of one test's own, for tests that kill or change it."""
    with running(tmp_path) as daemon:
        yield daemon


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """One llmosd, with short back-offs, for all tests of a file: each uses names of its own."""
    settings = "[jobs]\nbackoff_first_seconds = 0.05\nbackoff_cap_seconds = 0.2\n"
    with running(tmp_path_factory.mktemp("llmosd"), settings) as shared:
        yield shared


@pytest.fixture
def client(daemon: Daemon) -> Iterator[Client]:
    """A connection to the file's llmosd."""
    with daemon.client() as connected:
        yield connected


@pytest.fixture
def call(client: Client) -> Callable[..., Any]:
    """Call a method of the file's llmosd by its name."""
    return client.call


@pytest.fixture
def eventually() -> Callable[[Callable[[], object]], object]:
    """Call something until it returns a true value, for at most 20 seconds."""

    def wait(condition: Callable[[], object]) -> object:
        deadline = time.monotonic() + 20
        while not (value := condition()):
            assert time.monotonic() < deadline, "it did not come true"
            time.sleep(0.02)
        return value

    return wait


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
