"""Open files: what a process holds open, and which processes hold a file, a folder, a socket or a device.

Synchronous: the daemon calls it in a thread. A file system that does not answer (a dead network mount) holds up the
call, as it does lsof.
"""

import os
import stat as modes
from collections.abc import Iterator
from dataclasses import dataclass

from llmos.errors import Forbidden
from llmos.machine import procfs
from llmos.machine.paths import locate, printable
from llmos.machine.processes import no_process, process_row
from llmos.machine.row import Row
from llmos.machine.sockets import address_of, inet_sockets, unix_sockets
from llmos.machine.users import UserNames

_ACCESS = {os.O_RDONLY: "r", os.O_WRONLY: "w", os.O_RDWR: "rw"}
_KINDS = (
    (modes.S_ISREG, "file"),
    (modes.S_ISDIR, "folder"),
    (modes.S_ISFIFO, "pipe"),
    (modes.S_ISSOCK, "socket"),
    (modes.S_ISCHR, "device"),
    (modes.S_ISBLK, "device"),
)
_DELETED = " (deleted)"


@dataclass(frozen=True, slots=True)
class OpenFile(Row):
    """One descriptor.

    `kind` is file, folder, device, pipe, socket, or other (epoll, eventfd, …); `path` is its path, a Unix socket's
    path, or the kernel's word for what has none; `mode` is r, w or rw. Only sockets have `protocol` (tcp, tcp6, udp, udp6,
    unix), `local` and, when connected, `remote`.
    """

    fd: int
    kind: str
    path: str
    mode: str
    deleted: bool = False
    protocol: str | None = None
    local: str | None = None
    remote: str | None = None


@dataclass(frozen=True, slots=True)
class Holder(Row):
    """A process that holds it: `uses` says how (cwd, root, exe, file, memory), `path` is the first of `count` held."""

    pid: int
    start_ticks: int
    name: str
    user: str
    uses: tuple[str, ...]
    path: str
    count: int


@dataclass(frozen=True, slots=True)
class Holders(Row):
    """Who holds it, the oldest first; `unseen` processes belong to others and could not be looked into."""

    holders: tuple[Holder, ...]
    unseen: int


def open_files(pid: int) -> list[OpenFile]:
    """The open files and sockets of a process, by descriptor.

    Raises:
        NotFound: there is no process of that number.
        Forbidden: it is another user's.
    """
    row = process_row(pid)
    sockets = {f"socket:[{each.inode}]": each for each in inet_sockets(pid)}
    unix = {f"socket:[{inode}]": path for inode, path in unix_sockets(pid)}
    files = []
    try:
        for fd, link in procfs.descriptors(pid):
            mode = _mode(pid, fd)
            if inet := sockets.get(link):
                files.append(OpenFile(fd, "socket", link, mode, False, inet.protocol, address_of(inet), inet.remote))
            elif link in unix:
                files.append(OpenFile(fd, "socket", printable(unix[link]) or link, mode, protocol="unix"))
            else:
                kind = _kind(pid, fd)
                deleted = link.startswith("/") and link.endswith(_DELETED) and not os.path.lexists(link)
                name = link.removesuffix(_DELETED) if deleted else link
                files.append(OpenFile(fd, kind, printable(name), mode, deleted))
    except PermissionError:
        raise Forbidden(
            f"process {pid} ({row.name}) belongs to {row.user}: only that user or root may see its open files", pid=pid
        ) from None
    if not procfs.is_still(pid, row.start_ticks):
        raise no_process(pid)
    return sorted(files, key=lambda file: file.fd)


