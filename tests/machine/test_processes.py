"""Lists, single processes and trees, of real processes."""

import json
import os
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from llmos.errors import NotFound, Unsupported
from llmos.machine import processes, procfs
from llmos.machine.gpu import Gpus
from llmos.machine.processes import describe, find_by_name, list_processes, process_row, process_tree

Spawn = Callable[..., int]

IDLE = "print('ready', flush=True); input()"
BUSY = "print('ready', flush=True)\nwhile True: pass"
HOG = "held = bytearray(b'x') * 80_000_000; print('ready', flush=True); input()"
WRITER = """
import os, sys
file = os.open(sys.argv[1], os.O_CREAT | os.O_WRONLY)
print('ready', flush=True)
while True:
    os.pwrite(file, b'x' * 1_000_000, 0)
    os.fsync(file)
"""


class Scripts:
    """Processes that run scripts of one name, which no other process has."""

    def __init__(self, folder: Path, spawn: Spawn) -> None:
        self.name = f"job-{uuid4().hex}.py"
        self._folder = folder
        self._spawn = spawn

    def __call__(self, code: str, *arguments: str) -> int:
        path = self._folder / uuid4().hex / self.name
        path.parent.mkdir()
        path.write_text(code)
        return self._spawn("", str(path), *arguments, argv=[sys.executable])


@pytest.fixture
def script(tmp_path: Path, spawn: Spawn) -> Scripts:
    return Scripts(tmp_path, spawn)


@pytest.mark.parametrize(("sort", "code"), [("cpu", BUSY), ("memory", HOG)])
def test_the_largest_comes_first(script: Scripts, sort: Any, code: str) -> None:
    idle, big = script(IDLE), script(code)
    rows = list_processes(name=script.name, sort=sort)
    assert [row.pid for row in rows] == [big, idle]
    assert list_processes(name=script.name, sort=sort, limit=1)[0].pid == big


def test_the_busy_one_has_a_share_of_a_core(script: Scripts) -> None:
    script(BUSY)
    (row,) = list_processes(name=script.name)
    assert row.cpu_percent is not None and 1 < row.cpu_percent <= 110


def test_the_writer_comes_first_by_io(script: Scripts, until: Any) -> None:
    target = Path("/var/tmp") / f"llmos-test-{uuid4().hex}"
    idle = script(IDLE)
    try:
        writer = script(WRITER, str(target))
        until(lambda: target.exists() and target.stat().st_size)
        if not procfs.read_io_bytes(writer):
            pytest.skip("/var/tmp is on no disk")
        rows = list_processes(name=script.name, sort="io", interval=0.5)
        assert [row.pid for row in rows] == [writer, idle]
        assert rows[0].io_bytes_per_second
        assert rows[1].io_bytes_per_second == 0
    finally:
        target.unlink(missing_ok=True)


def test_the_oldest_comes_first_by_age(script: Scripts, until: Any) -> None:
    first = script(IDLE)
    started = process_row(first).start_ticks
    until(lambda: procfs.age_seconds(started) > 0.05)
    second = script(IDLE)
    assert [row.pid for row in find_by_name(script.name)] == [first, second]


def test_by_gpu_without_gpus_is_unsupported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    monkeypatch.setattr(processes, "gpus", Gpus)
    with pytest.raises(Unsupported, match="nvidia-ml-py"):
        list_processes(sort="gpu")
    assert process_row(os.getpid()).gpu_memory_bytes is None


def test_a_zombie_is_found_by_state_and_described(spawn: Spawn, until: Any) -> None:
    parent = spawn("import os\nif os.fork() == 0: os._exit(3)\nprint('ready', flush=True); input()")
    (zombie,) = until(
        lambda: [row for row in list_processes(state="zombie", interval=0) if row.ppid == parent],
    )
    assert zombie.command == f"[{zombie.name}]"
    details = describe(zombie.pid)
    assert details["state"] == "zombie"
    assert details["exe"] is None
    json.dumps(details)


def test_states(script: Scripts, until: Any) -> None:
    idle, busy = script(IDLE), script(BUSY)
    until(lambda: [row.pid for row in list_processes(name=script.name, state="sleeping", interval=0)] == [idle])
    until(lambda: [row.pid for row in list_processes(name=script.name, state="running", interval=0)] == [busy])
    os.kill(idle, 19)
    until(lambda: [row.pid for row in list_processes(name=script.name, state="stopped", interval=0)] == [idle])


@pytest.mark.parametrize("comm", ["a) S (b", "two words", "line\nbreak", "x (1)) R 1 2", "守护进程", ")", "((("])
def test_any_name_is_read_whole(spawn: Spawn, comm: str) -> None:
    pid = spawn(f"open('/proc/self/comm', 'wb').write({comm.encode()!r}); print('ready', flush=True); input()")
    row = process_row(pid)
    assert (row.name, row.ppid) == (comm, os.getpid())
    assert [found.pid for found in find_by_name(comm) if found.pid == pid] == [pid]


def test_a_name_cut_within_a_letter_can_still_be_sent(spawn: Spawn) -> None:
    pid = spawn("open('/proc/self/comm', 'wb').write('守护进程服务'.encode()); print('ready', flush=True); input()")
    json.dumps(process_row(pid).as_json()).encode()


