"""A driver that hangs, and what is kept of the runs that held GPUs."""

import sqlite3
import threading
from pathlib import Path

import pytest

from llmos.errors import Unavailable
from llmos.kernel.job import Job
from llmos.kernel.journal import Journal
from llmos.kernel.states import State
from llmos.machine.gpu import Card, Gpus
from llmos.scheduler.gpu import queue
from llmos.scheduler.gpu.queue import GpuQueue
from llmos.scheduler.run_history import PastRun, RunHistory

GIB = 1 << 30


class HangingGpus(Gpus):
    """A stand-in for a driver that hangs until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.goes_on = threading.Event()
        self.asked = 0

    def probe(self) -> list[Card]:
        self.asked += 1
        self.goes_on.wait(20)
        return [Card(0, "GPU-0", "Stand-in", 24 * GIB, 0, None, None, None)]


async def test_a_driver_that_hangs_is_asked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue, "ANSWER_SECONDS", 0.05)
    journal = await Journal.open(tmp_path / "journal.db")
    job = Job("cuda", ["true"], "/", {}, 0, 0, gpu=1, state=State.STARTING)
    cards = HangingGpus()
    gpus = GpuQueue({"cuda": job}, journal, lambda job: [], lambda job, why: None, lambda job, why: None, cards)
    for _ in range(3):
        with pytest.raises(Unavailable, match="the NVIDIA driver has not answered") as raised:
            await gpus.ask(job)
        assert raised.value.data["stage"] == "cards"
    assert (status := await gpus.status()) is not None and "not answered" in status["problem"]
    assert cards.asked == 1 and job.cards == [] and job.gpu_since is None

    monkeypatch.setattr(queue, "ANSWER_SECONDS", 20.0)
    look = gpus._look
    cards.goes_on.set()
    assert look is not None
    await look
    assert await gpus.ask(job) == "" and job.cards == ["GPU-0"]
    assert cards.asked == 2
    await gpus.close()
    await journal.close()


def run(name: str, gpus: int | None, peak: int | None = None) -> PastRun:
    return PastRun("train", 0, name, 1.0, 2.0, None, None, None, 0, gpus, peak)


def test_a_history_of_before_takes_runs_that_held_gpus(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    with sqlite3.connect(path) as old:
        old.execute(
            "CREATE TABLE runs (id INTEGER PRIMARY KEY, fingerprint TEXT NOT NULL, uid INTEGER NOT NULL, job TEXT NOT NULL, "
            "ended_at REAL NOT NULL, runtime REAL NOT NULL, cpu_seconds REAL, peak_bytes INTEGER, io_bytes INTEGER, "
            "exit INTEGER)"
        )
        old.execute("INSERT INTO runs VALUES (1, 'train', 0, 'old', 1.0, 2.0, NULL, NULL, NULL, 0)")
    old.close()
    for _ in range(2):
        history = RunHistory(path)
        history.add([run("plain", None), run("cuda", 2, 5 * GIB)])
        history.close()
    history = RunHistory(path)
    assert history.newest()[0] == run("old", None)
    assert history.of_gpus() == [run("cuda", 2, 5 * GIB)] * 2
    history.close()


async def test_what_earlier_runs_used_counts_less_and_less(tmp_path: Path) -> None:
    journal = await Journal.open(tmp_path / "journal.db")
    job = Job("cuda", ["train"], "/", {}, 0, 0, gpu=1)
    gpus = GpuQueue({"cuda": job}, journal, lambda job: [], lambda job, why: None, lambda job, why: None)
    gpus.learn(run("cuda", None, 50 * GIB))  # it held none
    assert gpus._want(job).memory_bytes == 0
    gpus.learn(run("cuda", 1, 10 * GIB))
    gpus.learn(run("cuda", 1, 4 * GIB))
    assert gpus._want(job).memory_bytes == 9 * GIB
    gpus.learn(run("cuda", 1, 30 * GIB))
    gpus.learn(run("cuda", 1, None))
    assert gpus._want(job).memory_bytes == 30 * GIB
    await journal.close()
