"""The sockets of the machine and who holds them: what listens on a port, and what a socket's inode is bound to.

psutil names one process for an inet socket; here every process that holds it is named, as the workers of a server that
forks all hold its port. Sockets are those of the caller's network namespace. Synchronous: the daemon calls it in a
thread. Table formats: proc_pid_net(5), linux/net/ipv4/tcp_ipv4.c.
"""

import re
import socket
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from llmos.errors import BadInput
from llmos.machine import procfs
from llmos.machine.row import Row
from llmos.machine.users import UserNames

_INET_TABLES = ("tcp", "tcp6", "udp", "udp6")
# The state in which a socket waits for anyone: LISTEN for TCP, unconnected for UDP (include/net/tcp_states.h).
_WAITING = {"tcp": "0A", "tcp6": "0A", "udp": "07", "udp6": "07"}

_UNIX_LINE = re.compile(r"[0-9a-f]+:( [0-9A-F]+){5} +(?P<inode>\d+)( (?P<path>.*))?")


@dataclass(frozen=True, slots=True)
class Listener(Row):
    """A process that holds a listening TCP or an unconnected, bound UDP socket.

    `protocol` is tcp, tcp6, udp or udp6. Where no holder can be seen, `pid`, `start_ticks` and `name` are None, `user` is
    the socket's own and `note` says why and what to do.
    """

    pid: int | None
    start_ticks: int | None
    name: str | None
    user: str
    protocol: str
    address: str
    port: int
    note: str | None = None


@dataclass(frozen=True, slots=True)
class Socket:
    """A socket as its table in /proc/net has it; `remote` is None unless it is connected."""

    inode: int
    protocol: str
    local: str
    port: int
    remote: str | None
    waiting: bool
    uid: int


def listeners(port: int) -> list[Listener]:
    """Everything that listens on a TCP port or is bound to the UDP port, whoever's it is; the oldest holder first.

    Raises:
        BadInput: not a port number.
    """
    if not 0 < port < 65536:
        raise BadInput(f"{port} is not a port: ports go from 1 to 65535", field="port")
    found = [each for each in inet_sockets() if each.waiting and each.port == port]
    if not found:
        return []
    holders, unseen = _holders(each.inode for each in found)
    users = UserNames()
    rows = []
    for each in found:
        owners = sorted(holders[each.inode], key=lambda stat: (stat.start_ticks, stat.pid))
        for stat in owners:
            uid = procfs.read_uid(stat.pid)
            if uid is not None:
                name = procfs.display_name(stat, procfs.read_argv(stat.pid))
                rows.append(Listener(stat.pid, stat.start_ticks, name, users[uid], each.protocol, each.local, port))
        if not owners:
            rows.append(
                Listener(None, None, None, users[each.uid], each.protocol, each.local, port, _why_unseen(unseen))
            )
    return rows


def inet_sockets(pid: int | str = "self") -> Iterator[Socket]:
    """The TCP and UDP sockets of the network namespace of a process; none where it has vanished."""
    for protocol in _INET_TABLES:
        for line in _table(pid, protocol):
            field = line.split()
            address, port = _endpoint(field[1])
            remote, remote_port = _endpoint(field[2])
            yield Socket(
                inode=int(field[9]),
                protocol=protocol,
                local=address,
                port=port,
                remote=f"{_bracketed(remote)}:{remote_port}" if remote_port else None,
                waiting=field[3] == _WAITING[protocol],
                uid=int(field[7]),
            )


def unix_sockets(pid: int | str = "self") -> Iterator[tuple[int, str]]:
    """Inode and path of the Unix sockets of that namespace; an abstract name begins with @, an unbound one is empty."""
    for line in _table(pid, "unix"):
        if found := _UNIX_LINE.fullmatch(line.rstrip("\n")):  # a path may hold a newline: what follows is no line
            yield int(found["inode"]), found["path"] or ""


def address_of(each: Socket) -> str:
    """The local end in the usual notation: `127.0.0.1:80`, `[::]:80`."""
    return f"{_bracketed(each.local)}:{each.port}"


def _holders(inodes: Iterable[int]) -> tuple[dict[int, list[procfs.Stat]], bool]:
    """The processes that hold each socket, and whether some process's descriptors could not be seen."""
    wanted = {f"socket:[{inode}]": inode for inode in inodes}
    holders: dict[int, list[procfs.Stat]] = defaultdict(list)
    unseen = False
    for stat in procfs.stats():
        if stat.kernel_thread:
            continue
        try:
            held = {wanted[link] for _, link in procfs.descriptors(stat.pid) if link in wanted}
        except PermissionError:
            unseen = True
            continue
        for inode in held:
            holders[inode].append(stat)
    return holders, unseen


def _why_unseen(unseen: bool) -> str:
    if unseen:
        return "its process belongs to another user and cannot be seen: ask again as that user or as root"
    return "no process that can be seen from here holds it: it is the kernel's own, or of another container"


def _table(pid: int | str, name: str) -> Iterator[str]:
    try:
        with open(f"/proc/{pid}/net/{name}", encoding="utf-8", errors="surrogateescape") as file:
            next(file, None)
            yield from file
    except (FileNotFoundError, ProcessLookupError):
        return  # vanished, or a kernel without this protocol


def _endpoint(text: str) -> tuple[str, int]:
    """Address and port from the kernel's hexadecimal: 32-bit words in the machine's own byte order."""
    address, port = text.split(":")
    words = bytes.fromhex(address)
    if sys.byteorder == "little":
        words = b"".join(words[at : at + 4][::-1] for at in range(0, len(words), 4))
    return socket.inet_ntop(socket.AF_INET if len(words) == 4 else socket.AF_INET6, words), int(port, 16)


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address
