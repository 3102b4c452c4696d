"""llmosd, by JSON-RPC on its Unix socket."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.peers.load import calls_a_second, connected
from benchmarks.peers.peer import ANSWER_SECONDS, Peer, wait_until
from llmos import Client
from llmos.errors import LlmosError, Unavailable


def _line(answer: bytes) -> bool:
    return answer.endswith(b"\n")


class Llmosd(Peer):
    """The daemon and its reaper."""

    name = "llmosd"

    def start(self, programs: Sequence[Path]) -> float:
        self._path = str(self.folder / "llmosd.sock")
        began = time.monotonic()
        self._exec()
        jobs = {program.name: {"argv": [str(program), "100000"], "restart": "always"} for program in programs}
        self.client = self._connect()
        if jobs:
            self.client.call("jobs.apply", jobs=jobs)
        return began

    def _exec(self) -> None:
        command = [sys.executable, "-m", "llmos.kernel.daemon", "--socket", self._path]
        command += ["--state-dir", str(self.folder / "state")]
        with (self.folder / "llmosd.log").open("ab") as log:
            self._daemon = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)

    def _connect(self) -> Client:
        client = Client(self._path, timeout=ANSWER_SECONDS)

        def answers() -> bool:
            try:
                client.connect()
            except LlmosError:
                if self._daemon.poll() is not None:
                    raise Unavailable((self.folder / "llmosd.log").read_text()[-2000:]) from None
                return False
            return True

        wait_until("llmosd", answers)
        return client

    def processes(self) -> list[int]:
        status = self.client.status()
        return [status["pid"], status["reaper"]["pid"]]

    def pids(self) -> dict[str, int]:
        return {job["name"]: job["pid"] for job in self.client.jobs() if job["state"] == "running" and job["pid"]}

    def stop(self, name: str) -> None:
        self.client.stop(name)

    def begin(self, name: str) -> float:
        began = time.monotonic()
        self.client.start(name)
        return began

    def full_state(self) -> float:
        began = time.perf_counter()
        self.client.jobs()
        return time.perf_counter() - began

    def calls_a_second(self, clients: int, seconds: float) -> float:
        call = {"jsonrpc": "2.0", "id": 1, "method": "jobs", "params": {"names": ["program-007"]}}
        connections = connected(self._path, clients)
        try:
            return calls_a_second(connections, json.dumps(call).encode() + b"\n", _line, seconds)
        finally:
            for connection in connections:
                connection.close()

    def status_command(self) -> tuple[list[str], dict[str, str]]:
        command = [str(Path(sys.executable).with_name("llmos")), "jobs"]
        return command, {**os.environ, "LLMOS_SOCKET": self._path}

    def restart_killed(self) -> None:
        self._daemon.wait()
        self.client.close()
        self._exec()
        self.client = self._connect()
        self.client.status()

    def end(self) -> None:
        self.client.shutdown(jobs=True)
        self.client.close()
        self._daemon.wait(ANSWER_SECONDS)
