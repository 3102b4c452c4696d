"""Every verb once from the command line, on a real llmosd and real processes; the socket's turn is in tests/syscalls."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from conftest import Daemon
from llmos.syscalls import SYSCALLS, Risk

LLMOS = Path(sys.executable).parent / "llmos"


class Terminal:
    """The command `llmos` against one daemon; remembers which verbs were used."""

    def __init__(self, daemon: Daemon) -> None:
        self.used: set[str] = set()
        self._environment = {**os.environ, "LLMOS_SOCKET": str(daemon.socket), "NO_COLOR": "1"}

    def __call__(self, *words: str, exit_code: int = 0) -> Any:
        """Run it with --json; the parsed output, or None where it printed none."""
        self.used.update(words[:1])
        done = subprocess.run(
            [LLMOS, "--json", *words], env=self._environment, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == exit_code, f"{words}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr
        return json.loads(done.stdout) if done.stdout.strip() else None


@pytest.mark.timeout(300)
def test_every_verb_from_the_command_line(llmosd: Daemon, tmp_path: Path) -> None:
    llmos = Terminal(llmosd)
    held = tmp_path / "held"
    held.write_text("x" * 10_000)
    script = "import socket,time; s=socket.create_server(('127.0.0.1',0)); print(s.getsockname()[1],flush=True)"
    script += "; time.sleep(900)"

    job = llmos("run", "--name", "web", "--", sys.executable, "-c", f"f=open({str(held)!r}); {script}")
    assert job["state"] == "running"
    pid = job["pid"]
    port = int(_until(lambda: llmos("logs", "web")["lines"])[0])

    assert [row["pid"] for row in llmos("ps", "--name", "web") or []] == []
    assert llmos("show", "web")["argv"][0] == sys.executable
    assert llmos("tree", "web")[0]["pid"] == pid
    assert [row["pid"] for row in llmos("port", str(port))] == [pid]
    assert str(held) in [row["path"] for row in llmos("files", "web")]
    assert pid in [row["pid"] for row in llmos("holders", str(held))]
    assert llmos("system", "memory")["total_bytes"] > 0
    assert llmos("usage", str(tmp_path))[0]["bytes"] > 10_000
    assert [row["name"] for row in llmos("jobs")] == ["web"]

    llmos("renice", "web", "low")
    assert os.getpriority(os.PRIO_PROCESS, pid) > 0
    if os.geteuid() == 0:
        llmos("undo")
        assert os.getpriority(os.PRIO_PROCESS, pid) == 0
    llmos("limit", "web", "--memory", "500M")
    llmos("pause", "web")
    assert llmos("show", "web")["state"] == "paused"
    llmos("resume", "web")
    assert llmos("jobs", "--state", "running")[0]["pid"] == pid

    [watch] = llmos("watch", "exit", "--target", "web")
    assert llmos("watches")[0]["id"] == watch["id"]
    llmos("unwatch", str(watch["id"]))
    if os.geteuid() == 0:
        llmos("focus", "web", "--for", "5m")
        llmos("unfocus")
    else:
        llmos("focus", "web", exit_code=5)
        llmos("unfocus", exit_code=3)

    llmos("kill", "web", exit_code=6)
    llmos("kill", "web", "--signal", "HUP", "--allow", "change")
    llmos("wait", "web", "--timeout", "10s")
    assert llmos("show", "web")["exit_signal"] == signal.SIGHUP
    llmos("start", "web")
    assert llmos("restart", "web")[0]["restarts"] == 1
    llmos("schedule", "web", "--at", "03:00")
    llmos("unschedule", "web")
    assert llmos("stop", "web")[0]["state"] == "stopped"
    assert "stopped" in llmos("why", "web")["sentence"]
    assert llmos("history")[0]["line"] == "stop web"
    llmos("remove", "web", exit_code=6)
    llmos("remove", "web", "--allow", "destroy")
    assert llmos("jobs") == []

    verbs = {verb for verb, syscall in SYSCALLS.items() if syscall.risk is not Risk.TALK}
    assert verbs - llmos.used - {"undo", "unfocus"} == set()


def _until(condition: Any) -> Any:
    deadline = time.monotonic() + 20
    while not (value := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return value
