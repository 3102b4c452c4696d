"""The command line on a terminal: the question before a plan runs, its editing, colour, folding, the spinner."""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fake_daemon import FakeDaemon
from llmos.errors import Ambiguous, NeedsConfirmation, NotFound, PlanChanged

ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
PROMPT = "[y/N/e] "
TARGET = {
    "line": 1,
    "kind": "process",
    "name": "web",
    "pid": 4242,
    "user": "ann",
    "age_seconds": 7300.0,
    "command": "web --port 80",
    "resolved": True,
}


def check_of(plan: list[str], number: int = 1) -> dict[str, Any]:
    risk = "destroy"
    return {
        "plan": plan,
        "risk": risk,
        "risks": [risk] * len(plan),
        "reasons": ["kill ends a process"],
        "hash": f"h{number}",
        "targets": [TARGET],
    }


def ran(params: dict[str, Any]) -> dict[str, Any]:
    results = [{"line": line, "ok": True, "value": [{"name": "done", "pid": 1}]} for line in params["plan"]]
    return {**check_of(params["plan"]), "ok": True, "answer": None, "results": results}


class Terminal:
    """The command line as a process whose terminal is a pty."""

    def __init__(self, *words: str, columns: int = 100, **environment: str) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
        kept = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "NO_COLOR", "FORCE_COLOR")}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "llmos.cli", *words],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env={**kept, "TERM": "xterm-256color", **environment},
            start_new_session=True,
        )
        os.close(slave)
        self.raw = ""

    @property
    def text(self) -> str:
        """What was printed, without escapes."""
        return ESCAPES.sub("", self.raw).replace("\r\n", "\n")

    def read_until(self, wanted: str, times: int = 1) -> None:
        deadline = time.monotonic() + 30
        while self.text.count(wanted) < times:
            assert time.monotonic() < deadline, self.text
            assert self._read(), self.text

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def finish(self) -> int:
        """Read to the end; returns the exit code."""
        while self._read():
            pass
        os.close(self._master)
        code = self.process.wait(30)
        assert "Traceback" not in self.text
        return code

    def _read(self) -> bool:
        if not select.select([self._master], [], [], 30)[0]:
            return False
        try:
            piece = os.read(self._master, 65536)
        except OSError:  # EIO: the other side has closed
            return False
        self.raw += piece.decode(errors="replace")
        return bool(piece)


@pytest.fixture
def daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeDaemon]:
    monkeypatch.setenv("LLMOS_SOCKET", str(tmp_path / "s"))
    with FakeDaemon(tmp_path / "s", {"plan.run": ran}) as fake:
        fake.answers["plan.check"] = lambda params: check_of(params["plan"], 2)
        for method in ("ask", "kill"):
            fake.answers[method] = NeedsConfirmation("killing is above what you allow", **check_of(["kill web"]))
        yield fake


def editor(tmp_path: Path, script: str) -> str:
    path = tmp_path / "editor"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize("words", [["ask", "kill the web server"], ["kill", "web"]])
def test_yes_runs_exactly_what_was_shown(daemon: FakeDaemon, words: list[str]) -> None:
    terminal = Terminal(*words)
    terminal.read_until(PROMPT)
    assert "kill web" in terminal.text and "risk: destroy" in terminal.text
    assert re.search(r"1 +4242 +web +ann +2h 1m +web --port 80", terminal.text)
    assert not daemon.asked("plan.run")
    terminal.type("y\n")
    assert terminal.finish() == 0
    assert "done" in terminal.text
    assert daemon.asked("plan.run") == [{"plan": ["kill web"], "allow": "read", "confirm": "h1"}]


@pytest.mark.parametrize("answer", ["n\n", "\n", "what\n", "\x04"])
def test_anything_but_yes_runs_nothing(daemon: FakeDaemon, answer: str) -> None:
    terminal = Terminal("kill", "web")
    terminal.read_until(PROMPT)
    terminal.type(answer)
    assert terminal.finish() == 6
    assert "nothing was done" in terminal.text
    assert not daemon.asked("plan.run")


