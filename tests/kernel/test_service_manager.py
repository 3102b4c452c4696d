"""llmosd as a service: a real one with a notify socket of the test's own, and the probe against sockets that misbehave."""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest

from conftest import Daemon
from llmos.errors import BadInput, NeedsConfirmation, Unavailable
from llmos.kernel.listening import inherit
from llmos.kernel.service_manager import ServiceManager, probe

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
HAND_OVER = """
import os, sys
if descriptor := int(sys.argv[1]):
    os.dup2(descriptor, 3)
    os.environ["LISTEN_PID"] = str(os.getpid())
os.execv(sys.argv[2], sys.argv[2:])
"""
ANSWER: dict[str, object] = {"result": {"pid": 1}}
BUSY: dict[str, object] = {
    "error": {"code": -32007, "message": "there are 1000 connections already", "data": {"code": "unavailable"}}
}
BROKEN: dict[str, object] = {"error": {"code": -32603, "message": "llmosd failed inside", "data": {"code": "internal"}}}


class Heard:
    """What a service manager hears, on a notify socket."""

    def __init__(self, address: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(address)
        self.messages: list[str] = []

    def read(self, seconds: float = 0.0) -> list[str]:
        """All messages so far, and those of the next `seconds`."""
        deadline = time.monotonic() + seconds
        while True:
            self.socket.settimeout(max(0.0, deadline - time.monotonic()))
            try:
                self.messages.append(self.socket.recv(65536).decode())
            except (BlockingIOError, TimeoutError):
                return self.messages

    def until(self, wanted: str) -> list[str]:
        """The messages up to one that begins so, which must come within 20 seconds."""
        self.socket.settimeout(20)
        while not self.messages or not self.messages[-1].startswith(wanted):
            self.messages.append(self.socket.recv(65536).decode())
        return self.messages


@pytest.fixture
def heard(tmp_path: Path) -> Iterator[Heard]:
    """A service manager's ear."""
    ear = Heard(str(tmp_path / "notify"))
    yield ear
    ear.socket.close()


@contextmanager
def service(folder: Path, variables: Mapping[str, str], listening: socket.socket | None = None) -> Iterator[Daemon]:
    """An llmosd that is started as a service manager does; `listening` becomes its descriptor 3."""
    daemon = Daemon(folder, ["--config", str(folder / "llmosd.toml")])
    config = folder / "llmosd.toml"
    config.touch()
    command = [sys.executable, "-X", "dev", "-m", "llmos.kernel.daemon", "--state-dir", str(daemon.state_dir)]
    command += ["--config", str(config)]
    if listening is None:
        command += ["--socket", str(daemon.socket)]
    with (folder / "llmosd.log").open("ab") as log:
        daemon.process = subprocess.Popen(
            [sys.executable, "-c", HAND_OVER, str(listening.fileno() if listening else 0), *command],
            env={**os.environ, **variables},
            pass_fds=[listening.fileno()] if listening else [],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        yield daemon
    finally:
        daemon.stop()
        assert "Traceback" not in daemon.log, daemon.log


@asynccontextmanager
async def answering(path: Path, answers: list[dict[str, object] | None]) -> AsyncIterator[None]:
    """A socket that gives one answer a connection, the last one for ever; None is silence."""
    silent = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if answer is None:
            silent.append(writer)
            return
        writer.write(json.dumps(answer).encode() + b"\n")
        writer.close()

    async with await asyncio.start_unix_server(serve, path):
        yield
        for writer in silent:
            writer.close()


def test_it_is_ready_when_the_socket_answers(tmp_path: Path, heard: Heard) -> None:
    with service(tmp_path, {"NOTIFY_SOCKET": str(tmp_path / "notify")}) as llmosd:
        assert heard.until("READY=1")[0] == "STATUS=taking up what runs"
        with llmosd.client() as client:
            client.run(["sleep", "600"], name="nap")
        heard.until("STATUS=1 jobs; the model default is unloaded")
        assert llmosd.process is not None
        llmosd.process.send_signal(signal.SIGTERM)
        heard.until("STOPPING=1")
        assert llmosd.process.wait(20) == 0


def test_a_watchdog_is_fed(tmp_path: Path, heard: Heard) -> None:
    with service(tmp_path, {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "300000"}) as llmosd:
        heard.until("READY=1")
        heard.messages.clear()
        assert heard.read(1.5).count("WATCHDOG=1") >= 3
        assert llmosd.process is not None
        llmosd.process.send_signal(signal.SIGSTOP)
        heard.read(0.3)
        heard.messages.clear()
        assert heard.read(1) == []
        llmosd.process.send_signal(signal.SIGCONT)
        heard.until("WATCHDOG=1")


def test_no_watchdog_no_sign_of_life(tmp_path: Path, heard: Heard) -> None:
    variables = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "100000", "WATCHDOG_PID": "1"}
    with service(tmp_path, variables):
        heard.until("READY=1")
        assert "WATCHDOG=1" not in heard.read(1)


def test_a_hang_up_reads_the_settings_again(tmp_path: Path, heard: Heard) -> None:
    def reload(settings: str) -> None:
        (tmp_path / "llmosd.toml").write_text(settings)
        heard.read()
        heard.messages.clear()
        before = time.monotonic_ns() // 1000
        assert llmosd.process is not None
        llmosd.process.send_signal(signal.SIGHUP)
        words, stamp = next(each for each in heard.until("READY=1") if not each.startswith("STATUS=")).split("\n")
        assert words == "RELOADING=1"
        assert before <= int(stamp.removeprefix("MONOTONIC_USEC=")) <= time.monotonic_ns() // 1000

    with service(tmp_path, {"NOTIFY_SOCKET": str(tmp_path / "notify")}) as llmosd:
        heard.until("READY=1")
        with llmosd.client() as client:
            reload('[policy]\nmethods_allow = "read"\n[model]\nname = "other"\n[jobs]\nhealthy_seconds = 1\n')
            with pytest.raises(NeedsConfirmation):
                client.run(["true"], name="done")
            assert client.status()["model"]["name"] == client.status()["model"]["model"] == "other"
            assert "what changed of jobs waits for a restart" in llmosd.log
            reload('[model]\nnam = "third"\n')
            assert "the settings stay as they were" in llmosd.log
            assert "model.nam" in llmosd.log
            assert client.status()["model"]["name"] == "other"


def test_it_takes_the_socket_it_is_given_and_leaves_it_there(tmp_path: Path) -> None:
    path = tmp_path / "given.sock"
    with contextlib.ExitStack() as stack:
        listening, caller = (stack.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(2))
        listening.bind(str(path))
        listening.listen()
        caller.connect(str(path))  # before it is started
        caller.sendall(b'{"id": 1, "method": "daemon.status"}\n')
        variables = {"LISTEN_FDS": "1", "LISTEN_FDNAMES": "llmosd.socket"}
        with service(tmp_path, variables, listening) as llmosd:
            caller.settimeout(20)
            answers = stack.enter_context(caller.makefile())
            status = json.loads(answers.readline())["result"]
            assert llmosd.process is not None
            assert status["pid"] == llmosd.process.pid
            assert status["socket"] == str(path)
            inode = os.fstat(listening.fileno()).st_ino
            children = [status["reaper"]["pid"]]
            caller.sendall(b'{"id": 2, "method": "run", "params": {"name": "nap", "argv": ["sleep", "600"]}}\n')
            children.append(json.loads(answers.readline())["result"]["pid"])
            assert f"socket:[{inode}]" in links(llmosd.process.pid)
            for pid in children:
                assert f"socket:[{inode}]" not in links(pid)
            llmosd.process.send_signal(signal.SIGTERM)
            assert llmosd.process.wait(20) == 0
            assert path.is_socket()


def test_one_place_to_listen_is_enough(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "given.sock"))
        listening.listen()
        daemon = [sys.executable, "-m", "llmos.kernel.daemon", "--socket", str(tmp_path / "own.sock")]
        done = subprocess.run(
            [sys.executable, "-c", HAND_OVER, str(listening.fileno()), *daemon, "--state-dir", str(tmp_path / "state")],
            env={**os.environ, "LISTEN_FDS": "1"},
            pass_fds=[listening.fileno()],
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert done.returncode == BadInput.exit_code
    assert "leave --socket out" in done.stderr
    assert not (tmp_path / "state").exists()


def links(pid: int) -> set[str]:
    return {os.readlink(link) for link in Path(f"/proc/{pid}/fd").iterdir() if link.is_symlink()}


def test_its_variables_end_with_it(tmp_path: Path, heard: Heard) -> None:
    variables = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "60000000", "LISTEN_PID": "1"}
    with service(tmp_path, {**variables, "LISTEN_FDS": "1", "LISTEN_FDNAMES": "x"}) as llmosd:
        heard.until("READY=1")  # what is meant for another process is no error
        with llmosd.client() as client:
            reaper = client.status()["reaper"]["pid"]
        environment = Path(f"/proc/{reaper}/environ").read_bytes().split(b"\0")
        assert not [line for line in environment if line.startswith((b"NOTIFY_", b"WATCHDOG_", b"LISTEN_"))]


