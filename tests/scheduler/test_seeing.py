"""Seeing: fingerprints, the history of runs on disk, samples of real processes, pressure, and who is protected."""

import asyncio
import os
import pty
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmos.errors import Unavailable
from llmos.machine.identity import Identity
from llmos.scheduler import pressure, run_history
from llmos.scheduler.fingerprint import MAX_CHARACTERS, fingerprint
from llmos.scheduler.protection import Protection
from llmos.scheduler.run_history import MAX_OF_A_KIND, PastRun, RunHistory
from llmos.scheduler.telemetry import KEPT, Ring, Sample, Telemetry, Watched

Eventually = Callable[[Callable[[], object]], object]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("python3.11 /home/a/train.py --lr 0.1 --out=/tmp/1", "python3 /srv/train.py --lr 1e-4 --out=/data/x"),
        ("./report-2024-01-02.sh run7", "/opt/report-2025-11-30.sh run12"),
        ("make -j8 -C /x", "make -j16 -C /y/z"),
        ("curl https://a.example/1 12:30 deadbeef01", "curl http://b.example/2 07:05 0badf00d99"),
    ],
)
def test_what_differs_from_run_to_run_makes_no_difference(first: str, second: str) -> None:
    assert fingerprint(first.split()) == fingerprint(second.split())


def test_programs_scripts_and_options_make_one() -> None:
    commands = [
        "python3 train.py",
        "python3 eval.py",
        "python3 -m train.py --fast",
        "node train.py",
        "make all",
        "make",
    ]
    assert len({fingerprint(command.split()) for command in commands}) == len(commands)
    assert fingerprint(["sh", "-c", "sleep 10; true"]) == fingerprint(["sh", "-c", "sleep 99; true"])
    assert fingerprint(["sh", "-c", "sleep 10"]) != fingerprint(["sh", "-c", "make 10"])


@given(st.lists(st.text() | st.binary().map(os.fsdecode), min_size=1))
def test_a_fingerprint_is_short_text_of_any_command(argv: list[str]) -> None:
    found = fingerprint(argv)
    assert len(found) <= MAX_CHARACTERS
    found.encode()


def past(number: int, kind: str = "make", **given: float | None) -> PastRun:
    return PastRun(kind, 0, "job", 1000.0 + number, 10.0, given.get("cpu", float(number)), 1024, 0, 0)


@pytest.fixture
def history(tmp_path: Path) -> Iterator[RunHistory]:
    opened = RunHistory(tmp_path / "runs.db")
    yield opened
    opened.close()


def test_the_newest_runs_of_a_kind_are_kept(history: RunHistory, tmp_path: Path) -> None:
    history.add(past(number) for number in range(MAX_OF_A_KIND + 20))
    history.add([past(0, "other", cpu=None)])
    history.close()
    again = RunHistory(tmp_path / "runs.db")
    kept = again.newest()
    again.close()
    assert [run.cpu_seconds for run in kept] == [*map(float, range(20, MAX_OF_A_KIND + 20)), None]
    assert kept[0] == past(20)
    assert (tmp_path / "runs.db").stat().st_mode & 0o077 == 0


def test_rows_and_bytes_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_history, "MAX_RUNS", 300)
    history = RunHistory(tmp_path / "a.db")
    for at in range(10):
        history.add(past(number, f"kind {number}") for number in range(at * 100, at * 100 + 100))
    assert len(history.newest()) <= 300 + 200
    history.close()
    monkeypatch.setattr(run_history, "MAX_BYTES", 64 * 1024)
    history = RunHistory(tmp_path / "b.db")
    for at in range(40):
        history.add(past(number, f"{'long ' * 30}{number}") for number in range(at * 20, at * 20 + 20))
    newest = history.newest()
    history.close()
    assert newest[-1].ended_at == 1000.0 + 799 and len(newest) < 500
    assert (tmp_path / "b.db").stat().st_size <= 64 * 1024


def test_a_damaged_history_is_begun_anew(tmp_path: Path) -> None:
    (tmp_path / "runs.db").write_bytes(b"this is no database, and is long enough to be looked at" * 100)
    history = RunHistory(tmp_path / "runs.db")
    assert history.newest() == []
    history.add([past(1)])
    assert len(history.newest()) == 1
    history.close()


def test_a_history_that_cannot_be_written_says_so(tmp_path: Path, history: RunHistory) -> None:
    with sqlite3.connect(tmp_path / "runs.db") as other:
        other.execute("DROP TABLE runs")
    other.close()
    with pytest.raises(Unavailable, match="written"):
        history.add([past(1)])
    with pytest.raises(Unavailable, match="read"):
        history.newest()
    with pytest.raises(Unavailable, match="opened"):
        RunHistory(tmp_path / "no" / "runs.db")


def test_the_ring_keeps_the_newest() -> None:
    ring = Ring()
    assert ring.newest() is None and ring.since(10) is None
    for at in range(KEPT * 2 + 3):
        ring.add(Sample(float(at), at / 2, 0.0, 0.0, 0.0, 1.0))
    assert len(ring) == KEPT
    assert [sample.at for sample in ring] == [float(at) for at in range(KEPT * 2 + 2, KEPT + 2, -1)]
    span = ring.since(3)
    assert span is not None and span[0].at - span[1].at == 3


