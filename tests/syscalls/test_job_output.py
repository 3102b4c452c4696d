"""Where the output of jobs goes, as programs ask for it of a real llmosd."""

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conftest import Daemon
from llmos import Client
from llmos.errors import BadInput, Unavailable, Unsupported

Call = Callable[..., Any]
Eventually = Callable[[Callable[[], object]], Any]

SPEAKS = "echo out; sleep 0.3; echo listening >&2; sleep 0.3; echo out again; exec sleep 600"


def test_stderr_apart_is_read_apart_and_as_one(call: Call, eventually: Eventually) -> None:
    argv = ["sh", "-c", SPEAKS]
    job = call("run", name="apart", argv=argv, stderr="separate", ready={"log": "listening"})
    assert (job["stderr"], job["state"]) == ("separate", "starting")
    eventually(lambda: call("show", target="apart")["state"] == "running")  # its stderr says that it is ready
    eventually(lambda: call("logs", target="apart")["lines"] == ["out", "listening", "out again"])
    assert call("logs", target="apart", stream="stderr")["lines"] == ["listening"]
    assert call("logs", target="apart", stream="stdout", lines=1) == {
        "job": "apart",
        "lines": ["out again"],
        "truncated": True,
    }
    assert call("logs", target="apart", since="1h", grep="out")["lines"] == ["out", "out again"]
    with pytest.raises(BadInput, match="stream"):
        call("logs", target="apart", stream="stdin")
    call("stop", target="apart")
    folder = Path(call("show", target="apart")["log"]).parent
    call("remove", job="apart", allow="destroy")
    assert not list(folder.glob("apart*"))


def test_a_follower_chooses_what_it_gets(daemon: Daemon, call: Call, tmp_path: Path) -> None:
    call("run", name="followed", argv=["sh", "-c", "echo one; echo bad >&2; cat; echo bad end >&2"], stderr="separate")
    call("wait", target="followed")
    waits = "while [ $(ls | wc -l) -lt 3 ]; do echo good; echo bad >&2; sleep 0.1; done"  # until all three follow
    argv = ["sh", "-c", f"{waits}; for i in 1 2 3; do sleep 0.2; echo good $i; echo bad $i >&2; done"]
    call("run", name="followed", argv=argv, cwd=str(tmp_path), stderr="separate")
    got: dict[str, list[str]] = {}

    def follow(name: str, **asked: Any) -> None:
        with daemon.client() as client:
            got[name] = []
            for line in client.follow_logs("followed", **asked):
                (tmp_path / name).touch()
                got[name].append(line)

    asked: dict[str, dict[str, Any]] = {
        "all": {"since": "1h"},
        "grep": {"grep": "good", "lines": 0},
        "stream": {"stream": "stderr", "grep": "bad", "lines": 1},
    }
    threads = [threading.Thread(target=follow, args=(name,), kwargs=each) for name, each in asked.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert [line for line in got["all"] if line.startswith("good ")] == ["good 1", "good 2", "good 3"]
    assert [line for line in got["all"] if line.startswith("bad ")] == ["bad end", "bad 1", "bad 2", "bad 3"]
    assert set(got["all"][:3]) == {"one", "bad", "bad end"}  # written to two files in the same moment
    assert [line for line in got["grep"] if line != "good"] == ["good 1", "good 2", "good 3"]
    assert got["stream"][-3:] == ["bad 1", "bad 2", "bad 3"]
    with pytest.raises(BadInput, match="since"):
        call("logs.follow", target="followed", since="soon")


def test_a_file_declares_it(client: Client) -> None:
    declared = {"argv": ["true"], "cwd": "/", "at": "03:00", "output": "journald", "stderr": "separate"}
    client.call("jobs.apply", jobs={"declared": declared})
    assert client.call("jobs.export", names=["declared"])["declared"].items() >= declared.items()
    assert client.call("jobs.apply", jobs={"declared": declared}, dry_run=True)["changes"] == []
    shown = client.call("show", target="declared")
    assert (shown["output"], shown["log"]) == ("journald", "journalctl --identifier=declared")
    for method, more in (
        ("logs", {}),
        ("logs.follow", {}),
        ("watch", {"metric": "log", "match": "x"}),
    ):
        with pytest.raises(
            Unsupported, match=r"the output of declared goes to the journal .*: journalctl --identifier"
        ):
            client.call(method, target="declared", **more)
    client.call("unschedule", job="declared")
    client.call("remove", job="declared", allow="destroy")


def test_what_cannot_be_is_refused(call: Call) -> None:
    with pytest.raises(BadInput, match=r"output=journald excludes ready=\{log\}"):
        call("run", name="blind", argv=["true"], output="journald", ready={"log": "x"})
    with pytest.raises(BadInput, match="output"):
        call("run", name="blind", argv=["true"], output="syslog")
    if os.path.exists("/run/systemd/journal/stdout"):
        pytest.skip("this machine has a journal")
    with pytest.raises(Unavailable, match=r'cannot be reached .* is systemd-journald running.* output="file"'):
        call("run", name="blind", argv=["true"], output="journald")
    assert "blind" not in {job["name"] for job in call("jobs")}
