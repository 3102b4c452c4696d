"""What runs say with sd_notify(3): the reaper holds their sockets, so that nothing is lost while llmosd is away.

A socket has an abstract name, `llmos/` and the run, which leaves nothing behind however its holder ends. Standard library
only.
"""

from __future__ import annotations

import os
import socket
import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from llmos.kernel.reaper_loop import Loop

MESSAGE_BYTES = 4096
"""Longest message."""
MAX_DESCRIPTORS = 16
_CREDENTIALS = struct.Struct("3i")


class NotifySockets:
    """The sockets of runs, as long as these live: who has said READY=1 goes on to say STATUS= and BARRIER=1."""

    def __init__(self, loop: Loop, ready: Callable[[str, int], None]) -> None:
        """`ready` is called with the run and the pid, vouched for by the kernel, of whoever said READY=1."""
        self._loop = loop
        self._ready = ready
        self._sockets: dict[str, socket.socket] = {}

    def listen(self, run: str) -> None:
        """Listen to a run from now on.

        Raises:
            OSError: there is no socket for it.
        """
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
            listening.bind(f"\0llmos/{run}".encode("utf-8", "surrogateescape"))
        except OSError:
            listening.close()
            raise
        self._sockets[run] = listening
        self._loop.watch(listening.fileno(), lambda events: self._heard(run, listening))

    def forget(self, run: str) -> None:
        """The run has ended, or never began."""
        if (listening := self._sockets.pop(run, None)) is not None:
            self._loop.unwatch(listening.fileno())
            listening.close()

    def _heard(self, run: str, listening: socket.socket) -> None:
        message, descriptors, sender = _receive(listening)
        try:
            if b"READY=1" in message.split(b"\n"):
                self._ready(run, sender)
        finally:
            for descriptor in descriptors:  # who sent BARRIER=1 waits for this
                os.close(descriptor)


def _receive(listening: socket.socket) -> tuple[bytes, Sequence[int], int]:
    """A message, the descriptors that came along, and the sender's pid, 0 where the kernel does not vouch for one."""
    room = socket.CMSG_SPACE(_CREDENTIALS.size) + socket.CMSG_SPACE(MAX_DESCRIPTORS * 4)
    try:
        message, ancillary, _, _ = listening.recvmsg(MESSAGE_BYTES, room, socket.MSG_CMSG_CLOEXEC)
    except BlockingIOError:
        return b"", (), 0
    descriptors: list[int] = []
    sender = 0
    for _, kind, data in ancillary:
        if kind == socket.SCM_RIGHTS:
            descriptors += struct.unpack(f"{len(data) // 4}i", data[: len(data) // 4 * 4])
        elif kind == socket.SCM_CREDENTIALS:
            sender = _CREDENTIALS.unpack(data)[0]
    return message, descriptors, sender
