"""llmosd as a service: what sd_notify(3), sd_watchdog_enabled(3) and sd_listen_fds(3) have it say, prove and take over.

The variables that carry this are taken out of the environment at once: the reaper, the model worker and all they start
must not take themselves for llmosd.
"""

import asyncio
import json
import logging
import os
import socket
import time
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from llmos.errors import BadInput, Unavailable
from llmos.kernel.listening import inherit

log = logging.getLogger("llmos.service")

FIRST_DESCRIPTOR = 3
"""SD_LISTEN_FDS_START."""
SOCKET_NAME = "llmosd.socket"
"""The name, in LISTEN_FDNAMES, of the socket to take: by default that of the unit."""
PROBES_A_TIMEOUT = 3
"""Probes within one time-out of the watchdog, each of which may take one part of it."""
READY_SECONDS = 10.0
"""How long the first probe may take."""
STATUS_SECONDS = 0.5
"""How often the status line is compared with the truth."""
SEND_SECONDS = 5.0
"""How long a message to the service manager may wait for room."""
_VARIABLES = ("NOTIFY_SOCKET", "WATCHDOG_", "LISTEN_")
_PROBE = b'{"jsonrpc":"2.0","id":1,"method":"daemon.status"}\n'


@dataclass(frozen=True, slots=True)
class ServiceManager:
    """What started llmosd, as far as it wants to hear of it; without one, every method does nothing.

    Attributes:
        notify_socket: the path of its datagram socket, `@` first for an abstract one.
        watchdog_seconds: after this long without a sign of life it restarts llmosd.
        listening: the socket that it has opened for us.
    """

    notify_socket: str | None = None
    watchdog_seconds: float | None = None
    listening: socket.socket | None = None

    @classmethod
    def take(cls, environment: MutableMapping[str, str] = os.environ) -> Self:
        """Read its variables, and remove them.

        :raises BadInput: one is malformed, or the sockets handed over are not one that llmosd can listen on.
        """
        names = [name for name in environment if name.startswith(_VARIABLES)]
        given = {name: environment.pop(name) for name in names}
        return cls(given.get("NOTIFY_SOCKET") or None, _watchdog_seconds(given), _listening(given))

    @property
    def socket_path(self) -> Path | None:
        """Where the socket that it has opened lies."""
        return Path(self.listening.getsockname()) if self.listening else None

    async def notify(self, *lines: str) -> None:
        """Send assignments such as `READY=1` in one message; that it cannot be sent is logged."""
        if self.notify_socket is not None:
            await asyncio.to_thread(_send, self.notify_socket, "\n".join(lines))

    async def ready(self, path: Path) -> None:
        """Say that llmosd is ready, once its socket has answered.

        :raises Unavailable: it does not answer.
        """
        if self.notify_socket is not None:
            await probe(path, READY_SECONDS)
            await self.notify("READY=1")

    async def reloading(self) -> None:
        """Say that the settings are being read again; `READY=1` must follow."""
        await self.notify("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    async def feed_watchdog(self, path: Path) -> None:
        """Give signs of life for ever, each only after a probe of the socket was answered."""
        if self.watchdog_seconds is None:
            return
        part = self.watchdog_seconds / PROBES_A_TIMEOUT
        while True:
            try:
                await probe(path, part)
                await self.notify("WATCHDOG=1")
            except Unavailable as error:
                log.error("the watchdog gets no sign of life: %s", error.message)
            await asyncio.sleep(part)

    async def keep_status(self, status: Callable[[], str]) -> None:
        """Keep the status line true for ever."""
        told = None
        while self.notify_socket is not None:
            if (line := status()) != told:
                await self.notify(f"STATUS={line}")
                told = line
            await asyncio.sleep(STATUS_SECONDS)


async def probe(path: Path, seconds: float) -> None:
    """Ask the socket for `daemon.status` as any caller does: through the listener, the loop, the API and a thread.

    That there are too many connections or requests is an answer.

    :raises Unavailable: it does not answer in time, or answers that llmosd is broken.
    """
    try:
        async with asyncio.timeout(seconds):
            reader, writer = await asyncio.open_unix_connection(path)
            try:
                writer.write(_PROBE)
                answer = json.loads(await reader.readline())
            finally:
                writer.close()
        error = answer.get("error")
        if error is not None and error["data"]["code"] != Unavailable.code:
            raise Unavailable(f"{path} answers: {error['message']}")
    except TimeoutError:
        raise Unavailable(f"{path} does not answer within {seconds:g} s") from None
    except (OSError, ValueError) as error:
        raise Unavailable(f"{path} does not answer: {error}") from None


def _watchdog_seconds(given: dict[str, str]) -> float | None:
    if given.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()) or "WATCHDOG_USEC" not in given:
        return None
    return _number(given, "WATCHDOG_USEC") / 1e6 or None


def _listening(given: dict[str, str]) -> socket.socket | None:
    """The socket handed over, if any. What is meant for another process, as LISTEN_PID says, is none of ours."""
    if given.get("LISTEN_PID") != str(os.getpid()) or given.get("LISTEN_FDS", "0") == "0":
        return None
    count = _number(given, "LISTEN_FDS")
    names = given.get("LISTEN_FDNAMES", SOCKET_NAME)
    if count != 1 or names != SOCKET_NAME:
        raise BadInput(
            f"the service manager hands over {count} sockets, named {names}, and llmosd takes one, named {SOCKET_NAME}; "
            "see ListenStream= and FileDescriptorName= of the socket unit",
            field="LISTEN_FDNAMES",
        )
    return inherit(FIRST_DESCRIPTOR)


def _number(given: dict[str, str], name: str) -> int:
    text = given.get(name, "")
    if not (text.isascii() and text.isdigit()):
        raise BadInput(
            f"the environment says {name}={text!r}, which is no number; the service manager sets it", field=name
        )
    return int(text)


def _send(address: str, text: str) -> None:
    if address.startswith("@"):
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.settimeout(SEND_SECONDS)
            sender.sendto(text.encode(), address)
    except OSError as error:
        log.warning("the service manager cannot be told %s: %s", text.partition("\n")[0], error)
