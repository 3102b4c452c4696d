"""Job files against a real llmosd: what they declare comes to be, once, and goes again."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from conftest import Daemon, needs_root
from llmos import Client
from llmos.errors import BadInput, LlmosError, NeedsConfirmation, NotFound, PlanChanged
from llmos.jobfile import Table

Call = Callable[..., Any]
Eventually = Callable[[Callable[[], object]], Any]


def nap(folder: Path, **fields: Any) -> Table:
    return {"argv": ["sleep", "600"], "cwd": str(folder), **fields}


def state_of(call: Call, name: str) -> dict[str, Any]:
    return next(job for job in call("jobs") if job["name"] == name)


def test_what_is_declared_comes_to_be_and_a_second_time_changes_nothing(call: Call, tmp_path: Path) -> None:
    jobs = {"first": nap(tmp_path, env={"TONE": "low"}, memory="512M"), "second": nap(tmp_path, every="2h")}
    looked = call("jobs.apply", jobs=jobs, dry_run=True)
    assert looked["plan"] == [
        f"run name=first cwd={tmp_path} memory=512M -- sleep 600",
        f"run name=second cwd={tmp_path} every=2h -- sleep 600",
    ]
    assert looked["risk"] == "change"
    assert looked["changes"][0] == {
        "job": "first",
        "change": "add",
        "lines": [looked["plan"][0]],
        "fields": {"env": {"from": {}, "to": {"TONE": "low"}}},
    }
    assert not {"first", "second"} & {job["name"] for job in call("jobs")}
    done = call("jobs.apply", jobs=jobs)
    assert done["ok"] and done["plan"] == looked["plan"]
    first = state_of(call, "first")
    assert (first["state"], state_of(call, "second")["state"]) == ("running", "scheduled")
    environment = psutil.Process(first["pid"]).environ()
    assert environment["TONE"] == "low" and "PYTEST_CURRENT_TEST" not in environment
    again = call("jobs.apply", jobs=jobs)
    assert (again["ok"], again["plan"], again["changes"], again["risk"]) == (True, [], [], "read")
    assert state_of(call, "first")["pid"] == first["pid"]


def test_limits_priority_and_schedule_are_set_in_place(call: Call, tmp_path: Path) -> None:
    call("jobs.apply", jobs={"steady": nap(tmp_path, memory="512M", priority="low")})
    pid = state_of(call, "steady")["pid"]
    changed = call("jobs.apply", jobs={"steady": nap(tmp_path, memory="1G", at="02:00")})
    assert changed["plan"] == ["limit steady memory=1G", "renice steady normal", "schedule steady at=02:00"]
    assert changed["changes"][0]["fields"]["memory"] == {"from": "512M", "to": "1G"}
    steady = state_of(call, "steady")
    assert (steady["pid"], steady["limits"]["memory"], steady["schedule"]) == (pid, "1G", {"at": "02:00"})
    lifted = call("jobs.apply", jobs={"steady": nap(tmp_path)})
    assert lifted["plan"] == ["limit steady memory=none", "unschedule steady"]
    assert call("jobs.apply", jobs={"steady": nap(tmp_path)})["plan"] == []


def test_how_it_is_restarted_checked_and_bounded_changes_live(
    call: Call, tmp_path: Path, eventually: Eventually
) -> None:
    first = nap(tmp_path, health={"exec": ["true"], "interval": "1s"}, timeout="1h", restart="always")
    call("jobs.apply", jobs={"lively": first})
    before = state_of(call, "lively")
    second = nap(
        tmp_path, restart="on-failure", restart_limit={"restarts": 3}, restart_prevent=[64], success_exit=["USR1"],
        health={"exec": ["false"], "interval": "1s", "failures": 2, "then": "stop"}, stop_signal="INT",
        stop_timeout="2s", missed="skip", overlap="replace", memory="1G",
    )  # fmt: skip
    looked = call("jobs.apply", jobs={"lively": second}, dry_run=True)
    [change] = looked["changes"]
    assert (change["how"], change["lines"], looked["risk"]) == ("live", ["limit lively memory=1G"], "change")
    assert change["fields"]["restart"] == {"from": "always", "to": "on-failure"}
    done = call("jobs.apply", jobs={"lively": second}, confirm=looked["hash"])
    assert done["ok"] and state_of(call, "lively")["pid"] == before["pid"]
    assert call("jobs.apply", jobs={"lively": second})["changes"] == []
    assert call("jobs.export", names=["lively"]) == {"lively": second}
    eventually(lambda: state_of(call, "lively")["state"] == "failed")  # by the new check
    assert "health check failed 2 times" in call("why", target="lively")["sentence"]


def test_a_timeout_that_changes_live_counts_from_the_start(call: Call, tmp_path: Path, eventually: Eventually) -> None:
    call("jobs.apply", jobs={"bounded": nap(tmp_path, timeout="1h")})
    pid = state_of(call, "bounded")["pid"]
    eventually(lambda: time.time() - psutil.Process(pid).create_time() > 1.2)
    done = call("jobs.apply", jobs={"bounded": nap(tmp_path)})
    assert (done["plan"], done["changes"][0]["how"], done["risk"], done["ok"]) == ([], "live", "change", True)
    call("jobs.apply", jobs={"bounded": nap(tmp_path, timeout="1s")})
    eventually(lambda: state_of(call, "bounded")["state"] == "stopped")
    assert "timeout of 1 s" in call("why", target="bounded")["sentence"]


def test_a_live_change_is_in_the_history_and_can_be_undone(call: Call, tmp_path: Path) -> None:
    call("jobs.apply", jobs={"undone": nap(tmp_path, restart="always", stop_timeout="5s")})
    pid = state_of(call, "undone")["pid"]
    call("jobs.apply", jobs={"undone": nap(tmp_path, restart="never")})
    event = next(each for each in call("why", target="undone")["events"] if each["kind"] == "job.changed")
    assert event["body"]["fields"]["restart"] == {"from": "always", "to": "never"}
    call("undo")
    undone = state_of(call, "undone")
    assert (undone["pid"], undone["restart"], undone["stop_timeout"]) == (pid, "always", "5s")


def test_what_restarts_what_starts_and_what_changes_live_is_said(call: Call, tmp_path: Path) -> None:
    first: dict[str, Table] = {
        "restarts": nap(tmp_path),
        "lives": nap(tmp_path),
        "starts": {"argv": ["true"], "cwd": str(tmp_path)},
        "waits": nap(tmp_path, at="03:00"),
    }
    call("jobs.apply", jobs=first)
    call("wait", target="starts")
    changed = {name: {**table, "umask": "027"} for name, table in first.items()}
    changed["lives"] = {**first["lives"], "restart": "always"}
    answer = call("jobs.apply", jobs=changed, dry_run=True)
    assert {change["job"]: change.get("how") for change in answer["changes"]} == {
        "restarts": "restart", "lives": "live", "starts": "start", "waits": None,
    }  # fmt: skip


def test_what_cannot_be_set_in_place_is_stopped_and_run_anew(call: Call, tmp_path: Path) -> None:
    call("jobs.apply", jobs={"moved": nap(tmp_path, env={"A": "1"})})
    pid = state_of(call, "moved")["pid"]
    other = nap(tmp_path, env={"A": "2"}, every="1h")
    changed = call("jobs.apply", jobs={"moved": other})
    assert changed["plan"] == ["stop moved", f"run name=moved cwd={tmp_path} every=1h -- sleep 600"]
    assert not psutil.pid_exists(pid)
    assert call("jobs.apply", jobs={"moved": other})["plan"] == []
    scheduled = call("jobs.apply", jobs={"moved": nap(tmp_path)})
    assert scheduled["plan"] == ["unschedule moved", f"run name=moved cwd={tmp_path} -- sleep 600"]
    assert scheduled["ok"] and state_of(call, "moved")["state"] == "running"


def test_a_job_that_has_ended_is_left_as_it_is(call: Call, tmp_path: Path) -> None:
    jobs = {"brief": {"argv": "sh -c 'exit 3'", "cwd": str(tmp_path)}, "told": nap(tmp_path)}
    call("jobs.apply", jobs=jobs)
    call("wait", target="brief")
    call("stop", target="told")
    assert call("jobs.apply", jobs=jobs)["plan"] == []
    assert (state_of(call, "brief")["state"], state_of(call, "told")["state"]) == ("failed", "stopped")


def test_its_one_time_comes_once(call: Call, tmp_path: Path, eventually: Eventually) -> None:
    jobs = {"single": {"argv": ["true"], "cwd": str(tmp_path), "once": "1s"}}
    call("jobs.apply", jobs=jobs)
    assert call("jobs.apply", jobs=jobs)["plan"] == []
    eventually(lambda: state_of(call, "single")["exit_code"] == 0)
    assert call("jobs.apply", jobs=jobs)["plan"] == []


def test_who_waits_comes_after_whom_it_waits_for(call: Call, tmp_path: Path, eventually: Eventually) -> None:
    def mark(name: str) -> Table:
        return {"argv": ["sh", "-c", f"echo {name} >> order"], "cwd": str(tmp_path)}

    call("jobs.apply", jobs={"last": {**mark("last"), "after": "early"}, "early": mark("early")})
    eventually(lambda: state_of(call, "last")["exit_code"] == 0)
    assert (tmp_path / "order").read_text().split() == ["early", "last"]
    circle = {name: {**mark(name), "after": other} for name, other in ("ab", "bc", "ca")}
    with pytest.raises(BadInput, match=r"a after b after c|b after c after a|c after a after b"):
        call("jobs.apply", jobs=circle)
    with pytest.raises(NotFound, match=r"job\.a: after: there is no job 'ghost'"):
        call("jobs.apply", jobs={"a": {**mark("a"), "after": "ghost"}})


def test_who_waits_for_one_that_says_when_it_is_ready_starts_then(call: Call, tmp_path: Path) -> None:
    server = {
        "argv": ["sh", "-c", "sleep 0.3; touch up; sleep 600"],
        "ready": {"exec": ["test", "-e", f"{tmp_path}/up"]},
    }
    user = {"argv": ["test", "-e", "up"], "after": ["server"]}
    jobs = {name: {"cwd": str(tmp_path), **table} for name, table in (("user", user), ("server", server))}
    assert call("jobs.apply", jobs=jobs)["ok"]
    assert call("wait", target="user", timeout="20s")["exit_code"] == 0
    assert call("jobs.apply", jobs=jobs)["plan"] == []
    assert call("jobs.export", names=["user", "server"]) == {
        "user": {**jobs["user"], "after": "server"},
        "server": jobs["server"],
    }


def test_prune_removes_what_an_earlier_call_declared_and_nothing_else(llmosd: Daemon, tmp_path: Path) -> None:
    with llmosd.client() as client:
        client.call("run", argv=["sleep", "600"], name="by-hand")
        client.call("jobs.apply", jobs={"kept": nap(tmp_path), "dropped": nap(tmp_path)})
        assert client.call("jobs.apply", jobs={"kept": nap(tmp_path)})["plan"] == []
        with pytest.raises(NeedsConfirmation) as needed:
            client.call("jobs.apply", jobs={"kept": nap(tmp_path)}, prune=True)
        assert needed.value.data["plan"] == ["stop dropped", "remove dropped"]
        confirm = needed.value.data["hash"]
        with pytest.raises(PlanChanged):
            client.call("jobs.apply", jobs={"kept": nap(tmp_path, priority="low")}, prune=True, confirm=confirm)
        assert client.call("jobs.apply", jobs={"kept": nap(tmp_path)}, prune=True, confirm=confirm)["ok"]
        assert {job["name"] for job in client.call("jobs")} == {"by-hand", "kept"}


def test_the_hash_holds_what_the_lines_do_not_say(call: Call, tmp_path: Path) -> None:
    looked = call("jobs.apply", jobs={"hashed": nap(tmp_path, env={"A": "1"})}, dry_run=True)
    with pytest.raises(PlanChanged):
        call("jobs.apply", jobs={"hashed": nap(tmp_path, env={"A": "2"})}, confirm=looked["hash"])
    assert call("jobs.apply", jobs={"hashed": nap(tmp_path, env={"A": "1"})}, confirm=looked["hash"])["ok"]


def test_one_job_that_cannot_be_started_keeps_no_other(call: Call, tmp_path: Path) -> None:
    jobs = {"broken": {"argv": ["no-such-program-here"], "cwd": str(tmp_path)}, "sound": nap(tmp_path)}
    done = call("jobs.apply", jobs=jobs)
    assert not done["ok"] and [result["ok"] for result in done["results"]] == [False, True]
    assert "no-such-program-here" in done["results"][0]["error"]["message"]
    assert state_of(call, "sound")["state"] == "running"
    assert "broken" not in {job["name"] for job in call("jobs")}
    assert call("jobs.apply", jobs=jobs)["plan"] == [f"run name=broken cwd={tmp_path} -- no-such-program-here"]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"argv": ["true"], "memroy": "1G"}, r"job\.bad: this llmosd knows no field 'memroy'; did you mean memory"),
        ({"argv": ["true"], "memory": "much"}, r"job\.bad\.memory: 'much' is no size"),
        ({"argv": "echo 'half"}, r"job\.bad\.argv is not quoted"),
        ({}, r"job\.bad needs argv"),
        ({"argv": ["true"], "env": {"A=B": "1"}}, r"job\.bad\.env.*holds ="),
        ({"argv": ["true"], "env": {"A": 1}}, r"job\.bad\.env\.A"),
        ({"argv": ["true"], "at": "02:00", "once": "5m"}, "exclude each other"),
        ({"argv": ["true"], "cwd": "/no/such/folder"}, "does not exist"),
        ({"argv": ["true"], "user": "nobody-of-that-name"}, "no user"),
    ],
)
def test_what_is_malformed_is_named_and_nothing_is_done(call: Call, table: Table, message: str, tmp_path: Path) -> None:
    with pytest.raises(LlmosError, match=message):
        call("jobs.apply", jobs={"good": nap(tmp_path), "bad": table})
    assert not {"good", "bad"} & {job["name"] for job in call("jobs")}


def test_a_name_that_no_job_can_have_is_refused(call: Call) -> None:
    with pytest.raises(BadInput, match="numbers are process ids"):
        call("jobs.apply", jobs={"123": {"argv": ["true"]}})


def test_a_dangerous_command_asks_first(call: Call, tmp_path: Path) -> None:
    with pytest.raises(NeedsConfirmation) as needed:
        call("jobs.apply", jobs={"wipe": {"argv": "rm -rf /", "cwd": str(tmp_path)}})
    assert needed.value.data["risk"] == "destroy"


@needs_root
def test_root_says_who_a_job_runs_as(call: Call, tmp_path: Path, daemon: Daemon) -> None:
    call("jobs.apply", jobs={"lowly": {"argv": ["sleep", "600"], "cwd": "/", "user": "nobody"}})
    assert psutil.Process(state_of(call, "lowly")["pid"]).username() == "nobody"
    assert call("jobs.export", names=["lowly"])["lowly"]["user"] == "nobody"


def test_export_gives_what_was_applied(call: Call, tmp_path: Path) -> None:
    table = nap(tmp_path, env={"A": "1"}, restart="on-failure", cpu="0.5", timeout="2h", cron="0 9 * * 1")
    call("jobs.apply", jobs={"told-back": table})
    assert call("jobs.export", names=["told-back"]) == {"told-back": table}
    assert call("jobs.export")["told-back"] == table
    with pytest.raises(NotFound, match="no job 'ghost'"):
        call("jobs.export", names=["ghost"])


def test_a_job_started_by_hand_is_exported_as_it_is(call: Call, tmp_path: Path) -> None:
    call("run", argv=["sleep", "600"], name="manual", cwd=str(tmp_path))
    exported = call("jobs.export", names=["manual"])
    assert exported["manual"]["env"].items() <= os.environ.items()
    assert call("jobs.apply", jobs=exported)["plan"] == []


words = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=8)
tables = st.fixed_dictionaries(
    {"argv": st.lists(words, max_size=3).map(lambda rest: ["true", *rest]), "every": st.just("9d")},
    optional={
        "env": st.dictionaries(
            words.filter(lambda word: "=" not in word and word.strip()), words, min_size=1, max_size=3
        ),
        "restart": st.sampled_from(["on-failure", "always"]),
        "memory": st.sampled_from(["512M", "1G"]),
        "priority": st.sampled_from(["idle", "low", "high"]),
        "timeout": st.sampled_from(["30s", "2h"]),
        "ready": st.sampled_from([{"tcp": 8000}, {"log": "up", "timeout": "5m"}, {"exec": ["true"]}]),
        "health": st.sampled_from([{"http": "http://127.0.0.1:8000/", "failures": 5}]),
        "restart_limit": st.sampled_from([{"restarts": 3}, {"restarts": 1, "within": "1h"}]),
        "env_files": st.sampled_from([["/etc/environment"]]),
        "pids": st.integers(1, 500),
        "umask": st.sampled_from(["027", "0077"]),
        "stop_signal": st.sampled_from(["INT", "QUIT"]),
        "stop_timeout": st.sampled_from(["1s", "5m"]),
        "success_exit": st.lists(st.sampled_from([3, 143, "TERM"]), min_size=1, unique=True),
        "missed": st.just("skip"),
        "overlap": st.sampled_from(["queue", "replace"]),
    },
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(table=tables)
def test_what_is_applied_is_exported_and_applying_that_changes_nothing(client: Client, table: Table) -> None:
    table = {"cwd": os.path.realpath("/"), **table}
    client.call("jobs.apply", jobs={"turning": table})
    exported = client.call("jobs.export", names=["turning"])
    assert exported == {"turning": table}
    assert client.call("jobs.apply", jobs=exported)["changes"] == []


def test_a_hundred_jobs_are_declared_within_seconds(llmosd: Daemon, tmp_path: Path) -> None:
    jobs = {f"many-{number}": nap(tmp_path) for number in range(100)}
    with llmosd.client() as client:
        began = time.monotonic()
        assert client.call("jobs.apply", jobs=jobs)["ok"]
        assert time.monotonic() - began < 30
        began = time.monotonic()
        assert client.call("jobs.apply", jobs=jobs)["plan"] == []
        assert time.monotonic() - began < 5


ASK = """
import json, os, socket, sys
os.setgroups([]); os.setgid(65534); os.setuid(65534); os.chdir("/")
wire = socket.socket(socket.AF_UNIX); wire.connect(sys.argv[1]); answers = wire.makefile()
for number, (method, params) in enumerate(json.loads(sys.argv[2])):
    wire.sendall(json.dumps({"id": number, "method": method, "params": params}).encode() + b"\\n")
    print(answers.readline(), end="")
