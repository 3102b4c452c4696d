"""The reaper as llmosd meets it: a real one for each test, spoken to line by line."""

import errno
import json
import os
import re
import resource
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from llmos.kernel.reaper_client import BOOTSTRAP, ROOT, reach, start_reaper

FREEZER = Path("/sys/fs/cgroup/freezer")
ENV = {"PATH": os.environ["PATH"]}
# The main process leaves a child in a session of its own, orphaned by its parent, and waits for a line on a pipe.
DAEMON = "(setsid sh -c 'echo $$ > \"$1\"; exec sleep 600' sh {0} &) ; while ! [ -s {0} ]; do sleep 0.01; done"


def wait_for(look: Callable[[], Any]) -> Any:
    """What `look` returns as soon as that is true."""
    deadline = time.monotonic() + 20
    while not (found := look()):
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)
    return found


class Wire:
    """A connection to the reaper of a folder, with everything pushed so far."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.socket = reach(state)
        self.socket.settimeout(20)
        self.file = self.socket.makefile("rb")
        self.pushed: list[dict[str, Any]] = []
        self.number = 0

    def send(self, line: bytes) -> None:
        self.socket.sendall(line + b"\n")

    def read(self) -> dict[str, Any]:
        line = self.file.readline()
        assert line, "the reaper closed the connection"
        message: dict[str, Any] = json.loads(line)
        return message

    def answer(self, number: int | None) -> dict[str, Any]:
        while True:
            message = self.read()
            if "event" not in message and message["id"] == number:
                return message
            self.pushed.append(message)

    def ask(self, operation: str, **fields: Any) -> Any:
        self.number += 1
        self.send(json.dumps({"id": self.number, "op": operation, **fields}).encode())
        answer = self.answer(self.number)
        return answer.get("ok") or answer.get("error", {})

    def start(self, run: str, *argv: str, **fields: Any) -> Any:
        return self.ask("spawn", run=run, argv=argv, **{"env": ENV, "cwd": "/", **fields})

    def shell(self, run: str, script: str, **fields: Any) -> int:
        pid: int = self.start(run, "sh", "-c", script, **fields)["pid"]
        return pid

    def ended(self, run: str) -> dict[str, Any]:
        """How the run ended, once it has; told exactly once."""
        while not any(message.get("run") == run for message in self.pushed):
            self.pushed.append(self.read())
        (message,) = [message for message in self.pushed if message.get("run") == run]
        outcome: dict[str, Any] = message["exit"]
        return outcome

    def runs(self) -> dict[str, dict[str, Any]]:
        return {run["run"]: run for run in self.ask("list")["runs"]}

    def reaper(self) -> int:
        pid: int = self.ask("ping")["pid"]
        return pid

    def kill_reaper(self) -> int:
        """Returns the pid that it had, once it is dead."""
        reaper = self.reaper()
        os.kill(reaper, signal.SIGKILL)
        wait_for(lambda: gone(reaper))
        return reaper

    def close(self) -> None:
        self.file.close()
        self.socket.close()


def gone(pid: int) -> bool:
    """Whether no living process has that pid."""
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


@pytest.fixture
def connect(tmp_path: Path) -> Iterator[Callable[[], Wire]]:
    """Connections to one reaper, started by the first; in the end nothing of it is left."""
    wires: list[Wire] = []

    def connect() -> Wire:
        wires.append(Wire(tmp_path / "state"))
        return wires[-1]

    yield connect
    last = connect()
    for run in last.runs():
        last.ask("signal", run=run, signal=signal.SIGKILL, scope="tree")
    wait_for(lambda: all(run["exit"] for run in last.runs().values()))
    reaper = last.reaper()
    last.ask("shutdown", force=True)
    for wire in wires:
        wire.close()
    wait_for(lambda: gone(reaper))


@pytest.fixture
def wire(connect: Callable[[], Wire]) -> Wire:
    return connect()


@pytest.fixture
def frozen(tmp_path: Path) -> Iterator[Path]:
    """A freezer cgroup of version 1 that is frozen."""
    folder = FREEZER / f"llmos-test-{os.getpid()}-{tmp_path.name}"
    try:
        folder.mkdir()
        (folder / "freezer.state").write_text("FROZEN")
    except OSError as error:
        pytest.skip(f"needs a freezer cgroup of version 1 that it may make: {error}")
    yield folder
    (folder / "freezer.state").write_text("THAWED")
    wait_for(lambda: not (folder / "cgroup.procs").read_text())
    folder.rmdir()


def test_exit_code_and_use_are_pushed_and_kept_until_taken(wire: Wire) -> None:
    started = wire.start("one", "sh", "-c", "exit 3", label={"job": ["a", 1]})
    outcome = wire.ended("one")
    assert (outcome["code"], outcome["signal"], outcome["core"]) == (3, None, False)
    assert outcome["cpu_seconds"] >= 0
    assert outcome["max_rss_bytes"] > 1 << 16
    known = wire.runs()["one"]
    assert known["exit"] == outcome
    assert known["label"] == {"job": ["a", 1]}
    assert (known["pid"], known["start_ticks"]) == (started["pid"], started["start_ticks"])
    assert abs(known["started_at"] - outcome["at"]) < 20
    assert wire.ask("take", runs=["one", "never", 5]) == {"taken": ["one"]}
    assert wire.runs() == {}


def test_death_by_a_signal(wire: Wire) -> None:
    wire.shell("one", "kill -USR1 $$")
    outcome = wire.ended("one")
    assert (outcome["code"], outcome["signal"]) == (None, signal.SIGUSR1)


def test_a_running_run_is_not_taken(wire: Wire) -> None:
    wire.shell("one", "exec sleep 600")
    assert wire.ask("take", runs=["one"]) == {"taken": []}
    assert wire.runs()["one"]["exit"] is None


def test_start_ticks_are_those_of_the_process(wire: Wire) -> None:
    started = wire.start("one", "sleep", "600")
    stat = Path(f"/proc/{started['pid']}/stat").read_text()
    assert int(stat.rpartition(")")[2].split()[19]) == started["start_ticks"]


def test_output_goes_to_the_log_files(wire: Wire, tmp_path: Path) -> None:
    log, errors = tmp_path / "out.log", tmp_path / "err.log"
    log.write_text("before\n")
    wire.shell("one", "echo out; echo err >&2", stdout=str(log), stderr=str(errors))
    wire.shell("two", "echo out; echo err >&2", stdout=str(errors))
    wire.ended("one")
    wire.ended("two")
    assert log.read_text() == "before\nout\n"
    assert sorted(errors.read_text().split()) == ["err", "err", "out"]
    assert errors.stat().st_mode & 0o777 == 0o600


@pytest.fixture
def journald(tmp_path: Path) -> Iterator["FakeJournald"]:
    with FakeJournald(tmp_path / "journal") as fake:
        yield fake


class FakeJournald:
    """Takes streams as systemd-journald does: seven lines of heading, then the output. Nothing is ever sent back."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(self.path)
        os.chmod(self.path, 0o666)
        self.listener.listen(4)
        self.listener.settimeout(20)

    def __enter__(self) -> "FakeJournald":
        return self

    def __exit__(self, *_: object) -> None:
        self.listener.close()

    def stream(self) -> tuple[list[str], str, tuple[int, ...]]:
        """Heading, output until its end, and who sent it (pid, uid, gid), of the next stream."""
        connection, _ = self.listener.accept()
        connection.settimeout(20)
        with connection, connection.makefile(encoding="utf-8") as file:
            sender = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
            connection.shutdown(socket.SHUT_WR)
            heading = [file.readline().removesuffix("\n") for _ in range(7)]
            return heading, file.read(), sender


