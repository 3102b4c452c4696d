"""A real llmosd of one benchmark's own."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from llmos import Client
from llmos.errors import LlmosError
from llmos.scheduler.run_history import PastRun, RunHistory


@contextmanager
def private_daemon(settings: str = "", history: Iterable[PastRun] = ()) -> Iterator[Client]:
    """A client of a fresh llmosd; it, its reaper and its jobs are ended afterwards.

    :param settings: its settings file, TOML.
    :param history: earlier runs that it knows of.
    """
    with tempfile.TemporaryDirectory(prefix="llmos-bench-") as folder:
        socket, state, config = Path(folder) / "llmosd.sock", Path(folder) / "state", Path(folder) / "llmosd.toml"
        config.write_text(settings, encoding="utf-8")
        if runs := list(history):
            state.mkdir(mode=0o700)
            known = RunHistory(state / "runs.db")
            known.add(runs)
            known.close()
        command = [sys.executable, "-m", "llmos.kernel.daemon", "--socket", str(socket), "--state-dir", str(state)]
        with open(f"{folder}/log", "wb") as log:
            daemon = subprocess.Popen(
                [*command, "--config", str(config)], stdout=log, stderr=log, start_new_session=True
            )
        client = Client(str(socket), timeout=120)
        deadline = time.monotonic() + 20
        while True:
            try:
                client.status()
                break
            except LlmosError:
                if time.monotonic() > deadline or daemon.poll() is not None:
                    raise
                time.sleep(0.05)
        try:
            yield client
        finally:
            client.shutdown(jobs=True)
            client.close()
            daemon.wait(60)
