"""No verb blocks the event loop: the kernel and its socket run here, in a loop that raises where a call would block."""

import asyncio
import json
import os
import socket
import sys
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import uvloop
from blockbuster import BlockingError, blockbuster_ctx

from llmos.errors import LlmosError
from llmos.kernel import api
from llmos.kernel.api import Server
from llmos.kernel.kernel import Kernel
from llmos.settings import ModelSettings, Settings

writers: list[asyncio.StreamWriter] = []


class Speaker:
    """A connection to a server in the same loop."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def call(self, method: str, **params: Any) -> Any:
        """Call a method; an error that says that llmosd failed inside fails the test."""
        self.writer.write(json.dumps({"id": 1, "method": method, "params": params}).encode() + b"\n")
        answer = json.loads(await asyncio.wait_for(self.reader.readline(), 30))
        if "error" in answer:
            assert answer["error"]["data"]["code"] not in ("internal", "error"), answer
            raise LlmosError(answer["error"]["message"])
        return answer["result"]


def serve(tmp_path: Path, work: Callable[[Server, Path], Coroutine[Any, Any, None]]) -> None:
    """Run a kernel and its server on uvloop with every blocking call an error, and `work` beside them."""

    async def run() -> None:
        with blockbuster_ctx():
            no_model = ModelSettings(name=str(tmp_path / "no-such-model.gguf"))
            kernel = Kernel(Settings(socket=tmp_path / "llmosd.sock", state_dir=tmp_path / "state", model=no_model))
            server = Server(kernel)
            with pytest.raises(BlockingError):
                time.sleep(0)  # noqa: ASYNC251 (the guard is on)
            await kernel.start()
            try:
                await server.listen(kernel.settings.socket, "llmos")
                await work(server, kernel.settings.socket)
            finally:
                for writer in writers:
                    writer.close()
                writers.clear()
                await server.close()
                await kernel.close(end_jobs=True)

    uvloop.run(run())


async def speak(path: Path) -> Speaker:
    """Connect; `serve` closes the connection in the end."""
    reader, writer = await asyncio.open_unix_connection(str(path), limit=16 << 20)
    writers.append(writer)
    return Speaker(reader, writer)


def test_no_verb_blocks_the_loop(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def drive(server: Server, path: Path) -> None:
        speaker = await speak(path)
        call = speaker.call
        job = await call(
            "run", name="web", argv=["sh", "-c", "echo hello; exec sleep 600"], memory="256M", priority="low"
        )
        for verb in ("show", "tree", "files", "logs", "pause", "resume", "why"):
            await call(verb, target="web")
        await call("kill", target="web", signal="HUP", allow="destroy")
        await call("restart", target="web")
        job = await call("show", target="web")
        for verb in ("show", "tree", "files", "pause", "resume", "why"):
            await call(verb, target=job["pid"])
        await call("limit", target="web", memory="512M")
        await call("renice", target="web", priority="idle")
        for method in ("ps", "jobs", "watches", "history", "daemon.status", "doctor", "rpc.discover"):
            await call(method)
        for sort in ("memory", "io", "age"):
            await call("ps", sort=sort, name="sleep")
        for aspect in ("cpu", "memory", "disk", "network", "load", "uptime"):
            await call("system", aspect=aspect)
        await call("port", port=1)
        await call("holders", path=str(tmp_path))
        await call("usage", path=str(tmp_path))
        await call("watch", metric="memory", above=0, then="renice web low")
        await call("watch", metric="log", target="web", match="x")
        await call("watch", metric="exit", target="web")
        if os.geteuid() == 0:
            await call("focus", target="web", **{"for": "1h"})
            await call("unfocus")
            await call("undo")
        await call("schedule", job="web", at="02:00")
        await call("unschedule", job="web")
        await call("undo", steps=2)
        await call("unwatch", watch="memory")
        await call("plan.check", plan=f"holders {tmp_path}\nkill $1\nkill sleep")
        await call("events.subscribe")
        watcher = await speak(path)
        await watcher.call("logs.follow", target="web")
        other = await speak(path)
        await other.call("stop", target="web", timeout="5s")
        await other.call("wait", target="web")
        with pytest.raises(LlmosError):
            await other.call("run", argv=["no-such-command-here"])
        with pytest.raises(LlmosError):
            await other.call("ask", request="anything", dry_run=True)
        await other.call("remove", job="web", allow="destroy")

    serve(tmp_path, drive)
    assert "Traceback" not in caplog.text and "Blocking" not in caplog.text


def test_no_probe_blocks_the_loop(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    notify = "import os, socket, time; s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); "
    notify += "s.sendto(b'READY=1', '\\0' + os.environ['NOTIFY_SOCKET'][1:]); time.sleep(600)"
    ways: dict[str, tuple[list[str], dict[str, Any]]] = {
        "exec": (["sleep", "600"], {"exec": ["true"]}),
        "log": (["sh", "-c", "echo up; exec sleep 600"], {"log": "up"}),
        "notify": ([sys.executable, "-c", notify], {"notify": True}),
    }

    async def drive(server: Server, path: Path) -> None:
        call = (await speak(path)).call
        web = await asyncio.start_server(answer, "127.0.0.1", 0)
        port = web.sockets[0].getsockname()[1]
        ways["tcp"] = (["sleep", "600"], {"tcp": port})
        ways["http"] = (["sleep", "600"], {"http": f"http://127.0.0.1:{port}/"})
        for name, (argv, ready) in ways.items():
            await call("run", name=name, argv=argv, ready=ready, umask="022", open_files=100)
        await call("run", name="after", argv=["sleep", "600"], after=list(ways))
        state = ""
        async with asyncio.timeout(30):
            while state != "running":
                await asyncio.sleep(0.05)
                state = (await call("show", target="after"))["state"]
        health = {"exec": ["false"], "interval": "1s", "failures": 1, "then": "stop"}
        await call("run", name="sick", argv=["sleep", "600"], health=health, memory="64M")
        assert "health check failed" in (await call("wait", target="sick"))["reason"]
        web.close()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    serve(tmp_path, drive)
    assert "Traceback" not in caplog.text and "Blocking" not in caplog.text


def test_half_a_message_and_a_reader_that_never_reads_are_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(api, "HALF_MESSAGE_SECONDS", 0.2)
    monkeypatch.setattr(api, "UNREAD_SECONDS", 0.2)

    async def drive(server: Server, path: Path) -> None:
        half = await speak(path)
        half.writer.write(b'{"id": 1, "met')
        answer = json.loads(await asyncio.wait_for(half.reader.readline(), 20))
        assert "half a message" in answer["error"]["message"]
        assert await asyncio.wait_for(half.reader.read(), 20) == b""
        assert not server.connections
        greedy = socket.socket(socket.AF_UNIX)  # a plain one, for a stream would read ahead
        greedy.setblocking(False)
        greedy.connect(str(path))
        greedy.send(b"".join(b'{"id": %d, "method": "rpc.discover"}\n' % number for number in range(256)))
        other = await speak(path)
        async with asyncio.timeout(20):
            while "does not read" not in caplog.text or len(server.connections) > 1:
                assert await other.call("jobs") == []
                await asyncio.sleep(0.05)
        greedy.close()

    serve(tmp_path, drive)
    assert "does not read" in caplog.text and "half a message" in caplog.text
