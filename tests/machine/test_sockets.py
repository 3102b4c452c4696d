"""Who listens on a port, with real listeners."""

import json
import os
import socket
from collections.abc import Callable
from typing import Any

import pytest

from llmos.errors import BadInput
from llmos.machine import procfs
from llmos.machine.sockets import inet_sockets, listeners, unix_sockets

Spawn = Callable[..., int]


@pytest.mark.parametrize(
    ("family", "kind", "address", "protocol"),
    [
        (socket.AF_INET, socket.SOCK_STREAM, "127.0.0.1", "tcp"),
        (socket.AF_INET, socket.SOCK_STREAM, "0.0.0.0", "tcp"),
        (socket.AF_INET6, socket.SOCK_STREAM, "::1", "tcp6"),
        (socket.AF_INET, socket.SOCK_DGRAM, "127.0.0.1", "udp"),
        (socket.AF_INET6, socket.SOCK_DGRAM, "::1", "udp6"),
    ],
)
def test_a_listener_is_found(family: int, kind: int, address: str, protocol: str) -> None:
    with socket.socket(family, kind) as server:
        try:
            server.bind((address, 0))
        except OSError:
            pytest.skip(f"this machine has no {address}")
        if kind == socket.SOCK_STREAM:
            server.listen()
        port = server.getsockname()[1]
        mine = [row for row in listeners(port) if row.protocol == protocol]
        assert [(row.pid, row.address, row.port, row.note) for row in mine] == [(os.getpid(), address, port, None)]
        stat = procfs.read_stat(os.getpid())
        assert stat and mine[0].start_ticks == stat.start_ticks
        json.dumps(mine[0].as_json())
    assert os.getpid() not in [row.pid for row in listeners(port)]


def test_every_process_that_shares_the_socket_is_named(spawn: Spawn) -> None:
    master = spawn(
        """
        import os, socket
        server = socket.create_server(("127.0.0.1", 0))
        if os.fork():
            open("/proc/self/comm", "w").write(str(server.getsockname()[1]))
            print("ready", flush=True)
        input()
        """
    )
    stat = procfs.read_stat(master)
    assert stat
    rows = listeners(int(stat.comm))
    assert rows[0].pid == master
    workers = [procfs.read_stat(row.pid) for row in rows[1:] if row.pid]
    assert [worker.ppid for worker in workers if worker] == [master]


def test_a_port_with_nobody_is_empty() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as client:
            # A connection's own end is no listener.
            assert listeners(client.getsockname()[1]) == []


@pytest.mark.parametrize("port", [0, -1, 65536])
def test_no_port(port: int) -> None:
    with pytest.raises(BadInput, match="1 to 65535"):
        listeners(port)


def test_a_connection_has_both_ends() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as client:
            inode = os.fstat(client.fileno()).st_ino
            (found,) = (each for each in inet_sockets() if each.inode == inode)
            assert (found.local, found.port) == client.getsockname()
            assert found.remote == f"127.0.0.1:{port}"
            assert not found.waiting


def test_unix_sockets_by_path_and_abstract_name(tmp_path: Any) -> None:
    path, abstract = f"{tmp_path}/a b", f"llmos-test-{os.getpid()}"
    with (
        socket.socket(socket.AF_UNIX) as broken,
        socket.socket(socket.AF_UNIX) as named,
        socket.socket(socket.AF_UNIX) as hidden,
    ):
        broken.bind(f"{tmp_path}/a\nb c d e f g h i")
        named.bind(path)
        hidden.bind(f"\0{abstract}")
        paths = {name for _, name in unix_sockets()}
    assert {path, f"@{abstract}"} <= paths


def test_the_listener_of_another_user_is_told_without_its_process(as_nobody: Callable[[str], Any]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        (row,) = as_nobody(f"result = [row.as_json() for row in sockets.listeners({port})]")
    assert row["pid"] is None
    assert row["user"] == "root"
    assert "as root" in row["note"]
