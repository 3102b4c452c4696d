"""`learn.*` on a real daemon: what is kept, for whom and how much of it, and what becomes of what the job made."""

import asyncio
import hashlib
import json
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from conftest import Daemon, needs_root, running
from llmos import AsyncClient, Client
from llmos.errors import BadInput, Conflict, LlmosError, NotFound, PlanSyntaxError, Unsupported
from llmos.kernel.feedback import MAX_RECORDS, Feedback

Eventually = Callable[[Callable[[], object]], object]


def stored(daemon: Daemon) -> list[dict[str, Any]]:
    path = daemon.state_dir / "feedback.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def teach(client: Client) -> None:
    client.feedback("start the usual", ['ask "Which?"'], "edited", ["start nightly-etl"])


def test_what_is_said_is_kept_for_the_user_of_the_daemon_alone(llmosd: Daemon) -> None:
    with llmosd.client() as client:
        assert client.feedback("show web", ["show web"], "accepted") == {"kept": True}
        teach(client)
        client.feedback("end it", ["kill web signal=TERM"], "rejected")
        client.feedback("end that", [], "rejected", ["stop web"])
        assert client.call("learn.status")["feedback"] == {"accepted": 1, "edited": 1, "rejected": 2}
        assert client.call("learn.status")["lessons"] == 3
    records = stored(llmosd)
    assert records[1] == {
        "at": pytest.approx(records[0]["at"], abs=60),
        "uid": os.getuid(),
        "request": "start the usual",
        "given": ["ask Which?"],
        "verdict": "edited",
        "wanted": ["start nightly-etl"],
    }
    assert records[2]["given"] == ["kill web"]  # as it prints
    assert stat.S_IMODE((llmosd.state_dir / "feedback.jsonl").stat().st_mode) == 0o600


async def test_programs_may_tell_it_without_waiting(llmosd: Daemon) -> None:
    async with AsyncClient(llmosd.socket) as client:
        said = [client.feedback(f"request {n}", ["jobs"], "edited", ["ps"]) for n in range(20)]
        assert await asyncio.gather(*said) == [{"kept": True}] * 20
    assert {record["request"] for record in stored(llmosd)} == {f"request {n}" for n in range(20)}


@pytest.mark.parametrize(
    ("params", "error", "message"),
    [
        ({"verdict": "edited"}, BadInput, "needs the plan that was wanted"),
        ({"verdict": "edited", "wanted": []}, BadInput, "wanted"),
        ({"verdict": "accepted", "wanted": ["jobs"]}, BadInput, "needs no wanted plan"),
        ({"verdict": "edited", "wanted": ["fly away"]}, PlanSyntaxError, "no verb"),
        ({"verdict": "accepted", "given": ["fly away"]}, PlanSyntaxError, "no verb"),
        ({"verdict": "liked"}, BadInput, "verdict"),
        ({"verdict": "accepted", "request": ""}, BadInput, "request"),
        ({"verdict": "edited", "wanted": [f"run -- {'x' * 20_000}"]}, BadInput, "more than"),
    ],
)
def test_what_is_no_feedback_is_refused(
    client: Client, daemon: Daemon, params: dict[str, Any], error: type[LlmosError], message: str
) -> None:
    with pytest.raises(error, match=message):
        client.call("learn.feedback", **{"request": "x", "given": ["jobs"], **params})
    assert stored(daemon) == []


def test_who_does_not_want_it_is_not_listened_to(tmp_path: Path) -> None:
    with running(tmp_path, "[learn]\nkeep = false\n") as daemon, daemon.client() as client:
        assert client.feedback("show web", ["show web"], "accepted") == {"kept": False}
        assert client.call("learn.status")["keep"] is False
        assert not (daemon.state_dir / "feedback.jsonl").exists()


