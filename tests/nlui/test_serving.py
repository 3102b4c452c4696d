"""What is served: the model, with the learned or the shipped adapter, merged where that was done, and never a damaged one."""

import json
from functools import partial
from pathlib import Path

import pytest

from llmos.errors import ModelError
from llmos.nlui import merged, models, serving
from llmos.nlui.adapters import adapter_for
from llmos.nlui.learning.adoption import ADAPTER, CARD, TAUGHT, forget, home, roll_back
from llmos.nlui.models import Installed, sha256_of
from llmos.nlui.serving import Served, served
from nlui.learning.learned import learn
from nlui.training_model import write_random_adapter, write_random_model


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Installed:
    """A model; the shipped adapters are those of a folder of the test's own."""
    monkeypatch.setenv("LLMOS_MODELS", str(tmp_path / "models"))
    monkeypatch.setattr(serving, "adapter_for", partial(adapter_for, folder=tmp_path / "trained"))
    return models.locate(str(write_random_model(tmp_path / "base.gguf", "llama")))


@pytest.fixture
def shipped(base: Installed, tmp_path: Path) -> Path:
    (tmp_path / "trained").mkdir()
    path = write_random_adapter(tmp_path / "trained/some.gguf", base.path)
    card = {"file": path.name, "sha256": sha256_of(path), "base": {"sha256": base.sha256}}
    path.with_suffix(".json").write_text(json.dumps(card))
    return path


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


def test_what_was_learned_is_served_before_the_shipped(base: Installed, shipped: Path, tmp_path: Path) -> None:
    merged.make(base, shipped)
    adapter = learn(tmp_path, base.path)
    taught = adapter.with_name(TAUGHT)
    assert served(base.name, tmp_path) == Served(base.path, adapter, trained=True, taught=taught)
    path = merged.make(base, adapter)
    assert served(base.name, tmp_path) == Served(path, trained=True, taught=taught)
    assert served(base.name, tmp_path, adapted=False) == Served(base.path)


def test_what_was_learned_on_another_model_is_not_served(base: Installed, shipped: Path, tmp_path: Path) -> None:
    learn(tmp_path, base.path, base_sha256="cd" * 32)
    assert served(base.name, tmp_path).adapter == shipped


@pytest.mark.parametrize(
    "harm",
    [
        lambda adapter: adapter.write_bytes(adapter.read_bytes() + b"!"),
        lambda adapter: adapter.unlink(),
        lambda adapter: adapter.with_name(TAUGHT).write_text("{half"),
        lambda adapter: adapter.with_name(CARD).write_text("[]"),
        lambda adapter: (adapter.parent.parent / "current").write_text("one"),
    ],
)
def test_a_damaged_one_gives_way_to_the_shipped(
    base: Installed, shipped: Path, tmp_path: Path, harm: object, caplog: pytest.LogCaptureFixture
) -> None:
    adapter = learn(tmp_path, base.path)
    assert callable(harm)
    harm(adapter)
    assert served(base.name, tmp_path) == Served(base.path, shipped, trained=True)
    assert "the shipped adapter is served" in caplog.text


def test_a_damaged_shipped_one_is_an_error(base: Installed, shipped: Path, tmp_path: Path) -> None:
    shipped.write_bytes(b"half")
    with pytest.raises(ModelError, match="install llmos again"):
        served(base.name, tmp_path)


def test_only_the_merged_models_of_what_is_in_use_are_kept(base: Installed, shipped: Path, tmp_path: Path) -> None:
    of_shipped = merged.make(base, shipped)
    first = merged.make(base, learn(tmp_path, base.path))
    second = merged.make(base, learn(tmp_path, base.path))
    assert not first.exists() and second.exists()
    roll_back(tmp_path)
    assert not second.exists()
    again = merged.make(base, home(tmp_path) / "1" / ADAPTER)
    assert again == first and again.exists()
    forget(tmp_path)
    assert not again.exists() and of_shipped.exists()
