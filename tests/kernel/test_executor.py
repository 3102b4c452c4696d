"""Plans on a real daemon: graphs, references, confirmation, and what is only known on the way."""

import subprocess
from pathlib import Path
from typing import Any

import pytest

from llmos import Client
from llmos.errors import BadInput, NeedsConfirmation, NotFound, PlanChanged


def test_a_failed_line_skips_what_depends_on_it_and_the_rest_goes_on(client: Client) -> None:
    answer = client.plan_run(
        ["port 1", "show no-such-thing", "tree $2", "run name=goes-on -- sleep 600", "stop $4"], "destroy"
    )
    assert [result["ok"] for result in answer["results"]] == [True, False, False, True, True]
    assert answer["results"][1]["error"]["data"]["code"] == "not-found"
    assert answer["results"][2]["skipped"] == "line 2 did not go well"
    assert answer["ok"] is False
    assert client.call("show", target="goes-on")["state"] == "stopped"


def test_what_is_asked_twice_is_done_once(client: Client) -> None:
    before = len(client.history(limit=100))
    answer = client.plan_run(
        "run name=twin -- sleep 600\nrenice twin low\nrenice twin low\nsystem load\nsystem load", "change"
    )
    values = [result["value"] for result in answer["results"]]
    assert values[3] == values[4] and values[1] == values[2]
    assert len(client.history(limit=100)) == before + 2
    client.stop("twin")


def test_a_dry_run_marks_what_is_not_there_yet_and_does_nothing(client: Client) -> None:
    check = client.plan_check(["run name=dreamt -- sleep 600", "renice dreamt low", "stop $1"])
    assert check["risks"] == ["change", "change", "destroy"]
    assert [(target["line"], target["resolved"], target["name"]) for target in check["targets"]] == [
        (2, False, "dreamt"),
        (3, False, "$1"),
    ]
    assert "dreamt" not in {job["name"] for job in client.jobs()}
    single = client.call("kill", target="not-there", dry_run=True)
    assert single["risk"] == "destroy" and single["targets"][0]["resolved"] is False
    with pytest.raises(NotFound):
        client.call("kill", target="not-there", allow="destroy")
    with pytest.raises(BadInput, match="line"):
        client.plan_check(["fly away"])


def test_a_confirmation_runs_exactly_what_was_shown(client: Client, tmp_path: Path) -> None:
    program = tmp_path / "llmos-replaced"
    program.write_bytes(Path("/bin/sleep").resolve().read_bytes())
    program.chmod(0o755)
    first = subprocess.Popen([program, "600"])
    second: subprocess.Popen[bytes] | None = None
    try:
        with pytest.raises(NeedsConfirmation) as asked:
            client.plan_run("kill llmos-replaced", "change")
        shown = dict[str, Any](asked.value.data)
        assert shown.keys() >= {"plan", "risk", "hash", "targets", "reasons"}
        assert [target["pid"] for target in shown["targets"]] == [first.pid]
        first.kill()
        first.wait()
        second = subprocess.Popen([program, "600"])
        with pytest.raises(PlanChanged) as changed:
            client.plan_run("kill llmos-replaced", confirm=shown["hash"])
        assert second.poll() is None
        now = dict[str, Any](changed.value.data)
        assert now["targets"][0]["pid"] == second.pid
        with pytest.raises(PlanChanged):
            client.plan_run(f"kill {second.pid} signal=KILL", confirm=now["hash"])
        answer = client.plan_run("kill llmos-replaced", confirm=now["hash"])
        assert answer["ok"] and second.wait(10) == -15
    finally:
        for process in (first, second):
            if process is not None and process.poll() is None:
                process.kill()
                process.wait()


def test_one_line_above_what_is_allowed_holds_all_back(client: Client) -> None:
    with pytest.raises(NeedsConfirmation) as asked:
        client.plan_run(["run name=harmless -- sleep 600", "renice 1 low"], "change")
    assert any("pid 1" in reason for reason in dict[str, Any](asked.value.data)["reasons"])
    assert "harmless" not in {job["name"] for job in client.jobs()}


def test_a_method_that_names_no_tier_may_change_and_not_destroy(client: Client) -> None:
    client.run(["sleep", "600"], name="tier")
    with pytest.raises(NeedsConfirmation):
        client.call("kill", target="tier")
    with pytest.raises(NeedsConfirmation):
        client.call("pause", target="tier", allow="read")
    with pytest.raises(NeedsConfirmation):
        client.plan_run("stop tier")  # a plan may only read, unless it is told otherwise
    client.call("pause", target="tier")
    client.stop("tier")


def test_what_a_read_found_is_what_is_acted_on(client: Client, tmp_path: Path) -> None:
    held = tmp_path / "held"
    holder = subprocess.Popen(["sh", "-c", f"exec 3> {held}; echo; exec sleep 600"], stdout=subprocess.PIPE)
    assert holder.stdout is not None
    holder.stdout.readline()
    try:
        check = client.plan_check([f"holders {held}", "kill $1"])
        assert [target["pid"] for target in check["targets"] if target["line"] == 2] == [holder.pid]
        assert client.plan_run([f"holders {held}", "kill $1"], confirm=check["hash"])["ok"]
        assert holder.wait(10) == -15
        nothing = client.plan_run([f"holders {held}", "kill $1"], "destroy")
        assert nothing["results"][0]["value"] == [] and nothing["results"][1]["value"] == []
    finally:
        holder.stdout.close()
        if holder.poll() is None:
            holder.kill()
            holder.wait()


def test_a_read_that_fails_is_no_failure_of_the_check(client: Client) -> None:
    plan = ["ps user=no-such-user", "kill $1"]
    check = client.plan_check(plan)
    assert check["risk"] == "destroy" and check["targets"] == [{"line": 2, "name": "$1", "resolved": False}]
    answer = client.plan_run(plan, confirm=check["hash"])
    assert [result["ok"] for result in answer["results"]] == [False, False]
    assert answer["results"][0]["error"]["data"]["code"] == "not-found"
    assert answer["results"][1]["skipped"]
