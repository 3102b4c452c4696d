"""The verbs on processes, on real ones."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from llmos.errors import Conflict, NeedsConfirmation, NotFound, Unsupported

Call = Callable[..., Any]
Eventually = Callable[[Callable[[], object]], Any]

COUNTER = "while :; do echo x >> {}; sleep 0.01; done"


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """A process that is no job."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def test_ps_lists_what_runs_and_show_tells_all_of_it(call: Call, sleeper: subprocess.Popen[bytes]) -> None:
    rows = call("ps", sort="memory")
    assert sleeper.pid in {row["pid"] for row in rows}
    sizes = [row["memory_bytes"] for row in rows]
    assert sizes == sorted(sizes, reverse=True)
    assert len(call("ps", limit=2)) == 2
    assert call("ps", name="no-such-program-here") == []
    shown = call("show", target=sleeper.pid)
    assert shown["pid"] == sleeper.pid
    assert "time.sleep" in shown["command"]
    with pytest.raises(NotFound, match="999999999"):
        call("show", target=999999999)


def test_tree_shows_children_below_their_parent(call: Call, tmp_path: Path) -> None:
    job = call("run", name="tree", argv=["sh", "-c", "sleep 600 & wait"])
    rows = call("tree", target="tree")
    assert rows[0]["pid"] == job["pid"] and rows[0]["depth"] == 0
    call("stop", target="tree")
    with pytest.raises(Conflict, match="tree is stopped and has no process"):
        call("tree", target="tree")


def test_port_files_and_holders_find_who_has_it(
    call: Call, tmp_path: Path, eventually: Eventually, sleeper: subprocess.Popen[bytes]
) -> None:
    held = tmp_path / "held file"
    script = f"import socket, time; f = open({str(held)!r}, 'w'); s = socket.create_server(('127.0.0.1', 0));"
    script += f"open({str(tmp_path / 'port')!r}, 'w').write(str(s.getsockname()[1])); time.sleep(600)"
    job = call("run", name="server", argv=[sys.executable, "-c", script])
    port = int(eventually(lambda: (tmp_path / "port").exists() and (tmp_path / "port").read_text()))
    assert [row["pid"] for row in call("port", port=port)] == [job["pid"]]
    assert [row["pid"] for row in call("holders", path=str(held))] == [job["pid"]]
    assert str(held) in {row.get("path") for row in call("files", target="server")}
    answer = call("plan.run", plan=f"port {port}\nstop $1", allow="change")
    assert answer["ok"], answer
    assert answer["targets"][0]["kind"] == "job"  # the job, not merely its process
    assert call("port", port=port) == []
    assert call("show", target="server")["state"] == "stopped"


def test_pause_stops_a_counter_and_resume_lets_it_go_on(call: Call, tmp_path: Path, eventually: Eventually) -> None:
    count = tmp_path / "count"

    def counts() -> bool:
        before = count.read_text()
        return bool(eventually(lambda: count.read_text() != before))

    job = call("run", name="counter", argv=["sh", "-c", COUNTER.format(count)])
    eventually(count.exists)
    for verb, target in (("pause", "counter"), ("pause", "counter")):
        [row] = call(verb, target=target)
        assert row["means"]
        assert call("show", target="counter")["state"] == "paused"
        before = psutil.Process(job["pid"]).cpu_times()
        assert call("system", aspect="cpu")
        assert psutil.Process(job["pid"]).cpu_times() == before
        with pytest.raises(Conflict, match=r"counter.*paused"):
            call("pause", target="counter")
        call("resume", target="counter")
        assert counts()
    call("pause", target="counter")
    call("undo")
    assert call("show", target="counter")["state"] == "running"
    assert counts()
    call("pause", target="counter")
    [stopped] = call("stop", target="counter")
    assert stopped["state"] == "stopped"


def test_processes_paused_together_are_resumed_apart(call: Call, eventually: Eventually) -> None:
    copies = [subprocess.Popen(["sleep", "600"]) for _ in range(2)]
    try:
        call("plan.run", plan="\n".join(f"pause {copy.pid}" for copy in copies), allow="change")
        call("resume", target=copies[0].pid)
        with pytest.raises(NotFound, match="not paused"):
            call("resume", target=copies[0].pid)
        call("resume", target=copies[1].pid)
    finally:
        for copy in copies:
            copy.kill()
            copy.wait()


def test_renice_changes_niceness_and_undo_brings_it_back(call: Call, sleeper: subprocess.Popen[bytes]) -> None:
    before = os.getpriority(os.PRIO_PROCESS, sleeper.pid)
    [row] = call("renice", target=sleeper.pid, priority="low")
    assert row["priority"] == "low"
    lowered = os.getpriority(os.PRIO_PROCESS, sleeper.pid)
    assert lowered > before
    call("renice", target=sleeper.pid, priority="idle")
    assert os.getpriority(os.PRIO_PROCESS, sleeper.pid) > lowered
    call("undo")
    assert os.getpriority(os.PRIO_PROCESS, sleeper.pid) == lowered
    call("undo")
    assert os.getpriority(os.PRIO_PROCESS, sleeper.pid) == before


