"""What a kill -9 of llmosd, or of the reaper, costs: nothing that was acknowledged, no child, no output, no exit."""

import os
import random
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

from conftest import Daemon, needs_root
from llmos.errors import Conflict, LlmosError, TimedOut, Unavailable

Eventually = Callable[[Callable[[], object]], Any]

THREADS = 3
CRASHES = 4


class Runners:
    """Threads that start short jobs with known exit codes without a pause, whatever happens to the daemon."""

    def __init__(self, daemon: Daemon, folder: Path) -> None:
        self.daemon = daemon
        self.folder = folder
        self.acknowledged: dict[str, int] = {}
        self.asked: dict[str, int] = {}
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(number,)) for number in range(THREADS)]
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        """Let the runs that are being asked for be answered, then stop."""
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _run(self, thread: int) -> None:
        count = 0
        while not self._over.is_set():
            name, code = f"job-{thread}-{count}", count % 7
            script = f"echo begun >> {self.folder}/{name}; echo one; sleep 0.0{count % 4}; echo two; exit {code}"
            self.asked[name] = code
            try:
                with self.daemon.client(timeout=20) as client:
                    client.call("run", name=name, argv=["sh", "-c", script])
                self.acknowledged[name] = code
            except (Unavailable, TimedOut, Conflict):
                time.sleep(0.02)  # the daemon is down; what was asked for may or may not have been done
            count += 1


def test_nothing_is_lost_when_llmosd_is_killed_while_jobs_start_and_end(
    llmosd: Daemon, tmp_path: Path, eventually: Eventually
) -> None:
    random.seed(7)
    runners = Runners(llmosd, tmp_path)
    try:
        for _ in range(CRASHES):
            before = len(runners.acknowledged)
            eventually(partial(lambda before: len(runners.acknowledged) > before + 5, before))
            time.sleep(random.uniform(0, 0.1))  # at another moment each time
            llmosd.kill()
            llmosd.start()
    finally:
        runners.end()
    with llmosd.client() as client:
        eventually(lambda: all(job["pid"] is None for job in client.call("jobs")))
        jobs = {job["name"]: job for job in client.call("jobs")}
        assert not runners.acknowledged.keys() - jobs.keys()
        for name, job in jobs.items():
            if job["reason"] == "llmosd ended before it was started":
                assert name not in runners.acknowledged and not (tmp_path / name).exists()
                continue
            assert job["exit_code"] == runners.asked[name], job
            assert client.call("logs", target=name)["lines"] == ["one", "two"], name
        for name in runners.asked:
            if (tmp_path / name).exists():
                assert (tmp_path / name).read_text() == "begun\n", f"{name} was started twice"
                assert name in jobs, f"{name} was started and is not known"


def test_everything_that_stood_stands_again(llmosd: Daemon, tmp_path: Path, eventually: Eventually) -> None:
    with llmosd.client() as client:
        counter = f"while :; do echo x >> {tmp_path}/count; sleep 0.02; done"
        frozen = client.call("run", name="frozen", argv=["sh", "-c", counter])["pid"]
        client.call("pause", target="frozen")
        nightly = client.call("run", name="nightly", argv=["true"], cron="0 3 * * *")["next_run_at"]
        client.call("run", name="ticker", argv=["sh", "-c", f"echo x >> {tmp_path}/ticks"], every="1s")
        steady = client.call("run", name="steady", argv=["sleep", "600"], restart="always")["pid"]
        client.call("run", name="brief", argv=["sh", "-c", "sleep 0.5; exit 5"])
        client.call("run", name="long", argv=["sh", "-c", "sleep 1"])
        client.call("run", name="heir", argv=["true"], after="long")
        client.call("watch", metric="load", above=100000)
        client.call("watch", metric="exit", target="brief")
        client.call("run", name="dead", argv=["sleep", "600"], restart="always")
        client.call("stop", target="dead")
        if os.geteuid() == 0:
            client.call("focus", target="steady")
        boosted = os.getpriority(os.PRIO_PROCESS, steady)
    llmosd.kill()
    time.sleep(0.7)  # brief ends while nobody watches
    llmosd.start()
    with llmosd.client() as client:
        jobs = {job["name"]: job for job in client.call("jobs")}
        assert (jobs["steady"]["state"], jobs["steady"]["pid"], jobs["steady"]["restarts"]) == ("running", steady, 0)
        assert (jobs["frozen"]["state"], jobs["frozen"]["pid"]) == ("paused", frozen)
        assert jobs["nightly"]["next_run_at"] == nightly
        assert (jobs["brief"]["state"], jobs["brief"]["exit_code"]) == ("failed", 5)
        assert jobs["dead"]["state"] == "stopped"
        assert [watch["fired"] for watch in client.call("watches")] == [0, 1]
        assert os.getpriority(os.PRIO_PROCESS, steady) == boosted
        size = (tmp_path / "count").stat().st_size
        ticks = (tmp_path / "ticks").stat().st_size if (tmp_path / "ticks").exists() else 0
        eventually(lambda: (tmp_path / "ticks").exists() and (tmp_path / "ticks").stat().st_size > ticks)
        assert (tmp_path / "count").stat().st_size == size
        client.call("resume", target="frozen")
        eventually(lambda: (tmp_path / "count").stat().st_size > size)
        eventually(lambda: client.call("show", target="heir")["exit_code"] == 0)
        if os.geteuid() == 0:
            client.call("unfocus")
            assert os.getpriority(os.PRIO_PROCESS, steady) > boosted
    llmosd.kill()
    llmosd.start()  # exits that are on record are not told a second time
    with llmosd.client() as client:
        assert len(client.call("show", target="brief")["recent"]) == 1
        os.kill(steady, signal.SIGKILL)
        again = eventually(lambda: (job := client.call("show", target="steady"))["pid"] not in (None, steady) and job)
        assert again["restarts"] == 1


