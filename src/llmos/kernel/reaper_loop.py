"""The reaper's event loop: epoll, and connections that send and receive JSON lines without ever waiting.

Standard library only.
"""

from __future__ import annotations

import errno
import json
import os
import select
import socket
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

LINE_BYTES = 8 << 20
"""Longest request: Linux takes at most 6 MiB of arguments and environment."""
BACKLOG_BYTES = 1 << 20
"""A client that leaves more than this unread is dropped; what it missed is in the ledger."""


class Refused(Exception):
    """Raised when a request fails; becomes its `error`."""

    def __init__(self, number: int, stage: str, message: str | None = None) -> None:
        super().__init__(message)
        self.error = {"errno": number, "stage": stage, "message": message or os.strerror(number)}


class Loop:
    """Calls whoever watches a descriptor when it is ready."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self.watched: dict[int, Callable[[int], None]] = {}
        self._later: tuple[float, Callable[[], None]] | None = None

    def watch(self, descriptor: int, ready: Callable[[int], None]) -> None:
        """Call `ready` with the epoll events whenever the descriptor may be read."""
        self._epoll.register(descriptor, select.EPOLLIN)
        self.watched[descriptor] = ready

    def watch_writing(self, descriptor: int, writing: bool) -> None:
        """Also call when it may be written, or no longer."""
        self._epoll.modify(descriptor, select.EPOLLIN | (select.EPOLLOUT if writing else 0))

    def unwatch(self, descriptor: int) -> None:
        """Before the descriptor is closed."""
        self._epoll.unregister(descriptor)
        del self.watched[descriptor]

    def step(self) -> None:
        """Wait for one event. Never for several, of which one might close, and reuse, the descriptor of the next."""
        wait = None
        if self._later is not None and (wait := self._later[0] - time.monotonic()) <= 0:
            (_, call), self._later = self._later, None
            call()
            return
        for descriptor, events in self._epoll.poll(wait, maxevents=1):
            self.watched[descriptor](events)

    def later(self, at: float, call: Callable[[], None]) -> None:
        """Call at an instant of the monotonic clock, once; in place of what was to be called before."""
        self._later = at, call


class Client:
    """One connection: hands over each line received, and keeps what its reader has not read yet, within bounds."""

    def __init__(self, loop: Loop, connection: socket.socket, request: Callable[[Client, bytes], None]) -> None:
        connection.setblocking(False)
        self._loop = loop
        self._connection = connection
        self._request = request
        self._received = bytearray()
        self._unsent = bytearray()
        self._writing = False
        loop.watch(connection.fileno(), self._ready)

    @property
    def open(self) -> bool:
        """False once either side closed it."""
        return self._connection.fileno() >= 0

    def send(self, message: dict[str, Any]) -> None:
        """Send a line; dropped when the connection is closed, or closes it when its reader does not read."""
        if len(self._unsent) > BACKLOG_BYTES:
            self.close()
        elif self.open:
            self._unsent += json.dumps(message, separators=(",", ":")).encode() + b"\n"
            self._flush()

    def close(self) -> None:
        """Drop the connection and all that is unsent."""
        if self.open:
            self._loop.unwatch(self._connection.fileno())
            self._connection.close()
            self._unsent.clear()

    def _ready(self, events: int) -> None:
        if events & select.EPOLLOUT:
            self._flush()
        if events & ~select.EPOLLOUT and self.open:
            self._receive()

    def _flush(self) -> None:
        try:
            while self._unsent:
                del self._unsent[: self._connection.send(self._unsent)]
        except BlockingIOError:
            pass
        except OSError:
            self.close()
            return
        if self._writing is not bool(self._unsent):
            self._writing = not self._writing
            self._loop.watch_writing(self._connection.fileno(), self._writing)

    def _receive(self) -> None:
        try:
            data = self._connection.recv(1 << 18)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.close()
            return
        *lines, rest = data.split(b"\n")
        for line in lines:
            whole = bytes(self._received + line)
            self._received.clear()
            self._request(self, whole)
        self._received += rest
        if len(self._received) > LINE_BYTES:
            self.send({"id": None, "error": Refused(errno.EMSGSIZE, "request", "the line is too long").error})
            self.close()