def test_all_variables_are_taken_out() -> None:
    environment = {"PATH": "/bin", "NOTIFY_SOCKET": "/x", "LISTEN_PID": "1", "LISTEN_FDS": "2", "LISTEN_FDNAMES": "a:b"}
    environment |= {"LISTEN_PIDFDID": "7", "WATCHDOG_PID": str(os.getpid()), "WATCHDOG_USEC": "1500000"}
    manager = ServiceManager.take(environment)
    assert environment == {"PATH": "/bin"}
    assert (manager.notify_socket, manager.watchdog_seconds, manager.socket_path) == ("/x", 1.5, None)
    assert ServiceManager.take({}) == ServiceManager()


@pytest.mark.parametrize(
    ("variables", "names"),
    [
        ({"LISTEN_FDS": "2", "LISTEN_FDNAMES": "llmosd.socket:llmosd.socket"}, "ListenStream="),
        ({"LISTEN_FDS": "1", "LISTEN_FDNAMES": "web.socket"}, "web.socket"),
        ({"LISTEN_FDS": "two"}, "LISTEN_FDS='two'"),
        ({"LISTEN_FDS": "-1"}, "LISTEN_FDS='-1'"),
        ({"WATCHDOG_USEC": "soon"}, "WATCHDOG_USEC='soon'"),
    ],
)
def test_what_is_malformed_is_named(variables: dict[str, str], names: str) -> None:
    with pytest.raises(BadInput, match=names):
        ServiceManager.take({"LISTEN_PID": str(os.getpid()), **variables})