def test_ctrl_c_at_the_question_runs_nothing(daemon: FakeDaemon) -> None:
    terminal = Terminal("kill", "web")
    terminal.read_until(PROMPT)
    terminal.process.send_signal(signal.SIGINT)
    assert terminal.finish() == 130
    assert not daemon.asked("plan.run")


def test_an_edited_plan_is_checked_and_shown_again(daemon: FakeDaemon, tmp_path: Path) -> None:
    change = editor(tmp_path, r"""printf '# a note\nkill web signal=HUP\n\nshow web\n' > "$1" """)
    terminal = Terminal("ask", "kill it", EDITOR=change, VISUAL="")
    terminal.read_until(PROMPT)
    terminal.type("e\n")
    terminal.read_until(PROMPT, times=2)
    assert "kill web signal=HUP" in terminal.text
    terminal.type("y\n")
    assert terminal.finish() == 0
    assert daemon.asked("plan.check") == [{"plan": ["kill web signal=HUP", "show web"]}]
    assert daemon.asked("plan.run")[0]["confirm"] == "h2"


@pytest.mark.parametrize(
    ("script", "problem"),
    [
        ("exit 3", "status 3"),
        ('echo > "$1"', "empty"),
        ('echo "kil web" > "$1"', "no such verb"),
        (None, "cannot be run"),
    ],
)
def test_an_edit_that_fails_leaves_the_plan_as_it_was(
    daemon: FakeDaemon, tmp_path: Path, script: str | None, problem: str
) -> None:
    daemon.answers["plan.check"] = NotFound("no such verb")
    change = editor(tmp_path, script) if script else str(tmp_path / "none")
    terminal = Terminal("kill", "web", VISUAL=change)
    terminal.read_until(PROMPT)
    terminal.type("e\n")
    terminal.read_until(PROMPT, times=2)
    assert problem in " ".join(terminal.text.split())
    terminal.type("y\n")
    assert terminal.finish() == 0
    assert daemon.asked("plan.run")[0]["plan"] == ["kill web"]


def test_a_plan_that_changed_meanwhile_is_shown_again(daemon: FakeDaemon) -> None:
    def run(params: dict[str, Any]) -> Any:
        return ran(params) if params["confirm"] == "h2" else PlanChanged("web has another pid now")

    daemon.answers["plan.run"] = run
    terminal = Terminal("kill", "web")
    terminal.read_until(PROMPT)
    terminal.type("y\n")
    terminal.read_until(PROMPT, times=2)
    assert "another pid now" in terminal.text
    terminal.type("y\n")
    assert terminal.finish() == 0
    assert [params["confirm"] for params in daemon.asked("plan.run")] == ["h1", "h2"]


def test_a_name_cannot_forge_the_question(daemon: FakeDaemon) -> None:
    forged = {**TARGET, "name": "ok\x1b[2K\x1b[1A\r[green]safe", "command": "a\nrisk: read"}
    daemon.answers["kill"] = NeedsConfirmation("no", **{**check_of(["kill web"]), "targets": [forged]})
    terminal = Terminal("kill", "web")
    terminal.read_until(PROMPT)
    assert "\x1b[2K" not in terminal.raw and "\x1b[1A" not in terminal.raw
    assert "\nrisk: read" not in terminal.text
    terminal.type("n\n")
    assert terminal.finish() == 6


def test_json_never_asks(daemon: FakeDaemon) -> None:
    terminal = Terminal("kill", "web", "--json")
    assert terminal.finish() == 6
    assert PROMPT not in terminal.text


