"""Telling what the kernel killed for want of memory: records as it writes them, and a kill of a real process."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llmos.machine import oom
from llmos.machine.cgroup import Cgroups
from llmos.machine.identity import Identity

HEAD = b"oom-kill:constraint=%s,nodemask=(null),cpuset=/,mems_allowed=0"
RECORDS = [
    b"6,100,5000000,-;" + HEAD % b"CONSTRAINT_NONE" + b",global_oom,task_memcg=/a.slice,task=big,pid=41,uid=0\n",
    b"6,101,6500000,c;"
    + HEAD % b"CONSTRAINT_MEMCG"
    + b",oom_memcg=/a,task_memcg=/a/b,task=x,pid=7,uid=0,pid=42,uid=9\n",
    b"3,102,6600000,-;Out of memory: Killed process 43 (big) total-vm:1kB\n",
    b"14,103,6700000,-;" + HEAD % b"CONSTRAINT_NONE" + b",global_oom,task_memcg=/,task=forged,pid=44,uid=0\n",
    b"6,104,6800000,-;said oom-kill:,global_oom,task_memcg=/,task=forged,pid=45,uid=0\n SUBSYSTEM=x\n",
]


def test_the_kernels_own_records_are_read() -> None:
    assert oom.kills(RECORDS) == [
        oom.OomKill(41, 5.0, "/a.slice", None),
        oom.OomKill(42, 6.5, "/a/b", "/a"),
    ]


@pytest.mark.parametrize(("text", "kills"), [("pgfault 3\noom_kill 12\n", 12), ("pgfault 3\n", 0)])
def test_kills_are_counted_where_the_kernel_counts(tmp_path: Path, text: str, kills: int) -> None:
    (tmp_path / "vmstat").write_text(text)
    assert oom.count(tmp_path / "vmstat") == kills
    assert oom.count(tmp_path / "none") == 0


def test_a_real_kill_is_found_by_its_process_and_names_the_group(cgroups: Cgroups, needs: Callable[..., None]) -> None:
    needs("memory")
    cgroups.create("hog", ["memory"])
    cgroups.set_memory("hog", 32 << 20)
    code = "input(); held = bytearray(128 << 20)\nfor at in range(0, len(held), 4096): held[at] = 1"
    before = oom.count()
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE) as child:
        identity = Identity.of(child.pid)
        cgroups.attach("hog", [identity], ["memory"])
        child.communicate(b"\n")
    assert oom.count() > before
    try:
        kill = oom.kill_of(identity)
    except PermissionError as error:
        pytest.skip(f"the kernel's log is not for us to read: {error}")
    assert kill is not None
    assert kill.group == kill.limited
    assert str(cgroups.directory("hog", "memory")).endswith(kill.group)
    assert oom.kill_of(Identity(identity.pid, identity.start_ticks + 10**9, identity.boot_id)) is None


def test_who_may_not_read_the_log_is_told(as_nobody: Callable[[str], Any], tmp_path: Path) -> None:
    if Path("/proc/sys/kernel/dmesg_restrict").read_text().strip() == "0":
        pytest.skip("here anybody may read the kernel's log")
    assert (
        as_nobody("""
        from llmos.machine import oom
        try:
            result = oom.kill_of(identity.Identity.of(os.getpid()))
        except PermissionError:
            result = "refused"
    """)
        == "refused"
    )
