"""Memory: what is held when it runs short and when it goes on, in numbers and with real jobs in a bounded cgroup."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from conftest import Daemon, needs_root
from llmos.scheduler import pressure
from llmos.scheduler.memory_guard import LONGEST_HOLD, Act, MemoryGuard, User
from llmos.scheduler.pressure import Memory

Eventually = Callable[[Callable[[], object]], object]
MIB = 1024**2


def user(key: str, rank: float, **given: float | None) -> User:
    return User(
        key,
        rank,
        memory_bytes=given.get("memory", 100 * MIB) or 0.0,
        growth=given.get("growth", 0.0) or 0.0,
        expected_bytes=given.get("expected"),
        held_since=given.get("since"),
    )


def left(available: int, total: int = 1000) -> Memory:
    return Memory(total * MIB, available * MIB)


def test_the_last_of_those_that_grow_is_held_when_memory_runs_short() -> None:
    guard = MemoryGuard()
    users = [user("a", 1, growth=30 * MIB), user("b", 2, growth=30 * MIB), user("c", 3)]
    assert guard.decide(users, left(500), 0.0, 0.0) is None
    act = guard.decide(users, left(100), 0.0, 10.0)
    assert act is not None and (act.key, act.hold) == ("b", True) and "10%" in act.reason
    users[1] = user("b", 2, since=10.0)
    act = guard.decide(users, left(100), 0.0, 10.0)  # what still grows would use it up in 4 s
    assert act is not None and (act.key, act.hold) == ("a", True)
    assert guard.decide(users, left(200), 0.0, 11.0) is None  # what was done is to show first


def test_memory_that_is_waited_for_is_short_and_little_left_is_not_where_nothing_grows() -> None:
    users = [user("a", 1), user("b", 2)]
    assert MemoryGuard().decide(users, left(110), 0.0, 0.0) is None
    assert (act := MemoryGuard().decide(users, left(110), 0.5, 0.0)) is not None and act.key == "b"
    assert (act := MemoryGuard().decide(users, left(20), None, 0.0)) is not None and act.key == "b"


def test_one_always_runs() -> None:
    assert MemoryGuard().decide([user("a", 1, growth=MIB)], left(10), 0.9, 0.0) is None
    held = [user("a", 1, since=0.0), user("b", 2, since=0.0)]
    assert MemoryGuard().decide(held, left(10), 0.9, 5.0) == Act("a", False, "nothing else runs that it could wait for")


def test_what_is_held_goes_on_when_there_is_room_for_what_it_may_come_to() -> None:
    users = [user("a", 1), user("b", 2, since=0.0, expected=400 * MIB)]
    assert MemoryGuard().decide(users, left(300), 0.0, 5.0) is None
    assert (act := MemoryGuard().decide(users, left(400), 0.0, 5.0)) is not None and not act.hold
    assert (act := MemoryGuard().decide(users, left(150), 0.0, LONGEST_HOLD + 1)) is not None and not act.hold


def test_a_job_waits_at_its_start_for_what_its_earlier_runs_came_to() -> None:
    new, other = user("new", 1, memory=0, expected=400 * MIB), user("other", 2, expected=300 * MIB)
    assert MemoryGuard().wait_at_start(new, [other], left(900)) is None
    assert (act := MemoryGuard().wait_at_start(new, [other], left(500))) is not None and "400 MiB" in act.reason
    assert MemoryGuard().wait_at_start(new, [], left(100)) is None
    assert MemoryGuard().wait_at_start(user("unknown", 1), [other], left(100)) is None


def test_a_bound_of_a_group_above_counts(tmp_path: Path) -> None:
    """A file tree stands for a memory hierarchy of version 2."""
    outer, inner = tmp_path / "outer", tmp_path / "outer" / "inner"
    inner.mkdir(parents=True)
    for group, limit in ((outer, "104857600"), (inner, "max")):
        (group / "cgroup.procs").write_text("")
        (group / "memory.max").write_text(limit)
        (group / "memory.current").write_text("73400320")
        (group / "memory.stat").write_text("inactive_file 20971520\n")
    assert pressure.memory(inner) == Memory(100 * MIB, 50 * MIB)
    assert pressure.memory(None).total_bytes > 100 * MIB


GROW = """
import time
held = []
for _ in range({steps}):
    held.append(bytearray(8 << 20))
    time.sleep({pause})
time.sleep({last})
"""


@contextmanager
def bounded(daemon: Daemon, limit: int) -> Iterator[None]:
    """Bound the memory of the daemon's reaper, and so of its jobs, by a real cgroup of version 1."""
    own = Path("/sys/fs/cgroup/memory") / _memory_group("self").lstrip("/")
    if not os.access(own, os.W_OK) or not (own / "memory.limit_in_bytes").exists():
        pytest.skip("needs a writable memory cgroup of version 1")
    group = own / f"llmos-test-{os.getpid()}"
    group.mkdir()
    try:
        (group / "memory.limit_in_bytes").write_text(str(limit))
        with daemon.client() as client:
            reaper = client.status()["reaper"]["pid"]
        (group / "cgroup.procs").write_text(str(reaper))
        yield
    finally:
        daemon.stop()
        with suppress(OSError):
            group.rmdir()


def _memory_group(pid: str) -> str:
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        if "memory" in line.split(":")[1].split(","):
            return line.split(":", 2)[2]
    pytest.skip("there is no memory cgroup of version 1")


@needs_root
def test_jobs_that_would_not_fit_together_all_finish(llmosd: Daemon, eventually: Eventually) -> None:
    with bounded(llmosd, 320 * MIB), llmosd.client() as client:
        client.call("scheduler.off")
        client.call("scheduler.on")  # finds the bound
        names = [f"grow{at}" for at in range(3)]
        for name in names:
            code = GROW.format(steps=18, pause=0.3, last=2)
            client.call("run", argv=[sys.executable, "-c", code], name=name, cwd="/")
        held: set[str] = set()

        def done() -> bool:
            states = {row["name"]: row for row in client.call("jobs") if row["name"] in names}
            held.update(name for name, row in states.items() if "held by the scheduler" in row["reason"])
            return all(row["state"] in ("stopped", "failed") for row in states.values())

        for _ in range(4):
            with suppress(AssertionError):
                eventually(done)
                break
        rows = {row["name"]: row for row in client.call("jobs") if row["name"] in names}
        assert {row["exit_code"] for row in rows.values()} == {0}, rows
        assert held
        events = client.call("why", target=next(iter(held)))["events"]
        assert {"scheduler.held", "scheduler.let_go"} <= {event["kind"] for event in events}


@needs_root
def test_what_was_held_goes_on_after_a_crash_and_a_person_may_let_it_go_on(
    llmosd: Daemon, eventually: Eventually
) -> None:
    with bounded(llmosd, 200 * MIB):
        with llmosd.client() as client:
            client.call("scheduler.off")
            client.call("scheduler.on")
            for at in range(2):
                code = GROW.format(steps=20, pause=0.3, last=60)
                client.call("run", argv=[sys.executable, "-c", code], name=f"grow{at}", cwd="/")

            def paused() -> list[str]:
                return [row["name"] for row in client.call("jobs", state="paused")]

            name = eventually(paused)
            assert isinstance(name, list)
        llmosd.kill()
        (llmosd.folder / "llmosd.toml").write_text("[scheduler]\nenabled = false\n")
        llmosd.start()
        with llmosd.client() as client:
            assert client.call("show", target=name[0])["state"] == "running"
            assert "let go on" in client.call("show", target=name[0])["reason"]
