"""Identities are read from, compared with and signalled on real processes."""

import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from llmos.errors import BadInput, Forbidden, NotFound, Unavailable
from llmos.machine.identity import Identity, ancestors, boot_id, descendants, parse_stat, read_stat, with_descendants

Spawn = Callable[..., int]
Until = Callable[[Callable[[], Any]], Any]

WAITS = "print('ready', flush=True); input()"
FORKS_TWICE = """
    import os, time
    first = os.fork()
    if first == 0:
        if os.fork() == 0:
            print('ready', flush=True)
        time.sleep(600)
    try:
        input()
    finally:
        pass
"""
NO_PID = 2**22 + 1  # above the largest pid_max


@pytest.fixture
def ended(until: Until) -> Identity:
    child = subprocess.Popen(["sleep", "600"])
    identity = Identity.of(child.pid)
    child.kill()
    child.wait()
    return identity


@pytest.mark.parametrize("name", ["plain", "two words", "a) R 1 (b", ")))", "(", "new\nline", ""])
def test_a_name_may_hold_anything(name: str) -> None:
    line = f"42 ({name}) S 7 8 9 0 -1 4194304 1 2 3 4 5 6 7 8 20 -5 3 0 123456 0 0"
    stat = parse_stat(line.encode())
    assert (stat.pid, stat.name, stat.state, stat.parent) == (42, name, "S", 7)
    assert (stat.session, stat.threads, stat.start_ticks) == (9, 3, 123456)


def test_a_real_process_with_a_hostile_name_is_read(spawn: Spawn) -> None:
    pid = spawn("open('/proc/self/comm', 'w').write('x) R 1 ('); print('ready', flush=True); input()")
    assert read_stat(pid).name == "x) R 1 ("
    assert read_stat(pid).parent == os.getpid()
    assert Identity.of(pid).alive()


def test_the_text_form_is_stable_and_comes_back() -> None:
    identity = Identity.of(os.getpid())
    assert identity.as_text() == f"{os.getpid()}:{identity.start_ticks}:{boot_id()}"
    assert Identity.from_text(identity.as_text()) == identity


@pytest.mark.parametrize("text", ["", "1", "1:2", "1:2:", "x:2:boot", "1:2:a:b", "-1:2:boot"])
def test_a_broken_text_form_is_refused(text: str) -> None:
    with pytest.raises(BadInput, match="no process identity"):
        Identity.from_text(text)


def test_no_process_no_identity(ended: Identity) -> None:
    with pytest.raises(NotFound, match=str(NO_PID)):
        Identity.of(NO_PID)
    assert not ended.alive()
    with pytest.raises(NotFound, match="has ended"):
        ended.send(signal.SIGTERM)


def test_a_thread_is_no_process() -> None:
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait)
    thread.start()
    try:
        assert thread.native_id is not None
        with pytest.raises(NotFound):
            Identity.of(thread.native_id)
    finally:
        stop.set()
        thread.join()


def test_a_zombie_has_ended(until: Until) -> None:
    child = subprocess.Popen(["sleep", "600"])
    identity = Identity.of(child.pid)
    child.kill()
    until(lambda: read_stat(child.pid).state == "Z")
    assert not identity.alive()
    with pytest.raises(NotFound, match="exit status"):
        Identity.of(child.pid)
    with pytest.raises(NotFound):
        identity.send(signal.SIGTERM)
    child.wait()


def test_a_leader_that_ended_before_its_threads_still_lives(spawn: Spawn, until: Until) -> None:
    pid = spawn("""
        import ctypes, threading, time
        threading.Thread(target=time.sleep, args=(600,)).start()
        print('ready', flush=True)
        ctypes.CDLL(None).syscall(60 if __import__('os').uname().machine == 'x86_64' else 93, 0)
    """)
    until(lambda: read_stat(pid).state == "Z")
    identity = Identity.of(pid)
    assert identity.alive()
    identity.send(signal.SIGKILL)
    until(lambda: not identity.alive())


def test_running_out_of_descriptors_is_not_taken_for_an_end(spawn: Spawn) -> None:
    identity = Identity.of(spawn(WAITS))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        with pytest.raises(Unavailable):
            identity.alive()
        with pytest.raises(Unavailable):
            identity.send(signal.SIGKILL)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert identity.alive()


def test_the_signal_arrives() -> None:
    child = subprocess.Popen(["sleep", "600"])
    Identity.of(child.pid).send(signal.SIGINT)
    assert child.wait(timeout=10) == -signal.SIGINT


@pytest.mark.parametrize("change", [{"start_ticks": 1}, {"boot_id": "another boot"}])
def test_a_pid_that_was_handed_out_again_is_not_signalled(spawn: Spawn, change: dict[str, Any]) -> None:
    pid = spawn(WAITS)
    stranger = replace(Identity.of(pid), **change)
    assert not stranger.alive()
    with pytest.raises(NotFound, match="has ended"):
        stranger.send(signal.SIGKILL)
    assert Identity.of(pid).alive()


def test_another_users_process_is_forbidden(as_nobody: Callable[[str], Any], spawn: Spawn) -> None:
    pid = spawn(WAITS)
    message, data = as_nobody(f"""
        from llmos.machine.identity import Identity
        try:
            Identity.of({pid}).send(15)
        except errors.Forbidden as error:
            result = error.message, error.data
    """)
    assert f"process {pid}" in message
    assert data == {"pid": pid}
    assert Forbidden.code == "forbidden"


def test_an_open_process_is_held_by_its_pidfd(spawn: Spawn) -> None:
    descriptor = Identity.of(spawn(WAITS)).open()
    assert "anon_inode:[pidfd]" in os.readlink(f"/proc/self/fd/{descriptor}")
    os.close(descriptor)


def test_the_tree_is_found_up_and_down(spawn: Spawn) -> None:
    pid = spawn(FORKS_TWICE)
    below = descendants(pid)
    assert [read_stat(each.pid).parent for each in below] == [pid, below[0].pid]
    up = ancestors(below[1].pid)
    assert [each.pid for each in up[:3]] == [below[0].pid, pid, os.getpid()]
    assert up[0] == below[0]

    leaf, top = below[1], Identity.of(pid)
    assert with_descendants([leaf, top, top]) == [top, *below]
    assert with_descendants([below[0]]) == below
    assert with_descendants([replace(top, start_ticks=1)]) == []
    for each in reversed(below):
        each.send(signal.SIGKILL)


def test_what_is_not_there_has_no_tree() -> None:
    assert descendants(NO_PID) == []
    with pytest.raises(NotFound):
        ancestors(NO_PID)


def test_a_process_without_children_has_no_descendants(spawn: Spawn) -> None:
    assert descendants(spawn(WAITS)) == []


def test_the_boot_id_is_the_same_in_another_process() -> None:
    code = "from llmos.machine.identity import boot_id; print(boot_id())"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == boot_id()
