"""How a job is found ready: each way with real processes, and what ends before it is, or never is."""

import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from conftest import Daemon
from llmos.errors import BadInput

Call = Callable[..., Any]
Eventually = Callable[[Callable[[], object]], Any]

SERVES = """
import socket, sys, time
time.sleep(0.3)
server = socket.create_server(("127.0.0.1", int(sys.argv[1])))
statuses = sys.argv[2:]
while True:
    connection, _ = server.accept()
    if statuses and b"GET /ready?now HTTP/1.1" in connection.recv(4096):
        status = statuses.pop(0) if len(statuses) > 1 else statuses[0]
        connection.sendall(f"HTTP/1.1 {status} Well\\r\\nContent-Length: 0\\r\\n\\r\\n".encode())
    connection.close()
"""
SAYS = """
import os, socket, sys, time
def say(*lines, descriptors=()):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as speaker:
        speaker.connect("\\0" + os.environ["NOTIFY_SOCKET"][1:])
        socket.send_fds(speaker, ["\\n".join(lines).encode()], descriptors)
"""


@pytest.fixture
def port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        found: int = free.getsockname()[1]
        return found


def python(script: str, *arguments: object) -> list[str]:
    return [sys.executable, "-c", script, *map(str, arguments)]


def state(call: Call, name: str) -> str:
    found: str = call("show", target=name)["state"]
    return found


def test_tcp(call: Call, port: int, eventually: Eventually) -> None:
    job = call("run", name="tcp", argv=python(SERVES, port), ready={"tcp": port})
    assert job["state"] == "starting" and job["ready"] == {"tcp": port}
    eventually(lambda: state(call, "tcp") == "running")
    with pytest.raises(OSError), socket.create_server(("127.0.0.1", port)):
        pass
    assert "as asked; ready after" in call("why", target="tcp")["sentence"]
    call("stop", target="tcp")


def test_http_is_ready_when_its_status_is_good(call: Call, port: int, eventually: Eventually) -> None:
    ready = {"http": f"http://127.0.0.1:{port}/ready?now"}
    call("run", name="http", argv=python(SERVES, port, 503, 404, 204), ready=ready)
    eventually(lambda: state(call, "http") == "running")
    call("stop", target="http")
    call("run", name="http", argv=python(SERVES, port, 500), ready={**ready, "timeout": "2s"})
    assert call("wait", target="http", timeout="20s")["state"] == "failed"
    assert "was not ready within 2s: HTTP status 500" in call("why", target="http")["sentence"]


def test_exec_runs_as_the_job_does(call: Call, tmp_path: Path, eventually: Eventually) -> None:
    file, go = tmp_path / "variables", tmp_path / "go"
    file.write_text("MARK=here\n")
    probe = ["sh", "-c", 'test "$MARK" = here && test "$(umask)" = 0027 && test -z "$NOTIFY_SOCKET" && cat go']
    call(
        "run",
        name="exec",
        argv=["sleep", "600"],
        cwd=str(tmp_path),
        umask="027",
        env_files=[str(file)],
        ready={"exec": probe},
    )
    time.sleep(0.3)
    assert state(call, "exec") == "starting"
    go.touch()
    eventually(lambda: state(call, "exec") == "running")
    call("stop", target="exec")


def test_a_line_of_output(call: Call, eventually: Eventually) -> None:
    script = "for word in now later; do echo listening $word; sleep 0.5; done; sleep 600"
    call("run", name="log", argv=["sh", "-c", script], ready={"log": "listening later"})
    assert state(call, "log") == "starting"
    eventually(lambda: state(call, "log") == "running")
    assert call("logs", target="log")["lines"] == ["listening now", "listening later"]
    call("restart", target="log")
    assert state(call, "log") == "starting"  # the line of the run before does not count
    eventually(lambda: state(call, "log") == "running")
    call("stop", target="log")


def test_what_is_written_at_once_is_not_missed(call: Call, eventually: Eventually) -> None:
    for number in range(5):
        call("run", name=f"quick-{number}", argv=["sh", "-c", "echo up; sleep 600"], ready={"log": "up"})
    eventually(lambda: all(state(call, f"quick-{number}") == "running" for number in range(5)))
    for number in range(5):
        call("stop", target=f"quick-{number}")


