"""Priorities are set on real processes, whose own session each is, and read back from the kernel."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from llmos.errors import BadInput, Forbidden, NotFound
from llmos.machine import priority
from llmos.machine.identity import Identity
from llmos.machine.priority import LEVELS, Priority

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="raising a priority needs root")
AUTOGROUP = Path("/proc/sys/kernel/sched_autogroup_enabled")
needs_autogroup = pytest.mark.skipif(
    not AUTOGROUP.exists() or AUTOGROUP.read_text().strip() != "1", reason="autogroup is off on this machine"
)

THREADS = """
import threading
for _ in range(3):
    threading.Thread(target=input, daemon=True).start()
print('ready', flush=True)
threading.Event().wait()
"""
CHILD = """
import subprocess, sys
child = subprocess.Popen(['sleep', '600'])
print('ready', child.pid, flush=True)
input()
child.kill()
"""


@contextmanager
def session(code: str = THREADS) -> Iterator[tuple[Identity, list[str]]]:
    """A process in a session, hence an autogroup, of its own, and what it printed."""
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
        text=True,
    ) as child:
        try:
            assert child.stdout is not None and child.stdin is not None
            words = child.stdout.readline().split()
            yield Identity.of(child.pid), words
            if code == CHILD:
                child.stdin.write("\n")
                child.stdin.flush()
                child.wait(timeout=10)
        finally:
            child.kill()


def threads(identity: Identity) -> list[int]:
    return [int(tid) for tid in os.listdir(f"/proc/{identity.pid}/task")]


@needs_root
@pytest.mark.parametrize("word", LEVELS)
def test_every_thread_gets_it_and_gets_its_own_back(word: str) -> None:
    level = LEVELS[word]
    with session() as (identity, _):
        assert len(threads(identity)) == 4
        odd = max(threads(identity))
        os.setpriority(os.PRIO_PROCESS, odd, 3)
        os.sched_setscheduler(odd, os.SCHED_BATCH | os.SCHED_RESET_ON_FORK, os.sched_param(0))
        psutil.Process(odd).ionice(psutil.IOPRIO_CLASS_BE, 2)
        before = priority.get(identity)
        assert len({(held.nice, held.policy, held.io_level) for held in before.threads.values()}) == 2

        priority.apply([identity], word)
        for tid in threads(identity):
            assert os.getpriority(os.PRIO_PROCESS, tid) == level.nice
            assert os.sched_getscheduler(tid) & ~os.SCHED_RESET_ON_FORK == level.policy
            assert tuple(psutil.Process(tid).ionice()) == (level.io_class, level.io_level)
        assert os.sched_getscheduler(odd) & os.SCHED_RESET_ON_FORK

        priority.restore(identity, Priority.from_json(json.loads(json.dumps(before.as_json()))))
        assert priority.get(identity) == before


@needs_root
def test_a_real_time_thread_is_restored() -> None:
    with session() as (identity, _):
        try:
            os.sched_setscheduler(identity.pid, os.SCHED_RR, os.sched_param(7))
        except PermissionError:
            pytest.skip("this machine gives its groups no real-time budget")
        before = priority.get(identity)
        assert before.threads[identity.pid].realtime == 7
        priority.apply([identity], "low")
        assert os.sched_getscheduler(identity.pid) == os.SCHED_OTHER
        priority.restore(identity, before)
        assert priority.get(identity) == before


@needs_root
@needs_autogroup
def test_the_session_gets_it_too() -> None:
    with session() as (identity, _):
        file = Path(f"/proc/{identity.pid}/autogroup")
        before = priority.get(identity)
        assert before.autogroup == 0
        for word in ("idle", "high", "low"):
            assert priority.apply([identity], word) == []
            assert file.read_text().split()[-1] == str(LEVELS[word].nice)
        priority.restore(identity, before)
        assert file.read_text().split()[-1] == "0"


@needs_autogroup
def test_who_shares_the_session_is_named() -> None:
    with session(CHILD) as (identity, (_, pid)):
        (note,) = priority.apply([identity], "low")
        assert f"sleep ({pid})" in note
        assert priority.apply([identity, Identity.of(int(pid))], "low") == []


def test_no_such_word() -> None:
    with session() as (identity, _), pytest.raises(BadInput, match="idle, low, normal, high"):
        priority.apply([identity], "urgent")


def test_what_has_ended_is_left_out() -> None:
    with session() as (identity, _):
        with session() as (ended, _):
            before = priority.get(ended)
        priority.apply([ended, identity], "low")
        assert priority.get(identity).threads[identity.pid].nice == 10
        with pytest.raises(NotFound):
            priority.apply([ended], "low")
        with pytest.raises(NotFound):
            priority.restore(ended, before)
        with pytest.raises(NotFound):
            priority.get(ended)


def test_without_a_privilege_nothing_is_half_done(as_nobody: Callable[[str], Any]) -> None:
    """Raising is refused with the remedy; so is a list with somebody else's process in it, before its first is set."""
    with session() as (foreign, _):
        raised, mixed, states = as_nobody(f"""
            import subprocess
            child = subprocess.Popen(['sleep', '600'], start_new_session=True)
            own, foreign = identity.Identity.of(child.pid), identity.Identity.of({foreign.pid})
            states = [priority.get(own).as_json()]
            messages = []
            for who, word in (([own], 'high'), ([own, foreign], 'low')):
                try:
                    priority.apply(who, word)
                except errors.Forbidden as error:
                    messages.append(error.message)
                states.append(priority.get(own).as_json())
            child.kill()
            child.wait()
            result = *messages, states
        """)
    assert "CAP_SYS_NICE" in raised
    assert str(foreign.pid) in mixed
    assert states[0] == states[1] == states[2]


def test_lowering_needs_no_privilege_and_going_back_does(as_nobody: Callable[[str], Any]) -> None:
    nice, message = as_nobody("""
        import subprocess
        child = subprocess.Popen(['sleep', '600'], start_new_session=True)
        own = identity.Identity.of(child.pid)
        before = priority.get(own)
        priority.apply([own], 'idle')
        nice = priority.get(own).threads[own.pid].nice
        try:
            priority.restore(own, before)
        except errors.Forbidden as error:
            result = nice, error.message
        child.kill()
        child.wait()
    """)
    assert nice == 19
    assert "CAP_SYS_NICE" in message


@needs_root
def test_a_failure_midway_is_taken_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel refuses the second of two processes after the first was set."""
    with session() as (first, _), session() as (second, _):
        before = priority.get(first), priority.get(second)
        real = os.setpriority

        def refuse(which: int, tid: int, nice: int) -> None:
            if tid == second.pid and nice == LEVELS["low"].nice:
                raise PermissionError
            real(which, tid, nice)

        monkeypatch.setattr(os, "setpriority", refuse)
        with pytest.raises(Forbidden):
            priority.apply([first, second], "low")
        assert (priority.get(first), priority.get(second)) == before