SPEAKS = 'echo out; echo err >&2; test "$JOURNAL_STREAM" = "$(stat -Lc %d:%i /proc/self/fd/2)" && echo native'


@pytest.mark.parametrize("apart", [False, True])
def test_output_goes_to_the_journal(wire: Wire, journald: FakeJournald, apart: bool) -> None:
    told = {"identifier": "a job \u65b0", "socket": journald.path}
    pid = wire.shell("one", SPEAKS, journal=told, stderr="/dev/null" if apart else None)
    heading, output, sender = journald.stream()
    assert heading == ["a job \u65b0", "", "6", "1", "0", "0", "0"]
    assert sender[0] == pid
    assert output == ("out\nnative\n" if apart else "out\nerr\nnative\n")
    if apart:
        heading, output, _ = journald.stream()
        assert (heading[0], heading[2], output) == ("a job \u65b0", "3", "err\n")
    assert wire.ended("one")["code"] == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may run as another user")
def test_the_journal_sees_the_user_of_the_process(wire: Wire) -> None:
    user = {"uid": 65534, "gid": 65533, "groups": []}
    with tempfile.TemporaryDirectory() as folder, FakeJournald(Path(folder, "journal")) as journald:
        os.chmod(folder, 0o711)
        wire.shell("one", "id -u; id -g", journal={"identifier": "one", "socket": journald.path}, user=user)
        _, output, sender = journald.stream()
    assert output == "65534\n65533\n"
    assert sender[1:] == (65534, 65533)


