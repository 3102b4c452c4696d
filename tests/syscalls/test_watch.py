"""Watches: set, fired on the real thing, dropped, and taken back."""

import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from conftest import Daemon
from llmos.errors import BadInput, NotFound

Call = Callable[..., Any]
Eventually = Callable[[Callable[[], object]], Any]

BURN = [sys.executable, "-c", "while True: pass"]


def fired(call: Call, number: int) -> Callable[[], bool]:
    """Whether a watch has fired."""
    return lambda: any(watch["id"] == number and watch["fired"] for watch in call("watches"))


def test_metrics_of_the_machine_and_of_targets_fire(call: Call, tmp_path: Path, eventually: Eventually) -> None:
    job = call("run", name="burner", argv=BURN)
    lines = [
        {"metric": "load", "above": 0, "for": "1s"},
        {"metric": "load", "below": 100000},
        {"metric": "cpu", "target": "burner", "above": 5, "then": "renice burner idle"},
        {"metric": "cpu", "target": job["pid"], "above": 5},
        {"metric": "memory", "above": "1M"},
        {"metric": "memory", "target": "burner", "above": "1M"},
        {"metric": "disk", "target": str(tmp_path), "above": 0},
    ]
    numbers = [call("watch", **line)[0]["id"] for line in lines]
    never = call("watch", metric="memory", target="burner", above="900G")[0]["id"]
    for number in numbers:
        eventually(fired(call, number))
    eventually(lambda: call("show", target="burner")["priority"] == "idle")
    assert not fired(call, never)()
    call("stop", target="burner")
    for number in [*numbers, never]:
        call("unwatch", watch=str(number))
    with pytest.raises(NotFound, match="watch"):
        call("unwatch", watch=str(never))


def test_an_end_fires_once_for_a_process_and_each_time_for_a_job(call: Call, eventually: Eventually) -> None:
    process = subprocess.Popen(["sleep", "600"])
    call("run", name="mourner", argv=["sleep", "600"])
    call("watch", metric="exit", target=process.pid, then="stop mourner")
    process.kill()
    process.wait()
    eventually(lambda: call("show", target="mourner")["state"] == "stopped")
    eventually(lambda: not any(f"target={process.pid}" in watch["line"] for watch in call("watches")))
    [watch] = call("watch", metric="exit", target="mourner")
    for count in (1, 2):
        call("start", job="mourner")
        call("stop", target="mourner")
        eventually(partial(lambda count: call("watches")[-1]["fired"] == count, count))
    assert "has ended" in call("why", target="mourner")["sentence"] or call("why", target="mourner")["events"]
    [dropped] = call("unwatch", watch="mourner")
    assert dropped["id"] == watch["id"]


def test_output_that_matches_fires(call: Call, daemon: Daemon, eventually: Eventually) -> None:
    call("run", name="chatter", argv=["sh", "-c", "while :; do echo fine; sleep 0.1; done"])
    call("run", name="quiet", argv=["sh", "-c", "sleep 0.5; echo PANIC now; sleep 600"])
    [watch] = call("watch", metric="log", target="quiet", match="PANIC", then="stop chatter")
    eventually(fired(call, watch["id"]))
    eventually(lambda: call("show", target="chatter")["state"] == "stopped")
    call("stop", target="quiet")
    call("unwatch", watch="log")


def test_a_then_is_bound_to_what_its_reference_was(call: Call, eventually: Eventually) -> None:
    call("run", name="first-of-two", argv=["sleep", "600"])
    answer = call(
        "plan.run",
        plan='run name=second-of-two -- sleep 600\nwatch exit target=first-of-two then="stop $1"',
        allow="destroy",  # what $1 will be is not known when it is weighed
    )
    assert answer["ok"], answer
    call("stop", target="first-of-two")
    eventually(lambda: call("show", target="second-of-two")["state"] == "stopped")
    call("unwatch", watch="first-of-two")


def test_unwatching_by_metric_is_undone_and_numbers_stay_apart(call: Call) -> None:
    [watch] = (
        call("watch", metric="temperature", above=1000)
        if _has_sensor(call)
        else call("watch", metric="load", above=100000)
    )
    metric = "temperature" if _has_sensor(call) else "load"
    call("unwatch", watch=metric)
    [other] = call("watch", metric="memory", above=100)
    call("plan.run", plan="undo", allow="change")
    call("plan.run", plan="undo", allow="change")
    lines = [each["line"] for each in call("watches")]
    assert watch["line"] in lines and other["line"] not in lines
    call("unwatch", watch=metric)


def _has_sensor(call: Call) -> bool:
    return any(row["check"] == "temperature" and row["ok"] for row in call("doctor"))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"metric": "cpu"}, "say the limit"),
        ({"metric": "exit"}, "say whose end"),
        ({"metric": "log", "target": "x"}, "say whose output"),
        ({"metric": "cpu", "above": "5G"}, "only memory"),
        ({"metric": "load", "above": 1, "target": "x"}, "of the machine"),
    ],
)
def test_a_watch_that_makes_no_sense_says_why(call: Call, arguments: dict[str, Any], says: str) -> None:
    with pytest.raises(BadInput, match=says):
        call("watch", **arguments)


def test_a_watch_on_nothing_is_not_set(call: Call) -> None:
    with pytest.raises(NotFound, match="no-such-thing"):
        call("watch", metric="cpu", target="no-such-thing", above=1)
    if not _has_sensor(call):
        with pytest.raises(Exception, match="sensor"):
            call("watch", metric="temperature", above=1)
