"""What `after` makes of jobs: circles named, starts that wait for readiness, stops against the order."""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conftest import Daemon
from llmos.errors import BadInput, Conflict, NotFound
from llmos.kernel import ordering
from llmos.kernel.job import Job
from llmos.kernel.states import State

Call = Callable[..., Any]
Eventually = Callable[[Callable[[], object]], Any]


def job(name: str, *after: str) -> Job:
    return Job(name=name, argv=["true"], cwd="/", env={}, uid=0, gid=0, after=list(after))


def table(*jobs: Job) -> dict[str, Job]:
    return {each.name: each for each in jobs}


@pytest.mark.parametrize(("after", "circle"), [(["a"], "a after a"), (["c"], "a after c after b after a")])
def test_a_circle_is_named(after: list[str], circle: str) -> None:
    jobs = table(job("a"), job("b", "a"), job("c", "b"), job("d", "b"))
    ordering.require_no_cycle(jobs, job("a", "elsewhere"))
    with pytest.raises(BadInput, match=circle):
        ordering.require_no_cycle(jobs, job("a", *after))


def test_waves_come_after_all_they_wait_for_if_only_by_way_of_others() -> None:
    jobs = table(job("web", "api"), job("api", "db", "cache"), job("db"), job("cache"), job("other"))

    def names(*chosen: str) -> list[set[str]]:
        return [{each.name for each in wave} for wave in ordering.waves(jobs, [jobs[name] for name in chosen])]

    assert names("web", "api", "db", "cache", "other") == [{"db", "cache", "other"}, {"api"}, {"web"}]
    assert names("web", "db") == [{"db"}, {"web"}]
    assert names("web") == [{"web"}] and names() == [set()]


def test_circles_of_an_old_journal_are_one_wave() -> None:
    jobs = table(job("a", "b"), job("b", "a"))
    assert ordering.waves(jobs, jobs.values()) == [list(jobs.values())]


def test_a_service_is_waited_for_until_it_is_ready_and_anything_else_until_it_has_ended_well() -> None:
    service, task = job("service"), job("task")
    service.ready = {"tcp": 80}
    for state in State:
        service.state = task.state = state
        service.exit_code = task.exit_code = 0
        assert ordering.met(service) is (state in ("running", "paused"))
        assert ordering.met(task) is (state in ("stopped", "failed", "scheduled", "waiting"))
        task.exit_code = 1
        assert not ordering.met(task)


@pytest.mark.parametrize(("kept", "after"), [(None, []), ("db", ["db"]), (["db", "api"], ["db", "api"])])
def test_records_of_before_are_read(kept: Any, after: list[str]) -> None:
    record = {**job("web").record(), "after": kept, "gone": 1}
    assert Job.from_record(record).after == after


def test_what_comes_after_a_service_starts_when_that_is_ready(
    call: Call, tmp_path: Path, eventually: Eventually
) -> None:
    go = tmp_path / "go"
    db = call("run", name="db", argv=["sleep", "600"], ready={"exec": ["test", "-e", str(go)]})
    assert db["state"] == "starting" and db["pid"] is not None
    call("run", name="migrate", argv=["true"])
    call("wait", target="migrate")
    web = call("run", name="web", argv=["sleep", "600"], after=["db", "migrate"])
    assert (web["state"], web["reason"], web["after"]) == ("waiting", "until db is ready", ["db", "migrate"])
    time.sleep(0.3)
    assert call("show", target="web")["state"] == "waiting"
    go.touch()
    eventually(lambda: call("show", target="web")["state"] == "running")
    assert call("show", target="db")["state"] == "running"
    assert "ready after" in call("why", target="db")["sentence"]
    assert "db is ready and migrate has ended well" in call("why", target="web")["sentence"]

    # Started anew by hand or by a restart, it waits again; a pause of what it comes after makes no difference.
    call("stop", target="web")
    call("stop", target="db")
    [waiting] = call("start", job="web")
    assert (waiting["state"], waiting["pid"]) == ("waiting", None)
    call("start", job="db")
    eventually(lambda: call("show", target="web")["state"] == "running")
    call("pause", target="db")
    call("restart", target="web")
    assert call("show", target="web")["state"] == "running"
    call("stop", target="web")
    call("stop", target="db")


