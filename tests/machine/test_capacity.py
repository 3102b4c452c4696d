"""What bounds jobs, as the machine says it, and as trees of files say it."""

import os
import resource
from pathlib import Path

import pytest

from llmos.errors import NotFound
from llmos.machine.capacity import bounds

LIMITS = """Limit                     Soft Limit           Hard Limit           Units
Max processes             {processes}            {processes}            processes
Max open files            1024                 {files}               files
"""


def machine(
    tmp_path: Path, *, files: str = "5000", processes: str = "unlimited", tasks: str = "max"
) -> dict[str, Path]:
    """Trees of files as a machine with these limits has them."""
    proc, root = tmp_path / "proc", tmp_path / "cgroup"
    for path, text in {
        proc / "7/limits": LIMITS.format(files=files, processes=processes),
        proc / "7/cgroup": "0::/system.slice/llmosd.service\n",
        proc / "sys/kernel/pid_max": "32768\n",
        proc / "sys/kernel/threads-max": "60000\n",
        proc / "sys/fs/inotify/max_user_watches": "8192\n",
        proc / "self/mountinfo": f"30 1 0:26 / {root} rw - cgroup2 cgroup2 rw\n",
        root / "system.slice/llmosd.service/pids.max": f"{tasks}\n",
        root / "system.slice/pids.max": "max\n",
    }.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return {"proc": proc, "root": root}


def test_the_narrowest_bound_comes_first(tmp_path: Path) -> None:
    found = bounds(7, **machine(tmp_path))
    assert [bound.limit for bound in found] == [5000, 8192, 32768, 60000]
    assert found[0].what == "open files of the reaper" and "LimitNOFILE=" in found[0].remedy


def test_the_tasks_of_a_unit_bound_its_jobs(tmp_path: Path) -> None:
    first = bounds(7, **machine(tmp_path, tasks="4915", files="unlimited", processes="6000"))[0]
    assert first.limit == 4915 and first.what.endswith("system.slice/llmosd.service/pids.max")
    assert "TasksMax=" in first.remedy


def test_this_machine_says_its_bounds() -> None:
    found = {bound.what: bound.limit for bound in bounds(os.getpid())}
    assert found["kernel.pid_max"] == int(Path("/proc/sys/kernel/pid_max").read_text())
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    assert hard == resource.RLIM_INFINITY or found["open files of the reaper"] == hard


def test_a_reaper_that_has_ended_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"pid 8\) has ended"):
        bounds(8, **machine(tmp_path))
