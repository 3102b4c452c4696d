"""A real llmosd of one benchmark's own."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from llmos import Client
from llmos.errors import LlmosError


@contextmanager
def private_daemon() -> Iterator[Client]:
    """A client of a fresh llmosd; it, its reaper and its jobs are ended afterwards."""
    with tempfile.TemporaryDirectory(prefix="llmos-bench-") as folder:
        socket = Path(folder) / "llmosd.sock"
        command = [sys.executable, "-m", "llmos.kernel.daemon", "--socket", socket, "--state-dir", f"{folder}/state"]
        with open(f"{folder}/log", "wb") as log:
            daemon = subprocess.Popen(command, stdout=log, stderr=log)
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