def test_no_color_is_respected(daemon: FakeDaemon) -> None:
    daemon.answers["jobs"] = [{"name": "web", "state": "running", "pid": 1, "argv": ["web"]}]
    coloured, plain = Terminal("jobs"), Terminal("jobs", NO_COLOR="1")
    assert (coloured.finish(), plain.finish()) == (0, 0)
    assert "\x1b[32m" in coloured.raw
    assert not re.search(r"\x1b\[[0-9;]*3[0-7]m", plain.raw)


def test_a_narrow_terminal_folds_and_loses_nothing(daemon: FakeDaemon) -> None:
    command = "".join(f"word{number:02}" for number in range(20))
    row = {"pid": 12345, "name": "web", "user": "ann", "state": "sleeping", "command": command}
    daemon.answers |= {"pause": [row], "ps": [row] * 3}
    listing = Terminal("ps", columns=50)
    assert listing.finish() == 0 and len(listing.text.splitlines()) == 4
    terminal = Terminal("pause", "web", columns=50)
    assert terminal.finish() == 0
    lines = terminal.text.splitlines()
    assert all(len(line) <= 50 for line in lines) and "12345" in terminal.text
    assert "word19" in "".join(line.rsplit(" ", 1)[-1] for line in (line.rstrip() for line in lines))


def test_a_spinner_counts_the_seconds_of_the_model(daemon: FakeDaemon) -> None:
    seen = threading.Event()
    daemon.answers["ask"] = lambda params: seen.wait(30) and {**ran({"plan": ["jobs"]}), "risk": "read"}
    terminal = Terminal("ask", "what runs")
    terminal.read_until("thinking 0 s")
    seen.set()
    assert terminal.finish() == 0
    assert "› jobs" in terminal.text


def test_followed_logs_are_harmless_on_a_terminal(daemon: FakeDaemon) -> None:
    daemon.answers["logs"] = {"job": "web", "lines": ["\x1b]0;title\x07 line"], "truncated": False}
    terminal = Terminal("logs", "web")
    assert terminal.finish() == 0
    assert "\\x1b]0;title\\x07 line" in terminal.text and "\x07" not in terminal.raw


def unclear() -> Ambiguous:
    readings = [check_of(["stop web"]), {**check_of(["kill web"]), "hash": "h2"}]
    return Ambiguous("this can be read in two ways", readings=readings, confidence=0.4)


@pytest.mark.parametrize(
    ("choice", "plan", "verdict"),
    [("1", "stop web", {"verdict": "accepted"}), ("2", "kill web", {"verdict": "edited", "wanted": ["kill web"]})],
)
def test_of_two_readings_the_chosen_one_runs(
    daemon: FakeDaemon, choice: str, plan: str, verdict: dict[str, Any]
) -> None:
    daemon.answers |= {"ask": unclear(), "learn.feedback": {"kept": True}}
    terminal = Terminal("ask", "end the web thing")
    terminal.read_until("which did you mean? [1/2/N] ")
    assert "1)" in terminal.text and "stop web" in terminal.text and "2)" in terminal.text
    terminal.type(f"{choice}\n")
    assert terminal.finish() == 0
    assert [(run["plan"], run["confirm"]) for run in daemon.asked("plan.run")] == [([plan], f"h{choice}")]
    told = daemon.asked("learn.feedback")[0]
    assert told["request"] == "end the web thing" and told["given"] == ["stop web"]
    assert verdict.items() <= told.items()


@pytest.mark.parametrize("choice", ["n\n", "\n", "3\n", "\x04"])
def test_of_two_readings_none_runs_unless_chosen(daemon: FakeDaemon, choice: str) -> None:
    daemon.answers |= {"ask": unclear(), "learn.feedback": {"kept": True}}
    terminal = Terminal("ask", "end the web thing")
    terminal.read_until("which did you mean? [1/2/N] ")
    terminal.type(choice)
    assert terminal.finish() == Ambiguous.exit_code
    assert not daemon.asked("plan.run")
    assert daemon.asked("learn.feedback")[0]["verdict"] == "rejected"
