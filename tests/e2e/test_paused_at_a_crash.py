"""A job that was frozen, or let go on, just before llmosd died is what the machine says it is when that comes back."""

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import Daemon
from llmos.machine.cgroup import Cgroups
from llmos.machine.identity import Identity, read_stat

Eventually = Callable[[Callable[[], object]], object]


def test_what_the_journal_does_not_know_the_freezer_tells(llmosd: Daemon) -> None:
    cgroups = Cgroups.probe()
    if "freezer" not in cgroups.controllers:
        pytest.skip(cgroups.why_not("freezer"))
    file = "freezer.state" if cgroups.means("freezer") == "cgroup v1" else "cgroup.freeze"
    words = {"freezer.state": ("THAWED", "FROZEN"), "cgroup.freeze": ("0", "1")}[file]
    with llmosd.client() as client:
        pids = {name: client.call("run", name=name, argv=["sleep", "600"])["pid"] for name in ("cold", "warm", "as-is")}
        client.call("pause", target="warm")
        client.call("pause", target="as-is")
    folders = {name: cgroups.place(Identity.of(pid), "freezer") for name, pid in pids.items()}
    llmosd.kill()
    (folders["cold"] / file).write_text(words[1])  # as `pause` does, and no more
    (folders["warm"] / file).write_text(words[0])
    llmosd.start()
    with llmosd.client() as client:
        jobs = {job["name"]: job for job in client.call("jobs")}
        assert {name: job["state"] for name, job in jobs.items()} == {
            "cold": "paused",
            "warm": "running",
            "as-is": "paused",
        }
        assert jobs["cold"]["reason"].startswith("found paused, by cgroup")
        assert jobs["warm"]["reason"] == "found running"
        assert jobs["as-is"]["reason"].startswith("as asked")
        for name in ("cold", "as-is"):
            client.call("resume", target=name)
        assert [(folder / file).read_text().strip() for folder in folders.values()] == [words[0]] * 3
        for name, pid in pids.items():
            assert client.call("show", target=name)["pid"] == pid
            client.call("stop", target=name)


def test_a_job_that_somebody_stopped_is_found_paused(llmosd: Daemon, tmp_path: Path, eventually: Eventually) -> None:
    counter = f"import time\nwhile True:\n open(r'{tmp_path}/count', 'a').write('x')\n time.sleep(0.01)"
    with llmosd.client() as client:
        pid = client.call("run", name="stopped", argv=[sys.executable, "-c", counter])["pid"]
        eventually((tmp_path / "count").exists)
    llmosd.kill()
    os.kill(pid, signal.SIGSTOP)
    eventually(lambda: read_stat(pid).state == "T")
    llmosd.start()
    with llmosd.client() as client:
        shown = client.call("show", target="stopped")
        assert (shown["state"], shown["reason"]) == ("paused", "found paused, by SIGSTOP")
        size = (tmp_path / "count").stat().st_size
        time.sleep(0.1)  # in which it would have gone on
        assert (tmp_path / "count").stat().st_size == size
        client.call("resume", target="stopped")
        eventually(lambda: (tmp_path / "count").stat().st_size > size)
