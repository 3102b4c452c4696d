"""`llmos apply`, `export` and `import` against a real llmosd."""

import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import Daemon
from llmos import Client
from llmos.cli import run

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def llmos(daemon: Daemon, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """Runs the command line here; returns the exit code, stdout and stderr."""
    monkeypatch.setenv("LLMOS_SOCKET", str(daemon.socket))
    monkeypatch.delenv("FORCE_COLOR", raising=False)

    def command(*words: str | Path) -> tuple[int, str, str]:
        code = run(list(map(str, words)))
        sys.stdout.flush()
        return code, *capfd.readouterr()

    return command


def test_a_file_is_applied_once(llmos: Command, client: Client, tmp_path: Path) -> None:
    file = tmp_path / "jobs.toml"
    file.write_text('[job.cli-web]\nargv = "sleep 600"\nenv = { TONE = "low" }\n')
    code, out, _ = llmos("apply", file, "--dry-run")
    assert code == 0
    shown = ["+ cli-web", f"    run name=cli-web cwd={tmp_path} -- sleep 600", "      env.TONE: - → low"]
    assert out.splitlines() == shown
    assert "cli-web" not in {job["name"] for job in client.call("jobs")}
    assert llmos("apply", file)[:2] == (0, out)
    assert client.call("show", target="cli-web")["state"] == "running"
    assert llmos("apply", file)[:2] == (0, "nothing to change: the jobs are as declared\n")
    file.write_text('[job.cli-web]\nargv = "sleep 600"\nenv = { TONE = "high" }\nmemory = "1G"\n')
    _, out, _ = llmos("apply", file)
    changed = out.splitlines()
    assert (
        changed[0] == "~ cli-web, with a restart"
        and "      env.TONE: low → high" in changed
        and "      memory: - → 1G" in changed
    )


def test_what_fails_is_shown_and_is_the_exit_code(llmos: Command, tmp_path: Path) -> None:
    file = tmp_path / "jobs.toml"
    file.write_text('[job.cli-broken]\nargv = "no-such-program-here"\n')
    code, out, _ = llmos("apply", file)
    assert code != 0 and "failed: " in out and "no-such-program-here" in out
    code, out, _ = llmos("--json", "apply", file)
    assert code != 0 and json.loads(out)["results"][0]["ok"] is False
    file.write_text('[job.cli-broken]\nargv = "true"\nmemory = "lots"\n')
    code, _, err = llmos("apply", file)
    assert code == 2 and err.startswith(f"llmos: {file}: job.cli-broken.memory: 'lots' is no size")


def test_what_is_exported_can_be_applied(llmos: Command, client: Client, tmp_path: Path) -> None:
    client.call("run", name="cli by hand", argv=["sleep", "600"], cwd=str(tmp_path), ready={"exec": ["true"]})
    code, out, _ = llmos("export", "cli by hand")
    assert code == 0 and out.startswith('[job."cli by hand"]\nargv = ["sleep", "600"]\n')
    (tmp_path / "jobs.toml").write_text(out)
    assert llmos("apply", tmp_path / "jobs.toml")[1].startswith("nothing to change")
    code, _, err = llmos("export", "cli-ghost")
    assert code == 3 and "no job 'cli-ghost'" in err


def test_a_procfile_is_imported_and_applied(llmos: Command, client: Client, tmp_path: Path) -> None:
    procfile = tmp_path / "Procfile"
    procfile.write_text("cli-clock: sleep 600\n")
    code, out, err = llmos("import", procfile)
    assert code == 0 and out == f'[job.cli-clock]\nargv = ["sleep", "600"]\ncwd = "{tmp_path}"\n'
    assert "no equivalent: environment: " in err
    code, out, _ = llmos("--json", "import", procfile)
    assert {"where": "environment"}.items() <= json.loads(out)["no_equivalent"][0].items()
    code, out, err = llmos("import", procfile, "--apply")
    assert code == 0 and out.startswith("+ cli-clock\n") and "no equivalent" in err
    assert client.call("show", target="cli-clock")["state"] == "running"


def test_the_format_is_said_where_the_name_does_not(llmos: Command, tmp_path: Path) -> None:
    file = tmp_path / "processes"
    file.write_text("web: true\n")
    code, _, err = llmos("import", file)
    assert code == 2 and "add --format supervisor|procfile|" in err
    assert llmos("import", file, "--format", "procfile")[0] == 0
    assert "there is no format 'upstart'" in llmos("import", file, "--format", "upstart")[2]
    assert "cannot read" in llmos("import", tmp_path / "Procfile")[2]


def on_terminal(daemon: Daemon, answer: bytes, *words: str | Path) -> subprocess.CompletedProcess[str]:
    """The command line with a person at the terminal who gives that answer."""
    master, slave = pty.openpty()
    try:
        os.write(master, answer)
        command = [sys.executable, "-m", "llmos.cli", *map(str, words)]
        environ = {**os.environ, "LLMOS_SOCKET": str(daemon.socket)}
        done = subprocess.run(
            command, stdin=slave, stderr=slave, stdout=subprocess.PIPE, text=True, timeout=60, env=environ, check=False
        )
        done.stderr = os.read(master, 1 << 16).decode()
        return done
    finally:
        os.close(master)
        os.close(slave)


def test_what_destroys_is_asked_about(daemon: Daemon, llmos: Command, client: Client, tmp_path: Path) -> None:
    file = tmp_path / "jobs.toml"
    file.write_text('[job.cli-kept]\nargv = "sleep 600"\n[job.cli-dropped]\nargv = "sleep 600"\n')
    llmos("apply", file)
    names = [f'[job."{job["name"]}"]' for job in client.call("jobs") if job["name"] != "cli-dropped"]
    exported = llmos("export", *(name[6:-2] for name in names))[1]
    file.write_text(exported)
    code, _, err = llmos("apply", file, "--prune")
    assert code == 6 and "- cli-dropped" in err and "--allow destroy" in err
    declined = on_terminal(daemon, b"n\n", "apply", file, "--prune")
    assert declined.returncode == 6 and "risk: destroy" in declined.stderr and "nothing was done" in declined.stderr
    assert "cli-dropped" in {job["name"] for job in client.call("jobs")}
    agreed = on_terminal(daemon, b"y\n", "apply", file, "--prune")
    assert agreed.returncode == 0 and "remove cli-dropped" in agreed.stdout
    assert "cli-dropped" not in {job["name"] for job in client.call("jobs")}
