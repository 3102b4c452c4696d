"""TensorBoard event files: of a training, and of what a live scheduler decides."""

import sys
from pathlib import Path

import pytest

from fake_daemon import FakeDaemon, Pushed
from llmos.cli.app import run_app
from llmos.errors import Unsupported
from llmos.scheduler import event_file
from llmos.scheduler.event_file import EventFile

PLACED = {
    "id": 7,
    "at": 1000.0,
    "kind": "scheduler.placed",
    "subject": "render",
    "uid": None,
    "body": {"share": 5, "place": "behind", "predicted": {"middle": 4.5, "by": "runs"}, "rules": ["a"]},
}


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """What TensorBoard reads there."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder))
    found.Reload()
    return {tag: [(one.step, one.value) for one in found.Scalars(tag)] for tag in found.Tags()["scalars"]}


def test_numbers_are_written_as_tensorboard_reads_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tensorboard", reason="comes with the extra train")
    with EventFile(tmp_path) as events:
        events.scalars({"loss": 0.5, "cost": 2.0}, 1)
        events.scalars({"loss": 0.25}, 2, at=1000.0)
        monkeypatch.setattr(event_file, "MAX_BYTES", 10)
        assert events.full
        events.scalars({"loss": 0.1}, 3)
    assert scalars(tmp_path) == {"loss": [(1, 0.5), (2, 0.25)], "cost": [(1, 2.0)]}


def test_a_training_goes_on_without_a_writer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard.compat.proto.event_pb2", None)
    with EventFile.of_training(tmp_path / "out") as events:
        events.scalars({"loss": 0.5}, 1)
    assert "pip install 'llmos[train]'" in capsys.readouterr().out and not (tmp_path / "out").exists()
    with pytest.raises(Unsupported, match="tensorboard"):
        EventFile(tmp_path)


def test_decisions_are_recorded_until_the_file_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("tensorboard", reason="comes with the extra train")
    monkeypatch.setattr(event_file, "MAX_BYTES", 1)
    with FakeDaemon(tmp_path / "s", {"events.subscribe": Pushed({}, "event", [PLACED])}) as fake:
        assert run_app(["--socket", str(tmp_path / "s"), "scheduler", "record", str(tmp_path / "out")]) == 0
        assert fake.asked("events.subscribe") == [{"kinds": ["scheduler."], "since": 0}]
    assert scalars(tmp_path / "out") == {"render/share": [(7, 5.0)], "render/predicted/middle": [(7, 4.5)]}
    assert "reached its limit" in capsys.readouterr().err


def test_recording_says_what_it_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard.compat.proto.event_pb2", None)
    with FakeDaemon(tmp_path / "s") as fake:
        command = ["--socket", str(tmp_path / "s"), "scheduler", "record", str(tmp_path / "out")]
        with pytest.raises(Unsupported, match=r"llmos\[train\]"):
            run_app(command)
        assert not fake.asked("events.subscribe")
        assert run_app(["--dry-run", *command]) == 0
