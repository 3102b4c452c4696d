"""Open files of a process and holders of a path, with real files."""

import json
import mmap
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llmos.errors import NotFound
from llmos.machine.open_files import OpenFile, holders, open_files

Spawn = Callable[..., int]

HOLD = "import sys; held = open(sys.argv[1]); print('ready', flush=True); input()"
IDLE = "print('ready', flush=True); input()"


def by_fd(fd: int) -> OpenFile:
    (found,) = (file for file in open_files(os.getpid()) if file.fd == fd)
    return found


@pytest.mark.parametrize(("flags", "mode"), [(os.O_RDONLY, "r"), (os.O_WRONLY | os.O_APPEND, "w"), (os.O_RDWR, "rw")])
def test_a_file_and_its_mode(tmp_path: Path, flags: int, mode: str) -> None:
    path = tmp_path / "new\nline (deleted)"
    path.touch()
    fd = os.open(path, flags)
    try:
        assert by_fd(fd) == OpenFile(fd, "file", str(path), mode)
        path.unlink()
        assert by_fd(fd) == OpenFile(fd, "file", str(path), mode, deleted=True)
    finally:
        os.close(fd)


def test_folders_devices_pipes_and_others(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    fds = [os.open(tmp_path, os.O_RDONLY), os.open("/dev/null", os.O_RDONLY), reader, writer, os.eventfd(0)]
    try:
        assert [by_fd(fd).kind for fd in fds] == ["folder", "device", "pipe", "pipe", "other"]
        assert [by_fd(fd).mode for fd in (reader, writer)] == ["r", "w"]
    finally:
        for fd in fds:
            os.close(fd)


def test_sockets(tmp_path: Path) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as client,
        socket.socket(socket.AF_UNIX) as unix,
    ):
        unix.bind(f"{tmp_path}/socket")
        here = f"127.0.0.1:{server.getsockname()[1]}"
        listening, connected = by_fd(server.fileno()), by_fd(client.fileno())
        assert (listening.kind, listening.protocol, listening.local, listening.remote) == ("socket", "tcp", here, None)
        assert (connected.local, connected.remote) == (f"127.0.0.1:{client.getsockname()[1]}", here)
        assert (by_fd(unix.fileno()).protocol, by_fd(unix.fileno()).path) == ("unix", f"{tmp_path}/socket")
        json.dumps([file.as_json() for file in open_files(os.getpid())])
        found = holders(f"{tmp_path}/socket").holders
        assert [(holder.pid, holder.uses) for holder in found] == [(os.getpid(), ("file",))]


def test_open_files_of_nothing() -> None:
    with pytest.raises(NotFound, match="no process 99999999"):
        open_files(99999999)


def test_a_file_is_held_under_any_of_its_names(tmp_path: Path, spawn: Spawn) -> None:
    path, other, link = tmp_path / "a b", tmp_path / "other", tmp_path / "link"
    path.write_text("x")
    other.hardlink_to(path)
    link.symlink_to(path)
    pid = spawn(HOLD, str(path))
    for name in (path, other, link):
        (holder,) = holders(str(name)).holders
        assert (holder.pid, holder.uses, holder.path, holder.count) == (pid, ("file",), str(path), 1)


def test_a_folder_is_held_by_what_is_below_it(tmp_path: Path, spawn: Spawn) -> None:
    held, sibling = tmp_path / "held", tmp_path / "held-not"
    (held / "deep" / "er").mkdir(parents=True)
    sibling.mkdir()
    for file in (held / "deep" / "file", held / "deep" / "gone", sibling / "file"):
        file.write_text("x")
    inside = spawn(IDLE, cwd=held / "deep" / "er")
    exactly = spawn(IDLE, cwd=held)
    opened = spawn(HOLD, str(held / "deep" / "file"))
    deleted = spawn(HOLD, str(held / "deep" / "gone"))
    spawn(HOLD, str(sibling / "file"))
    (held / "deep" / "gone").unlink()
    found = {holder.pid: holder.uses for holder in holders(str(held)).holders}
    assert found == {inside: ("cwd",), exactly: ("cwd",), opened: ("file",), deleted: ("file",)}


def test_a_name_that_is_no_text(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/\xff"
    fd = os.open(path, os.O_CREAT | os.O_RDONLY)
    try:
        for held in (str(tmp_path), os.fsdecode(path)):
            found = holders(held)
            assert [holder.pid for holder in found.holders] == [os.getpid()]
            json.dumps(found.as_json(), ensure_ascii=False).encode()
        json.dumps(by_fd(fd).as_json(), ensure_ascii=False).encode()
    finally:
        os.close(fd)


def test_a_program_that_runs_and_a_mapped_file(tmp_path: Path, spawn: Spawn) -> None:
    program = tmp_path / "program"
    program.write_bytes(Path("/bin/sleep").read_bytes())
    program.chmod(0o755)
    script = tmp_path / "mapped\nfile"
    script.write_bytes(b"x" * mmap.PAGESIZE)
    pid = spawn(
        """
        import mmap, os, subprocess, sys
        file = os.open(sys.argv[2], os.O_RDONLY)
        held = mmap.mmap(file, 0, prot=mmap.PROT_READ)
        child = subprocess.Popen([sys.argv[1], "60"])
        os.close(file)
        print("ready", flush=True)
        try:
            input()
        except EOFError:
            pass
        """,
        str(program),
        str(script),
    )
    (running,) = holders(str(program)).holders
    try:
        assert {"exe", "memory"} <= set(running.uses)
        mapped = {holder.pid: holder.uses for holder in holders(str(script)).holders}
        assert "memory" in mapped[pid]
        below = {holder.pid: holder.path for holder in holders(str(tmp_path)).holders}
        assert below[running.pid] == str(program)
        assert str(script) in below[pid]
    finally:
        os.kill(running.pid, 9)


def test_the_root_is_held_by_this_process() -> None:
    assert os.getpid() in [holder.pid for holder in holders("/").holders]


def test_a_device_is_held_by_who_has_opened_it(spawn: Spawn) -> None:
    with open("/dev/zero", "rb"):
        assert os.getpid() in [holder.pid for holder in holders("/dev/zero").holders]
    assert os.getpid() not in [holder.pid for holder in holders("/dev/zero").holders]


def test_a_disk_is_held_by_who_uses_its_file_system(tmp_path: Path, spawn: Spawn) -> None:
    number = tmp_path.stat().st_dev
    try:
        disk = Path("/dev") / os.readlink(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}").split("/")[-1]
        is_device = disk.is_block_device()
    except OSError:
        is_device = False
    if not is_device:
        pytest.skip("the tests' folder is on no block device")
    assert spawn(IDLE, cwd=tmp_path) in [holder.pid for holder in holders(str(disk)).holders]


def test_nobody_holds_it(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert holders(str(tmp_path / "file")).holders == ()


@pytest.mark.parametrize("path", ["missing", "file/below"])
def test_holders_of_nothing(tmp_path: Path, path: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NotFound, match="check the spelling"):
        holders(str(tmp_path / path))


def test_without_rights(spawn: Spawn, as_nobody: Callable[[str], Any]) -> None:
    pid = spawn(IDLE)
    result = as_nobody(
        f"""
        try:
            open_files.open_files({pid})
        except errors.Forbidden as error:
            result = [error.message, open_files.holders("/").unseen]
        """
    )
    assert "belongs to root" in result[0]
    assert result[1] > 0
