"""Verbs that only read, run without the application: the same words give the same as the application does."""

import io
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from fake_daemon import FakeDaemon
from llmos.cli.app import run_app
from llmos.cli.layout import layout, text_of
from llmos.cli.reads import run_read
from llmos.cli.render import drawn

ROWS = [{"name": "web", "state": "running", "pid": 7, "argv": ["a b", "c"]}, {"name": "网页", "state": "failed"}]


@pytest.fixture
def daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeDaemon]:
    monkeypatch.setenv("LLMOS_SOCKET", str(tmp_path / "s"))
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    answers = dict.fromkeys(("ps", "jobs", "history", "tree", "show", "port", "system"), ROWS)
    with FakeDaemon(tmp_path / "s", {**answers, "logs": {"job": "web", "lines": ["one", "two"]}}) as fake:
        yield fake


def ran(run: Any, words: list[str]) -> tuple[int | None, str]:
    out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    with redirect_stdout(out), redirect_stderr(out):
        code = run(words)
        out.flush()
        out.seek(0)
        return code, out.read()


@pytest.mark.parametrize(
    "words",
    [
        ["jobs"],
        ["jobs", "--json"],
        ["--json", "jobs", "--state=failed"],
        ["ps", "--sort", "memory", "--limit", "3"],
        ["show", "web"],
        ["show", "4242"],
        ["tree"],
        ["tree", "web"],
        ["port", "80"],
        ["history", "--limit", "5"],
        ["system", "memory"],
        ["logs", "web", "--grep", "-x", "--since", "5m"],
    ],
)
def test_it_asks_and_prints_what_the_application_does(daemon: FakeDaemon, words: list[str]) -> None:
    short = ran(run_read, words)
    [asked] = daemon.requests
    daemon.requests.clear()
    assert short == ran(run_app, words)
    assert [asked] == daemon.requests
    assert short[0] == 0


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["jobs", "--help"],
        ["jobs", "-h"],
        ["jobs", "--dry-run"],
        ["jobs", "--state", "odd"],
        ["jobs", "--state"],
        ["jobs", "--names", "web"],
        ["jobs", "web"],
        ["show"],
        ["show", "$1"],
        ["show", "a\nb"],
        ["port", "70000"],
        ["ps", "--limit", "0"],
        ["logs", "web", "--follow"],
        ["usage", "."],
        ["holders", "x"],
        ["kill", "web"],
        ["call", "jobs"],
        ["status"],
        ["nonsense"],
        ["--", "jobs"],
    ],
)
def test_the_rest_is_left_to_the_application(daemon: FakeDaemon, words: list[str]) -> None:
    assert run_read(words) is None
    assert daemon.requests == []


def test_without_a_daemon_it_is_left_to_the_application(tmp_path: Path) -> None:
    assert run_read(["jobs", "--socket", str(tmp_path / "nobody")]) is None


def test_what_is_slow_to_load_is_not_loaded(daemon: FakeDaemon) -> None:
    code = (
        "import sys; from llmos.cli import run; code = run(['jobs'])\n"
        "slow = {'typer', 'rich', 'pydantic', 'asyncio', 'inspect', 'llmos.syscalls'} & sys.modules.keys()\n"
        "sys.exit(f'{code} {slow}' if code or slow else 0)"
    )
    daemon.answers["jobs"] = ROWS[:1]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[0].split() == ["NAME", "STATE", "PID", "ARGV"]


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@settings(deadline=None)  # loading what rich needs takes a while, once
@given(_JSON, st.sampled_from(["", "ps", "jobs", "tree", "why", "history"]))
def test_plain_text_is_what_a_terminal_shows(value: object, subject: str) -> None:
    console = Console(width=10_000, markup=False, highlight=False, emoji=False, force_terminal=False)
    shown = layout(json.loads(json.dumps(value)), subject)
    with console.capture() as capture:
        console.print(drawn(shown))
    assert [*text_of(shown)] == [line.rstrip() for line in capture.get().split("\n")[:-1]]
