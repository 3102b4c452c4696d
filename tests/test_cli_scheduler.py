"""`llmos scheduler`: which method each of its commands calls, and what it shows."""

from pathlib import Path
from typing import Any

import pytest

from fake_daemon import FakeDaemon, Pushed
from llmos.cli.app import run_app

STATUS = {"on": True, "policy": "hybrid", "levers": ["cpu weight"], "targets": []}


@pytest.mark.parametrize("command", ["status", "on", "off", "rollback"])
def test_each_command_calls_its_method(tmp_path: Path, command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with FakeDaemon(tmp_path / "s", {f"scheduler.{command}": STATUS}) as fake:
        assert run_app(["--socket", str(tmp_path / "s"), "scheduler", command]) == 0
        assert fake.asked(f"scheduler.{command}") == [{}]
        assert "hybrid" in capsys.readouterr().out
        assert run_app(["--socket", str(tmp_path / "s"), "--dry-run", "scheduler", command]) == 0
        assert len(fake.asked(f"scheduler.{command}")) == 1


def test_training_shows_what_the_job_says_and_what_came_of_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said: list[dict[str, Any]] = [
        {"job": "llmos-scheduler-train", "line": "epoch 1 of 8"},
        {"job": "llmos-scheduler-train", "ended": True},
    ]
    answers = {
        "scheduler.train": {"name": "llmos-scheduler-train", "state": "running"},
        "logs.follow": Pushed({"following": "llmos-scheduler-train"}, "log", said),
        "scheduler.status": {**STATUS, "learned": {"training": "stopped", "last_training": {"won": True}}},
    }
    with FakeDaemon(tmp_path / "s", answers) as fake:
        command = ["--socket", str(tmp_path / "s"), "scheduler", "train"]
        assert run_app(command) == 0
        shown = capsys.readouterr().out
        assert "epoch 1 of 8" in shown and "won" in shown
        fake.answers["scheduler.status"] = {**STATUS, "learned": {"training": "failed"}}
        assert run_app(command) == 1
        assert run_app([*command, "--detach"]) == 0
        assert len(fake.asked("logs.follow")) == 2
        assert run_app(["--dry-run", *command]) == 0
        assert len(fake.asked("scheduler.train")) == 3
