"""`llmos learn`, and what the question before a plan tells llmosd of the answer."""

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fake_daemon import FakeDaemon, Pushed
from llmos.cli import run
from llmos.errors import NeedsConfirmation, Unsupported
from test_cli_terminal import PROMPT, Terminal, check_of, editor, ran

STATUS = {
    "keep": True,
    "feedback": {"accepted": 3, "edited": 20, "rejected": 1},
    "lessons": 23,
    "job": "stopped",
    "adapters": [
        {"adapter": "learned 2", "use": "now", "own_percent": 75.0, "dev_percent": 81.3, "lessons": 23, "at": 1.0},
        {"adapter": "learned 1", "use": "before", "own_percent": 25.0, "dev_percent": 81.9},
    ],
    "last": None,
}


@pytest.fixture
def daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeDaemon]:
    monkeypatch.setenv("LLMOS_SOCKET", str(tmp_path / "s"))
    with FakeDaemon(tmp_path / "s", {"plan.run": ran, "learn.feedback": {"kept": True}}) as fake:
        fake.answers["plan.check"] = lambda params: check_of(params["plan"], 2)
        fake.answers["ask"] = NeedsConfirmation("killing is above what you allow", **check_of(["kill web"]))
        fake.answers["learn.start"] = {"name": "llmos-learn", "state": "running"}
        fake.answers["learn.status"] = STATUS
        line = {"job": "llmos-learn", "line": "“the usual” stands for etl"}
        ended: dict[str, Any] = {"job": "llmos-learn", "ended": True}
        fake.answers["logs.follow"] = Pushed({"following": "llmos-learn"}, "log", [line, ended])
        yield fake


@pytest.fixture
def llmos(capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    def command(*words: str) -> tuple[int, str, str]:
        code = run(list(words))
        sys.stdout.flush()
        return code, *capfd.readouterr()

    return command


Command = Callable[..., tuple[int, str, str]]


def test_it_follows_what_is_learned_and_shows_what_came_of_it(daemon: FakeDaemon, llmos: Command) -> None:
    code, out, _ = llmos("learn", "--dev", "cases.jsonl")
    assert code == 0 and daemon.asked("learn.start") == [{"dev": str(Path("cases.jsonl").absolute())}]
    assert "“the usual” stands for etl" in out and "learned 2" in out
    assert "75.0" in out and "81.9" in out and "OWN%" in out


def test_it_can_be_left_to_itself(daemon: FakeDaemon, llmos: Command) -> None:
    code, out, _ = llmos("--json", "learn", "--detach")
    assert code == 0 and json.loads(out)["state"] == "running"
    assert not daemon.asked("logs.follow")


def test_for_programs_it_prints_one_document(daemon: FakeDaemon, llmos: Command) -> None:
    for words in (["learn", "--json"], ["learn", "status", "--json"], ["learn", "--json", "status"]):
        code, out, _ = llmos(*words)
        assert code == 0 and json.loads(out) == STATUS


def test_a_request_can_be_taught_without_being_run(daemon: FakeDaemon, llmos: Command) -> None:
    assert llmos("learn", "teach", "the usual", "start nightly-etl")[0] == 0
    told = daemon.asked("learn.feedback")
    assert [(one["request"], one["given"], one["wanted"]) for one in told] == [("the usual", [], ["start nightly-etl"])]
    code, _, err = llmos("learn", "teach", "the usual", "begin nightly-etl")
    assert code == 2 and "begin" in err and len(daemon.asked("learn.feedback")) == 1


def test_a_job_that_failed_fails_the_command(daemon: FakeDaemon, llmos: Command) -> None:
    daemon.answers["learn.status"] = {**STATUS, "job": "failed"}
    assert llmos("learn")[0] == 1
    daemon.answers["learn.start"] = Unsupported("learning needs torch; install it with: pip install 'llmos[train]'")
    code, _, err = llmos("learn")
    assert code == 8 and "llmos[train]" in err


@pytest.mark.parametrize(
    ("words", "method", "params", "result"),
    [
        (["rollback"], "learn.rollback", {}, {"in_use": "shipped"}),
        (["stop"], "learn.stop", {}, {"name": "llmos-learn", "state": "stopped"}),
        (["forget"], "learn.forget", {"adapters": False}, {"forgotten": 3, "adapters": False}),
        (["forget", "--adapters"], "learn.forget", {"adapters": True}, {"forgotten": 3, "adapters": True}),
    ],
)
def test_each_command_is_its_method(
    daemon: FakeDaemon, llmos: Command, words: list[str], method: str, params: dict[str, Any], result: dict[str, Any]
) -> None:
    daemon.answers[method] = result
    assert "would" in llmos("learn", *words, "--dry-run")[1] and not daemon.asked(method)
    code, out, _ = llmos("learn", *words, "--json")
    assert code == 0 and json.loads(out) == result and daemon.asked(method) == [params]


@pytest.mark.parametrize(
    ("answers", "verdict", "wanted", "code"),
    [
        ("y\n", "accepted", None, 0),
        ("n\n", "rejected", None, 6),
        ("e\ny\n", "edited", ["kill web signal=HUP"], 0),
        ("e\nn\n", "rejected", None, 6),
    ],
)
def test_what_a_person_makes_of_a_plan_is_told(
    daemon: FakeDaemon, tmp_path: Path, answers: str, verdict: str, wanted: list[str] | None, code: int
) -> None:
    change = editor(tmp_path, 'echo "kill web signal=HUP" > "$1"')
    terminal = Terminal("ask", "end", "it", EDITOR=change, VISUAL="")
    for times, answer in enumerate(answers.splitlines(keepends=True), 1):
        terminal.read_until(PROMPT, times=times)
        terminal.type(answer)
    assert terminal.finish() == code
    assert daemon.asked("learn.feedback") == [
        {"request": "end it", "given": ["kill web"], "verdict": verdict, "wanted": wanted}
    ]


def test_a_plan_that_was_typed_teaches_nothing(daemon: FakeDaemon) -> None:
    daemon.answers["kill"] = daemon.answers["ask"]
    terminal = Terminal("kill", "web")
    terminal.read_until(PROMPT)
    terminal.type("y\n")
    assert terminal.finish() == 0 and not daemon.asked("learn.feedback")


def test_that_it_cannot_be_told_is_no_failure(daemon: FakeDaemon) -> None:
    del daemon.answers["learn.feedback"]
    terminal = Terminal("ask", "end it")
    terminal.read_until(PROMPT)
    terminal.type("y\n")
    assert terminal.finish() == 0 and "done" in terminal.text