@pytest.fixture
def started() -> Iterator[Callable[..., Watched]]:
    processes: list[subprocess.Popen[bytes]] = []
    watched: list[Watched] = []

    def start(*argv: str) -> Watched:
        processes.append(subprocess.Popen(argv, stdout=subprocess.DEVNULL))
        watched.append(Watched(f"p{len(watched)}", Identity.of(processes[-1].pid)))
        return watched[-1]

    yield start
    for process in processes:
        process.kill()
        process.wait()
    for each in watched:
        each.close()


BURN = "import time\nend = time.process_time() + {}\nwhile time.process_time() < end: pass\ntime.sleep(60)"


def test_processor_time_and_memory_of_a_process_are_seen(
    started: Callable[..., Watched], eventually: Eventually
) -> None:
    busy = started(sys.executable, "-c", "x = bytearray(50 << 20)\n" + BURN.format(0.5))
    lazy = started("sleep", "60")
    telemetry = Telemetry()

    def seen() -> bool:
        telemetry.sample([busy, lazy])
        time.sleep(0.05)
        return busy.cpu_seconds >= 0.45

    eventually(seen)
    assert busy.peak_bytes > 50 << 20 and lazy.cpu_seconds < 0.2
    assert telemetry.cost_seconds > 0
    assert [identity.pid for identity in lazy.processes()] == [lazy.main.pid]


def test_what_children_used_that_ended_is_counted_once(started: Callable[..., Watched], eventually: Eventually) -> None:
    burn = (
        f"'{sys.executable}' -c 'import time\nend = time.process_time() + 0.15\nwhile time.process_time() < end: pass'"
    )
    parent = started("sh", "-c", f"for i in 1 2 3 4; do {burn}; done; sleep 60")
    telemetry = Telemetry()

    def used() -> float:
        fields = Path(f"/proc/{parent.main.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return sum(int(field) for field in fields[11:15]) / os.sysconf("SC_CLK_TCK")

    def seen() -> bool:
        telemetry.sample([parent])
        time.sleep(0.03)
        return used() >= 0.6

    eventually(seen)
    telemetry.sample([parent])
    assert abs(parent.cpu_seconds - used()) <= 0.1


def test_one_that_has_ended_is_never_mistaken(started: Callable[..., Watched]) -> None:
    ended = subprocess.Popen(["sleep", "60"])
    watched = Watched("gone", Identity.of(ended.pid))
    telemetry = Telemetry()
    telemetry.sample([watched])
    ended.kill()
    ended.wait()
    telemetry.sample([watched])
    assert watched.processes() == [] and watched.open_processes == 0
    other = Identity.of(os.getpid())
    wrong = Watched("another", Identity(other.pid, other.start_ticks + 1, other.boot_id))
    telemetry.sample([wrong])
    assert wrong.main not in wrong.processes() and wrong.cpu_seconds == 0
    watched.close()
    wrong.close()


async def test_the_kernel_tells_of_pressure(started: Callable[..., Watched]) -> None:
    told: asyncio.Queue[str] = asyncio.Queue()
    events = pressure.PressureEvents(told.put_nowait)
    if "cpu" not in await events.begin():
        events.close()
        pytest.skip("this kernel does not tell of pressure, or not us")
    for _ in range((os.cpu_count() or 1) * 3):
        started(sys.executable, "-c", "while True: pass")
    async with asyncio.timeout(30):
        while await told.get() != "cpu":
            pass
    events.close()
    assert (pressure.stall_seconds("cpu") or 0) > 0


def test_what_people_work_with_and_the_machine_needs_is_protected() -> None:
    leader, terminal = os.openpty()
    os.close(terminal)
    os.close(leader)
    pid, descriptor = pty.fork()
    if pid == 0:
        os.execvp("sleep", ["sleep", "60"])
    child = subprocess.Popen(["sleep", "60"], start_new_session=True)
    try:
        deadline = time.monotonic() + 10
        while Path(f"/proc/{pid}/comm").read_text().strip() != "sleep" and time.monotonic() < deadline:
            time.sleep(0.01)
        protection = Protection({"sshd"}, [os.getpid()], os.geteuid())
        assert "terminal" in protection.why(pid)
        assert "llmos itself" in protection.why(os.getpid())
        assert "above process" in protection.why(os.getppid()) or protection.why(os.getppid())
        assert protection.why(1)
        assert protection.why(child.pid) == ""
        assert "needs" in Protection({"sleep"}, [], os.geteuid()).why(child.pid)
        assert "uid" in Protection(set(), [], os.geteuid() + 1).why(child.pid)
        assert Protection(set(), [], None).why(child.pid) == ""
        assert "gone" in Protection(set(), [], None).why(2**22 - 1)
    finally:
        os.close(descriptor)
        os.kill(pid, 9)
        os.waitpid(pid, 0)
        child.kill()
        child.wait()
