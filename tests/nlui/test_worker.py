"""The worker process over its own pipes, with a real model."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llmos.nlui.taught import Taught

REQUEST = "stop the web job"


class Worker:
    """A worker and the lines between it and the test."""

    def __init__(self, model: Path, *options: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "llmos.nlui.worker", "--model", str(model), *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def say(self, **message: Any) -> None:
        assert self.process.stdin
        self.process.stdin.write(json.dumps(message) + "\n")
        self.process.stdin.flush()

    def hear(self) -> dict[str, Any]:
        assert self.process.stdout
        return dict(json.loads(self.process.stdout.readline()))

    def end(self) -> int:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.close()
        status = self.process.wait()
        self.process.stdout.close()
        return status


@pytest.fixture(scope="module")
def worker(model_path: Path, prompt_state: Path) -> Iterator[Worker]:
    worker = Worker(model_path, "--state", str(prompt_state))
    assert worker.hear()["ready"]
    yield worker
    assert worker.end() == 0


def test_answers_with_a_plan_and_reuses_the_prompt(worker: Worker) -> None:
    for number in (1, 2):
        worker.say(id=number, request=REQUEST, names=["web"])
        answer = worker.hear()
        assert answer["id"] == number
        assert answer["plan_text"]
        assert answer["tokens"]["prompt"] - answer["tokens"]["reused"] < 100
        assert answer["tokens"]["reused"] > 500


def test_ping_is_answered_while_it_thinks(worker: Worker) -> None:
    worker.say(id=3, request=REQUEST, constrained=False, max_tokens=200)
    worker.say(op="ping")
    assert {json.dumps(sorted(worker.hear())) for _ in range(2)} >= {'["pong"]'}


def test_request_can_be_cancelled(worker: Worker) -> None:
    worker.say(op="cancel", id=4)
    worker.say(id=4, request=REQUEST)
    assert worker.hear() == {"id": 4, "cancelled": True}


def test_bad_request_is_answered_and_survived(worker: Worker) -> None:
    worker.say(id=5)
    assert "KeyError" in worker.hear()["error"]
    worker.say(id=6, request="x" * 100_000)
    assert "shorten it" in worker.hear()["error"]
    worker.say(op="ping")
    assert worker.hear() == {"pong": True}


def test_it_has_no_more_powers_than_it_needs(worker: Worker) -> None:
    status = Path(f"/proc/{worker.process.pid}/status").read_text()
    assert "NoNewPrivs:\t1" in status
    limits = Path(f"/proc/{worker.process.pid}/limits").read_text()
    assert "Max core file size        0                    0" in limits
    assert os.getpriority(os.PRIO_PROCESS, worker.process.pid) >= 5


def test_evaluated_prompt_is_kept_between_runs(model_path: Path, tmp_path: Path) -> None:
    for restored in (False, True):
        worker = Worker(model_path, "--state", str(tmp_path))
        assert worker.hear()["prefix_restored"] is restored
        assert worker.end() == 0
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".bin", ".kv"]


def test_what_was_taught_is_offered_and_an_unsure_plan_has_another_reading(
    model_path: Path, prompt_state: Path, tmp_path: Path
) -> None:
    taught = tmp_path / "taught.json"
    Taught({"ARGV": {"make nightly": []}}, None).write(taught)
    worker = Worker(model_path, "--state", str(prompt_state), "--taught", str(taught), "--sure", "1")
    assert worker.hear()["ready"]
    worker.say(id=1, request="stop web or start db", names=[])
    answer = worker.hear()
    assert answer["confidence"] < 1
    assert answer["other"] and answer["other"] != answer["plan_text"]
    assert worker.end() == 0


def test_bad_model_is_said_and_ends_it(tmp_path: Path) -> None:
    (tmp_path / "bad.gguf").write_bytes(b"GGUF" + b"\0" * 1000)
    worker = Worker(tmp_path / "bad.gguf")
    assert "cannot be loaded" in worker.hear()["failed"]
    assert worker.end() == 3


def test_it_dies_with_its_parent(model_path: Path, prompt_state: Path) -> None:
    parent = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import subprocess, sys, os\n"
            "child = subprocess.Popen([sys.executable, '-m', 'llmos.nlui.worker', *sys.argv[1:]], stdin=0)\n"
            "print(child.pid, flush=True)\n"
            "child.wait()\n",
            "--model",
            str(model_path),
            "--state",
            str(prompt_state),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert parent.stdin
    assert parent.stdout
    pid = int(parent.stdout.readline())
    assert "ready" in parent.stdout.readline()
    child = os.pidfd_open(pid)
    parent.kill()
    parent.wait()
    import select

    assert select.select([child], [], [], 20)[0], "the worker outlived its parent"
    os.close(child)
    parent.stdin.close()
    parent.stdout.close()
