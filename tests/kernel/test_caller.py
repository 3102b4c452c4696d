"""Who asks: the kernel vouches for the uid; where they are and what they have is read from their process."""

import os
import pwd
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from llmos.errors import BadInput
from llmos.kernel import caller
from llmos.kernel.caller import Caller

ME = (os.getuid(), os.getgid())
SLEEP = [sys.executable, "-c", "input()"]
Eventually = Callable[[Callable[[], object]], object]


def of(process: "subprocess.Popen[bytes]") -> Caller:
    return Caller(*ME, process.pid)


def gone() -> Caller:
    process = subprocess.Popen(["true"])
    process.wait()
    return of(process)


def started(**options: object) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(SLEEP, stdin=subprocess.PIPE, **options)  # type: ignore[call-overload, no-any-return]


def end(process: "subprocess.Popen[bytes]") -> None:
    process.kill()
    process.communicate()


def test_the_peer_of_a_socket() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert Caller.of(ours) == Caller(*ME, os.getpid())


def test_the_peer_of_a_socket_is_who_connected(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        listener.listen()
        script = f"import socket; s = socket.socket(socket.AF_UNIX); s.connect({str(tmp_path / 'socket')!r}); s.recv(1)"
        client = subprocess.Popen([sys.executable, "-c", script])
        connection, _ = listener.accept()
        with connection:
            assert Caller.of(connection) == Caller(*ME, client.pid)
            connection.send(b"x")
        client.wait()


def test_who_may_touch_what() -> None:
    assert Caller(0, 0, None).may_all
    assert Caller(0, 0, None).may_touch(1000)
    assert Caller(1000, 1000, None).may_touch(1000)
    assert not Caller(1000, 1000, None).may_touch(0)
    assert not Caller(1000, 1000, None).may_touch(1001)


def test_ancestors_are_the_caller_and_what_it_comes_from_but_init() -> None:
    process = started()
    try:
        found = of(process).ancestors()
        assert {process.pid, os.getpid(), os.getppid()} - {1} <= found
        assert 1 not in found
    finally:
        end(process)
    assert Caller(*ME, None).ancestors() == frozenset()
    caller = gone()
    assert caller.ancestors() == {caller.pid}


def test_the_directory_and_environment_of_a_real_process(tmp_path: Path, eventually: Eventually) -> None:
    there = tmp_path / "新 dir"
    there.mkdir()
    wanted = {"PATH": "/bin", "ODD": "a=b\nc", "EMPTY": "", "RAW": "\udcff"}
    hidden = {"LLMOS_SOCKET": "x", "LISTEN_FDS": "1", "NOTIFY_SOCKET": "x", "WATCHDOG_PID": "1", "JOURNAL_STREAM": "x"}
    process = started(cwd=there, env={**wanted, **hidden})
    try:
        caller = of(process)
        eventually(lambda: caller.environment() == wanted)
        assert caller.cwd() == str(there)
        there.rmdir()
        assert caller.cwd() == str(there)
    finally:
        end(process)


@pytest.mark.parametrize("caller", [Caller(*ME, None), gone()], ids=["nobody", "gone"])
def test_without_a_process_it_is_the_users_own(caller: Caller) -> None:
    home = pwd.getpwuid(os.getuid()).pw_dir
    home = home if Path(home).is_dir() else "/"
    assert caller.cwd() == caller.home() == home
    found = caller.environment()
    assert found["HOME"] == home
    assert found["USER"] == pwd.getpwuid(os.getuid()).pw_name
    assert found["PATH"]


def test_a_user_without_an_entry_has_a_plain_environment() -> None:
    caller = Caller(3_999_999_999, 1, None)
    assert caller.home() == "/"
    assert set(caller.environment()) == {"PATH", "HOME", "LANG"}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_process_that_may_not_be_read() -> None:
    caller = Caller(*ME, 1)
    assert caller.cwd() == caller.home()
    assert caller.environment()["HOME"] == caller.home()


def test_an_environment_is_taken_whole_or_not_at_all(monkeypatch: pytest.MonkeyPatch, eventually: Eventually) -> None:
    """Of one above 1 MiB, the rest was left out, and the last variable cut."""
    large = {f"BIG_{number}": "z" * 65_500 for number in range(18)}
    process = started(env=large)
    try:
        eventually(lambda: of(process).environment() == large)
        monkeypatch.setattr(caller, "MAX_ENVIRONMENT_BYTES", 1_000_000)
        with pytest.raises(BadInput, match="env -i"):
            of(process).environment()
    finally:
        end(process)
