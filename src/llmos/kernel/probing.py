"""Probes: a command, a connection or a request that shows whether a job does what it should.

A command is run by the reaper, as a run of its own beside the job's: as its user, with its variables, within its limits.
"""

import asyncio
import signal
import uuid
from typing import Any, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, model_validator

from llmos.errors import LlmosError
from llmos.kernel.confinement import Confinement
from llmos.kernel.job import Job
from llmos.kernel.reaper_client import Reaper
from llmos.plan import values

KILL_SECONDS = 5.0
"""How long a killed command may take to be gone before it is left to itself."""
Exit = dict[str, Any]


class Probe(BaseModel):
    """One way to look at a job; just one of its fields is given."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    exec: list[str] | None = Field(None, min_length=1, description="a command that ends with 0; it is no shell")
    tcp: int | str | None = Field(None, description="PORT or HOST:PORT that takes connections")
    http: str | None = Field(None, description="an http:// address that answers GET with a status from 200 to 399")

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        ways = [name for name in ("exec", "tcp", "http", "log", "notify") if getattr(self, name, None)]
        if len(ways) != 1:
            known = [name for name in ("exec", "tcp", "http", "log", "notify") if name in type(self).model_fields]
            raise ValueError(f"give just one of {', '.join(known)}, not {' and '.join(ways) or 'none'}")
        for word in self.exec or ():
            values.text(word)
        if self.tcp is not None:
            _address(self.tcp)
        if self.http is not None:
            _parts(self.http)
        return self


class Prober:
    """Carries out the probes of one daemon's jobs."""

    def __init__(self, reaper: Reaper, confinement: Confinement) -> None:
        self._reaper = reaper
        self._confinement = confinement
        self._runs: dict[str, asyncio.Future[Exit]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def problem(self, job: Job, probe: Probe, seconds: float) -> str:
        """What the probe finds wrong within `seconds`; empty where nothing is."""
        try:
            async with asyncio.timeout(seconds):
                if probe.exec is not None:
                    return await self._exec(job, probe.exec)
                return await (_http(probe.http) if probe.http is not None else _tcp(probe.tcp or ""))
        except TimeoutError:
            return f"no answer within {seconds:g} s"
        except LlmosError as error:
            return error.message
        except OSError as error:
            return error.strerror or str(error)

    def ended(self, run: str, exit_record: Exit) -> bool:
        """What the reaper tells of the end of a run; False where it is none of a probe that is waited for."""
        waiting = self._runs.get(run)
        if waiting is None or waiting.done():
            return False
        waiting.set_result(exit_record)
        return True

    async def close(self) -> None:
        """End the commands that still run."""
        await asyncio.gather(*self._tasks)

    async def _exec(self, job: Job, argv: list[str]) -> str:
        run = uuid.uuid4().hex
        ended = self._runs[run] = asyncio.get_running_loop().create_future()
        try:
            await self._reaper.spawn(await self._confinement.probe(job, run, argv))
            outcome = await asyncio.shield(ended)  # which is told of the end, whether or not we wait for it
        finally:
            task = asyncio.get_running_loop().create_task(self._clear(run, ended))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        if outcome["code"] == 0:
            return ""
        how = f"signal {outcome['signal']}" if outcome["signal"] is not None else f"exit code {outcome['code']}"
        return f"{argv[0]} ended with {how}"

    async def _clear(self, run: str, ended: asyncio.Future[Exit]) -> None:
        """Leave nothing of a command's run, whatever became of it."""
        try:
            if not ended.done():
                await self._reaper.signal(run, signal.SIGKILL, "tree")
                async with asyncio.timeout(KILL_SECONDS):
                    await asyncio.shield(ended)
            await self._reaper.take([run])
        except (LlmosError, TimeoutError):
            pass  # it never began, or the reaper is away; what is left of it is taken when the daemon restores
        finally:
            del self._runs[run]


async def _tcp(target: int | str) -> str:
    _, writer = await asyncio.open_connection(*_address(target))
    sockname, peername = writer.get_extra_info("sockname"), writer.get_extra_info("peername")
    writer.transport.abort()
    # On an idle port of the ephemeral range the kernel may connect a socket with itself.
    return "nobody listens" if sockname == peername else ""


async def _http(address: str) -> str:
    host, port, path, named = _parts(address)
    reader, writer = await asyncio.open_connection(host, port)
    try:
        head = f"GET {path} HTTP/1.1\r\nHost: {named}\r\nUser-Agent: llmos\r\nAccept: */*\r\nConnection: close\r\n\r\n"
        writer.write(head.encode())
        try:
            words = (await reader.readline()).split(maxsplit=2)
        except ValueError:
            words = []
    finally:
        writer.transport.abort()
    if len(words) < 2 or not words[0].startswith(b"HTTP/") or not words[1].isdigit():
        return "the answer is no HTTP"
    status = int(words[1])
    return "" if 200 <= status < 400 else f"HTTP status {status}"


def _address(target: int | str) -> tuple[str, int]:
    """PORT, HOST:PORT or [HOST]:PORT as host and port; raises ValueError."""
    host, _, port = str(target).rpartition(":")
    if not (port.isascii() and port.isdigit() and 1 <= int(port[:6]) <= 65535):
        raise ValueError(f"{values.shown(str(target))} is no address; write PORT or HOST:PORT")
    return host.removeprefix("[").removesuffix("]") or "localhost", int(port)


def _parts(address: str) -> tuple[str, int, str, str]:
    """Host, port, path and what the Host header names, of an http:// address; raises ValueError."""
    parts = urlsplit(address)
    if parts.scheme != "http" or not parts.hostname or not address.isascii() or not address.isprintable():
        raise ValueError(
            f"{values.shown(address)} is no address of HTTP; write one such as http://localhost:8080/ready"
        )
    if " " in address or parts.username is not None:
        raise ValueError(f"{values.shown(address)} holds a space or a user, which this probe cannot send")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return parts.hostname, parts.port or 80, path, parts.netloc
