"""Nothing of a run outlives its end: real trees that try to, with a cgroup and without one."""

import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from kernel.test_reaper import ENV, Wire, connect, gone, wait_for, wire

__all__ = ["connect", "wire"]  # fixtures

# Run by `python -c` with a file to note its pid in: it leaves its parent, its session and all that it was given.
LEAVES = """
import os, signal, sys, time
def leave(forget_mark=False):
    if os.fork(): os._exit(0)
    os.setsid()
    if os.fork(): os._exit(0)
    if forget_mark:
        import resource
        resource.setrlimit(resource.RLIMIT_RTTIME, (resource.RLIM_INFINITY,) * 2)
def note():
    with open(sys.argv[1] + ".new", "w") as file: file.write(str(os.getpid()))
    os.rename(sys.argv[1] + ".new", sys.argv[1])
"""
WAYS = {
    "daemon": LEAVES + "leave(); note(); time.sleep(600)",
    "deaf": LEAVES + "signal.signal(signal.SIGTERM, signal.SIG_IGN); leave(); note(); time.sleep(600)",
    "parent": LEAVES + "leave()\nif os.fork(): time.sleep(600)\nos.setsid(); note(); time.sleep(600)",
    "closed": LEAVES + "leave(); os.closerange(0, 99); os.chdir('/'); os.umask(0); note(); time.sleep(600)",
    "forged": LEAVES
    + "leave(); open(sys.argv[1] + '.env', 'w').close(); note() if 'LLMOS_RUN' in os.environ else "
    + "os.execve(sys.executable, [sys.executable, '-c', sys.orig_argv[2], sys.argv[1]], {'LLMOS_RUN': 'other'})\n"
    + "time.sleep(600)",
}
UNMARKED = LEAVES + "leave(forget_mark=True); note(); time.sleep(600)"
# Each generation lives for a moment, and has left before it can be looked at; it ends by itself where the test cannot.
RABBIT = LEAVES + (
    "end = time.monotonic() + 60; leave(); note()\n"
    "while time.monotonic() < end:\n if os.fork(): os._exit(0)\n os.setsid()"
)


@pytest.fixture(params=["alone", "cgroup v1", "cgroup v2"])
def cgroup(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[list[str]]:
    """What a run is put into: nothing, or one of the machine's cgroups."""
    if request.param == "alone":
        yield []
        return
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    wanted = {"cgroup v1": ("cgroup", "freezer"), "cgroup v2": ("cgroup2", "")}[request.param]
    for _, mount, kind, options, *_ in mounts:
        if kind == wanted[0] and wanted[1] in [*options.split(","), ""]:
            folder = Path(mount) / f"llmos-test-{os.getpid()}-{tmp_path.name}"
            break
    else:
        pytest.skip(f"no {request.param} is mounted here")
    try:
        folder.mkdir()
        os.close(os.open(folder / "cgroup.procs", os.O_WRONLY))
    except OSError as error:
        pytest.skip(f"may not make a {request.param} group here: {error}")
    yield [str(folder)]
    wait_for(lambda: not (folder / "cgroup.procs").read_text())
    folder.rmdir()


def leaving(note: Path, code: str, then: str) -> str:
    """A shell script that has left a process behind when it goes on; its variables are cleared too."""
    return f'env -i {sys.executable} -c "$CODE" {note} </dev/null & while ! [ -s {note} ]; do sleep 0.01; done; {then}'


def start(wire: Wire, run: str, note: Path, code: str, then: str, cgroups: list[str]) -> int:
    """Start a run that leaves a process behind; returns the pid of that."""
    wire.shell(run, leaving(note, code, then), cgroups=cgroups, env={**ENV, "CODE": code})
    return int(wait_for(lambda: note.exists() and note.read_text()))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("end", ["its own end", "KILL"])
def test_whatever_left_ends_with_its_run(wire: Wire, tmp_path: Path, cgroup: list[str], way: str, end: str) -> None:
    kept = start(wire, "other", tmp_path / "other", WAYS["daemon"], "exec sleep 600", [])
    go = tmp_path / "go"
    then = f"until [ -e {go} ]; do sleep 0.01; done; exit 3"
    left = start(wire, "one", tmp_path / "one", WAYS[way], then, cgroup)
    assert left in {member["pid"] for member in wire.ask("members", run="one")["members"]}
    if end == "KILL":
        assert left in wire.ask("signal", run="one", signal=signal.SIGKILL, scope="tree")["pids"]
        assert wire.ended("one")["signal"] == signal.SIGKILL
    else:
        go.touch()
        assert wire.ended("one")["code"] == 3  # told at once, though another process has its output open
    wait_for(lambda: gone(left))
    assert not gone(kept)
    assert kept in {member["pid"] for member in wire.ask("members", run="other")["members"]}
    # All that had left were waited for, too.
    wait_for(lambda: len(psutil.Process(wire.reaper()).children()) == 2)


def test_who_threw_its_mark_away_ends_when_no_run_is_left_that_it_could_be_of(wire: Wire, tmp_path: Path) -> None:
    wire.shell("before", "exec sleep 600")
    left = start(wire, "one", tmp_path / "one", UNMARKED, "exec sleep 600", [])
    time.sleep(2 / os.sysconf("SC_CLK_TCK"))  # or they would seem to have started together
    wire.shell("after", "exec sleep 600")
    wire.ask("signal", run="one", signal=signal.SIGKILL, scope="tree")
    assert wire.ended("one")["signal"] == signal.SIGKILL
    wire.shell("nothing", "exit 0")
    wire.ended("nothing")
    assert not gone(left)  # it may be of the run from before
    wire.ask("signal", run="before", signal=signal.SIGKILL, scope="tree")
    wait_for(lambda: gone(left))
    assert wire.runs()["after"]["exit"] is None


def test_a_stopped_tree_hears_of_its_end(wire: Wire, tmp_path: Path) -> None:
    left = start(wire, "one", tmp_path / "one", WAYS["daemon"], "exec sleep 600", [])
    (main,) = (run["pid"] for run in wire.runs().values())
    tree = [psutil.Process(left), psutil.Process(main)]
    for process in tree:
        process.suspend()
    wait_for(lambda: all(process.status() == psutil.STATUS_STOPPED for process in tree))
    wire.ask("signal", run="one", signal=signal.SIGTERM, scope="tree")
    assert wire.ended("one")["signal"] == signal.SIGTERM
    wait_for(lambda: gone(left))


def test_a_forking_chain_is_caught_in_its_cgroup(wire: Wire, tmp_path: Path, cgroup: list[str]) -> None:
    if not cgroup:
        pytest.skip("without a cgroup nothing can hold it still")
    start(wire, "one", tmp_path / "one", RABBIT, "exec sleep 600", cgroup)
    wire.ask("signal", run="one", signal=signal.SIGKILL, scope="tree")
    assert wire.ended("one")["signal"] == signal.SIGKILL
    reaper = psutil.Process(wire.reaper())
    wait_for(lambda: not reaper.children())
