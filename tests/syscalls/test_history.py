"""What was done before: listed, explained, and taken back."""

from collections.abc import Callable
from typing import Any

import pytest

from llmos.errors import Conflict, LlmosError, NotFound

Call = Callable[..., Any]


def test_what_was_done_is_listed_with_its_outcome(call: Call) -> None:
    call("run", name="noted", argv=["sleep", "600"])
    with pytest.raises(Conflict):
        call("resume", target="noted")
    call("stop", target="noted")
    steps = call("history", limit=3)
    assert [step["ok"] for step in steps] == [True, False, True]
    assert steps[0]["line"] == "stop noted" and steps[0]["reversible"]
    assert "noted" in steps[1]["error"]
    assert steps[2]["line"] == "run name=noted -- sleep 600"


def test_several_steps_are_taken_back_the_newest_first(call: Call) -> None:
    call("run", name="layers", argv=["sleep", "600"])
    for word in ("low", "idle"):
        call("renice", target="layers", priority=word)
    rows = call("undo", steps=2)
    assert [row["line"] for row in rows] == ["renice layers idle", "renice layers low"]
    assert call("show", target="layers")["priority"] == "normal"
    call("undo")
    assert call("show", target="layers")["state"] == "stopped"


def test_what_cannot_be_taken_back_says_so_and_is_passed_over(call: Call) -> None:
    call("run", name="stays", argv=["sleep", "600"])
    call("run", name="goes", argv=["sleep", "600"])
    call("stop", target="goes")
    call("remove", job="goes", allow="destroy")
    for _ in range(2):  # its stop, then its start
        with pytest.raises(LlmosError, match="cannot be taken back: there is no job 'goes'"):
            call("undo")
    call("undo")
    assert call("show", target="stays")["state"] == "stopped"


def test_why_of_what_llmos_never_touched(call: Call) -> None:
    assert "has done nothing" in call("why", target=1)["sentence"]
    with pytest.raises(NotFound):
        call("why", target="no-such-thing")
