"""The command line against a socket that speaks the protocol, in this process and as a process of its own."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fake_daemon import FakeDaemon, Pushed
from llmos.cli import launch, run
from llmos.errors import BY_CODE, BadInput, Conflict, NeedsConfirmation, NotFound

HOSTILE = "[red]x[/red]\x1b[31m\n\u202eevil\u0007"
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
CHECK = {
    "plan": ["kill web"],
    "risk": "destroy",
    "risks": ["destroy"],
    "reasons": ["kill ends a process"],
    "hash": "h1",
    "targets": [TARGET, {"line": 1, "name": "later", "resolved": False}],
}
KILLED = {
    **CHECK,
    "ok": True,
    "answer": None,
    "results": [{"line": "kill web", "ok": True, "value": [{"name": "web", "pid": 4242}]}],
}


@pytest.fixture
def daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeDaemon]:
    monkeypatch.setenv("LLMOS_SOCKET", str(tmp_path / "s"))
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    with FakeDaemon(tmp_path / "s") as fake:
        yield fake


Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def llmos(capfd: pytest.CaptureFixture[str]) -> Command:
    """Runs the command line here; returns the exit code, stdout and stderr."""

    def command(*words: str) -> tuple[int, str, str]:
        code = run(list(words))
        sys.stdout.flush()
        captured = capfd.readouterr()
        assert "Traceback" not in captured.out + captured.err
        return code, captured.out, captured.err

    return command


def as_process(*words: str, **settings: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "llmos.cli", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False, **settings)


def test_a_table_has_the_columns_of_the_verb(daemon: FakeDaemon, llmos: Command) -> None:
    daemon.answers["ps"] = [
        {
            "pid": 12,
            "start_ticks": 99,
            "name": "web",
            "user": "ann",
            "cpu_percent": 12.34,
            "memory_bytes": 3 * 1024**2,
            "age_seconds": 7300.2,
            "command": "web --port 80",
        }
    ]
    code, out, _ = llmos("ps", "--name", "web", "--limit", "5")
    header, row = out.splitlines()
    assert code == 0
    assert header.split() == ["PID", "NAME", "USER", "CPU%", "MEMORY", "AGE", "COMMAND"]
    assert row.split() == ["12", "web", "ann", "12.3", "3.0M", "2h", "1m", "web", "--port", "80"]
    assert daemon.asked("ps") == [{"name": "web", "limit": 5}]


def test_json_is_one_document_with_raw_values(daemon: FakeDaemon, llmos: Command) -> None:
    rows = [{"pid": 12, "memory_bytes": 3 * 1024**2, "name": HOSTILE}]
    daemon.answers["ps"] = rows
    for words in (("ps", "--json"), ("--json", "ps")):
        code, out, err = llmos(*words)
        assert (code, err) == (0, "")
        assert json.loads(out) == rows
        assert out.count("\n") == 1


def test_options_of_a_command_may_stand_before_it(
    daemon: FakeDaemon, llmos: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon.answers["plan.check"] = CHECK
    monkeypatch.setenv("LLMOS_SOCKET", str(tmp_path / "none"))
    code, out, _ = llmos("--socket", str(daemon.socket), "--dry-run", "--json", "kill", "web")
    assert (code, json.loads(out)) == (0, CHECK)


@pytest.mark.parametrize(
    ("words", "method", "params"),
    [
        (["kill", "3121", "--signal", "HUP"], "kill", {"target": "3121", "signal": "HUP"}),
        (["kill", "web", "--allow", "destroy"], "kill", {"target": "web", "allow": "destroy"}),
        (
            ["run", "--name", "x", "--memory", "2g", "--", "python", "-m", "http.server", "--json"],
            "run",
            {"name": "x", "memory": "2G", "cwd": "/", "argv": ["python", "-m", "http.server", "--json"]},
        ),
        (["run", "sleep", "5"], "run", {"cwd": "/", "argv": ["sleep", "5"]}),
        (["run", "--cwd", "tmp/x", "--", "sleep", "5"], "run", {"cwd": "/tmp/x", "argv": ["sleep", "5"]}),
        (["usage", "."], "usage", {"path": "/"}),
        (["holders", "../dev/null"], "holders", {"path": "/dev/null"}),
        (["focus", "web", "--for", "5m"], "focus", {"target": "web", "for": "5m"}),
        (["undo"], "undo", {}),
        (["undo", "3"], "undo", {"steps": 3}),
        (["port", "3000"], "port", {"port": 3000}),
        (
            ["watch", "cpu", "--above", "90", "--then", "restart web"],
            "watch",
            {"metric": "cpu", "above": "90", "then": "restart web"},
        ),
    ],
)
def test_a_verb_calls_its_method(
    daemon: FakeDaemon,
    llmos: Command,
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    method: str,
    params: dict[str, Any],
) -> None:
    monkeypatch.chdir("/")
    daemon.answers[method] = []
    assert llmos(*words)[0] == 0
    assert daemon.asked(method) == [params]


@pytest.mark.parametrize(
    "words",
    [
        ["kill"],
        ["kill", "$1"],
        ["kill", "web", "--signal", "NOPE"],
        ["kill", "web", "--allow", "everything"],
        ["port", "http"],
        ["port", "70000"],
        ["nonsense"],
        ["ps", "--nonsense"],
        ["run", "--memory", "lots", "--", "x"],
        ["run", "--"],
        ["run", ""],
        ["do", "kil web"],
        ["do", ""],
        ["do", 'kill "web'],
        ["events", "--since", "x"],
        ["model", "nonsense"],
        ["logs", "a\udcffb"],
        ["show", "\x00"],
    ],
)
def test_bad_input_is_a_message_and_exit_code_2(daemon: FakeDaemon, llmos: Command, words: list[str]) -> None:
    code, out, err = llmos(*words)
    assert (code, out) == (2, "")
    assert err.startswith("llmos: ")
    code, out, err = llmos("--json", *words)
    assert (code, err) == (2, "")
    assert json.loads(out)["error"]["data"]["code"] in ("bad-input", "plan-syntax")


def test_bad_input_shows_no_traceback_as_a_process(daemon: FakeDaemon) -> None:
    done = as_process("kill", "web", "--signal", "NOPE")
    assert done.returncode == 2
    assert done.stderr.startswith("llmos: kill: signal:")
    assert done.stderr.count("\n") <= 2


@pytest.mark.parametrize("kind", [NotFound, Conflict, *BY_CODE.values()])
def test_an_error_gives_its_exit_code(daemon: FakeDaemon, llmos: Command, kind: type[NotFound]) -> None:
    daemon.answers["show"] = kind(f"there is no {HOSTILE}")
    code, out, err = llmos("show", "web")
    assert (code, out) == (kind.exit_code, "")
    assert "\x1b" not in err and err.count("\n") == 1
    code, out, err = llmos("show", "web", "--json")
    assert (code, json.loads(out)["error"]["code"]) == (kind.exit_code, kind.number)


def test_hostile_names_stay_on_their_line_and_unstyled(daemon: FakeDaemon, llmos: Command) -> None:
    daemon.answers["ps"] = [{"pid": 1, "name": HOSTILE, "user": "u", "command": f"{HOSTILE} [bold]"}]
    _, out, _ = llmos("ps")
    assert len(out.splitlines()) == 2
    assert "[red]x[/red]\\x1b[31m\\n\\u202eevil\\x07" in out
    assert not set(out) & set("\x1b\x07\u202e")


@pytest.mark.parametrize("shape", ["show", "why", "system", "history", "tree"])
def test_hostile_text_is_harmless_in_every_shape(daemon: FakeDaemon, llmos: Command, shape: str) -> None:
    values: dict[str, Any] = {
        "show": {HOSTILE: HOSTILE, "argv": [HOSTILE], "limits": {HOSTILE: [HOSTILE]}, "exits": [{"why": HOSTILE}]},
        "why": {"target": HOSTILE, "sentence": HOSTILE, "events": [{"kind": HOSTILE, "body": {HOSTILE: HOSTILE}}]},
        "system": [HOSTILE],
        "history": [{"line": HOSTILE, HOSTILE: 1}],
        "tree": [{"depth": 1, "process": {"pid": 2, "name": HOSTILE, "command": HOSTILE}}],
    }
    daemon.answers[shape] = values[shape]
    argument = {"system": ["cpu"], "history": []}.get(shape, ["web"])
    code, out, _ = llmos(shape, *argument)
    assert code == 0 and "evil" in out
    assert not set(out) & set("\x1b\x07\u202e")


def test_a_column_that_is_empty_in_all_rows_is_left_out(daemon: FakeDaemon, llmos: Command) -> None:
    daemon.answers["port"] = [
        {"pid": 12, "name": "web", "port": 80, "note": None},
        {"pid": 13, "name": None, "port": 80},
    ]
    assert llmos("port", "80")[1].splitlines() == ["PID  NAME  PORT", " 12  web     80", " 13  -       80"]


def test_logs_are_plain_lines(daemon: FakeDaemon, llmos: Command) -> None:
    daemon.answers["logs"] = {"job": "web", "lines": ["[info] one", "two  2 "], "truncated": False}
    assert llmos("logs", "web", "--lines", "2")[1] == "[info] one\ntwo  2 \n"


def test_followed_logs_end_with_the_job(daemon: FakeDaemon, llmos: Command) -> None:
    log: list[dict[str, Any]] = [{"job": "web", "line": "one"}, {"job": "web", "ended": True}]
    daemon.answers["logs.follow"] = Pushed({"following": "web"}, "log", log)
    assert llmos("logs", "web", "-f")[:2] == (0, "one\n")
    assert json.loads(llmos("logs", "web", "-f", "--json")[1]) == {"job": "web", "line": "one"}
    assert daemon.asked("logs.follow") == [{"target": "web"}] * 2
    llmos("logs", "web", "-f", "--grep", "error", "--since", "5m", "--lines", "3", "--stream", "stderr")
    asked = {"target": "web", "grep": "error", "since": "5m", "lines": 3, "stream": "stderr"}
    assert daemon.asked("logs.follow")[-1] == asked


def test_the_stream_of_logs_is_chosen(daemon: FakeDaemon, llmos: Command) -> None:
    daemon.answers["logs"] = {"job": "web", "lines": ["bad"], "truncated": False}
    assert llmos("logs", "web", "--stream", "stderr")[:2] == (0, "bad\n")
    assert daemon.asked("logs") == [{"target": "web", "stream": "stderr"}]
    code, _, err = llmos("logs", "web", "--stream", "stdin")
    assert code == BadInput.exit_code and "stream" in err


def test_events_are_one_a_line_and_end_when_the_daemon_does(daemon: FakeDaemon, llmos: Command) -> None:
    events = [
        {"id": n, "at": 1.0, "kind": "job", "subject": HOSTILE, "uid": 0, "body": {"to": "running"}} for n in (1, 2)
    ]
    daemon.answers["events.subscribe"] = Pushed({"subscribed": True, "last": 0}, "event", events)
    daemon.hang_up = True
    code, out, _ = llmos("events", "--kind", "job")
    assert code == 9
    assert len(out.splitlines()) == 2 and "to=running" in out and "\x1b" not in out


def test_ask_shows_the_plan_and_each_result(daemon: FakeDaemon, llmos: Command) -> None:
    error = NotFound("there is no web").as_json()
    daemon.answers["ask"] = {
        **CHECK,
        "plan": ["port 80", "kill $1", "show web"],
        "ok": False,
        "answer": None,
        "results": [
            {"line": "port 80", "ok": True, "value": []},
            {"line": "kill $1", "ok": False, "error": error},
            {"line": "show web", "ok": False, "skipped": "line 2 failed"},
        ],
        "seconds": 1.5,
    }
    code, out, _ = llmos("ask", "free", "port", "80", "--allow", "destroy")
    assert code == NotFound.exit_code
    assert out.splitlines() == [
        "› port 80", "nothing", "› kill $1", "there is no web", "› show web", "skipped: line 2 failed"
    ]  # fmt: skip
    assert daemon.asked("ask") == [{"request": "free port 80", "allow": "destroy", "dry_run": False}]
    code, out, _ = llmos("ask", "free port 80", "--json")
    assert code == NotFound.exit_code and json.loads(out)["seconds"] == 1.5


def test_an_answer_in_words_is_shown_alone(daemon: FakeDaemon, llmos: Command) -> None:
    daemon.answers["ask"] = {**CHECK, "risk": "talk", "ok": True, "answer": f"Which one, {HOSTILE}?", "results": []}
    code, out, _ = llmos("ask", "kill it")
    assert code == 0 and out.startswith("Which one, [red]x") and "\x1b" not in out


def test_ask_dry_run_shows_targets_and_marks_what_is_not_there(daemon: FakeDaemon, llmos: Command) -> None:
    daemon.answers["ask"] = {**CHECK, "answer": None, "seconds": 0.1}
    code, out, _ = llmos("ask", "--dry-run", "kill web")
    assert code == 0
    assert "kill web" in out and "risk: destroy" in out and "kill ends a process" in out
    assert any(line.split()[:5] == ["1", "4242", "web", "ann", "2h"] for line in out.splitlines())
    assert any("later" in line and "not there yet" in line for line in out.splitlines())
    assert daemon.asked("ask")[0]["dry_run"] is True


@pytest.mark.parametrize("words", [["ask", "kill web"], ["do", "kill web"], ["kill", "web"]])
def test_without_a_terminal_nothing_above_the_allowed_runs(
    daemon: FakeDaemon, llmos: Command, words: list[str]
) -> None:
    needed = NeedsConfirmation("killing is above what you allow", **CHECK)
    daemon.answers |= {"ask": needed, "plan.run": needed, "kill": needed}
    code, out, err = llmos(*words)
    assert (code, out) == (6, "")
    assert "--allow destroy" in err
    code, out, _ = llmos(*words, "--json")
    assert code == 6
    assert json.loads(out)["error"]["data"]["hash"] == "h1"


def test_do_runs_several_lines(daemon: FakeDaemon, llmos: Command) -> None:
    daemon.answers["plan.run"] = KILLED
    assert llmos("do", "port 3000", "kill $1 signal=TERM", "--allow", "destroy")[0] == 0
    assert daemon.asked("plan.run") == [{"plan": ["port 3000", "kill $1"], "allow": "destroy", "confirm": None}]


@pytest.mark.parametrize("command", ["up", "down", "status", "doctor", "discover", "events"])
def test_dry_run_calls_nothing(daemon: FakeDaemon, llmos: Command, command: str) -> None:
    code, out, _ = llmos(command, "--dry-run", "--json")
    assert code == 0 and json.loads(out)["dry_run"] is True
    assert not daemon.requests


def test_the_commands_about_the_daemon(daemon: FakeDaemon, llmos: Command) -> None:
    daemon.answers |= {
        "shutdown": {"stopping": True},
        "doctor": [{"check": "gpu", "ok": False, "detail": "no driver", "remedy": "install one"}],
        "rpc.discover": {"openrpc": "1.3.2"},
    }
    assert json.loads(llmos("up", "--json")[1])["started"] is False
    assert json.loads(llmos("status", "--json")[1]) == {"version": "0", "pid": 1}
    assert "no driver" in llmos("doctor")[1]
    assert json.loads(llmos("discover")[1]) == {"openrpc": "1.3.2"}
    assert json.loads(llmos("down", "--jobs", "--json")[1]) == {"stopping": True}
    assert daemon.asked("shutdown") == [{"jobs": True}]


def test_what_only_asks_starts_no_daemon(tmp_path: Path, llmos: Command) -> None:
    socket = str(tmp_path / "none")
    assert llmos("status", "--socket", socket)[0] == 9
    assert llmos("down", "--socket", socket)[0] == 0
    assert not list(tmp_path.iterdir())


def test_a_daemon_that_dies_as_it_starts_is_an_error_with_the_end_of_its_log(
    tmp_path: Path, llmos: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = "import sys; sys.exit('the journal \\x1b is on fire')"
    monkeypatch.setattr(launch, "daemon_command", lambda socket, state_dir: [sys.executable, "-c", code])
    status, _, err = llmos("jobs", "--socket", str(tmp_path / "s"))
    assert status == 9
    assert "ended with status 1" in err and "the journal \\x1b is on fire" in err


def test_a_daemon_that_cannot_be_given_a_folder_is_an_error(tmp_path: Path, llmos: Command) -> None:
    (tmp_path / "file").write_text("")
    status, _, err = llmos("jobs", "--socket", str(tmp_path / "file" / "s"))
    assert status == 9 and "--socket" in err


def test_a_closed_pipe_ends_quietly(daemon: FakeDaemon) -> None:
    daemon.answers["logs"] = {"job": "web", "lines": ["x" * 100] * 5000, "truncated": False}
    command = [sys.executable, "-m", "llmos.cli", "logs", "web"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout and process.stderr
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(30) == 141


def test_any_locale_can_print_any_name(daemon: FakeDaemon) -> None:
    daemon.answers["ps"] = [{"pid": 1, "name": "中文", "command": "é"}]
    done = as_process("ps", env={**os.environ, "LC_ALL": "C", "PYTHONIOENCODING": "ascii"})
    assert (done.returncode, done.stderr) == (0, "")
    assert "\\u4e2d\\u6587" in done.stdout


def test_the_help_documents_every_exit_code(llmos: Command) -> None:
    code, out, _ = llmos("--help")
    words = " ".join(out.split())
    assert code == 0
    assert "6 needs confirmation" in words and "130 interrupted" in words


@pytest.mark.parametrize("words", [[], ["model"]])
def test_no_command_shows_the_help(llmos: Command, words: list[str]) -> None:
    code, out, err = llmos(*words)
    assert code == 2 and "Usage: llmos" in out + err


def test_completion_offers_the_names_of_jobs(daemon: FakeDaemon) -> None:
    daemon.answers["jobs"] = [{"name": "web"}, {"name": "worker"}, {"name": "other"}]
    complete = {"_LLMOS_COMPLETE": "complete_bash", "COMP_CWORD": "2"}
    done = as_process(env={**os.environ, **complete, "COMP_WORDS": "llmos stop w"})
    assert done.stdout.split() == ["web", "worker"]
    done = as_process(env={**os.environ, **complete, "COMP_WORDS": "llmos system te"})
    assert done.stdout.split() == ["temperature"]


def test_completion_is_silent_without_a_daemon(tmp_path: Path) -> None:
    complete = {"_LLMOS_COMPLETE": "complete_bash", "COMP_CWORD": "2", "COMP_WORDS": "llmos stop w"}
    done = as_process(env={**os.environ, **complete, "LLMOS_SOCKET": str(tmp_path / "none")})
    assert (done.stdout.strip(), done.stderr) == ("", "")


def test_the_daemon_is_started_on_first_use(tmp_path: Path) -> None:
    daemon = (
        f"import sys, threading; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from pathlib import Path; from fake_daemon import FakeDaemon\n"
        "stop = threading.Event()\n"
        "answers = {'jobs': [], 'shutdown': lambda _: stop.set() or {'stopping': True}}\n"
        "with FakeDaemon(Path(sys.argv[1]), answers): stop.wait(30)"
    )
    starter = (
        "import sys; from llmos.cli import launch, main\n"
        f"launch.daemon_command = lambda socket, state: [sys.executable, '-c', {daemon!r}, str(socket), str(state)]\n"
        "main()"
    )
    socket = tmp_path / "run" / "s"
    # A process of its own: it must end although the daemon that it started lives on.
    first = subprocess.run(
        [sys.executable, "-c", starter, "jobs", "--json", "--socket", str(socket)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (first.returncode, first.stdout, first.stderr) == (0, "[]\n", "")
    assert (tmp_path / "run" / "state" / "llmosd.log").read_text() == ""
    second = as_process("down", "--json", "--socket", str(socket))
    assert json.loads(second.stdout) == {"stopping": True}
    deadline = time.monotonic() + 20
    while socket.exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