def test_a_corrupt_journal_is_set_aside_and_what_runs_is_adopted(llmosd: Daemon, eventually: Eventually) -> None:
    with llmosd.client() as client:
        pid = client.call("run", name="survivor", argv=["sh", "-c", "sleep 600"], restart="always")["pid"]
    llmosd.kill()
    for name in ("journal.db", "journal.db-wal"):
        path = llmosd.state_dir / name
        if path.exists():
            path.write_bytes(b"\xffnot a journal" * 4096)
    llmosd.start()
    with llmosd.client() as client:
        job = client.call("show", target="survivor")
        assert (job["state"], job["pid"], job["restart"]) == ("running", pid, "always")
        client.call("stop", target="survivor")
        assert any(
            event["kind"] == "journal.set_aside" for event in client.call("why", target="survivor")["events"]
        ) or ("journal failed its check" in llmosd.log)
    assert list(llmosd.state_dir.glob("journal.db.corrupt-*"))


def test_a_killed_reaper_comes_back_and_its_jobs_are_adopted(llmosd: Daemon, eventually: Eventually) -> None:
    with llmosd.client() as client:
        pid = client.call("run", name="orphan", argv=["sh", "-c", "while :; do sleep 0.05; done"])["pid"]
        reaper = client.status()["reaper"]["pid"]
        os.kill(reaper, signal.SIGKILL)
        assert client.call("run", name="next", argv=["sh", "-c", "exit 4"])
        assert client.call("wait", target="next", timeout="20s")["exit_code"] == 4
        assert client.call("show", target="orphan")["pid"] == pid
        [stopped] = client.call("stop", target="orphan")
        assert stopped["state"] == "stopped"
        eventually(lambda: not psutil.pid_exists(pid))
        eventually(lambda: client.status()["reaper"]["pid"] != reaper)
        assert client.status()["reaper"]["memory_bytes"]


def test_a_second_daemon_says_who_is_there(llmosd: Daemon) -> None:
    second = subprocess.run(
        [*llmosd.process.args[:5], *llmosd.process.args[5:]],  # type: ignore[union-attr, index]
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert second.returncode != 0
    assert "another llmosd" in second.stderr and "Traceback" not in second.stderr


@needs_root
def test_no_room_for_a_process_is_tried_again_and_then_said(llmosd: Daemon) -> None:
    """The reaper of this daemon may start nothing more for a while: its pids cgroup is full."""
    pids = Path("/sys/fs/cgroup/pids")
    if not pids.is_dir() or not os.access(pids, os.W_OK):
        pytest.skip("there is no pids controller of cgroup v1")
    with llmosd.client() as client:
        reaper = client.status()["reaper"]["pid"]
        home = pids / next(
            line.split(":", 2)[2].strip("/\n")
            for line in Path(f"/proc/{reaper}/cgroup").read_text().splitlines()
            if line.split(":")[1] == "pids"
        )
        group = pids / f"llmos-test-{os.getpid()}"
        group.mkdir()
        try:
            (group / "cgroup.procs").write_text(str(reaper))
            (group / "pids.max").write_text("1")
            with pytest.raises(LlmosError, match=r"process|room"):
                client.call("run", name="no-room", argv=["true"])
            opened = threading.Timer(0.15, lambda: (group / "pids.max").write_text("max"))
            opened.start()
            client.call("run", name="room", argv=["true"])
            assert client.call("wait", target="room")["exit_code"] == 0
            opened.join()
        finally:
            (home / "cgroup.procs").write_text(str(reaper))
            group.rmdir()