def test_only_the_newest_are_kept_whoever_writes_at_the_same_time(tmp_path: Path) -> None:
    feedback = Feedback(tmp_path / "feedback.jsonl")
    old = [json.dumps({"at": 0, "uid": 1, "request": f"{n}", "given": [], "verdict": "rejected", "wanted": None})
           for n in range(MAX_RECORDS)]  # fmt: skip
    (tmp_path / "feedback.jsonl").write_text("\n".join(old) + "\n")
    writers = [
        threading.Thread(target=feedback.add, args=(2, f"new {n}", ["jobs"], "accepted", None)) for n in range(4)
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    records = feedback.records()
    assert len(records) == MAX_RECORDS and records[0]["request"] == "4"
    assert {record["request"] for record in records[-4:]} == {f"new {n}" for n in range(4)}
    assert feedback.forget(lambda record: record["uid"] == 2) == 4
    assert len(feedback.records()) == MAX_RECORDS - 4


def test_what_was_said_can_be_forgotten(llmosd: Daemon) -> None:
    with llmosd.client() as client:
        teach(client)
        assert client.call("learn.forget") == {"forgotten": 1, "adapters": False}
        assert stored(llmosd) == [] and client.call("learn.status")["lessons"] == 0


@needs_root
def test_another_user_sees_and_forgets_only_what_they_said(llmosd: Daemon) -> None:
    with llmosd.client() as client:
        teach(client)
    llmosd.socket.chmod(0o666)
    for folder in (llmosd.folder, *llmosd.folder.parents):
        if folder.stat().st_uid == 0 and "pytest" in str(folder):
            folder.chmod(folder.stat().st_mode | 0o011)
    script = (
        "import os, sys, json\n"
        "from llmos import Client; from llmos.errors import Forbidden; c = Client(sys.argv[1])\n"
        "os.setgid(65534); os.setuid(65534); c.feedback('a', ['jobs'], 'accepted')\n"
        "seen = c.call('learn.status')['feedback']\n"
        "refused = 0\n"
        "for method in ('start', 'stop', 'rollback'):\n"
        "    try: c.call('learn.' + method)\n"
        "    except Forbidden: refused += 1\n"
        "print(json.dumps([seen, refused, c.call('learn.forget')['forgotten']]))\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(llmosd.socket)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [{"accepted": 1, "edited": 0, "rejected": 0}, 3, 1]
    assert [record["verdict"] for record in stored(llmosd)] == ["edited"]


def test_nothing_to_learn_and_nothing_to_go_back_to_are_said(client: Client) -> None:
    with pytest.raises((BadInput, Unsupported), match=r"nothing to learn|pip install"):
        client.call("learn.start")
    with pytest.raises(NotFound, match="shipped"):
        client.call("learn.rollback")
    with pytest.raises(NotFound, match="nothing is being learned"):
        client.call("learn.stop")


STAND_IN = '''
"""Ends the job that learns at its start, with what the file `outcome` beside this one says that training gave."""
import hashlib, json, os, pathlib, sys, time
if "llmos.nlui.learning" in sys.orig_argv:
    outcome = pathlib.Path(__file__).with_name("outcome").read_text()
    out = pathlib.Path(sys.orig_argv[sys.orig_argv.index("--out") + 1])
    if outcome == "hangs":
        print("learning", flush=True)
        time.sleep(600)
    if outcome == "breaks":
        print("learn: it broke", file=sys.stderr, flush=True)
        os._exit(1)
    after = {"own": 0.75, "dev": 0.5}
    learned = {"at": 1.0, "lessons": 7, "before": {"own": 0.25, "dev": 0.5}, "after": after}
    (out / "adapter.gguf").write_bytes(b"adapter")
    digest = hashlib.sha256(b"adapter" if outcome != "damaged" else b"another").hexdigest()
    (out / "adapter.json").write_text(json.dumps({"upon": "ab", "sha256": digest, "learned": learned}))
    (out / "taught.json").write_text(json.dumps({"values": {}, "phrases": None}))
    (out / "result.json").write_text(json.dumps({"adopt": outcome != "worse", "reason": outcome, **learned}))
    print("learned", flush=True)
    os._exit(0)
'''


@pytest.fixture
def outcome(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], object]]:
    """Says what training gives; a stand-in takes its place, so that these tests need none of its libraries."""
    folder = tmp_path / "stand-in"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(STAND_IN)
    for module in ("torch", "gguf", "tensorboard"):
        (folder / f"{module}.py").write_text("")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")]))
    yield (folder / "outcome").write_text


@pytest.fixture
def learner(outcome: Callable[[str], object], tmp_path: Path) -> Iterator[Daemon]:
    """An llmosd that has something to learn."""
    (tmp_path / "llmosd").mkdir()
    with running(tmp_path / "llmosd") as daemon:
        with daemon.client() as client:
            teach(client)
        yield daemon


def learned(client: Client) -> dict[str, Any]:
    """Learn, wait for the end, and look."""
    job = client.call("learn.start")
    assert (job["name"], job["priority"], job["uid"]) == ("llmos-learn", "idle", os.getuid())
    client.wait("llmos-learn", timeout="30s")
    return dict(client.call("learn.status"))


