"""What a job is held by, as the kernel tells it of its process: limits, niceness, umask, user, variables, memory."""

import os
import pwd
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conftest import needs_root
from llmos.errors import BadInput, Forbidden, LlmosError, NotFound
from llmos.machine.cgroup import Cgroups
from llmos.machine.identity import Identity

Call = Callable[..., Any]
Eventually = Callable[[Callable[[], object]], Any]

CGROUPS = Cgroups.probe()
CONTROLLERS = CGROUPS.controllers


def needs(controller: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(controller not in CONTROLLERS, reason=f"no writable cgroup controller {controller} here")


def status(pid: int, field: str) -> list[str]:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == field:
            return value.split()
    raise AssertionError(f"no {field}")


def group_files(pid: int, name: str) -> list[str]:
    """The contents of a file of each cgroup that the process is in."""
    paths = {line.split(":", 2)[2] for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines()}
    mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines() if " cgroup" in line]
    files = [Path(mount + path) / name for mount in mounts for path in paths]
    return [file.read_text().strip() for file in files if file.exists()]


def test_open_files_niceness_and_umask(call: Call) -> None:
    job = call("run", name="bounded", argv=["sleep", "600"], open_files=123, nice=7, umask="027")
    pid = job["pid"]
    [line] = [line for line in Path(f"/proc/{pid}/limits").read_text().splitlines() if line.startswith("Max open")]
    assert line.split()[3:5] == ["123", "123"]
    assert os.getpriority(os.PRIO_PROCESS, pid) == 7
    assert status(pid, "Umask") == ["0027"]
    shown = call("show", target="bounded")
    assert (shown["limits"]["open_files"], shown["nice"], shown["umask"]) == (123, 7, "027")
    [again] = call("restart", target="bounded")
    assert status(again["pid"], "Umask") == ["0027"]
    call("stop", target="bounded")


@needs("memory")
@needs("cpu")
@needs("io")
@needs("pids")
def test_every_limit_of_a_group_holds_from_the_start_and_goes_with_its_definition(call: Call) -> None:
    v1 = CGROUPS.means("memory") == "cgroup v1"

    def bound(pid: int, controller: str, first: str, second: str) -> str:
        place = CGROUPS.place(Identity.of(pid), controller)
        return (place / (first if v1 else second)).read_text().strip() if place.name == "fenced.group" else ""

    def bounds(pid: int) -> list[str]:
        return [
            bound(pid, "memory", "memory.limit_in_bytes", "memory.max"),
            bound(pid, "cpu", "cpu.cfs_quota_us", "cpu.max").split()[0],
            bound(pid, "cpu", "cpu.shares", "cpu.weight"),
            bound(pid, "pids", "pids.max", "pids.max"),
        ]

    given = {"memory": "256M", "cpu": 0.5, "pids": 9, "io": "1M", "priority": "low"}
    pid = call("run", name="fenced", argv=["sleep", "600"], **given)["pid"]
    assert bounds(pid) == [str(256 << 20), "50000", "102" if v1 else "10", "9"]
    assert str(1 << 20) in bound(pid, "io", "blkio.throttle.write_bps_device", "io.max")
    call("limit", target="fenced", cpu=0.25, memory="128M")
    assert bounds(pid)[:2] == [str(128 << 20), "25000"]
    call("stop", target="fenced")

    pid = call("run", name="fenced", argv=["sleep", "600"], cpu=1)["pid"]
    assert bounds(pid) == ["", "100000", "1024", ""] if v1 else ["max", "100000", "100", "max"]
    assert bound(pid, "io", "blkio.throttle.write_bps_device", "io.max") == ""
    call("stop", target="fenced")


def test_a_job_that_is_deaf_to_term_ends_with_all_its_children(call: Call, tmp_path: Path) -> None:
    deaf = "import os, signal, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    deaf += "if os.fork() == 0:\n os.setsid()\n if os.fork() == 0: pass\n else: os._exit(0)\n"
    deaf += f"open(r'{tmp_path}/' + str(os.getpid()), 'w').close()\nprint('deaf', flush=True)\ntime.sleep(600)"
    call("run", name="deaf", argv=[sys.executable, "-c", deaf], stop_timeout="1s", ready={"log": "deaf"})
    while len(list(tmp_path.iterdir())) < 2:
        time.sleep(0.02)
    [stopped] = call("stop", target="deaf")
    assert (stopped["state"], stopped["exit_signal"]) == ("stopped", 9)
    for file in tmp_path.iterdir():
        while Path(f"/proc/{file.name}").exists():
            time.sleep(0.02)