def test_a_process_starts_clean(wire: Wire, tmp_path: Path) -> None:
    log = tmp_path / "log"
    script = "cat; echo $LLMOS_RUN; umask; pwd; ls -1 /proc/$$/fd; grep -E 'Sig(Ign|Blk)' /proc/self/status; ulimit -n"
    pid = wire.shell("one", f"{script}; ps -o sid= -p $$", stdout=str(log), cwd="/usr", umask=0o027)
    wire.ended("one")
    soft = psutil.Process().rlimit(psutil.RLIMIT_NOFILE)[0]
    lines = [line.split()[-1] for line in log.read_text().splitlines()]
    assert lines[:6] == ["one", "0027", "/usr", "0", "1", "2"]
    of_the_c_library = 0b11 << 31  # 32 and 33, which posix_spawn leaves ignored and nobody else can set
    assert [int(line, 16) & ~of_the_c_library for line in lines[6:8]] == [0, 0]
    assert lines[8:] == [str(soft), str(pid)]


def test_settings_are_those_asked_for(wire: Wire) -> None:
    limits = {"RLIMIT_NOFILE": [64, 128], "RLIMIT_CORE": [0, 0]}
    pid = wire.shell("one", "exec sleep 600", nice=7, ioclass=[2, 6], rlimits=limits)
    process = psutil.Process(pid)
    assert process.nice() == 7
    assert tuple(process.ionice()) == (2, 6)
    assert process.rlimit(psutil.RLIMIT_NOFILE) == (64, 128)
    assert process.rlimit(psutil.RLIMIT_CORE) == (0, 0)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may run as another user")
def test_runs_as_another_user(wire: Wire) -> None:
    process = psutil.Process(wire.shell("one", "exec sleep 600", user={"uid": 65534, "gid": 65533, "groups": [7]}))
    assert set(process.uids()) == {65534}
    assert set(process.gids()) == {65533}
    assert re.search(r"^Groups:\s*7\s*$", Path(f"/proc/{process.pid}/status").read_text(), re.MULTILINE)


