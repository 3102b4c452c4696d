"""The verbs on jobs, on real ones."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from conftest import Daemon
from llmos.errors import BadInput, Conflict, LlmosError, NotFound, TimedOut, Unsupported

Call = Callable[..., Any]
Eventually = Callable[[Callable[[], object]], Any]


def test_a_job_runs_and_its_end_is_known(call: Call, tmp_path: Path) -> None:
    job = call("run", name="quick", argv=["sh", "-c", "echo out; echo err >&2; pwd; exit 3"], cwd=str(tmp_path))
    assert job["name"] == "quick"
    ended = call("wait", target="quick")
    assert (ended["state"], ended["exit_code"]) == ("failed", 3)
    assert call("logs", target="quick")["lines"] == ["out", "err", str(tmp_path)]
    shown = call("show", target="quick")
    assert shown.keys() >= {"name", "state", "pid", "started_at", "exit_code", "restarts", "argv"}
    assert shown["pid"] is None and shown["recent"][-1]["code"] == 3
    assert "quick" in {each["name"] for each in call("jobs", state="failed")}
    assert "exit code 3" in call("why", target="quick")["sentence"]


def test_jobs_by_name_stand_as_they_are_now(call: Call) -> None:
    call("run", argv=["sleep", "60"], name="named-1")
    call("run", argv=["sleep", "60"], name="named-2")
    assert [job["name"] for job in call("jobs", names=["named-2", "named-1"])] == ["named-2", "named-1"]
    [before] = call("jobs", names=["named-1"])
    call("stop", target="named-1")
    [after] = call("jobs", names=["named-1"])
    assert (before["state"], after["state"]) == ("running", "stopped")
    assert after == next(job for job in call("jobs") if job["name"] == "named-1")
    assert [job["name"] for job in call("jobs", names=["named-1", "named-2"], state="running")] == ["named-2"]
    assert call("jobs", names=[]) == []
    with pytest.raises(NotFound):
        call("jobs", names=["named-3"])


def test_what_cannot_be_started_leaves_nothing_behind(call: Call, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="does not exist"):
        call("run", name="nowhere", argv=["true"], cwd=str(tmp_path / "missing"))
    with pytest.raises(NotFound, match="no-such-command"):
        call("run", name="nothing", argv=["no-such-command-here"])
    with pytest.raises(Unsupported, match="elsewhere"):
        call("run", name="remote", argv=["true"], on="elsewhere")
    with pytest.raises(BadInput, match="exclude"):
        call("run", name="confused", argv=["true"], at="02:00", once="5m")
    with pytest.raises(NotFound, match="no job 'ghost'"):
        call("run", name="orphan", argv=["true"], after="ghost")
    names = {job["name"] for job in call("jobs")}
    assert not names & {"nowhere", "nothing", "remote", "confused", "orphan"}


def test_gpus_that_are_not_there_are_missed(call: Call) -> None:
    if Path("/dev/nvidia0").exists():
        pytest.skip("this machine has a GPU")
    with pytest.raises(LlmosError, match="GPU"):
        call("run", name="cuda", argv=["true"], gpu=1)
    assert "cuda" not in {job["name"] for job in call("jobs")}


def test_a_name_is_taken_once_and_invented_names_differ(call: Call, daemon: Daemon) -> None:
    call("run", name="taken", argv=["sleep", "600"])
    with pytest.raises(Conflict, match="taken"):
        call("run", name="taken", argv=["true"])
    call("stop", target="taken")
    call("run", name="taken", argv=["true"])
    assert call("wait", target="taken")["exit_code"] == 0
    with pytest.raises(NotFound):  # a replacement that cannot start leaves what was
        call("run", name="taken", argv=["no-such-command-here"])
    assert call("show", target="taken")["argv"] == ["true"]

    names: list[str] = []

    def run() -> None:
        with daemon.client() as client:
            names.append(client.call("run", argv=["sleep", "0.01"])["name"])

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(names)) == 8


def test_starting_what_runs_changes_nothing(call: Call) -> None:
    job = call("run", name="once-only", argv=["sleep", "600"])
    with pytest.raises(Conflict, match="once-only"):
        call("start", job="once-only")
    [stopped] = call("stop", target="once-only")
    assert stopped["exit_signal"] == signal.SIGTERM
    assert not psutil.pid_exists(job["pid"])


def test_start_stop_restart_and_their_undo(call: Call) -> None:
    first = call("run", name="cycle", argv=["sleep", "600"])
    call("undo")
    assert call("show", target="cycle")["state"] == "stopped"
    [started] = call("start", job="cycle")
    assert started["state"] == "running" and started["pid"] != first["pid"]
    call("stop", target="cycle")
    call("undo")  # of the stop
    running = call("show", target="cycle")
    assert running["state"] == "running"
    [restarted] = call("restart", target="cycle")
    assert restarted["pid"] != running["pid"] and restarted["restarts"] == 1
    call("stop", target="cycle")
    call("restart", target="cycle")
    assert call("show", target="cycle")["state"] == "running"
    call("stop", target="cycle")


def test_stop_kills_what_ignores_term_and_the_whole_tree_ends(
    call: Call, tmp_path: Path, eventually: Eventually
) -> None:
    pids = tmp_path / "pids"
    inner = f"trap '' TERM; echo $$ >> {pids}; while :; do sleep 0.05; done"
    call("run", name="stubborn", argv=["sh", "-c", f"trap '' TERM; (sh -c \"{inner}\") & {inner}"])
    eventually(lambda: pids.exists() and len(pids.read_text().split()) == 2)
    [stopped] = call("stop", target="stubborn", timeout="1s")
    assert stopped["exit_signal"] == signal.SIGKILL and stopped["state"] == "stopped"
    found = [int(pid) for pid in pids.read_text().split()]
    eventually(lambda: not any(psutil.pid_exists(pid) for pid in found))


def test_a_child_that_ignores_term_ends_with_its_main_process(
    call: Call, tmp_path: Path, eventually: Eventually
) -> None:
    pids = tmp_path / "pids"
    inner = f"trap '' TERM; echo $$ > {pids}; while :; do sleep 0.05; done"
    call("run", name="leaver", argv=["sh", "-c", f'sh -c "{inner}" & wait'])
    eventually(lambda: pids.exists() and pids.read_text().strip())
    call("stop", target="leaver")
    eventually(lambda: not psutil.pid_exists(int(pids.read_text())))


def test_stops_and_restarts_at_once_agree(call: Call, daemon: Daemon) -> None:
    call("run", name="busy", argv=["sh", "-c", "trap 'sleep 0.3; exit 0' TERM; while :; do sleep 0.05; done"])
    problems: list[LlmosError] = []

    def act(verb: str) -> None:
        with daemon.client() as client:
            try:
                client.call(verb, target="busy")
            except LlmosError as error:
                problems.append(error)

    threads = [threading.Thread(target=act, args=(verb,)) for verb in ("stop", "restart", "stop", "restart")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(isinstance(problem, Conflict) for problem in problems), problems
    assert call("show", target="busy")["state"] in ("running", "stopped")
    call("stop", target="busy")


def test_restart_policies_and_back_off(call: Call, tmp_path: Path, eventually: Eventually) -> None:
    tries = tmp_path / "tries"
    script = f"echo x >> {tries}; grep -c x {tries} | grep -q 4"
    call("run", name="flaky", argv=["sh", "-c", script], restart="on-failure")
    eventually(lambda: call("show", target="flaky")["state"] == "stopped")
    shown = call("show", target="flaky")
    assert shown["exit_code"] == 0 and shown["restarts"] == 3 and len(tries.read_text().split()) == 4
    assert "restarted 3 times" in call("why", target="flaky")["sentence"]

    call("run", name="always", argv=["true"], restart="always")
    eventually(lambda: call("show", target="always")["restarts"] >= 2)
    call("stop", target="always")
    assert call("show", target="always")["state"] == "stopped"
    call("run", name="never", argv=["false"])
    assert call("wait", target="never")["state"] == "failed"
    assert call("show", target="never")["restarts"] == 0


def test_what_crashes_is_restarted_and_what_was_killed_as_asked_is_not(call: Call, eventually: Eventually) -> None:
    job = call("run", name="phoenix", argv=["sleep", "600"], restart="always")
    os.kill(job["pid"], signal.SIGKILL)
    again = eventually(lambda: (shown := call("show", target="phoenix"))["pid"] not in (None, job["pid"]) and shown)
    assert again["restarts"] == 1
    call("kill", target="phoenix", allow="destroy")
    eventually(lambda: call("show", target="phoenix")["state"] == "stopped")


def test_after(call: Call, eventually: Eventually) -> None:
    call("run", name="before", argv=["sh", "-c", "sleep 0.3"])
    next_one = call("run", name="next", argv=["true"], after="before")
    assert next_one["state"] == "waiting"
    assert call("wait", target="next", timeout="20s")["exit_code"] == 0
    late = call("run", name="late", argv=["true"], after="before")  # it has ended well already
    assert late["state"] in ("running", "stopped")

    call("run", name="bad", argv=["sh", "-c", "sleep 0.3; exit 1"])
    call("run", name="never-runs", argv=["true"], after="bad")
    call("run", name="nor-this", argv=["true"], after="never-runs")
    assert call("wait", target="nor-this", timeout="20s")["state"] == "failed"
    assert "which it waited for, failed" in call("why", target="never-runs")["sentence"]
    with pytest.raises(Conflict, match="bad has failed already"):
        call("run", name="too-late", argv=["true"], after="bad")

    call("run", name="gone", argv=["true"], at="00:00")
    call("run", name="waits", argv=["true"], after="gone")
    call("unschedule", job="gone")
    call("remove", job="gone", allow="destroy")
    assert call("show", target="waits")["state"] == "failed"
    assert "was removed" in call("why", target="waits")["sentence"]


def test_times(call: Call, tmp_path: Path, eventually: Eventually) -> None:
    runs = tmp_path / "runs"
    once = call("run", name="one-time", argv=["true"], once="1s")
    assert once["state"] == "scheduled" and once["next_run_at"] > time.time()
    call("run", name="ticking", argv=["sh", "-c", f"echo x >> {runs}"], every="1s")
    assert call("wait", target="one-time", timeout="20s")["exit_code"] == 0
    assert call("show", target="one-time")["schedule"] is None
    eventually(lambda: runs.exists() and len(runs.read_text().split()) >= 2)
    [off] = call("unschedule", job="ticking")
    assert off["schedule"] is None
    call("undo")
    assert call("show", target="ticking")["schedule"] == {"every": "1s"}
    call("unschedule", job="ticking")

    armed = call("run", name="nightly", argv=["true"], cron="0 3 * * *")
    assert armed["state"] == "scheduled"
    assert time.localtime(armed["next_run_at"])[3:5] == (3, 0)
    with pytest.raises(Conflict, match="unschedule nightly"):
        call("stop", target="nightly")
    [moved] = call("schedule", job="nightly", at="04:30")
    assert time.localtime(moved["next_run_at"])[3:5] == (4, 30)
    call("undo")
    assert call("show", target="nightly")["schedule"] == {"cron": "0 3 * * *"}
    with pytest.raises(Conflict, match="scheduled"):
        call("run", name="nightly", argv=["true"])
    call("start", job="nightly")
    eventually(lambda: call("show", target="nightly")["state"] == "scheduled")
    assert call("show", target="nightly")["exit_code"] == 0  # a run by hand does not take it off its schedule
    assert {"nightly"} <= {job["name"] for job in call("jobs", state="scheduled")}


def test_a_time_that_is_set_while_it_runs_holds_when_it_has_ended(call: Call, eventually: Eventually) -> None:
    call("run", name="later", argv=["sh", "-c", "sleep 0.3"])
    call("schedule", job="later", once="1h")
    eventually(lambda: call("show", target="later")["state"] == "scheduled")
    assert call("show", target="later")["next_run_at"] > time.time() + 3000
    call("unschedule", job="later")
    assert call("show", target="later")["state"] == "stopped"
    with pytest.raises(NotFound, match="later has no schedule"):
        call("unschedule", job="later")


def test_a_job_that_outlasts_its_timeout_is_ended(call: Call) -> None:
    call("run", name="slow", argv=["sleep", "600"], timeout="1s")
    assert call("wait", target="slow", timeout="20s")["state"] == "stopped"
    assert "timeout of 1 s" in call("why", target="slow")["sentence"]


def test_wait_has_an_end(call: Call, daemon: Daemon, eventually: Eventually) -> None:
    job = call("run", name="endless", argv=["sleep", "600"])
    with pytest.raises(TimedOut, match="had not ended after 1s"):
        call("wait", target="endless", timeout="1s")
    results: list[Any] = []

    def wait() -> None:
        with daemon.client() as client:
            results.append(client.call("wait", target="endless"))

    waiting = threading.Thread(target=wait)
    waiting.start()
    os.kill(job["pid"], signal.SIGKILL)
    waiting.join(20)
    assert results[0]["state"] == "failed"
    assert call("wait", target="endless")["state"] == "failed"  # at once, for it has ended

    call("run", name="someday", argv=["true"], at="00:00")
    waiting = threading.Thread(target=lambda: results.append(_error(daemon, "someday")))
    waiting.start()
    call("unschedule", job="someday")
    waiting.join(20)
    assert not waiting.is_alive()
    call("remove", job="someday", allow="destroy")


def _error(daemon: Daemon, name: str) -> Any:
    with daemon.client() as client:
        return client.call("wait", target=name)


def test_logs_grep_and_since(call: Call, eventually: Eventually) -> None:
    call("run", name="talker", argv=["sh", "-c", "for i in 1 2 3 4 5; do echo line $i; done; sleep 600"])
    eventually(lambda: len(call("logs", target="talker")["lines"]) == 5)
    assert call("logs", target="talker", lines=2)["lines"] == ["line 4", "line 5"]
    assert call("logs", target="talker", grep="3")["lines"] == ["line 3"]
    assert len(call("logs", target="talker", since="1h")["lines"]) == 5
    with pytest.raises(NotFound, match="no job of llmos"):
        call("logs", target=os.getpid())
    call("stop", target="talker")


def test_remove_only_at_rest(call: Call) -> None:
    call("run", name="kept", argv=["sleep", "600"])
    with pytest.raises(Conflict, match="stop it before"):
        call("remove", job="kept", allow="destroy")
    log = Path(call("show", target="kept")["log"])
    assert log.exists()
    call("stop", target="kept")
    call("remove", job="kept", allow="destroy")
    assert not log.exists()
    with pytest.raises(NotFound, match="no job 'kept'"):
        call("start", job="kept")
    with pytest.raises(LlmosError, match="cannot be taken back"):  # what was done to it
        call("undo")


def test_a_job_sees_its_callers_environment_but_not_the_daemons(
    call: Call, daemon: Daemon, monkeypatch: pytest.MonkeyPatch, eventually: Eventually
) -> None:
    job = call("run", name="env", argv=[sys.executable, "-c", "import os; print(sorted(os.environ))"])
    call("wait", target="env")
    [line] = call("logs", target="env")["lines"]
    assert "PATH" in line
    assert job["cwd"] == os.getcwd()
