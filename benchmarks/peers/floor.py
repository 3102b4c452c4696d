"""The floor: what the same costs with nothing around it.

A bare loop of posix_spawn and waitpid starts, stops and restarts the programs; a bare uvloop server answers with text
made beforehand, as long as what llmosd answers; `python -c pass` stands for the command.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import uvloop

from benchmarks.peers.driver import DRIVERS, Driver
from benchmarks.peers.load import calls_a_second, connected, receive
from benchmarks.peers.peer import Peer, wait_until
from llmos.kernel.job import Job
from llmos.kernel.states import State


def _row(program: Path) -> dict[str, Any]:
    """A job as llmosd answers it."""
    job = Job(
        program.name, [str(program), "100000"], "/", {}, 0, 0, restart="always", pid=4_000_000, state=State.RUNNING
    )
    job.started_at, job.reason = time.time(), "as asked"
    return job.as_json()


class Floor(Peer):
    """A loop that spawns, and a server that answers; neither keeps anything."""

    name = "floor"

    def start(self, programs: Sequence[Path]) -> float:
        self._spawner = Driver([sys.executable, "-S", str(DRIVERS / "bare_spawner.py")], dict(os.environ))
        self._path = str(self.folder / "s")
        rows = json.dumps([_row(program) for program in programs])
        (self.folder / "rows").write_text(rows)
        self._server = subprocess.Popen([sys.executable, "-m", "benchmarks.peers.floor", str(self.folder)])
        wait_until("the bare server", lambda: Path(self._path).exists())
        return float(self._spawner.ask("run", programs=[str(program) for program in programs]))

    def processes(self) -> list[int]:
        return []

    def pids(self) -> dict[str, int]:
        found: dict[str, int] = self._spawner.ask("pids")
        return found

    def stop(self, name: str) -> None:
        self._spawner.ask("stop", name=name)

    def begin(self, name: str) -> float:
        return float(self._spawner.ask("start", name=name))

    def full_state(self) -> float:
        [connection] = connected(self._path, 1)
        with connection:
            began = time.perf_counter()
            json.loads(receive_one(connection, b"all\n"))
            return time.perf_counter() - began

    def calls_a_second(self, clients: int, seconds: float) -> float:
        connections = connected(self._path, clients)
        try:
            return calls_a_second(connections, b"one\n", lambda answer: answer.endswith(b"\n"), seconds)
        finally:
            for connection in connections:
                connection.close()

    def status_command(self) -> tuple[list[str], dict[str, str]]:
        return [sys.executable, "-c", "pass"], dict(os.environ)

    def end(self) -> None:
        self._spawner.close()
        self._server.send_signal(signal.SIGKILL)
        self._server.wait()


def receive_one(connection: Any, request: bytes) -> bytes:
    """One answer of the bare server."""
    connection.sendall(request)
    return receive(connection, lambda answer: answer.endswith(b"\n"))


class _Server(asyncio.Protocol):
    def __init__(self, rows: bytes) -> None:
        self._answers = {b"all\n": rows + b"\n", b"one\n": rows[:450] + b"\n"}

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._transport.write(self._answers[data])


async def _serve(folder: Path) -> None:
    rows = (folder / "rows").read_bytes()
    server = await asyncio.get_running_loop().create_unix_server(lambda: _Server(rows), str(folder / "s"))
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_serve(Path(sys.argv[1])))
