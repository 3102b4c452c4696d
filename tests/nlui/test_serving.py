"""What is served: the model with the shipped adapter, merged where that was done, what was learned upon it, and nothing
damaged."""

from dataclasses import replace
from pathlib import Path

import pytest

from llmos.errors import ModelError
from llmos.nlui import merged, models
from llmos.nlui.learning.adoption import CARD, TAUGHT
from llmos.nlui.models import Installed
from llmos.nlui.serving import Served, served
from nlui.learning.learned import learn
from nlui.shipped import ship
from nlui.training_model import write_random_model


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Installed:
    monkeypatch.setenv("LLMOS_MODELS", str(tmp_path / "models"))
    return models.locate(str(write_random_model(tmp_path / "base.gguf", "llama")))


@pytest.fixture
def shipped(base: Installed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return ship(base.path, tmp_path / "trained", monkeypatch)


def test_a_model_without_an_adapter_is_served_as_it_is(base: Installed, tmp_path: Path) -> None:
    assert served(base.name, tmp_path) == Served(base.path)
    with pytest.raises(ModelError, match="there is no model"):
        served("of-no-such-name", tmp_path)


def test_the_shipped_adapter_is_served_and_its_merged_model_instead(
    base: Installed, shipped: Path, tmp_path: Path
) -> None:
    assert served(base.name, tmp_path) == Served(base.path, shipped, trained=True)
    path = merged.make(base, shipped)
    assert served(base.name, tmp_path) == Served(path, trained=True)
    assert served(base.name, tmp_path, adapted=False) == Served(base.path)
    path.unlink()
    assert served(base.name, tmp_path) == Served(base.path, shipped, trained=True)


def test_what_was_learned_is_served_upon_the_shipped(base: Installed, shipped: Path, tmp_path: Path) -> None:
    adapter = learn(tmp_path, base.path, shipped)
    own = Served(base.path, shipped, trained=True, learned=adapter, taught=adapter.with_name(TAUGHT))
    assert served(base.name, tmp_path) == own
    path = merged.make(base, shipped)
    assert served(base.name, tmp_path) == replace(own, path=path, adapter=None)
    assert served(base.name, tmp_path, adapted=False) == Served(base.path)


def test_what_was_learned_upon_another_adapter_is_not_served(
    base: Installed, shipped: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    learn(tmp_path, base.path, base.path)
    assert served(base.name, tmp_path) == Served(base.path, shipped, trained=True)
    assert "learn again" in caplog.text


@pytest.mark.parametrize(
    "harm",
    [
        lambda adapter: adapter.write_bytes(adapter.read_bytes() + b"!"),
        lambda adapter: adapter.unlink(),
        lambda adapter: adapter.with_name(TAUGHT).write_text("{half"),
        lambda adapter: adapter.with_name(TAUGHT).write_text('{"JOB": []}'),
        lambda adapter: adapter.with_name(CARD).write_text("[]"),
        lambda adapter: (adapter.parent.parent / "current").write_text("one"),
    ],
)
def test_a_damaged_one_gives_way_to_the_shipped(
    base: Installed, shipped: Path, tmp_path: Path, harm: object, caplog: pytest.LogCaptureFixture
) -> None:
    adapter = learn(tmp_path, base.path, shipped)
    assert callable(harm)
    harm(adapter)
    assert served(base.name, tmp_path) == Served(base.path, shipped, trained=True)
    assert "nothing learned is served" in caplog.text


def test_a_damaged_shipped_one_is_an_error(base: Installed, shipped: Path, tmp_path: Path) -> None:
    shipped.write_bytes(b"half")
    with pytest.raises(ModelError, match="install llmos again"):
        served(base.name, tmp_path)
