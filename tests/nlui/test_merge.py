"""Merging on random models: the merged file computes what llama.cpp does with the adapter put on, or nothing is left."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from llmos.errors import ModelError
from llmos.nlui.decoding import LanguageModel
from llmos.nlui.merge import TYPES, merge
from llmos.nlui.models import Installed, sha256_of
from nlui.training_model import assert_close, served_logits, write_random_adapter, write_random_model

TOKENS = [256, *b"stop web", 257]


@pytest.fixture(scope="module", params=["llama", "qwen2"])
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    path = write_random_model(tmp_path_factory.mktemp("base") / "base.gguf", request.param)
    return Installed("base", "A base", path, path.stat().st_size, sha256_of(path))


@pytest.fixture
def adapter(base: Installed, tmp_path: Path) -> Path:
    return write_random_adapter(tmp_path / "adapter.gguf", base.path)


def command(base: Installed, *words: str | Path, file_bytes: int | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command line; no file may grow beyond `file_bytes`."""
    limit = f"ulimit -f {file_bytes // 1024}; " if file_bytes else ""
    return subprocess.run(
        ["bash", "-c", f'{limit}exec "$@"', "-", sys.executable, "-m", "llmos.nlui.merge", *words, "--base", base.path],
        capture_output=True,
        text=True,
        env={**os.environ, "LLMOS_MODELS": str(base.path.parent)},
    )


@pytest.mark.parametrize(("quantisation", "within"), [("F16", 0.05), ("Q8_0", 0.2)])
def test_it_computes_what_model_and_adapter_do(
    base: Installed, adapter: Path, tmp_path: Path, quantisation: str, within: float
) -> None:
    out, seen = tmp_path / "merged.gguf", list[tuple[int, int]]()
    digest = merge(base, adapter, out, quantisation=quantisation, progress=lambda *step: seen.append(step))
    assert digest == sha256_of(out)
    merged = served_logits(LanguageModel(out), TOKENS)
    assert_close(merged, served_logits(LanguageModel(base.path, adapter=adapter), TOKENS), within)
    plain = served_logits(LanguageModel(base.path), TOKENS)
    assert abs(merged - plain).max() > plain.std()
    assert seen == sorted(seen) and seen[-1][0] == seen[-1][1] and len(seen) > 20
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adapter.gguf", "merged.gguf"]


def test_an_adapter_of_another_model_is_refused(adapter: Path, base: Installed, tmp_path: Path) -> None:
    other = Installed("other", "Another", base.path, base.size, "ab" * 32)
    with pytest.raises(ModelError, match="another model"):
        merge(other, adapter, tmp_path / "merged.gguf")


def test_what_is_no_adapter_is_refused(base: Installed, tmp_path: Path) -> None:
    (tmp_path / "adapter.gguf").write_bytes(b"nothing")
    with pytest.raises(ModelError, match="cannot be read as GGUF"):
        merge(base, tmp_path / "adapter.gguf", tmp_path / "merged.gguf")


def test_a_folder_that_is_not_there_is_an_error(base: Installed, adapter: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot be written"):
        merge(base, adapter, tmp_path / "nowhere/merged.gguf")


def test_without_room_it_is_not_begun(
    base: Installed, adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(ModelError, match=r"no room to merge.*bytes are needed.*make room"):
        merge(base, adapter, tmp_path / "merged.gguf")
    assert [path.name for path in tmp_path.iterdir()] == ["adapter.gguf"]


@pytest.mark.parametrize("quantisation", TYPES)
def test_every_type_can_be_made(base: Installed, adapter: Path, tmp_path: Path, quantisation: str) -> None:
    merge(base, adapter, tmp_path / "merged.gguf", quantisation=quantisation)
    LanguageModel(tmp_path / "merged.gguf")


def test_the_command_prints_the_sha256(base: Installed, adapter: Path, tmp_path: Path) -> None:
    done = command(base, adapter, tmp_path / "merged.gguf")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip() == sha256_of(tmp_path / "merged.gguf")


def test_a_disk_that_fills_up_leaves_nothing(base: Installed, adapter: Path, tmp_path: Path) -> None:
    done = command(base, adapter, tmp_path / "merged.gguf", file_bytes=64 * 1024)
    assert done.returncode == ModelError.exit_code and "no room" in done.stderr and "Traceback" not in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["adapter.gguf"]