def test_a_descriptor_that_is_no_listening_socket_is_refused(tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        datagram = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        internet = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        idle = stack.enter_context(socket.socket(socket.AF_UNIX))
        abstract = stack.enter_context(socket.socket(socket.AF_UNIX))
        idle.bind(str(tmp_path / "idle"))
        abstract.bind(f"\0{tmp_path}")
        abstract.listen()
        file = stack.enter_context((tmp_path / "file").open("w"))
        for wrong in (datagram, internet, idle, abstract, file):
            with pytest.raises(BadInput, match="no socket that llmosd can listen on"):
                inherit(os.dup(wrong.fileno()))


async def test_a_probe_wants_an_answer(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with pytest.raises(Unavailable, match="does not answer"):
        await probe(path, 1)
    answers: list[dict[str, object] | None] = [ANSWER, BUSY, BROKEN, None]
    async with answering(path, answers):
        await probe(path, 1)
        await probe(path, 1)
        with pytest.raises(Unavailable, match="failed inside"):
            await probe(path, 1)
        with pytest.raises(Unavailable, match=r"within 0\.1 s"):
            await probe(path, 0.1)


async def test_nobody_is_told_that_all_is_well_where_it_is_not(tmp_path: Path, heard: Heard) -> None:
    manager = ServiceManager(str(tmp_path / "notify"), watchdog_seconds=0.3)
    path = tmp_path / "socket"
    with pytest.raises(Unavailable):
        await manager.ready(path)
    async with answering(path, [BROKEN, None, BROKEN, ANSWER]):
        feeding = asyncio.create_task(manager.feed_watchdog(path))
        await asyncio.sleep(0.25)
        assert heard.read() == []
        await asyncio.to_thread(heard.until, "WATCHDOG=1")
        feeding.cancel()


async def test_the_notify_socket_may_be_abstract_and_may_be_gone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ear = Heard(f"\0{tmp_path}")
    manager = ServiceManager(f"@{tmp_path}")
    await manager.notify("STATUS=one", "READY=1")
    assert ear.read(1) == ["STATUS=one\nREADY=1"]
    ear.socket.close()
    await manager.notify("STATUS=two")
    assert "cannot be told STATUS=two" in caplog.text


needs_analyze = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")


@pytest.fixture
def units(tmp_path: Path) -> list[Path]:
    """The units as they would be, were llmos installed where this Python is."""
    files = []
    for name in ("llmosd.service", "llmosd.socket"):
        files.append(tmp_path / name)
        text = (CONFIGS / name).read_text()
        files[-1].write_text(text.replace("/opt/llmos/.venv/bin/llmosd", f"{sys.executable} -m llmos.kernel.daemon"))
    return files


@needs_analyze
def test_systemd_finds_nothing_wrong_with_the_units(units: list[Path]) -> None:
    done = subprocess.run(["systemd-analyze", "verify", *units], capture_output=True, text=True)
    version = subprocess.run(["systemd-analyze", "--version"], capture_output=True, text=True).stdout.split()[1]
    said = done.stdout + done.stderr
    if int(version) < 254:
        said = "".join(line for line in said.splitlines() if "Unknown key 'DelegateSubgroup'" not in line)
    assert (done.returncode, said) == (0, "")


@needs_analyze
def test_the_exposure_is_what_the_documentation_says(units: list[Path]) -> None:
    command = ["systemd-analyze", "security", "--offline=yes", "--no-pager", "--threshold=76", str(units[0])]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