@pytest.mark.parametrize(
    ("change", "stage", "number"),
    [
        ({"argv": ["no-such-command"]}, "exec", errno.ENOENT),
        ({"argv": ["/no/such/command"]}, "exec", errno.ENOENT),
        ({"argv": ["/etc/passwd"]}, "exec", errno.EACCES),
        ({"argv": ["sh"], "env": {"PATH": "/no/such:/etc/passwd"}}, "exec", errno.ENOENT),
        ({"cwd": "/no/such"}, "chdir", errno.ENOENT),
        ({"stdout": "/no/such/log"}, "log", errno.ENOENT),
        ({"journal": {"identifier": "x", "socket": "/no/such"}}, "journal", errno.ENOENT),
        ({"journal": {"identifier": "x", "socket": "/etc/passwd"}}, "journal", errno.ECONNREFUSED),
        ({"journal": {"identifier": "x\ny", "socket": "/no/such"}}, "request", errno.EINVAL),
        ({"journal": {"identifier": "", "socket": "/no/such"}}, "request", errno.EINVAL),
        ({"journal": {"identifier": "x"}}, "request", errno.EINVAL),
        ({"journal": {"identifier": "x", "socket": "relative"}}, "request", errno.EINVAL),
        ({"journal": "x"}, "request", errno.EINVAL),
        ({"cgroups": ["/no/such"]}, "cgroup", errno.ENOENT),
        ({"rlimits": {"RLIMIT_NOFILE": [9, 8]}}, "rlimit", errno.EINVAL),
        ({"ioclass": [4, 0]}, "request", errno.EINVAL),
        ({"argv": []}, "request", errno.EINVAL),
        ({"argv": ["a\0b"]}, "request", errno.EINVAL),
        ({"argv": ["\ud800"]}, "request", errno.EINVAL),
        ({"argv": "true"}, "request", errno.EINVAL),
        ({"env": {"A=B": "c"}}, "request", errno.EINVAL),
        ({"env": {"A": 1}}, "request", errno.EINVAL),
        ({"cwd": "relative"}, "request", errno.EINVAL),
        ({"umask": "022"}, "request", errno.EINVAL),
        ({"rlimits": {"RLIMIT_NO_SUCH": [1, 1]}}, "request", errno.EINVAL),
        ({"rlimits": {"RLIMIT_CORE": [1]}}, "request", errno.EINVAL),
        ({"user": {"uid": "root"}}, "request", errno.EINVAL),
        ({"user": {"uid": 0, "gid": 0, "groups": 5}}, "request", errno.EINVAL),
        ({"run": ""}, "request", errno.EINVAL),
        ({"run": None}, "request", errno.EINVAL),
    ],
)
def test_what_cannot_start_says_why_and_leaves_nothing(
    wire: Wire, change: dict[str, Any], stage: str, number: int
) -> None:
    refused = wire.ask("spawn", **{"run": "one", "argv": ["true"], "env": ENV, **change})
    assert (refused["stage"], refused["errno"]) == (stage, number), refused
    assert refused["message"]
    assert wire.runs() == {}
    wire.start("one", "true")
    assert wire.ended("one")["code"] == 0


