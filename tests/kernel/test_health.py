"""Checks of running jobs: failures in a row, and what follows."""

import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from llmos.errors import BadInput

Call = Callable[..., Any]
Eventually = Callable[[Callable[[], object]], Any]


def test_failures_in_a_row_restart_a_job_whatever_its_policy(
    call: Call, tmp_path: Path, eventually: Eventually
) -> None:
    well = tmp_path / "well"
    well.touch()
    health = {"exec": ["test", "-e", str(well)], "interval": "1s", "failures": 2}
    job = call("run", name="checked", argv=["sleep", "600"], health=health)
    well.unlink()
    eventually(lambda: call("show", target="checked")["failed_checks"] == 1)
    assert "The last 1 of its health checks failed" in call("why", target="checked")["sentence"]
    well.touch()
    eventually(lambda: call("show", target="checked")["failed_checks"] == 0)
    assert call("show", target="checked")["pid"] == job["pid"]
    well.unlink()
    again = eventually(lambda: (shown := call("show", target="checked"))["restarts"] == 1 and shown)
    well.touch()
    assert again["recent"][-1]["signal"] == signal.SIGTERM
    events = call("why", target="checked")["events"]
    assert [event["kind"] for event in events if "healthy" in event["kind"] or "given" in event["kind"]] == [
        "job.unhealthy",
        "job.healthy",
        "job.unhealthy",
        "job.given_up",
    ]
    assert any("its health check failed 2 times in a row: test ended with exit code 1" in str(each) for each in events)
    eventually(lambda: call("show", target="checked")["state"] == "running")
    assert call("show", target="checked")["failed_checks"] == 0
    call("stop", target="checked")


def test_then_stop_leaves_it_failed(call: Call, tmp_path: Path) -> None:
    health = {"tcp": "127.0.0.1:1", "interval": "1s", "failures": 1, "then": "stop"}
    call("run", name="checked-once", argv=["sleep", "600"], restart="always", health=health)
    ended = call("wait", target="checked-once", timeout="20s")
    assert ended["state"] == "failed"
    assert "its health check failed once" in ended["reason"] and "killed by signal 15" in ended["reason"]


def test_a_check_that_hangs_fails(call: Call, tmp_path: Path, eventually: Eventually) -> None:
    pid = tmp_path / "pid"
    hangs = ["sh", "-c", f"echo $$ > {pid}; sleep 600"]
    health = {"exec": hangs, "interval": "1s", "timeout": "1s", "failures": 1, "then": "stop"}
    call("run", name="hanging-check", argv=["sleep", "600"], health=health)
    assert "no answer within 1 s" in call("wait", target="hanging-check", timeout="20s")["reason"]
    eventually(lambda: not psutil.pid_exists(int(pid.read_text())))


def test_neither_before_it_is_ready_nor_while_it_is_paused(call: Call, tmp_path: Path, eventually: Eventually) -> None:
    go, checks = tmp_path / "go", tmp_path / "checks"
    health = {"exec": ["sh", "-c", f"echo x >> {checks}"], "interval": "1s"}
    ready = {"exec": ["test", "-e", str(go)]}
    call("run", name="quiet", argv=["sleep", "600"], health=health, ready=ready)
    time.sleep(1.5)
    assert not checks.exists()
    go.touch()
    eventually(checks.exists)
    call("pause", target="quiet")
    time.sleep(0.3)
    before = checks.read_text()
    time.sleep(1.5)
    assert checks.read_text() == before
    call("resume", target="quiet")
    eventually(lambda: checks.read_text() != before)
    call("stop", target="quiet")


@pytest.mark.parametrize("health", [{"notify": True}, {"tcp": 80, "failures": 0}, {"tcp": 80, "then": "panic"}])
def test_what_is_malformed_is_said(call: Call, health: Any) -> None:
    with pytest.raises(BadInput, match="health"):
        call("run", argv=["true"], health=health)