def test_a_jobs_priority_holds_for_its_next_run_too(call: Call, eventually: Eventually) -> None:
    job = call("run", name="niced", argv=["sleep", "600"], priority="low")
    eventually(lambda: os.getpriority(os.PRIO_PROCESS, job["pid"]) > 0)
    call("restart", target="niced")
    again = call("show", target="niced")
    assert again["pid"] != job["pid"]
    eventually(lambda: os.getpriority(os.PRIO_PROCESS, again["pid"]) > 0)
    call("stop", target="niced")


def test_a_memory_limit_is_kept_and_said_how(call: Call, eventually: Eventually) -> None:
    hog = "import sys; sys.stdin.read" + "\ndata = []\nwhile True: data.append(bytearray(1 << 20))"
    call("run", name="hog", argv=[sys.executable, "-c", hog], memory="64M")
    call("wait", target="hog", timeout="20s")
    shown = call("show", target="hog")
    assert shown["state"] == "failed"
    assert shown["limits"]["memory"] == "64M"
    sentence = call("why", target="hog")["sentence"]
    assert "out of memory" in sentence or shown["exit_code"] == 1, sentence


def test_limit_of_a_process_is_undone(call: Call, sleeper: subprocess.Popen[bytes]) -> None:
    [row] = call("limit", target=sleeper.pid, memory="512M")
    assert row["means"]["memory"] in ("cgroup v1", "cgroup v2", "rlimit")
    assert not any("cpuacct" in caveat for caveat in row["caveats"])
    call("undo")
    if row["means"]["memory"] == "rlimit":
        assert psutil.Process(sleeper.pid).rlimit(psutil.RLIMIT_AS)[0] == -1
    call("run", name="limited", argv=["sleep", "600"])
    try:
        [row] = call("limit", target="limited", cpu=0.5)
        assert row["means"]["cpu"].startswith("cgroup")
    except Unsupported as error:
        assert "cpu" in error.message
    call("stop", target="limited")


def test_kill_by_name_by_pid_and_by_reference(call: Call, tmp_path: Path, eventually: Eventually) -> None:
    program = tmp_path / "llmos-victim"
    program.write_bytes(Path("/bin/sleep").resolve().read_bytes())
    program.chmod(0o755)
    by_name, by_pid = (subprocess.Popen([program, "600"]) for _ in range(2))
    with pytest.raises(NeedsConfirmation) as refusal:
        call("kill", target=by_pid.pid)
    shown = dict[str, Any](refusal.value.data)
    assert shown["targets"][0]["pid"] == by_pid.pid
    [row] = call("kill", target=by_pid.pid, confirm=shown["hash"])
    assert row["signal"] == "TERM"
    assert by_pid.wait(10) == -signal.SIGTERM
    call("kill", target="llmos-victim", signal="KILL", allow="destroy")
    assert by_name.wait(10) == -signal.SIGKILL
    with pytest.raises(NotFound, match="llmos-victim"):
        call("kill", target="llmos-victim", allow="destroy")
    third = subprocess.Popen([program, "600"])
    answer = call("plan.run", plan="ps name=llmos-victim\nkill $1 signal=INT", allow="destroy")
    assert answer["ok"]
    assert third.wait(10) == -signal.SIGINT


def test_a_harmless_signal_reaches_a_job_and_leaves_it_running(call: Call, eventually: Eventually) -> None:
    call("run", name="hup", argv=["sh", "-c", "trap 'echo reloaded' HUP; echo set; while :; do sleep 0.05; done"])
    eventually(lambda: call("logs", target="hup")["lines"] == ["set"])
    call("kill", target="hup", signal="HUP")
    eventually(lambda: call("logs", target="hup")["lines"] == ["set", "reloaded"])
    assert call("show", target="hup")["state"] == "running"
    call("kill", target="hup", allow="destroy")
    eventually(lambda: call("show", target="hup")["state"] == "stopped")
    assert "SIGTERM as asked" in call("why", target="hup")["sentence"]


def test_a_signal_that_a_job_outlives_leaves_it_running(call: Call, eventually: Eventually) -> None:
    call("run", name="deaf", argv=["sh", "-c", "trap 'echo no' INT; echo set; while :; do sleep 0.05; done"])
    eventually(lambda: call("logs", target="deaf")["lines"] == ["set"])
    call("kill", target="deaf", signal="INT", allow="destroy")
    eventually(lambda: "no" in call("logs", target="deaf")["lines"])
    assert call("show", target="deaf")["state"] == "running"
    call("stop", target="deaf")


def test_stop_ends_a_process_that_is_no_job(call: Call, sleeper: subprocess.Popen[bytes]) -> None:
    with pytest.raises(NeedsConfirmation):
        call("stop", target=sleeper.pid)
    [row] = call("stop", target=sleeper.pid, allow="destroy")
    assert row["signal"] == "TERM"
    assert sleeper.wait(10) == -signal.SIGTERM


def test_port_tells_nothing_of_a_free_port(call: Call) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert [row["pid"] for row in call("port", port=port)] == [os.getpid()]
    assert call("port", port=port) == []
