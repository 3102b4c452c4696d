"""Restarts by themselves: delays, limits, which ends count, and that none of it slows the API."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conftest import Daemon
from llmos.errors import BadInput
from llmos.kernel import restarts
from llmos.kernel.job import Job
from llmos.settings import JobSettings

Call = Callable[..., Any]
Eventually = Callable[[Callable[[], object]], Any]


def job(**given: Any) -> Job:
    return Job(name="web", argv=["true"], cwd="/", env={}, uid=0, gid=0, **given)


def test_delays_grow_to_a_cap_and_differ() -> None:
    settings = JobSettings(backoff_first_seconds=0.5, backoff_cap_seconds=8)
    assert restarts.delay(0, settings) == 0
    for failures, full in ((1, 0.5), (2, 1), (3, 2), (5, 8), (6, 8), (100_000, 8)):
        found = {restarts.delay(failures, settings) for _ in range(100)}
        assert len(found) > 90
        assert full * 0.8 <= min(found) < full * 0.9 < max(found) <= full


@pytest.mark.parametrize(
    ("given", "code", "number", "wanted"),
    [
        ({"restart": "never"}, 1, None, False),
        ({"restart": "always"}, 0, None, True),
        ({"restart": "on-failure"}, 0, None, False),
        ({"restart": "on-failure"}, 1, None, True),
        ({"restart": "on-failure"}, None, None, True),
        ({"restart": "on-failure", "restart_on": [75, "SEGV"]}, 75, None, True),
        ({"restart": "on-failure", "restart_on": [75, "SEGV"]}, 1, None, False),
        ({"restart": "on-failure", "restart_on": [75, "SEGV"]}, None, signal.SIGSEGV, True),
        ({"restart": "on-failure", "restart_on": [75, "SEGV"]}, None, signal.SIGABRT, False),
        ({"restart": "on-failure", "restart_on": [75, "SEGV"]}, None, signal.SIGRTMIN + 3, False),
        ({"restart": "on-failure", "restart_on": [75]}, None, None, False),
        ({"restart": "always", "restart_prevent": [0, 64, "HUP"]}, 0, None, False),
        ({"restart": "always", "restart_prevent": [0, 64, "HUP"]}, 64, None, False),
        ({"restart": "always", "restart_prevent": [0, 64, "HUP"]}, None, signal.SIGHUP, False),
        ({"restart": "always", "restart_prevent": [0, 64, "HUP"]}, 65, None, True),
        ({"restart": "on-failure", "restart_on": [75], "restart_prevent": [75]}, 75, None, False),
        ({"restart": "on-failure", "success_exit": [3, "TERM"]}, 3, None, False),
        ({"restart": "on-failure", "success_exit": [3, "TERM"]}, None, signal.SIGTERM, False),
        ({"restart": "on-failure", "success_exit": [3, "TERM"]}, 4, None, True),
    ],
)
def test_which_ends_are_answered(given: Any, code: int | None, number: int | None, wanted: bool) -> None:
    ended = job(**given)
    ended.exit_code, ended.exit_signal = code, number
    assert restarts.wanted(ended, well=ended.ended_well()) is wanted


def test_a_limit_looks_back_as_far_as_its_window() -> None:
    limited = job(restart_limit={"restarts": 2, "within": "1m"})
    assert restarts.count(limited, 1000) == restarts.count(limited, 1030) == ""
    assert restarts.count(limited, 1059) == "it was restarted 2 times within 1m, its limit"
    assert restarts.count(limited, 1061) == ""
    assert limited.restarted_at == [1030, 1061]
    unlimited = job()
    assert {restarts.count(unlimited, at) for at in range(1000)} == {""}
    assert unlimited.restarted_at == []


def test_codes_and_signals_are_brought_to_one_form() -> None:
    assert restarts.codes_and_signals([0, 1, "SIGSEGV", "kill", 255]) == [0, 1, "SEGV", "KILL", 255]
    for wrong in (-1, 256, True, "1", "SIG", 1.5, None):
        with pytest.raises(ValueError, match="neither an exit code"):
            restarts.codes_and_signals([wrong])
    assert restarts.failures([1, "SIGTERM"]) == [1, "TERM"]
    with pytest.raises(ValueError, match="exit code 0 is always a success"):
        restarts.failures([0])


def test_at_the_limit_it_has_failed_and_a_start_by_hand_begins_anew(call: Call, eventually: Eventually) -> None:
    limit = {"restarts": 3, "within": "1h"}
    call("run", name="looping", argv=["sh", "-c", "exit 7"], restart="always", restart_limit=limit)
    eventually(lambda: call("show", target="looping")["state"] == "failed")
    shown = call("show", target="looping")
    assert shown["restarts"] == 3 and shown["restart_limit"] == limit
    assert "exit code 7; it was restarted 3 times within 1h, its limit" in call("why", target="looping")["sentence"]
    call("start", job="looping")
    eventually(lambda: call("show", target="looping")["restarts"] == 6)
    eventually(lambda: call("show", target="looping")["state"] == "failed")


def test_the_limit_holds_across_a_killed_llmosd(llmosd: Daemon, tmp_path: Path, eventually: Eventually) -> None:
    go = tmp_path / "go"
    script = f"while [ ! -s {go} ]; do sleep 0.05; done; : > {go}; exit 1"
    with llmosd.client() as client:
        limit = {"restarts": 1, "within": "1h"}
        client.call("run", name="counted", argv=["sh", "-c", script], restart="on-failure", restart_limit=limit)
        go.write_text("now")
        eventually(lambda: client.call("show", target="counted")["restarts"] == 1)
        eventually(lambda: client.call("show", target="counted")["state"] == "running")
    llmosd.kill()
    llmosd.start()
    go.write_text("now")
    with llmosd.client() as client:
        eventually(lambda: client.call("show", target="counted")["state"] == "failed")
        assert "its limit" in client.call("why", target="counted")["sentence"]


def test_only_what_it_names_is_restarted(call: Call, eventually: Eventually) -> None:
    chosen = {"restart": "on-failure", "restart_on": [75, "SIGUSR1"]}
    job = call("run", name="choosy", argv=["sleep", "600"], **chosen)
    assert job["restart_on"] == [75, "USR1"]
    os.kill(job["pid"], signal.SIGUSR1)
    again = eventually(lambda: (shown := call("show", target="choosy"))["restarts"] == 1 and shown["pid"] and shown)
    os.kill(again["pid"], signal.SIGUSR2)
    eventually(lambda: call("show", target="choosy")["state"] == "failed")
    with pytest.raises(BadInput, match="restart=on-failure alone"):
        call("run", argv=["true"], restart="always", restart_on=[1])
    with pytest.raises(BadInput, match="neither an exit code"):
        call("run", argv=["true"], restart="on-failure", restart_on=["NOPE"])


def test_an_end_that_is_a_success_too_is_one(call: Call, eventually: Eventually) -> None:
    ends = {"restart": "on-failure", "success_exit": [3, "SIGUSR1"]}
    call("run", name="three", argv=["sh", "-c", "sleep 0.2; exit 3"], **ends)
    call("run", name="heir-of-three", argv=["true"], after="three")
    eventually(lambda: call("show", target="heir-of-three")["exit_code"] == 0)
    three = call("show", target="three")
    assert (three["state"], three["restarts"], three["success_exit"]) == ("stopped", 0, [3, "USR1"])
    killed = call("run", name="usr1", argv=["sleep", "600"], **ends)
    os.kill(killed["pid"], signal.SIGUSR1)
    eventually(lambda: call("show", target="usr1")["state"] == "stopped")


def test_an_end_that_prevents_a_restart_leaves_it_failed(call: Call, eventually: Eventually) -> None:
    call("run", name="usage", argv=["sh", "-c", "exit 64"], restart="always", restart_prevent=[64])
    eventually(lambda: call("show", target="usage")["state"] == "failed")
    assert call("show", target="usage")["restarts"] == 0
    with pytest.raises(BadInput, match="is for a job that is restarted"):
        call("run", argv=["true"], restart_prevent=[64])
    with pytest.raises(BadInput, match="exit code 0 is always a success"):
        call("run", argv=["true"], success_exit=[0])


def test_its_own_signal_and_patience_end_it(call: Call, eventually: Eventually) -> None:
    script = "trap 'echo asked; sleep 600' INT; echo up; while :; do sleep 0.05; done"
    call("run", name="polite", argv=["sh", "-c", script], ready={"log": "up"}, stop_signal="INT", stop_timeout="1s")
    eventually(lambda: call("show", target="polite")["state"] == "running")
    began = time.monotonic()
    [stopped] = call("stop", target="polite")
    assert 1 <= time.monotonic() - began < 8
    assert stopped["exit_signal"] == signal.SIGKILL
    assert call("logs", target="polite")["lines"] == ["up", "asked"]


def test_commands_that_fail_in_a_loop_do_not_slow_the_api(llmosd: Daemon) -> None:
    with llmosd.client() as client:
        first = 0.0
        for number in range(30):
            client.call("run", name=f"loop-{number}", argv=["false"], restart="always")
            first = first or time.monotonic()
        slowest = 0.0
        end = time.monotonic() + 3
        while time.monotonic() < end:
            began = time.monotonic()
            client.call("jobs")
            slowest = max(slowest, time.monotonic() - began)
            time.sleep(0.01)
        tries = sum(client.call("show", target=f"loop-{number}")["restarts"] for number in range(30))
        most, due, pause = 0, 0.0, 0.2  # at once, then after 0.25, 0.5, 1, 2… seconds, less a fifth at most
        while due < time.monotonic() - first:
            most, due, pause = most + 1, due + (pause if most else 0), pause * (2 if most else 1)
        assert 30 < tries <= 30 * most
        assert slowest < 1.0