def test_a_name_longer_than_the_kernel_keeps(spawn: Spawn, tmp_path: Path) -> None:
    program = tmp_path / "an-uncommonly-long-name"
    program.symlink_to("/bin/sh")
    pid = spawn("", "-c", "echo ready; read line; exit", argv=[str(program)])
    assert process_row(pid).name == "an-uncommonly-long-name"


def test_the_command_line_is_bounded_and_can_be_sent(spawn: Spawn) -> None:
    pid = spawn(IDLE, "x" * 100_000, "\udcff")
    row = process_row(pid)
    assert len(row.command) == processes.COMMAND_LENGTH
    json.dumps(row.as_json(), ensure_ascii=False).encode()


def test_times(spawn: Spawn) -> None:
    before = time.time()
    row = process_row(spawn(IDLE))
    assert before - 1 <= row.started_at <= time.time() + 1
    assert 0 <= row.age_seconds < 30


def test_user_by_name_and_number() -> None:
    me = process_row(os.getpid())
    assert me.uid == os.getuid()
    for user in (me.user, str(me.uid)):
        rows = list_processes(user=user, interval=0)
        assert os.getpid() in [row.pid for row in rows]
        assert {row.uid for row in rows} == {me.uid}


def test_an_unknown_user_is_not_an_empty_list() -> None:
    with pytest.raises(NotFound, match="no-such-user"):
        list_processes(user="no-such-user")


def test_what_vanishes_between_the_samples_is_left_out(script: Scripts, monkeypatch: Any) -> None:
    stays, goes = script(IDLE), script(IDLE)

    def sleep(_: float) -> None:
        os.kill(goes, 9)
        os.waitid(os.P_PID, goes, os.WEXITED)

    monkeypatch.setattr(processes, "time", FakeTime(sleep))
    assert [row.pid for row in list_processes(name=script.name)] == [stays]


class FakeTime:
    """The clock, but what happens while one sleeps is the test's."""

    monotonic = staticmethod(time.monotonic)
    time = staticmethod(time.time)

    def __init__(self, sleep: Callable[[float], None]) -> None:
        self.sleep = sleep


def test_a_scan_lives_with_processes_that_come_and_go(spawn: Spawn) -> None:
    pid = spawn(
        """
        import os
        print('ready', flush=True)
        while True:
            if (child := os.fork()) == 0: os._exit(0)
            os.waitpid(child, 0)
        """
    )
    for _ in range(20):
        assert pid in {row.pid for row in list_processes(interval=0.001)}
        assert os.getpid() in {row.process.pid for row in process_tree()}


def test_no_such_process(script: Scripts) -> None:
    for read in (process_row, describe, process_tree):
        with pytest.raises(NotFound, match="no process 99999999"):
            read(99999999)
    assert find_by_name(script.name) == []


def test_a_thread_is_no_process(spawn: Spawn) -> None:
    pid = spawn(
        "import threading, time\nthreading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n"
        "print('ready', flush=True); input()"
    )
    (thread,) = (int(name) for name in os.listdir(f"/proc/{pid}/task") if int(name) != pid)
    with pytest.raises(NotFound):
        process_row(thread)


def test_describe(spawn: Spawn, tmp_path: Path) -> None:
    pid = spawn("import os\nif os.fork(): print('ready', flush=True)\ninput()", cwd=tmp_path)
    details = describe(pid)
    assert details["cwd"] == str(tmp_path)
    assert details["threads"] == 1
    assert details["niceness"] == os.getpriority(os.PRIO_PROCESS, pid)
    assert details["affinity"] == sorted(os.sched_getaffinity(pid))
    assert details["io_class"] in {"none", "best-effort", "realtime", "idle"}
    assert len(details["children"]) == 1  # type: ignore[arg-type]
    assert details["open_files"] == 3
    assert details["cgroups"]
    assert details["peak_memory_bytes"] >= details["memory_bytes"] > 0  # type: ignore[operator]
    assert "environ" not in str(details.keys())
    json.dumps(details)


def test_tree(spawn: Spawn) -> None:
    pid = spawn("import os\nfor _ in range(3):\n    if os.fork(): break\nelse: print('ready', flush=True)\ninput()")
    tree = process_tree(pid)
    assert [row.depth for row in tree] == [0, 1, 2, 3]
    assert tree[0].process.pid == pid
    assert all(below.process.ppid == above.process.pid for above, below in pairwise(tree))
    everything = process_tree()
    assert {row.process.pid for row in tree} <= {row.process.pid for row in everything}
    assert everything[0].depth == 0
    json.dumps([row.as_json() for row in tree])


def test_of_others_what_may_not_be_seen_is_none(spawn: Spawn, as_nobody: Callable[[str], Any]) -> None:
    pid = spawn(IDLE)
    result = as_nobody(
        f"""
        rows = {{row.pid: row for row in processes.list_processes(sort="io")}}
        result = {{"row": rows[{pid}].as_json(), "details": processes.describe({pid})}}
        """
    )
    assert result["row"]["io_bytes_per_second"] is None
    assert result["row"]["cpu_percent"] is not None
    assert result["details"]["cwd"] is None
    assert result["details"]["open_files"] is None
    assert result["details"]["threads"] == 1