@needs("pids")
def test_processes_are_counted(call: Call, eventually: Eventually) -> None:
    script = """
import os, time
born = 0
try:
    for _ in range(20):
        if os.fork() == 0:
            time.sleep(600)
        born += 1
except OSError as error:
    print(born, error.strerror, flush=True)
time.sleep(600)
"""
    argv = [sys.executable, "-c", script]
    job = call("run", name="forks", argv=argv, pids=5, ready={"log": "Resource temporarily unavailable"})
    assert group_files(job["pid"], "pids.max") == ["5"]
    eventually(lambda: call("show", target="forks")["state"] == "running")
    call("restart", target="forks")
    eventually(lambda: call("show", target="forks")["state"] == "running")
    call("stop", target="forks")
    assert call("logs", target="forks")["lines"][0].startswith("4 ")


@needs("pids")
def test_a_check_is_held_by_the_jobs_limits(call: Call, tmp_path: Path, eventually: Eventually) -> None:
    seen = tmp_path / "seen"
    probe = ["sh", "-c", f"cat /proc/self/cgroup > {seen}.new && mv {seen}.new {seen}"]
    job = call("run", name="probed", argv=["sleep", "600"], pids=50, ready={"exec": probe})
    eventually(lambda: call("show", target="probed")["state"] == "running")
    assert sorted(seen.read_text().splitlines()) == sorted(Path(f"/proc/{job['pid']}/cgroup").read_text().splitlines())
    call("stop", target="probed")


@pytest.mark.skipif("pids" in CONTROLLERS, reason="this machine can keep that limit")
def test_a_limit_that_cannot_be_kept_is_refused(call: Call) -> None:
    with pytest.raises(LlmosError, match="cannot limit pids"):
        call("run", name="unkept", argv=["true"], pids=5)