def test_a_crashed_job_comes_back_after_what_it_comes_after(call: Call, tmp_path: Path, eventually: Eventually) -> None:
    go = tmp_path / "go"
    go.touch()
    call("run", name="base", argv=["sleep", "600"], ready={"exec": ["test", "-e", str(go)]})
    eventually(lambda: call("show", target="base")["state"] == "running")
    call("run", name="upper", argv=["sleep", "600"], after="base", restart="always")
    go.unlink()
    call("restart", target="base")
    call("kill", target=call("show", target="upper")["pid"], signal="HUP", allow="destroy")
    eventually(lambda: call("show", target="upper")["state"] == "waiting")
    go.touch()
    eventually(lambda: call("show", target="upper")["state"] == "running")
    call("stop", target="upper")
    call("stop", target="base")


def test_what_waits_for_a_service_that_fails_fails_with_it(call: Call) -> None:
    call("run", name="never-up", argv=["sh", "-c", "sleep 0.3; exit 3"], ready={"log": "up"})
    call("run", name="on-top", argv=["true"], after="never-up")
    assert call("wait", target="on-top", timeout="20s")["state"] == "failed"
    sentence = call("why", target="on-top")["sentence"]
    assert "never-up, which it waited for, failed: exit code 3 before it was ready" in sentence
    with pytest.raises(Conflict, match="never-up has failed already"):
        call("run", name="on-top", argv=["true"], after=["never-up"])


def test_a_circle_is_refused_and_changes_nothing(call: Call) -> None:
    call("run", name="one", argv=["true"])
    call("wait", target="one")
    call("run", name="two", argv=["true"], after="one")
    call("wait", target="two")
    with pytest.raises(BadInput, match="one after two after one"):
        call("run", name="one", argv=["false"], after="two")
    with pytest.raises(BadInput, match="one after one"):
        call("run", name="one", argv=["false"], after="one")
    with pytest.raises(NotFound, match="no job 'three'"):
        call("run", name="four", argv=["true"], after=["one", "three"])
    assert call("show", target="one")["argv"] == ["true"]


def test_several_are_stopped_against_the_order_and_started_along_it(llmosd: Daemon, eventually: Eventually) -> None:
    said = llmosd.folder / "said"
    script = """
import signal, sys, time
def say(what):
    with open(sys.argv[1], "a") as file:
        file.write(f"{what} {sys.argv[2]}\\n")
def end(*_):
    time.sleep(0.2)
    say("ended")
    sys.exit()
signal.signal(signal.SIGTERM, end)
say("began")
print("up", flush=True)
signal.pause()
"""
    with llmosd.client() as client:
        for name, after in (("low", []), ("middle", ["low"]), ("high", ["middle"])):
            argv = [sys.executable, "-c", script, str(said), name]
            client.call("run", name=name, argv=argv, after=after, ready={"log": "up"})
        eventually(lambda: client.call("show", target="high")["state"] == "running")
        order = ["began low", "began middle", "began high"]
        assert said.read_text().splitlines() == order
        client.call("plan.run", plan="jobs\nstop $1", allow="change")
        order += ["ended high", "ended middle", "ended low"]
        assert said.read_text().splitlines() == order
        answer = client.call("plan.run", plan="jobs\nstart $1", allow="change")
        assert answer["ok"], answer
        eventually(lambda: client.call("show", target="high")["state"] == "running")
        order += ["began low", "began middle", "began high"]
        assert said.read_text().splitlines() == order
    llmosd.stop()
    assert said.read_text().splitlines() == [*order, "ended high", "ended middle", "ended low"]


def test_what_is_started_together_waits_for_what_is_to_end(call: Call, tmp_path: Path, eventually: Eventually) -> None:
    said = tmp_path / "said"
    call("run", name="build", argv=["sh", "-c", f"sleep 0.3; echo build >> {said}"])
    call("run", name="deploy", argv=["sh", "-c", f"echo deploy >> {said}"], after="build")
    call("wait", target="deploy", timeout="20s")
    said.unlink()
    plan = [{"call": "jobs", "args": {"state": "stopped"}}, {"call": "start", "args": {"job": "$1"}}]
    stopped = {each["name"] for each in call("jobs", state="stopped")}
    for name in stopped - {"build", "deploy"}:
        call("remove", job=name, allow="destroy")
    assert call("plan.run", plan=plan, allow="change")["ok"]
    eventually(lambda: said.exists() and said.read_text().splitlines() == ["build", "deploy"])
