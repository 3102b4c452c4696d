"""Starts without a fork: what the reaper takes on for a start it gives back, and a start that nobody noted is found."""

import errno
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from kernel.test_reaper import ENV, Wire, connect, frozen, gone, wait_for, wire

__all__ = ["connect", "frozen", "wire"]  # fixtures


def manner(pid: int) -> list[Any]:
    """What a process hands on to those it starts."""
    process = Path(f"/proc/{pid}")
    umask = next(line for line in (process / "status").read_text().splitlines() if line.startswith("Umask"))
    return [(process / name).read_text() for name in ("cgroup", "limits")] + [umask, os.readlink(process / "cwd")]


@pytest.mark.parametrize("command", ["sleep", "no-such-command"])
def test_the_reaper_is_after_a_start_as_it_was_before(wire: Wire, frozen: Path, command: str) -> None:
    (frozen / "freezer.state").write_text("THAWED")
    reaper = wire.reaper()
    before = manner(reaper)
    started = wire.start("one", command, "600", cgroups=[str(frozen)], umask=0o027, cwd="/usr")
    assert manner(reaper) == before
    if command == "sleep":
        assert (frozen / "cgroup.procs").read_text().split() == [str(started["pid"])]
        assert manner(started["pid"])[2:] == ["Umask:\t0027", "/usr"]
        wire.ask("signal", run="one", signal=signal.SIGKILL, scope="tree")
    else:
        assert started["errno"] == errno.ENOENT and started["stage"] == "exec"


def test_a_start_that_nobody_noted_is_found(connect: Callable[[], Wire], tmp_path: Path) -> None:
    """A reaper that dies between starting a process and writing down which one it is."""
    first = connect()
    pid = first.shell("lives", "sleep 600 & exec sleep 600", label="kept")
    dies = first.shell("dies", "exec sleep 600")
    first.kill_reaper()
    os.kill(dies, signal.SIGKILL)
    wait_for(lambda: gone(dies))
    ledger = tmp_path / "state" / "reaper.ledger"
    lines = ledger.read_text().splitlines(keepends=True)
    assert sum('"event":"starting"' in line for line in lines) == 2
    ledger.write_text("".join(line for line in lines if '"event":"spawned"' not in line))
    runs = connect().runs()
    assert (runs["lives"]["pid"], runs["lives"]["label"], runs["lives"]["exit"]) == (pid, "kept", None)
    assert runs["dies"]["exit"]["unknown"]
    again = connect()
    assert again.start("lives", "true")["pid"] == pid  # as ever, nothing is started twice
    assert len(again.ask("members", run="lives")["members"]) == 2


def test_a_command_is_looked_up_in_the_path_that_it_will_have(wire: Wire, tmp_path: Path) -> None:
    for folder, mode in (("locked", 0o644), ("open", 0o755)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "it").write_text("#!/bin/sh\nexit 5\n")
        (tmp_path / folder / "it").chmod(mode)
    path = f"/no/such:{tmp_path}/locked:{tmp_path}/open"
    wire.start("one", "it", env={"PATH": path})
    assert wire.ended("one")["code"] == 5
    refused = wire.start("two", "it", env={"PATH": f"{tmp_path}/locked:/no/such"})
    assert (refused["stage"], refused["errno"]) == ("exec", errno.EACCES)


def test_looking_for_what_is_left_takes_a_bounded_share_of_its_time(wire: Wire) -> None:
    """Many ends at once: each is told at once, and all that they leave is ended too."""
    pids = [wire.shell(f"run {number}", "trap '' TERM; sleep 600 & exec sleep 600") for number in range(20)]
    mains = [psutil.Process(pid) for pid in pids]
    wait_for(lambda: all(main.children() for main in mains))
    children = [child.pid for main in mains for child in main.children()]
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    for number in range(20):
        assert wire.ended(f"run {number}")["signal"] == signal.SIGKILL
    wait_for(lambda: all(map(gone, children)))
    assert wire.start("after", "true", env=ENV)["pid"]
    time.sleep(0.05)
    assert psutil.Process(wire.reaper()).children() == []
