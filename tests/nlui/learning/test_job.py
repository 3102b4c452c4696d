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
from llmos.nlui.learning.adoption import adopt, adopted, generations
from llmos.nlui.learning.evaluation import dev_cases
from llmos.nlui.models import sha256_of
from llmos.nlui.training.batches import read_pairs
from llmos.nlui.training.difference import difference
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
    (tmp_path / "dev.jsonl").write_text('{"lang": "en", "request": "what runs?", "plan": ["jobs state=running"]}\n')
    return argparse.Namespace(
        state=tmp_path, out=generations(tmp_path).new_folder(), model=str(base), start=start, dev=tmp_path / "dev.jsonl"
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
    assert card["learned"]["lessons"] == 12 and card["upon"] == sha256_of(start)
    assert card["run"]["steps"] == -(-card["data"]["pairs"] // 16)
    taught = json.loads((options.out / "taught.json").read_text())["values"]
    assert taught["ARGV"] == {"bash nightly.sh --all": ["晚上那套"], "python train.py --config big.yaml": ["big one"]}
    assert taught["JOB"] == {"batch-worker": ["老黄牛"], "nightly-etl": ["usual"]}
    assert taught["PATH"] == {"/mnt/scratch": ["attic"]}
    # It has learned something, and may be put to use.
    down, up = next(iter(read_adapter(options.out / "adapter.gguf", weights).tensors().values()))
    assert down.shape[0] == 2 * RECIPE.rank and (up @ down).abs().max() > 0
    adopt(options.state, int(options.out.name))
    assert adopted(options.state) is not None


def test_a_difference_upon_the_old_does_what_the_new_does(weights: Weights, start: Path) -> None:
    chance = torch.Generator().manual_seed(1)
    old, new = read_adapter(start, weights), read_adapter(start, weights)
    with torch.no_grad():
        for parameter in (*old.parameters(), *new.parameters()):
            parameter.copy_(torch.randn(parameter.shape, generator=chance))
    both = difference(weights, new, old)
    for name, (down, up) in both.tensors().items():
        (new_down, new_up), (old_down, old_up) = new.tensors()[name], old.tensors()[name]
        wanted = new.scale * new_up @ new_down - old.scale * old_up @ old_down
        torch.testing.assert_close(both.scale * up @ down, wanted, rtol=1e-3, atol=1e-3)


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
    (tmp_path / "dev.jsonl").write_text("{}")
    with pytest.raises(BadInput, match="line 1 is no case"):
        dev_cases(tmp_path / "dev.jsonl")
    assert len(dev_cases(None)) == 150 and dev_cases(None) == dev_cases(None)