def test_what_is_better_is_put_to_use_and_can_be_taken_back(learner: Daemon, outcome: Callable[[str], object]) -> None:
    outcome("better")
    now = {"adapter": "learned 1", "use": "now", "own_percent": 75.0, "dev_percent": 50.0, "lessons": 7, "at": 1.0}
    before = {"adapter": "shipped", "use": "before", "own_percent": 25.0, "dev_percent": 50.0}
    with learner.client() as client:
        seen = learned(client)
        assert seen["adapters"] == [now, before] and seen["last"]["adopt"] and seen["job"] == "stopped"
        assert [row["adapter"] for row in learned(client)["adapters"]] == ["learned 2", "learned 1"]
        assert client.call("learn.rollback") == {"in_use": "learned 1"}
        assert client.call("learn.status")["adapters"] == [now, before]
        assert client.call("learn.forget", adapters=True) == {"forgotten": 1, "adapters": True}
        assert client.call("learn.status")["adapters"] == [{"adapter": "shipped", "use": "now"}]
        assert not (learner.state_dir / "learned").exists()


@pytest.mark.parametrize(("how", "state"), [("worse", "stopped"), ("breaks", "failed"), ("damaged", "stopped")])
def test_anything_else_is_not_put_to_use_and_leaves_nothing(
    learner: Daemon, outcome: Callable[[str], object], how: str, state: str
) -> None:
    with learner.client() as client:
        outcome("better")
        learned(client)
        outcome(how)
        seen = learned(client)
        assert seen["adapters"][0]["adapter"] == "learned 1" and seen["job"] == state
        if how != "breaks":
            assert seen["last"]["reason"] == how
        outcome("better")
        assert learned(client)["adapters"][0]["use"] == "now"
    kept = sorted(path.name for path in (learner.state_dir / "learned").glob("[0-9]*"))
    assert len(kept) == 2


def test_it_runs_once_at_a_time_and_can_be_stopped(learner: Daemon, outcome: Callable[[str], object]) -> None:
    outcome("hangs")
    with learner.client() as client:
        client.call("learn.start")
        with pytest.raises(Conflict, match="learn stop"):
            client.call("learn.start")
        assert client.call("learn.stop")["state"] == "stopped"
        assert client.call("learn.status")["adapters"] == [{"adapter": "shipped", "use": "now"}]
        client.call("learn.start")
        assert client.call("learn.forget")["forgotten"] == 1  # what is being learned of it is given up
        assert client.call("learn.status")["job"] == "stopped"
    assert list((learner.state_dir / "learned").glob("[0-9]*")) == []


def test_what_ended_while_llmosd_was_away_is_put_to_use(
    learner: Daemon, outcome: Callable[[str], object], eventually: Eventually
) -> None:
    outcome("hangs")
    with learner.client() as client:
        pid = client.call("learn.start")["pid"]
    learner.kill()
    # The hanging stand-in gives way to what it would have written.
    out = learner.state_dir / "learned" / "1"
    content = {"upon": "ab", "sha256": hashlib.sha256(b"a").hexdigest()}
    figures = {"at": 1.0, "lessons": 1, "before": {"own": 0.0, "dev": 0.5}, "after": {"own": 1.0, "dev": 0.5}}
    (out / "adapter.gguf").write_bytes(b"a")
    (out / "adapter.json").write_text(json.dumps({**content, "learned": figures}))
    (out / "taught.json").write_text('{"values": {}, "phrases": null}')
    (out / "result.json").write_text(json.dumps({"adopt": True, "reason": "better", **figures}))
    os.kill(pid, 15)
    learner.start()
    with learner.client() as client:
        eventually(lambda: client.call("learn.status")["adapters"][0]["adapter"] == "learned 1")


def test_a_job_that_only_has_the_name_is_not_believed(llmosd: Daemon, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    with llmosd.client() as client:
        client.run(["sh", "-c", "exit 0", "--out", str(precious)], name="llmos-learn")
        client.wait("llmos-learn", timeout="30s")
        argv = [sys.executable, "-m", "llmos.nlui.learning", "--state", str(llmosd.state_dir), "--out", str(precious)]
        client.run([*argv, "--help"], name="llmos-learn")
        client.wait("llmos-learn", timeout="30s")
        assert client.call("learn.status")["adapters"] == [{"adapter": "shipped", "use": "now"}]
    assert precious.is_dir()
