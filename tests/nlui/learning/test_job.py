"""The job that learns, whole, on a random tiny model: what it leaves, and what it says when it cannot."""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="needs the extra train")
pytest.importorskip("tensorboard", reason="needs the extra train")

import torch

from llmos.errors import BadInput
from llmos.nlui.learning import __main__ as job
from llmos.nlui.learning.adoption import adopt, adopted, new_folder
from llmos.nlui.learning.evaluation import Case, dev_cases
from llmos.nlui.models import sha256_of
from llmos.nlui.training.batches import read_pairs
from llmos.nlui.training.export import read_adapter, write_adapter
from llmos.nlui.training.gguf_weights import Weights, read_weights
from llmos.nlui.training.loop import Trainer, new_network
from llmos.nlui.training.network import Network
from llmos.nlui.training.recipe import Recipe
from llmos.nlui.training.vocabulary import Vocabulary
from nlui.learning.corrections import PHRASES, record, records
from nlui.training_model import write_random_model

RECIPE = Recipe(rank=4, alpha=8.0)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random_model(tmp_path_factory.mktemp("base") / "base.gguf", "llama")


@pytest.fixture(scope="module")
def weights(base: Path) -> Weights:
    return read_weights(base)


@pytest.fixture(scope="module")
def start(base: Path, weights: Weights) -> Path:
    path = base.with_name("start.gguf")
    write_adapter(new_network(weights, RECIPE).adapter, path, architecture="llama", base_sha256=sha256_of(base))
    return path


@pytest.fixture
def options(base: Path, start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> argparse.Namespace:
    """Of a job over all corrections, as short as it can be."""
    monkeypatch.setenv("LLMOS_MODELS", str(tmp_path / "models"))
    (tmp_path / "feedback.jsonl").write_text("".join(json.dumps(one) + "\n" for one in records()))
    (tmp_path / "dev.jsonl").write_text('{"request": "what runs?", "plan": ["jobs state=running"]}\n')
    return argparse.Namespace(
        state=tmp_path, out=new_folder(tmp_path), model=str(base), start=start, dev=tmp_path / "dev.jsonl"
    )


@pytest.mark.timeout(300)
def test_it_leaves_an_adapter_with_its_figures_and_no_word_of_the_person(
    options: argparse.Namespace, base: Path, start: Path, weights: Weights
) -> None:
    command = [sys.executable, "-m", "llmos.nlui.learning", "--state", options.state, "--out", options.out]
    command += ["--model", options.model, "--start", options.start, "--dev", options.dev]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    assert "llama" not in done.stderr
    for phrase, value in PHRASES.items():
        assert f"“{phrase}” stands for {value}" in done.stdout
    assert {path.name for path in options.out.iterdir()} == {
        "adapter.gguf", "adapter.json", "taught.json", "result.json",
    }  # fmt: skip
    result, card = (json.loads((options.out / f"{name}.json").read_text()) for name in ("result", "adapter"))
    assert result["adopt"] is False and result["reason"] == "own requests did not rise"  # it is a random model
    assert result["before"] == result["after"] == {"own": 0.0, "dev": 0.0}
    assert (result["lessons"], result["aliases"], result["own"]) == (12, 5, {"requests": 3, "held_out": True})
    assert card["learned"]["lessons"] == 12 and card["base"]["sha256"] == sha256_of(base)
    assert card["run"]["steps"] == -(-card["data"]["pairs"] // 16)
    taught = json.loads((options.out / "taught.json").read_text())
    assert taught["ARGV"] == ["bash nightly.sh --all", "python train.py --config big.yaml"]
    assert taught["JOB"] == ["batch-worker", "nightly-etl"] and taught["PATH"] == ["/mnt/scratch"]
    # It has learned something, and may be put to use.
    assert not torch.equal(*(_first_up(path, weights) for path in (start, options.out / "adapter.gguf")))
    adopt(options.state, int(options.out.name))
    now = adopted(options.state)
    assert now is not None and now.base_sha256 == sha256_of(base)


def _first_up(path: Path, weights: Weights) -> torch.Tensor:
    return next(iter(read_adapter(path, weights).tensors().values()))[1]


def test_an_anchor_holds_it_near_where_it_began(
    weights: Weights, base: Path, start: Path, options: argparse.Namespace, tmp_path: Path
) -> None:
    pairs = read_pairs(options.dev, Vocabulary(base))
    far = {}
    for anchor in (0.0, 50.0):
        network = Network(weights, read_adapter(start, weights))
        begun = torch.cat([parameter.detach().clone().flatten() for parameter in network.adapter.parameters()])
        recipe = Recipe(epochs=20, batch=1, learning_rate=1e-2, dropout=0.0, weight_decay=0.0, validation_pairs=1)
        Trainer(network, Vocabulary(base), recipe, pairs, pairs, tmp_path / f"{anchor}", anchor=anchor).train()
        now = torch.cat([parameter.detach().flatten() for parameter in network.adapter.parameters()])
        far[anchor] = float((now - begun).norm())
    assert 0 < far[50.0] < 0.7 * far[0.0]


def test_without_corrections_it_says_so(options: argparse.Namespace) -> None:
    (options.state / "feedback.jsonl").write_text(json.dumps(record("show web", "accepted", "show web")) + "\n")
    with pytest.raises(BadInput, match="nothing to learn"):
        job.run(options)


def test_dev_cases_that_are_none_are_refused(tmp_path: Path) -> None:
    for content, message in (("{}", "JSON lines"), ("", "no case"), ('{"request": "x", "plan": 7}', "JSON lines")):
        (tmp_path / "dev.jsonl").write_text(content)
        with pytest.raises(BadInput, match=message):
            dev_cases(tmp_path / "dev.jsonl")
    (tmp_path / "dev.jsonl").write_text(
        '{"request": "x", "accept": [["jobs"], ["ps"]]}\n{"request": "y", "plan": ["ask Which?"]}\n'
    )
    assert dev_cases(tmp_path / "dev.jsonl") == [Case("x", [["jobs"], ["ps"]]), Case("y", [["ask *"]])]
    assert len(dev_cases(None)) == 150 and dev_cases(None) == dev_cases(None)
