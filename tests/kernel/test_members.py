"""Finding the processes of a run among real ones."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from llmos.kernel import members
from llmos.kernel.reaper_ledger import Run


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "600"], start_new_session=True, env={"LLMOS_RUN": "named"}) as child:
        yield child
        child.kill()


def run(name: str, pid: int, start_ticks: int, *cgroups: Path, adopted: bool = False) -> Run:
    record = {"run": name, "pid": pid, "start_ticks": start_ticks, "started_at": 0.0, "label": None}
    made = Run({**record, "cgroups": [str(folder) for folder in cgroups]})
    made.adopted = adopted
    return made


def pids(found: dict[str, list[members.Process]]) -> dict[str, list[int]]:
    return {name: sorted(process.pid for process in processes) for name, processes in found.items()}


def test_read_process_with_an_awkward_name() -> None:
    code = "open('/proc/self/comm', 'w').write(') R 1 (\\n'); print('ready', flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout
        child.stdout.readline()
        process = members.read_process(child.pid)
        assert process
        assert (process.pid, process.ppid, process.session) == (child.pid, os.getpid(), os.getsid(0))
        child.communicate(b"\n")
    assert members.read_process(child.pid) is None


def test_send_never_reaches_another_process_of_the_pid(sleeper: subprocess.Popen[bytes]) -> None:
    process = members.read_process(sleeper.pid)
    assert process
    earlier = members.read_process(sleeper.pid)
    assert earlier
    earlier.start_ticks -= 1
    assert not members.send(earlier, signal.SIGKILL)
    assert sleeper.poll() is None
    assert members.send(process, signal.SIGKILL)
    assert sleeper.wait() == -signal.SIGKILL
    assert not members.send(process, signal.SIGKILL)


def test_main_by_its_identity_orphans_by_their_environment(sleeper: subprocess.Popen[bytes]) -> None:
    process = members.read_process(sleeper.pid)
    assert process
    main = run("main", sleeper.pid, process.start_ticks)
    assert pids(members.members([main], os.getpid())) == {"main": [sleeper.pid]}
    reused = run("main", sleeper.pid, process.start_ticks - 1)
    assert pids(members.members([reused], os.getpid())) == {"main": []}
    named = run("named", 1 << 30, 0)
    assert pids(members.members([reused, named], os.getpid())) == {"main": [], "named": [sleeper.pid]}
    assert pids(members.members([named], 1)) == {"named": []}
    assert pids(members.members([named], 1, everywhere=True)) == {"named": [sleeper.pid]}


def test_a_session_names_a_run_only_while_its_main_is_known() -> None:
    script = "sleep 600 & echo $!"
    child = subprocess.Popen(["sh", "-c", script], stdout=subprocess.PIPE, start_new_session=True, env={})
    with child:
        assert child.stdout
        left = int(child.stdout.readline())
        child.stdout.close()
        child.wait()
        try:
            # The parent of the orphan is init here, so only its session can name it.
            assert pids(members.members([run("own", child.pid, 0)], os.getpid())) == {"own": [left]}
            assert pids(members.members([run("own", child.pid, 0, adopted=True)], os.getpid())) == {"own": []}
        finally:
            os.kill(left, signal.SIGKILL)


def test_a_shared_cgroup_decides_nothing(sleeper: subprocess.Popen[bytes], tmp_path: Path) -> None:
    """A folder with a file of pids stands for the cgroup."""
    (tmp_path / "cgroup.procs").write_text(f"{sleeper.pid}\n")
    one, two = run("one", 1 << 30, 0, tmp_path), run("two", 1 << 29, 0, tmp_path)
    assert pids(members.members([one], os.getpid())) == {"one": [sleeper.pid]}
    assert pids(members.members([one, two], os.getpid())) == {"one": [], "two": []}
    assert members.cgroup_pids(str(tmp_path / "gone")) == []


def test_children_are_listed_or_unknown(sleeper: subprocess.Popen[bytes]) -> None:
    listed = members.children(os.getpid())
    assert listed is None or sleeper.pid in listed
    assert members.children(1 << 30) is None