"""


@needs_root
def test_another_user_declares_jobs_of_their_own_alone(call: Call, daemon: Daemon) -> None:
    call("jobs.apply", jobs={"roots": {"argv": ["sleep", "600"], "cwd": "/"}})
    folders = [folder for folder in daemon.socket.parents if folder.stat().st_uid == 0]
    modes = [folder.stat().st_mode for folder in folders]
    table = {"argv": ["sleep", "600"], "cwd": "/"}
    calls = [
        ("jobs.apply", {"jobs": {"roots": {**table, "priority": "low"}}}),
        ("jobs.apply", {"jobs": {"theirs": {**table, "after": "roots"}}}),
        ("jobs.apply", {"jobs": {"theirs": {**table, "user": "root"}}}),
        ("jobs.apply", {"jobs": {"theirs": table}}),
        ("jobs.export", {}),
        ("jobs.export", {"names": ["roots"]}),
    ]
    for folder in folders:
        folder.chmod(folder.stat().st_mode | 0o111)
    daemon.socket.chmod(0o666)
    try:
        command = [sys.executable, "-c", ASK, str(daemon.socket), json.dumps(calls)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    finally:
        for folder, mode in zip(folders, modes, strict=True):
            folder.chmod(mode)
    others, awaited, as_root, own, exported, told = map(json.loads, done.stdout.splitlines())
    assert "belongs to another user" in others["error"]["message"]
    assert "belongs to another user" in awaited["error"]["message"]
    assert "only root may run a job as another user" in as_root["error"]["message"]
    assert own["result"]["ok"] and exported["result"]["theirs"] == table and "roots" not in exported["result"]
    assert told["error"]["data"]["code"] == "forbidden"
    assert psutil.Process(state_of(call, "theirs")["pid"]).uids().real == 65534