def holders(path: str) -> Holders:
    """The processes that hold a path.

    A file: open, run or mapped, under whichever of its names. A folder: anything in or below it, a working directory
    or root included. A Unix socket: whoever has it bound. A block device: anything on the file system that it holds.

    Raises:
        NotFound: there is nothing at that path.
        Forbidden: a folder on the way may not be entered.
    """
    target = _Target.at(path)
    found, unseen, users = [], 0, UserNames()
    for stat in procfs.stats():
        if stat.kernel_thread:
            continue
        try:
            held = list(dict.fromkeys(_uses(stat.pid, target)))
        except PermissionError:
            unseen += 1
            continue
        uid = procfs.read_uid(stat.pid) if held else None
        if uid is not None:
            name = procfs.display_name(stat, procfs.read_argv(stat.pid))
            uses = tuple(dict.fromkeys(use for use, _ in held))
            found.append(Holder(stat.pid, stat.start_ticks, name, users[uid], uses, printable(held[0][1]), len(held)))
    return Holders(tuple(sorted(found, key=lambda holder: (holder.start_ticks, holder.pid))), unseen)


@dataclass(frozen=True, slots=True)
class _Target:
    """What is looked for: by its own device and inode, by what lies below it, by its socket, or by its file system."""

    path: str
    identity: tuple[int, int]
    below: str | None
    sockets: frozenset[str]
    device: int | None

    @classmethod
    def at(cls, path: str) -> "_Target":
        real, status = locate(path)
        is_socket = modes.S_ISSOCK(status.st_mode)
        return cls(
            path=real,
            identity=(status.st_dev, status.st_ino),
            below=real.rstrip("/") + "/" if modes.S_ISDIR(status.st_mode) else None,
            sockets=frozenset(f"socket:[{i}]" for i, name in unix_sockets() if name == real)
            if is_socket
            else frozenset(),
            device=status.st_rdev if modes.S_ISBLK(status.st_mode) else None,
        )

    def is_open(self, link: str, name: str) -> bool:
        """Whether a link of /proc, which reads as this name, leads to it."""
        if self.below is None:
            # Under any name: a file may have several.
            return name in self.sockets or self._is(_status(link))
        if name == self.path:
            return self._is(_status(link))
        # The same name in another container is another file.
        return name.startswith(self.below) and (name.endswith(_DELETED) or _same(_status(link), _status(name)))

    def is_mapped(self, mapping: procfs.Mapping) -> bool:
        """Whether a mapping is of it. Some file systems (btrfs, overlay) give mappings another device number."""
        if self.below is None:
            return mapping.name == self.path or mapping.identity == self.identity or mapping.identity[0] == self.device
        if not mapping.name.startswith(self.below):
            return False
        status = _status(mapping.name)
        return mapping.name.endswith(_DELETED) or (status is not None and status.st_ino == mapping.identity[1])

    def _is(self, status: os.stat_result | None) -> bool:
        return status is not None and ((status.st_dev, status.st_ino) == self.identity or status.st_dev == self.device)


def _uses(pid: int, target: _Target) -> Iterator[tuple[str, str]]:
    """How a process holds the target: the kind of use and the name of what is used."""
    for use in ("cwd", "root", "exe"):
        link = f"/proc/{pid}/{use}"
        name = procfs.read_link(link)
        if name is not None and target.is_open(link, name):
            yield use, name
    for fd, name in procfs.descriptors(pid):
        if target.is_open(f"/proc/{pid}/fd/{fd}", name):
            yield "file", name
    for mapping in procfs.mappings(pid):
        if target.is_mapped(mapping):
            yield "memory", mapping.name


def _status(path: str) -> os.stat_result | None:
    try:
        return os.stat(path)
    except OSError:
        return None


def _same(one: os.stat_result | None, other: os.stat_result | None) -> bool:
    return one is not None and other is not None and os.path.samestat(one, other)


def _mode(pid: int, fd: int) -> str:
    """How it was opened, from the octal flags of /proc/PID/fdinfo/FD; empty once it has been closed."""
    try:
        with open(f"/proc/{pid}/fdinfo/{fd}", encoding="ascii") as file:
            flags = next(int(line.split()[1], 8) for line in file if line.startswith("flags:"))
    except (FileNotFoundError, ProcessLookupError, StopIteration):
        return ""
    return _ACCESS.get(flags & os.O_ACCMODE, "")


def _kind(pid: int, fd: int) -> str:
    status = _status(f"/proc/{pid}/fd/{fd}")
    if status is None:
        return "other"
    for is_kind, kind in _KINDS:
        if is_kind(status.st_mode):
            return kind
    return "other"