def test_a_script_without_an_interpreter_line(wire: Wire, tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("echo\n")
    script.chmod(0o755)
    assert wire.start("one", str(script))["errno"] == errno.ENOEXEC


def test_the_same_run_starts_once(wire: Wire) -> None:
    request = {"op": "spawn", "run": "one", "argv": ["sleep", "600"], "env": ENV}
    wire.send(b"\n".join(json.dumps({"id": number, **request}).encode() for number in (101, 102)))
    first, second = wire.answer(101)["ok"], wire.answer(102)["ok"]
    assert first == second == wire.start("one", "sleep", "600")
    os.kill(first["pid"], signal.SIGKILL)
    wire.ended("one")
    assert wire.start("one", "sleep", "600") == first
    assert len(psutil.Process(wire.reaper()).children()) == 0


def test_awkward_environment_and_arguments(wire: Wire, tmp_path: Path) -> None:
    log = tmp_path / "log"
    value = "line\nline é 漢 \udcff = '\""
    code = "import os, sys; print(ascii((os.environ['Ü'], sys.argv[1], len(sys.argv[2]))))"
    wire.start("ü\n", sys.executable, "-c", code, value, "x" * (64 << 10), env={"Ü": value}, stdout=str(log))
    assert wire.ended("ü\n")["code"] == 0
    assert log.read_text().strip() == ascii((value, value, 64 << 10))


@pytest.mark.parametrize("line", [b"", b"{", b"[]", b"5", b'{"op": 1}', b'{"op": "no"}', b"\xff\xfe", b"[" * 100_000])
def test_bad_lines_are_answered(wire: Wire, line: bytes) -> None:
    wire.send(line)
    assert wire.answer(None)["error"]["errno"] == errno.EINVAL
    assert wire.reaper()


@pytest.mark.parametrize(
    "request_",
    [
        {"op": "signal", "run": "one", "signal": 9999, "scope": "main"},
        {"op": "signal", "run": "one", "signal": True, "scope": "main"},
        {"op": "signal", "run": "one", "signal": 15, "scope": "all"},
        {"op": "take", "runs": "one"},
    ],
)
def test_bad_fields_are_answered(wire: Wire, request_: dict[str, Any]) -> None:
    wire.shell("one", "exec sleep 600")
    assert wire.ask(**{"operation" if key == "op" else key: value for key, value in request_.items()})["errno"] == 22
    assert wire.ask("signal", run="other", signal=15, scope="main")["errno"] == errno.ENOENT
    assert wire.ask("members", run=[])["errno"] == errno.ENOENT


def test_a_line_without_end_is_dropped(connect: Callable[[], Wire]) -> None:
    wire = connect()
    reaper = wire.reaper()
    with pytest.raises(ConnectionError):
        for _ in range(64):
            wire.socket.sendall(b"x" * (1 << 20))
    assert connect().reaper() == reaper


def test_a_client_that_never_reads_holds_nobody_up(connect: Callable[[], Wire]) -> None:
    deaf = connect()
    for number in range(20):
        deaf.start(f"run {number}", "true", label="x" * 10_000)
    reaper = psutil.Process(deaf.reaper())
    before = reaper.memory_info().rss
    with pytest.raises(ConnectionError):
        for _ in range(100_000):
            deaf.send(b'{"op":"list"}')
    wire = connect()
    assert wire.reaper() == reaper.pid
    assert len(wire.runs()) == 20
    assert reaper.memory_info().rss - before < 16 << 20


def test_the_newest_connection_replaces_the_older(connect: Callable[[], Wire]) -> None:
    old = connect()
    old.shell("one", "read line", stdout="/dev/null")
    new = connect()
    assert new.reaper()
    while (message := old.read()).get("event") == "exit":
        pass
    assert message == {"event": "replaced"}
    assert old.file.readline() == b""
    new.shell("two", "exit 5")
    assert new.ended("two")["code"] == 5


def test_a_tree_is_killed_with_its_daemons(wire: Wire, tmp_path: Path) -> None:
    note = tmp_path / "pid"
    main = wire.shell("one", f"{DAEMON.format(note)}; sleep 600")
    other = wire.shell("two", "exec sleep 600")
    daemon = int(wait_for(lambda: note.exists() and note.read_text().strip()))
    found = {member["pid"] for member in wire.ask("members", run="one")["members"]}
    assert found >= {main, daemon}
    signalled = wire.ask("signal", run="one", signal=signal.SIGKILL, scope="tree")
    assert set(signalled["pids"]) >= {main, daemon}
    wait_for(lambda: all(map(gone, found)))
    assert wire.ended("one")["signal"] == signal.SIGKILL
    assert wire.ask("members", run="one") == {"members": []}
    assert [member["pid"] for member in wire.ask("members", run="two")["members"]] == [other]


def test_what_an_ended_run_leaves_is_killed(wire: Wire, tmp_path: Path) -> None:
    notes = [tmp_path / "a", tmp_path / "b"]
    other = wire.shell("other", f"{DAEMON.format(notes[1])}; exec sleep 600")
    wire.shell("one", f"{DAEMON.format(notes[0])}; exit 4")
    assert wire.ended("one")["code"] == 4
    wait_for(lambda: all(note.exists() and note.read_text().strip() for note in notes))
    left, kept = (int(note.read_text()) for note in notes)
    wait_for(lambda: gone(left))
    assert not gone(kept)
    assert not gone(other)
    # Orphans are waited for too.
    wait_for(lambda: {child.pid for child in psutil.Process(wire.reaper()).children()} == {kept, other})


def test_main_alone_is_signalled(wire: Wire, tmp_path: Path) -> None:
    note = tmp_path / "pid"
    pid = wire.shell("one", f"trap 'echo got > {note}' TERM; while :; do sleep 0.01; done")
    wait_for(lambda: int(re.findall(r"SigCgt:\s*(\w+)", Path(f"/proc/{pid}/status").read_text())[0], 16) & 1 << 14)
    assert wire.ask("signal", run="one", signal=signal.SIGTERM, scope="main") == {"pids": [pid], "denied": []}
    wait_for(note.exists)
    assert not gone(pid)
    wire.ask("signal", run="one", signal=signal.SIGKILL, scope="main")
    assert wire.ended("one")["signal"] == signal.SIGKILL
    assert wire.ask("signal", run="one", signal=signal.SIGKILL, scope="main")["errno"] == errno.ESRCH


def test_a_spawn_into_a_frozen_cgroup_waits_alone(wire: Wire, frozen: Path) -> None:
    wire.send(
        json.dumps({"id": 100, "op": "spawn", "run": "cold", "argv": ["true"], "cgroups": [str(frozen)]}).encode()
    )
    wire.start("warm", "true", env=ENV)
    assert wire.ended("warm")["code"] == 0
    assert wire.runs()["cold"]["exit"] is None
    (frozen / "freezer.state").write_text("THAWED")
    assert wire.answer(100)["ok"]["run"] == "cold"
    assert wire.ended("cold")["code"] == 0


def test_a_frozen_tree_can_be_killed(wire: Wire, frozen: Path) -> None:
    (frozen / "freezer.state").write_text("THAWED")
    pid = wire.shell("one", "exec sleep 600", cgroups=[str(frozen)])
    assert (frozen / "cgroup.procs").read_text().split() == [str(pid)]
    (frozen / "freezer.state").write_text("FROZEN")
    wire.ask("signal", run="one", signal=signal.SIGKILL, scope="tree")
    assert wire.ended("one")["signal"] == signal.SIGKILL


def test_a_member_that_hides_is_found_in_its_cgroup(wire: Wire, frozen: Path, tmp_path: Path) -> None:
    (frozen / "freezer.state").write_text("THAWED")
    note, fifo = tmp_path / "pid", tmp_path / "fifo"
    os.mkfifo(fifo)
    wire.shell(
        "one",
        f"(env -i PATH=$PATH setsid sh -c 'echo $$ > {note}; exec sleep 600' &); cat {fifo}",
        cgroups=[str(frozen)],
    )
    hidden = int(wait_for(lambda: note.exists() and note.read_text().strip()))
    fifo.open("w").close()
    wait_for(lambda: gone(hidden))


def test_a_dying_reaper_in_a_frozen_spawn_can_be_followed(connect: Callable[[], Wire], frozen: Path) -> None:
    wire = connect()
    request = {"id": 100, "op": "spawn", "run": "cold", "argv": ["/bin/sleep", "600"], "cgroups": [str(frozen)]}
    wire.send(json.dumps(request).encode())
    (cold,) = wait_for(lambda: (frozen / "cgroup.procs").read_text().split())
    wire.kill_reaper()
    after = connect()
    assert after.start("cold", "/bin/sleep", "600")["pid"] == int(cold)
    (frozen / "freezer.state").write_text("THAWED")
    wait_for(lambda: psutil.Process(int(cold)).name() == "sleep")
    after.ask("signal", run="cold", signal=signal.SIGKILL, scope="tree")
    assert after.ended("cold")


def test_many_quick_runs(wire: Wire) -> None:
    for number in range(200):
        code = {"argv": ["sh", "-c", f"exit {number % 100}"], "env": ENV}
        wire.send(json.dumps({"id": number + 1000, "op": "spawn", "run": f"run {number}", **code}).encode())
    outcomes = [wire.ended(f"run {number}")["code"] for number in range(200)]
    assert outcomes == [number % 100 for number in range(200)]
    assert len(wire.ask("take", runs=[f"run {number}" for number in range(200)])["taken"]) == 200
    reaper = psutil.Process(wire.reaper())
    assert reaper.num_fds() < 20
    assert reaper.children() == []


def test_exits_without_a_client_wait_for_the_next(connect: Callable[[], Wire], tmp_path: Path) -> None:
    wire = connect()
    go = tmp_path / "go"
    for number in range(5):
        wire.shell(f"run {number}", f"until [ -e {go} ]; do sleep 0.01; done; exit {number}")
    wire.close()
    go.touch()
    after = connect()
    wait_for(lambda: all(run["exit"] for run in after.runs().values()))
    assert sorted(run["exit"]["code"] for run in after.runs().values()) == [0, 1, 2, 3, 4]


def test_runs_survive_their_reaper(connect: Callable[[], Wire], tmp_path: Path) -> None:
    wire = connect()
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    lives = wire.shell("lives", f"{DAEMON.format(tmp_path / 'note')}; cat {fifo}; exit 7", label="kept")
    wire.shell("ended", "exit 3")
    ended = wire.ended("ended")
    dies = wire.shell("dies", "exec sleep 600")
    first = wire.kill_reaper()
    os.kill(dies, signal.SIGKILL)
    wait_for(lambda: gone(dies))
    daemon = int((tmp_path / "note").read_text())
    assert not gone(lives)

    after = connect()
    assert after.reaper() != first
    runs = after.runs()
    assert runs["ended"]["exit"] == ended
    # Unknown, unless its new parent has not waited for it yet.
    assert runs["dies"]["exit"].get("unknown") or runs["dies"]["exit"]["signal"] == signal.SIGKILL
    assert runs["dies"]["exit"]["code"] is None
    assert runs["lives"]["exit"] is None
    assert runs["lives"]["label"] == "kept"
    assert after.shell("lives", "exit") == lives
    assert {member["pid"] for member in after.ask("members", run="lives")["members"]} >= {lives, daemon}
    fifo.open("w").close()
    outcome = after.ended("lives")
    # The kernel tells since Linux 6.15.
    assert outcome["code"] == 7 or outcome["unknown"]
    wait_for(lambda: gone(daemon))


def test_a_torn_ledger_is_read_up_to_the_tear(connect: Callable[[], Wire], tmp_path: Path) -> None:
    wire = connect()
    pid = wire.shell("one", "exec sleep 600")
    wire.kill_reaper()
    with (tmp_path / "state/reaper.ledger").open("ab") as ledger:
        ledger.write(b'\xff\n5\n{"event":"exited","run":"unknown"}\n{"event":"exited","run":"one","ex')
    after = connect()
    assert after.runs()["one"]["pid"] == pid
    assert after.runs()["one"]["exit"] is None
    assert "not understood" in (tmp_path / "state/reaper.log").read_text()


def test_a_long_state_folder(tmp_path: Path) -> None:
    state = tmp_path / ("x" * 120) / ("y" * 120)
    wire = Wire(state)
    assert wire.ask("ping")
    assert (state / "reaper.sock").stat().st_mode & 0o777 == 0o600
    wire.ask("shutdown")
    wire.close()
    wait_for(lambda: not (state / "reaper.sock").exists())


def test_there_is_one_reaper_a_folder(wire: Wire) -> None:
    reaper = wire.reaper()
    start_reaper(wire.state)
    assert wire.reaper() == reaper


def test_it_is_detached_and_ignores_hangups(wire: Wire) -> None:
    reaper = wire.reaper()
    assert os.getsid(reaper) != os.getsid(0)
    assert psutil.Process(reaper).ppid() != os.getpid()
    os.kill(reaper, signal.SIGHUP)
    os.kill(reaper, signal.SIGINT)
    assert wire.reaper() == reaper


def test_on_term_it_leaves_after_the_last_run(connect: Callable[[], Wire]) -> None:
    wire = connect()
    reaper = wire.reaper()
    pid = wire.shell("one", "exec sleep 600")
    os.kill(reaper, signal.SIGTERM)
    assert wire.reaper() == reaper
    os.kill(pid, signal.SIGKILL)
    assert wire.ended("one")["signal"] == signal.SIGKILL
    wait_for(lambda: gone(reaper))
    assert connect().runs()["one"]["exit"]["signal"] == signal.SIGKILL


def test_shutdown_waits_for_runs_and_exits(wire: Wire) -> None:
    pid = wire.shell("one", "exec sleep 600")
    assert wire.ask("shutdown", force=True)["errno"] == errno.EBUSY
    os.kill(pid, signal.SIGKILL)
    wire.ended("one")
    assert wire.ask("shutdown")["errno"] == errno.EBUSY
    assert wire.reaper()


def test_idle_it_does_nothing(wire: Wire) -> None:
    wire.shell("one", "exec sleep 600")
    reaper = wire.reaper()
    assert Path(f"/proc/{reaper}/wchan").read_text() in ("ep_poll", "0", "do_epoll_wait")


def test_a_stale_socket_is_replaced(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(state / "reaper.sock"))
    wire = Wire(state)
    wire.ask("shutdown")
    wire.close()
    wait_for(lambda: not (state / "reaper.sock").exists())


def test_what_cannot_execute_when_nobody_is_left_to_be_told_ended_with_127(
    connect: Callable[[], Wire], frozen: Path
) -> None:
    first = connect()
    first.send(
        json.dumps({"id": 9, "op": "spawn", "run": "one", "argv": ["/no/such"], "cgroups": [str(frozen)]}).encode()
    )
    wait_for(lambda: (frozen / "cgroup.procs").read_text())  # it is held there before its exec
    second = connect()
    assert second.runs()["one"]["exit"] is None
    (frozen / "freezer.state").write_text("THAWED")
    assert second.ended("one")["code"] == 127


def test_a_reaper_lives_whose_starter_was_killed(tmp_path: Path) -> None:
    ours, theirs = os.pipe()
    os.close(ours)
    state = tmp_path / "state"
    state.mkdir()
    with (state / "reaper.log").open("wb") as log:
        starting = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", BOOTSTRAP, str(state), str(ROOT)], stdout=theirs, stderr=log
        )
    os.close(theirs)
    assert starting.wait() == 0
    wait_for((state / "reaper.sock").exists)
    wire = Wire(state)
    reaper = wire.reaper()
    wire.ask("shutdown")
    wire.close()
    wait_for(lambda: gone(reaper))
    assert "Traceback" not in (state / "reaper.log").read_text()


