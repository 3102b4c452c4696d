"""Merged models on a machine: made once, found while they are whole, mended when not, removed when nobody needs them."""

import json
import os
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from llmos.errors import ModelError
from llmos.nlui import merged, models
from llmos.nlui.models import Installed, sha256_of
from nlui.training_model import write_random_adapter, write_random_model


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMOS_MODELS", str(tmp_path / "models"))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    path = write_random_model(tmp_path_factory.mktemp("base") / "base.gguf", "llama")
    return Installed("some", "A base", path, path.stat().st_size, sha256_of(path))


@pytest.fixture
def adapter(base: Installed, tmp_path: Path) -> Path:
    return write_random_adapter(tmp_path / "adapter.gguf", base.path)


def files() -> list[str]:
    return sorted(path.name for path in (models.folder() / "merged").iterdir())


def damage(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


def test_one_is_made_once_and_found(base: Installed, adapter: Path) -> None:
    assert merged.find(base, adapter) is None
    seen = list[int]()
    path = merged.make(base, adapter, lambda done, total: seen.append(done))
    name = f"some-{sha256_of(adapter)[:12]}-{merged.MERGED_TYPE}"
    assert files() == [f"{name}.gguf", f"{name}.json"] and path.name == f"{name}.gguf"
    assert merged.find(base, adapter) == path and seen
    inode = path.stat().st_ino
    assert merged.make(base, adapter) == path and path.stat().st_ino == inode
    card = json.loads(path.with_suffix(".json").read_text())
    assert (card["base"], card["adapter"], card["sha256"]) == (base.sha256, sha256_of(adapter), sha256_of(path))


def test_of_another_base_or_adapter_there_is_none(base: Installed, adapter: Path, tmp_path: Path) -> None:
    merged.make(base, adapter)
    assert merged.find(base, write_random_adapter(tmp_path / "other.gguf", base.path, seed=2)) is None
    assert merged.find(Installed("some", "Another", base.path, base.size, "ab" * 32), adapter) is None


def test_one_that_was_touched_is_read_again_once(base: Installed, adapter: Path) -> None:
    path = merged.make(base, adapter)
    os.utime(path, ns=(7, 7))
    assert merged.find(base, adapter) == path
    assert json.loads(path.with_suffix(".json").read_text())["mtime_ns"] == 7
    damage(path)
    os.utime(path, ns=(7, 7))
    assert merged.find(base, adapter) == path  # it is not read a third time


@pytest.mark.parametrize(
    "harm",
    [
        damage,
        lambda path: os.truncate(path, 100),
        lambda path: path.with_suffix(".json").unlink(),
        lambda path: path.with_suffix(".json").write_text('{"half'),
        lambda path: path.with_suffix(".json").write_text("[]"),
    ],
)
def test_a_damaged_one_is_not_used_and_made_anew(
    base: Installed, adapter: Path, harm: object, caplog: pytest.LogCaptureFixture
) -> None:
    path = merged.make(base, adapter)
    assert callable(harm)
    harm(path)
    assert merged.find(base, adapter) is None
    assert "llmos model pull some" in caplog.text
    assert merged.make(base, adapter) == merged.find(base, adapter) == path


def test_who_comes_while_one_is_made_waits_for_it(base: Installed, adapter: Path) -> None:
    begun, go_on = threading.Event(), threading.Event()
    seen, found = list[int](), list[Path]()

    def hold(done: int, total: int) -> None:
        begun.set()
        assert go_on.wait(20)

    first = threading.Thread(target=lambda: found.append(merged.make(base, adapter, hold)))
    second = threading.Thread(
        target=lambda: found.append(merged.make(base, adapter, lambda done, _: seen.append(done)))
    )
    first.start()
    assert begun.wait(20)
    second.start()
    second.join(0.2)
    assert second.is_alive() and not found
    go_on.set()
    first.join()
    second.join()
    assert found == [merged.find(base, adapter)] * 2 and not seen


def test_what_cannot_be_made_leaves_nothing(base: Installed, adapter: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelError, match="another model"):
        merged.make(Installed("some", "Another", base.path, base.size, "ab" * 32), adapter)
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(ModelError, match="no room"):
        merged.make(base, adapter)
    assert files() == []


def test_what_one_that_was_killed_left_is_removed(base: Installed, adapter: Path) -> None:
    left = models.folder() / "merged/.new-1/.merge-1/whole.gguf"
    left.parent.mkdir(parents=True)
    left.touch()
    merged.make(base, adapter)
    assert len(files()) == 2


def test_without_the_adapter_there_is_neither_one_nor_a_way_to_make_it(base: Installed, tmp_path: Path) -> None:
    assert merged.find(base, tmp_path / "gone.gguf") is None
    with pytest.raises(ModelError, match=r"gone\.gguf"):
        merged.make(base, tmp_path / "gone.gguf")


def test_those_nobody_needs_are_removed(base: Installed, tmp_path: Path) -> None:
    places = ("shipped.gguf", "gone.gguf", "changed.gguf")
    adapters = [write_random_adapter(tmp_path / name, base.path, seed=seed) for seed, name in enumerate(places)]
    shipped, gone, changed = adapters
    made = {adapter: merged.make(base, adapter) for adapter in adapters}
    gone.unlink()
    write_random_adapter(changed, base.path, seed=9)
    merged.remove_others()
    assert {path for path in made.values() if path.exists()} == {made[shipped]}
    assert len(files()) == 2
    merged.remove("som")
    assert len(files()) == 2
    merged.remove("some")
    assert files() == []


def test_a_new_one_takes_the_place_of_those_whose_adapters_are_no_more(base: Installed, adapter: Path) -> None:
    before = merged.make(base, adapter)
    write_random_adapter(adapter, base.path, seed=5)
    after = merged.make(base, adapter)
    assert after != before and files() == [after.name, after.with_suffix(".json").name]


def test_removing_where_there_are_none_does_nothing() -> None:
    merged.remove_others()
    merged.remove("some")
    assert not models.folder().exists()
