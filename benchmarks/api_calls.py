"""Calls a second of `jobs` against a bare uvloop echo server, by the same client code, in turns."""

import asyncio
import json
import multiprocessing
import socket
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import uvloop

from benchmarks.private_daemon import private_daemon

JOBS = 10
ROUNDS = 7
SECONDS = 0.7


def measure() -> list[dict[str, Any]]:
    """Median calls a second of each, and of the ratios of the pairs."""
    with tempfile.TemporaryDirectory() as folder, private_daemon() as client:
        for number in range(JOBS):
            client.run(["sleep", "1000"], name=f"job-{number}")
        path = f"{folder}/echo.sock"
        echo = multiprocessing.get_context("spawn").Process(target=_echo_server, args=(path,), daemon=True)
        echo.start()
        while not Path(path).exists():
            time.sleep(0.01)
        request = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "jobs", "params": {}}).encode() + b"\n"
        ours, bare = [], []
        for _ in range(ROUNDS):
            bare.append(_calls_a_second(path, request))
            ours.append(_calls_a_second(client.status()["socket"], request))
        echo.kill()
        echo.join()
    ratio = statistics.median(our / echoed for our, echoed in zip(ours, bare, strict=True))
    return [
        {
            "what": f"`jobs` calls a second, {JOBS} jobs",
            "measured": f"{statistics.median(ours):.0f}",
            "bare": f"{statistics.median(bare):.0f}",
            "ratio": f"{ratio:.2f}",
            "target": "≥ 0.40",
        }
    ]


def _calls_a_second(path: str, request: bytes) -> float:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(path)
        began, calls = time.perf_counter(), 0
        while (took := time.perf_counter() - began) < SECONDS:
            connection.sendall(request)
            while not connection.recv(1 << 16).endswith(b"\n"):
                pass
            calls += 1
        return calls / took


class _Echo(asyncio.Protocol):
    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


def _echo_server(path: str) -> None:
    async def serve() -> None:
        server = await asyncio.get_running_loop().create_unix_server(_Echo, path)
        await server.serve_forever()

    uvloop.run(serve())
