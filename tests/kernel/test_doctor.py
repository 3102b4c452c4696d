"""What the doctor says of the model, on a real daemon."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from conftest import Daemon, running
from llmos.errors import ModelError
from llmos.kernel import doctor
from llmos.nlui import merged, models
from llmos.settings import ModelSettings, Settings
from nlui.shipped import ship
from nlui.training_model import write_random_model


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LLMOS_MODELS", str(tmp_path / "models"))
    return write_random_model(tmp_path / "base.gguf", "llama")


@pytest.fixture
def llmosd(tmp_path: Path, base: Path) -> Iterator[Daemon]:
    with running(tmp_path, f"[model]\nname = '{base}'\n") as daemon:
        yield daemon


def row(daemon: Daemon, check: str) -> dict[str, Any] | None:
    with daemon.client() as client:
        return {row["check"]: dict(row) for row in client.call("doctor")}.get(check)


def test_a_model_without_an_adapter_needs_no_merging(llmosd: Daemon) -> None:
    assert row(llmosd, "merged model") == {
        "check": "merged model",
        "ok": True,
        "detail": "none: there is no adapter for this model",
        "remedy": "",
    }


def test_whether_an_adapter_is_merged_is_told(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    adapter = ship(base, tmp_path / "trained", monkeypatch)
    settings = Settings(state_dir=tmp_path, model=ModelSettings(name=str(base)))
    with pytest.raises(ModelError, match="not merged"):
        doctor._merged(settings)
    path = merged.make(models.locate(str(base)), adapter)
    assert doctor._merged(settings) == str(path)


def test_without_the_model_nothing_is_said_of_a_merged_one(llmosd: Daemon, base: Path) -> None:
    base.unlink()
    missing = row(llmosd, "model")
    assert missing is not None and not missing["ok"] and row(llmosd, "merged model") is None


def test_how_many_jobs_there_is_room_for_is_said_with_what_bounds_them(llmosd: Daemon) -> None:
    room = row(llmosd, "room for jobs")
    assert room is not None and re.fullmatch(r"at most [\d,]+ processes: .+", room["detail"])
    assert room["ok"] or room["remedy"].startswith("raise ")