def test_notify_from_the_job_or_a_child_of_it_and_from_no_stranger(
    call: Call, tmp_path: Path, eventually: Eventually
) -> None:
    address, go = tmp_path / "address", tmp_path / "go"
    script = f"""{SAYS}
import subprocess
open({str(address)!r}, "w").write(os.environ["NOTIFY_SOCKET"])
say("STATUS=READY=1", "READY=10")
while not os.path.exists({str(go)!r}):
    time.sleep(0.02)
child = r'''{SAYS}
ours, theirs = os.pipe()
say("STATUS=up", "READY=1")
say("BARRIER=1", descriptors=[theirs])
os.close(theirs)
assert os.read(ours, 1) == b""
'''
subprocess.run([sys.executable, "-c", child], check=True)
time.sleep(600)
"""
    call("run", name="notify", argv=python(script), ready={"notify": True})
    where = eventually(lambda: address.exists() and address.read_text())
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as stranger:
        stranger.connect("\0" + where[1:])
        for _ in range(20):
            stranger.send(b"READY=1")
        ours, theirs = os.pipe()
        socket.send_fds(stranger, [b"READY=1"], [theirs])
        os.close(theirs)
        assert os.read(ours, 1) == b""  # it was looked at, and its descriptor closed
        os.close(ours)
    assert state(call, "notify") == "starting"
    go.touch()
    eventually(lambda: state(call, "notify") == "running")
    call("stop", target="notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as late, pytest.raises(ConnectionRefusedError):
        late.connect("\0" + where[1:])


@pytest.mark.parametrize("code", [0, 3])
@pytest.mark.parametrize("ready", [{"notify": True}, {"log": "up"}, {"tcp": "127.0.0.1:1"}, {"exec": ["sleep", "9"]}])
def test_what_ends_before_it_is_ready_has_failed(call: Call, ready: Any, code: int) -> None:
    name = f"ends-{code}-{next(iter(ready))}"
    for seconds in (0, 0.3):
        call("run", name=name, argv=["sh", "-c", f"sleep {seconds}; exit {code}"], ready=ready)
        assert call("wait", target=name)["state"] == "failed"
        assert f"exit code {code} before it was ready" in call("why", target=name)["sentence"]


def test_a_probe_that_hangs_has_an_end_and_leaves_nothing(call: Call, tmp_path: Path, eventually: Eventually) -> None:
    pids = tmp_path / "pids"
    hangs = ["sh", "-c", f"trap '' TERM; echo $$ >> {pids}; sleep 600 & wait; sleep 600"]
    job = call("run", name="hangs", argv=["sleep", "600"], ready={"exec": hangs, "timeout": "1s"})
    assert call("wait", target="hangs", timeout="20s")["state"] == "failed"
    assert "was not ready within 1s" in call("why", target="hangs")["sentence"]
    assert not psutil.pid_exists(job["pid"])
    found = [int(pid) for pid in pids.read_text().split()]
    assert found
    eventually(lambda: not any(map(psutil.pid_exists, found)))


def test_what_is_not_ready_in_time_is_ended_and_tried_again(call: Call, tmp_path: Path, eventually: Eventually) -> None:
    tries = tmp_path / "tries"
    script = f"trap '' TERM; echo x >> {tries}; if grep -c x {tries} | grep -q 2; then echo up; fi; sleep 600"
    ready = {"log": "up", "timeout": "1s"}
    call("run", name="second", argv=["sh", "-c", script], ready=ready, restart="on-failure", stop_timeout="1s")
    eventually(lambda: state(call, "second") == "running")
    shown = call("show", target="second")
    assert shown["restarts"] == 1 and shown["recent"][-1]["signal"] == signal.SIGKILL
    call("stop", target="second")


def test_it_can_be_stopped_and_restarted_while_it_is_not_ready(call: Call, eventually: Eventually) -> None:
    call("run", name="never", argv=["sleep", "600"], ready={"log": "up"})
    [again] = call("restart", target="never")
    assert again["state"] == "starting"
    [stopped] = call("stop", target="never")
    assert stopped["state"] == "stopped"
    with pytest.raises(BadInput, match="just one of exec, tcp, http, log, notify"):
        call("run", name="never", argv=["true"], ready={"timeout": "5s"})


@pytest.mark.parametrize(
    ("ready", "said"),
    [
        ({"tcp": "localhost"}, "is no address"),
        ({"tcp": 65536}, "is no address"),
        ({"http": "https://localhost/"}, "is no address of HTTP"),
        ({"http": "http://x/\r\nHost: y"}, "is no address of HTTP"),
        ({"exec": []}, "ready.exec"),
        ({"exec": ["sh", "-c", "rm -rf /"]}, "may change nothing"),
        ({"log": "x", "timeout": "0s"}, "is no time at all"),
        ({"tcp": 80, "log": "x"}, "not tcp and log"),
        ({"tpc": 80}, "no argument 'ready.tpc'"),
        ("tcp", "ready"),
    ],
)
def test_what_is_malformed_is_said(call: Call, ready: Any, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        call("run", name="malformed", argv=["true"], ready=ready)
    assert "malformed" not in {job["name"] for job in call("jobs")}


def test_the_waiting_goes_on_when_llmosd_was_killed(llmosd: Daemon, tmp_path: Path, eventually: Eventually) -> None:
    go, pid = tmp_path / "go", tmp_path / "pid"
    script = f"echo up; while [ ! -e {go} ]; do sleep 0.05; done; echo listening; sleep 600"
    hangs = ["sh", "-c", f"echo $$ > {pid}; sleep 600"]
    with llmosd.client() as client:
        client.call("run", name="log", argv=["sh", "-c", script], ready={"log": "listening"})
        client.call("run", name="after", argv=["sleep", "600"], after="log")
        late = f"import time\n{SAYS}\nwhile not os.path.exists({str(go)!r}): time.sleep(0.02)\nsay('READY=1')\ntime.sleep(600)"
        client.call("run", name="said", argv=python(late), ready={"notify": True})
        client.call("run", name="silent", argv=["sleep", "600"], ready={"notify": True})
        client.call("run", name="hangs", argv=["sleep", "600"], ready={"exec": hangs})
    eventually(lambda: pid.exists() and pid.read_text().strip())
    probe = int(pid.read_text())
    llmosd.kill()
    go.touch()
    time.sleep(0.5)  # the line is written, and READY=1 sent, while llmosd is away
    llmosd.start()
    with llmosd.client() as client:
        eventually(lambda: client.call("show", target="after")["state"] == "running")
        assert client.call("show", target="log")["state"] == "running"
        eventually(lambda: client.call("show", target="said")["state"] == "running")
        assert client.call("show", target="hangs")["state"] == "starting"
        assert client.call("show", target="silent")["state"] == "starting"
    eventually(lambda: not psutil.pid_exists(probe) or int(pid.read_text()) != probe)
    eventually(lambda: not psutil.pid_exists(probe))