def test_without_descriptors_it_waits_and_says_so_once(connect: Callable[[], Wire], tmp_path: Path) -> None:
    wire = connect()
    reaper = wire.reaper()
    limits = resource.prlimit(reaper, resource.RLIMIT_NOFILE)
    used = max(int(name) for name in os.listdir(f"/proc/{reaper}/fd")) + 1
    resource.prlimit(reaper, resource.RLIMIT_NOFILE, (used, limits[1]))
    waiting = connect()  # it is not accepted
    wait_for(lambda: "not accepted" in (tmp_path / "state" / "reaper.log").read_text())
    time.sleep(0.5)
    resource.prlimit(reaper, resource.RLIMIT_NOFILE, limits)
    assert waiting.reaper() == reaper
    assert (tmp_path / "state" / "reaper.log").read_text().count("not accepted") == 1


def test_a_run_that_is_ready_says_so_to_whoever_comes_later(connect: Callable[[], Wire], tmp_path: Path) -> None:
    go = tmp_path / "go"
    says = (
        "import os, socket, time\n"
        f"while not os.path.exists({str(go)!r}): time.sleep(0.02)\n"
        "socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b'READY=1', '\\0' + os.environ['NOTIFY_SOCKET'][1:])\n"
        "time.sleep(600)\n"
    )
    first = connect()
    first.start("one", sys.executable, "-c", says, env={"NOTIFY_SOCKET": "@llmos/one", **ENV}, notify=True)
    assert not first.runs()["one"]["ready"]
    first.kill_reaper()
    second = connect()
    assert second.runs()["one"]["notify"] and not second.runs()["one"]["ready"]
    go.touch()
    second.pushed.append(second.read())
    assert second.pushed == [{"event": "ready", "run": "one"}]
    second.kill_reaper()
    assert connect().runs()["one"]["ready"]