def test_variables_of_files_are_read_at_each_start(call: Call, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_text("# a comment\n\nexport A=1\nB=' two words '\nC=a=b\nLLMOS_RUN=forged\n")
    second.write_text('A="over"\nHOME=/elsewhere\n')
    script = (
        "import os; print([os.environ.get(name) for name in ('A', 'B', 'C', 'HOME')], len(os.environ['LLMOS_RUN']))"
    )
    argv = [sys.executable, "-c", script]
    call("run", name="variables", argv=argv, env_files=[str(first), str(second)])
    call("wait", target="variables")
    second.write_text("A=new\n")
    call("start", job="variables")
    call("wait", target="variables")
    lines = call("logs", target="variables")["lines"]
    assert lines[0] == "['over', ' two words ', 'a=b', '/elsewhere'] 32"
    assert lines[1].startswith("['new', ' two words ', 'a=b'")

    second.write_text("A=1\nB\n")
    with pytest.raises(BadInput, match=f"line 2 of {second} is not NAME=VALUE"):
        call("start", job="variables")
    with pytest.raises(NotFound, match="missing"):
        call("run", name="unread", argv=["true"], env_files=[str(tmp_path / "missing")])
    os.mkfifo(tmp_path / "pipe")
    call("run", name="unread", argv=["true"], env_files=str(tmp_path / "pipe"))  # empty, and nobody hangs
    assert call("wait", target="unread")["exit_code"] == 0


@needs_root
def test_another_user_with_the_rights_of_that_user(call: Call, tmp_path: Path) -> None:
    nobody = pwd.getpwnam("nobody")
    secret = tmp_path / "secret"
    secret.write_text("A=1\n")
    secret.chmod(0o600)
    call("run", name="theirs", argv=["sleep", "600"], cwd="/", user="nobody")
    shown = call("show", target="theirs")
    assert shown["uid"] == nobody.pw_uid
    assert status(shown["pid"], "Uid") == [str(nobody.pw_uid)] * 4
    call("stop", target="theirs")
    call("run", name="theirs", argv=["sh", "-c", 'echo "$USER"'], cwd="/", user="nobody")
    call("wait", target="theirs")
    assert call("logs", target="theirs")["lines"][-1] == "nobody"
    with pytest.raises(Forbidden, match="secret"):
        call("run", name="curious", argv=["true"], cwd="/", user="nobody", env_files=[str(secret)])
    with pytest.raises(Forbidden, match="nice"):
        call("run", name="pushy", argv=["true"], cwd="/", user="nobody", nice=-5)
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with pytest.raises(BadInput, match="its limits cannot be set"):
        call("run", name="greedy", argv=["true"], cwd="/", user="nobody", open_files=most + 1)
    with pytest.raises(NotFound, match="no user 'nobody-at-all'"):
        call("run", name="whose", argv=["true"], user="nobody-at-all")


@needs("memory")
@pytest.mark.parametrize("main", [True, False])
def test_why_tells_a_kill_for_want_of_memory_from_any_other(call: Call, main: bool) -> None:
    name = f"hungry-{main}"
    eats = "held = bytearray(200 << 20)\nfor at in range(0, len(held), 4096): held[at] = 1"
    script = eats if main else f"import os, sys\nif os.fork() == 0:\n exec({eats!r})\nsys.exit(os.wait()[1] and 3)"
    call("run", name=name, argv=[sys.executable, "-c", script], memory="64M")
    ended = call("wait", target=name, timeout="60s")
    assert ended["reason"] == ("killed by signal 9" if main else "exit code 3") + ", out of memory"
    assert "it reached the limit of 64M, and the kernel killed a process of it" in call("why", target=name)["sentence"]
    assert call("show", target=name)["recent"][-1]["oom"] is True

    # The group has counted a kill already: one of the next run that was none of the kernel's is not taken for it.
    call("run", name=name, argv=["sh", "-c", "kill -KILL $$"], memory="64M", allow="destroy")
    ended = call("wait", target=name)
    assert ended["reason"] == "killed by signal 9"
    assert "memory" not in call("why", target=name)["sentence"]


@needs("memory")
@needs_root
def test_why_tells_its_own_limit_from_that_of_a_group_above_it(call: Call, eventually: Eventually) -> None:
    if CGROUPS.means("memory") == "cgroup v2":
        pytest.skip("a v2 group with processes of its own takes no further group")
    eats = "input(); held = bytearray(200 << 20)\nfor at in range(0, len(held), 4096): held[at] = 1"
    fifo = f"/tmp/llmos-test-{os.getpid()}"
    os.mkfifo(fifo)
    argv = ["sh", "-c", f'exec "{sys.executable}" -c "$0" < {fifo}', eats]
    call("run", name="outgrown", argv=argv)  # no limit of its own, and so no group that would count
    with open(fifo, "w") as pipe:
        pid = call("show", target="outgrown")["pid"]
        above = Path("/sys/fs/cgroup/memory") / f"llmos-test-{os.getpid()}"
        above.mkdir()
        (above / "memory.limit_in_bytes").write_text(str(48 << 20))
        (above / "cgroup.procs").write_text(str(pid))
        pipe.write("\n")
    os.unlink(fifo)
    assert call("wait", target="outgrown", timeout="60s")["reason"] == "killed by signal 9, out of memory"
    assert "a control group that it is in reached its limit" in call("why", target="outgrown")["sentence"]
    eventually(lambda: not (above / "cgroup.procs").read_text())
    above.rmdir()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"nice": 20}, "nice"),
        ({"umask": "8"}, "no umask"),
        ({"umask": "1000"}, "no umask"),
        ({"pids": 0}, "pids"),
        ({"open_files": -1}, "open_files"),
        ({"nice": 5, "priority": "low"}, "exclude each other"),
        ({"stop_signal": "STOP"}, "stop_signal"),
        ({"stop_timeout": "0s"}, "no time at all"),
        ({"restart_limit": {"restarts": 0}}, "restart_limit"),
    ],
)
def test_what_is_malformed_is_said(call: Call, given: Any, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        call("run", argv=["true"], **given)
