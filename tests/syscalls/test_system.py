"""The verbs on the machine as a whole."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llmos.errors import BadInput, LlmosError, NotFound, Unsupported

Call = Callable[..., Any]


@pytest.mark.parametrize(
    "aspect", ["cpu", "memory", "network", "load", "uptime", "disk", "gpu", "pressure", "temperature"]
)
def test_system_answers_or_says_what_is_missing(call: Call, aspect: str) -> None:
    try:
        assert call("system", aspect=aspect)
    except Unsupported as missing:
        assert len(missing.message) > 20


def test_an_aspect_that_does_not_exist_names_those_that_do(call: Call) -> None:
    with pytest.raises(BadInput, match="'cpu'"):
        call("system", aspect="weather")


def test_usage_lists_the_biggest(call: Call, tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(bytes(3 << 20))
    (tmp_path / "small").write_bytes(bytes(1 << 16))
    rows = call("usage", path=str(tmp_path), limit=2)
    assert (rows[0]["kind"], rows[0]["path"]) == ("total", str(tmp_path))
    assert [(row["kind"], Path(row["path"]).name) for row in rows[1:]] == [("file", "big"), ("file", "small")]
    with pytest.raises(NotFound):
        call("usage", path=str(tmp_path / "missing"))


def test_doctor_names_a_remedy_for_what_is_missing(call: Call) -> None:
    rows = call("doctor")
    assert {"cgroup", "GPU", "model", "pidfd"} <= {row["check"] for row in rows}
    assert all(row["ok"] or row["remedy"] for row in rows), rows


def test_the_status_counts_jobs_and_memory(call: Call) -> None:
    call("run", name="counted", argv=["true"])
    call("wait", target="counted")
    status = call("daemon.status")
    assert status["jobs"]["stopped"] >= 1
    assert status["memory_bytes"] > 1 << 20 and status["reaper"]["memory_bytes"] > 1 << 20


def test_talk_is_no_method(call: Call) -> None:
    with pytest.raises(LlmosError, match=r"rpc\.discover"):
        call("refuse", reason="no")
