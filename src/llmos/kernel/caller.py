"""Who asks: the uid that the kernel vouches for, and what a job that they start inherits from them."""

import os
import pwd
import socket
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from llmos.errors import BadInput, Forbidden, NotFound
from llmos.machine.identity import ancestors

_UCRED = struct.Struct("3i")
MAX_ENVIRONMENT_BYTES = 2 * 1024**2
_OURS = ("LLMOS_", "LISTEN_", "NOTIFY_SOCKET", "WATCHDOG_", "INVOCATION_ID", "JOURNAL_STREAM")
"""What tells a process of its own supervisor is no child's business."""


@dataclass(frozen=True, slots=True)
class Caller:
    """One caller; `pid` is None where nobody is at the other end any more, as for a watch that fires."""

    uid: int
    gid: int
    pid: int | None

    @classmethod
    def of(cls, connection: socket.socket) -> Self:
        """The peer of a Unix socket (SO_PEERCRED, unix(7))."""
        pid, uid, gid = _UCRED.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
        return cls(uid, gid, pid or None)

    @property
    def may_all(self) -> bool:
        """Whether they may touch any process: root may."""
        return self.uid == 0

    def may_touch(self, uid: int) -> bool:
        """Whether they may touch a process or job of that user."""
        return self.may_all or uid == self.uid

    # What follows reads /proc: called in threads.

    def ancestors(self) -> frozenset[int]:
        """The caller's own process and those it comes from, up to but not including init."""
        if self.pid is None:
            return frozenset()
        try:
            return frozenset([self.pid, *(identity.pid for identity in ancestors(self.pid))]) - {1}
        except (NotFound, Forbidden):  # it has gone, or /proc hides it
            return frozenset([self.pid])

    def cwd(self) -> str:
        """The caller's working directory, or its home where that cannot be seen."""
        try:
            return os.readlink(f"/proc/{self.pid}/cwd").removesuffix(" (deleted)") if self.pid else self.home()
        except OSError:
            return self.home()

    def home(self) -> str:
        """The caller's home, or / where it has none."""
        try:
            home = pwd.getpwuid(self.uid).pw_dir
        except KeyError:
            return "/"
        return home if os.path.isdir(home) else "/"

    def environment(self) -> dict[str, str]:
        """The environment the caller was started with, without what is llmos's or a service manager's.

        :raises BadInput: it is too large.
        """
        try:
            with Path(f"/proc/{self.pid}/environ").open("rb") as file:
                data = file.read(MAX_ENVIRONMENT_BYTES + 1)
        except OSError:
            data = b""
        if len(data) > MAX_ENVIRONMENT_BYTES:
            raise BadInput(
                f"the caller's environment, which its jobs inherit, has more than {MAX_ENVIRONMENT_BYTES} bytes; "
                "call with less, as by env -i"
            )
        pairs = (os.fsdecode(pair).partition("=") for pair in data.split(b"\0") if b"=" in pair)
        found = {name: value for name, _, value in pairs if name and not name.startswith(_OURS)}
        return found or self._plain_environment()

    def _plain_environment(self) -> dict[str, str]:
        try:
            entry = pwd.getpwuid(self.uid)
            who = {"USER": entry.pw_name, "LOGNAME": entry.pw_name, "SHELL": entry.pw_shell or "/bin/sh"}
        except KeyError:
            who = {}
        return {"PATH": os.defpath, "HOME": self.home(), "LANG": os.environ.get("LANG", "C.UTF-8"), **who}
