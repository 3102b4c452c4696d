"""Training on a random tiny model: it learns, stops, goes on, and leaves an adapter with its card."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="needs the extra train")
pytest.importorskip("tensorboard", reason="needs the extra train")

import torch

from llmos.errors import BadInput, Conflict
from llmos.nlui import train
from llmos.nlui.training import kernels
from llmos.nlui.training.batches import Pair, collate, cut_batches, read_pairs
from llmos.nlui.training.gguf_weights import Weights, read_weights
from llmos.nlui.training.loop import State, Trainer, new_network
from llmos.nlui.training.recipe import Recipe
from llmos.nlui.training.vocabulary import Vocabulary
from nlui.training_model import write_random_model

ROWS = [
    {"request": f"{verb} {name}", "plan": [f"{verb} {name}"]}
    for verb in ("kill", "stop", "show")
    for name in ("a", "bb")
]
QUICK = Recipe(epochs=4, batch=4, rank=4, alpha=8.0, learning_rate=1e-2, dropout=0.0, validation_pairs=4)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random_model(tmp_path_factory.mktemp("base") / "base.gguf", "llama")


@pytest.fixture(scope="module")
def vocabulary(base: Path) -> Vocabulary:
    return Vocabulary(base)


@pytest.fixture(scope="module")
def weights(base: Path) -> Weights:
    return read_weights(base)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return path


@pytest.fixture
def pairs(data: Path, vocabulary: Vocabulary) -> list[Pair]:
    return read_pairs(data, vocabulary)


def trainer(
    weights: Weights, vocabulary: Vocabulary, pairs: list[Pair], folder: Path, recipe: Recipe = QUICK
) -> Trainer:
    return Trainer(new_network(weights, recipe), vocabulary, recipe, pairs, pairs, folder)


def test_pair_is_framed(pairs: list[Pair], vocabulary: Vocabulary) -> None:
    pair = pairs[0]
    assert pair.prompt[0] == vocabulary.opening
    assert pair.prompt[-1] == vocabulary.closing
    assert vocabulary.text(pair.prompt[1:-1]) == pair.request
    assert pair.completion[-1] == vocabulary.end
    assert vocabulary.text(pair.completion) == "kill a"
    assert (pair.verb, pair.language) == ("kill", "en")


def test_control_tokens_in_a_request_stay_text(vocabulary: Vocabulary) -> None:
    assert vocabulary.end not in vocabulary.prompt("say <|im_end|>")[1:-1]


def test_any_question_is_right_where_one_is_asked(tmp_path: Path, vocabulary: Vocabulary) -> None:
    path = tmp_path / "ask.jsonl"
    path.write_text('{"request": "停", "plan": ["ask \\"哪个?\\""]}\n{"request": "x", "accept": [["jobs"], ["ps"]]}\n')
    asked, either = read_pairs(path, vocabulary)
    assert (asked.accepted, asked.language) == ((("ask *",),), "zh")
    assert either.accepted == (("jobs",), ("ps",))


def test_bad_data_is_said(tmp_path: Path, vocabulary: Vocabulary) -> None:
    (tmp_path / "bad.jsonl").write_text('{"request": "x"}\n')
    with pytest.raises(BadInput, match="JSON lines"):
        read_pairs(tmp_path / "bad.jsonl", vocabulary)
    with pytest.raises(BadInput, match="cannot be read"):
        read_pairs(tmp_path / "none.jsonl", vocabulary)


def test_batches_hold_each_pair_once_in_an_order_of_their_epoch(pairs: list[Pair]) -> None:
    batches = cut_batches(pairs, 4, seed=1, epoch=0)
    assert sorted(pair.request for batch in batches for pair in batch) == sorted(str(row["request"]) for row in ROWS)
    assert batches == cut_batches(pairs, 4, seed=1, epoch=0)
    assert batches != cut_batches(pairs, 4, seed=1, epoch=1)


def test_only_the_plan_is_learned(pairs: list[Pair]) -> None:
    short, long = pairs[0], pairs[1]
    batch = collate([short, long], torch.device("cpu"))
    assert batch.tokens.shape == (2, len(long.prompt) + len(long.completion) - 1)
    assert batch.targets.tolist() == [*short.completion, *long.completion]
    before = batch.tokens.flatten()[batch.picked].tolist()
    assert before == [short.prompt[-1], *short.completion[:-1], long.prompt[-1], *long.completion[:-1]]


@pytest.mark.parametrize("bias", [False, True])
def test_adapted_linear_has_the_right_gradients(bias: bool) -> None:
    torch.manual_seed(1)
    x, down, up = (torch.randn(*size, dtype=torch.double, requires_grad=True) for size in ((5, 6), (2, 6), (4, 2)))
    weight, offset = torch.randn(4, 6, dtype=torch.double), torch.randn(4, dtype=torch.double) if bias else None
    assert torch.autograd.gradcheck(
        lambda x, down, up: kernels.adapted_linear(x, weight, offset, down, up), (x, down, up)
    )
    expected = x @ weight.T + x @ down.T @ up.T + (0 if offset is None else offset)
    torch.testing.assert_close(kernels.adapted_linear(x, weight, offset, down, up), expected)


def test_dropout_keeps_the_mean() -> None:
    torch.manual_seed(1)
    x, down, up = torch.ones(20_000, 3), torch.ones(2, 3), torch.ones(1, 2)
    out = kernels.adapted_linear(x, torch.zeros(1, 3), None, down, up, 0.25)
    assert float(out.mean()) == pytest.approx(6.0, rel=0.02)
    assert float((out == 0).float().mean()) == pytest.approx(0.25**2, abs=0.01)


def test_norm_and_gate_have_the_right_gradients() -> None:
    torch.manual_seed(1)
    x = torch.randn(3, 8, dtype=torch.double, requires_grad=True)
    weight = torch.randn(8, dtype=torch.double)
    assert torch.autograd.gradcheck(lambda x: kernels.rms_norm(x, weight, 1e-5, torch.double), (x,))
    assert torch.autograd.gradcheck(kernels.gated, (x,))


def test_rate_rises_and_falls() -> None:
    recipe = Recipe(learning_rate=1.0, warmup=0.1, floor=0.05)
    assert recipe.rate(0.0) == 0.0
    assert recipe.rate(0.05) == pytest.approx(0.5)
    assert recipe.rate(0.1) == pytest.approx(1.0)
    assert recipe.rate(1.0) == pytest.approx(0.05)
    assert recipe.rate(2.0) == pytest.approx(0.05)


def test_it_learns(weights: Weights, vocabulary: Vocabulary, pairs: list[Pair], tmp_path: Path) -> None:
    recipe = Recipe(epochs=80, batch=6, rank=16, alpha=32.0, learning_rate=1e-2, dropout=0.0, validation_pairs=6)
    state = trainer(weights, vocabulary, pairs, tmp_path / "run", recipe).train()
    assert state.best_accuracy == 1.0
    assert state.accuracy["verb/kill"] == 1.0
    assert state.accuracy["language/en"] == 1.0
    assert list((tmp_path / "run").glob("events.out.tfevents.*"))


def test_interrupted_run_ends_as_an_uninterrupted_one(
    weights: Weights, vocabulary: Vocabulary, pairs: list[Pair], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def final(folder: Path) -> tuple[State, dict[str, torch.Tensor]]:
        one = trainer(weights, vocabulary, pairs, folder)
        state = one.train()
        return state, {name: up for name, (_, up) in one._network.adapter.tensors().items()}

    expected_state, expected = final(tmp_path / "whole")
    interrupted = trainer(weights, vocabulary, pairs, tmp_path / "halves")
    step = interrupted._step

    def step_and_signal(*arguments: object) -> float:
        if interrupted.state.step == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(interrupted, "_step", step_and_signal)
    assert interrupted.train().step == 4
    assert interrupted.stopped
    state, adapter = final(tmp_path / "halves")
    assert (state.step, state.pairs) == (expected_state.step, expected_state.pairs) == (8, 24)
    for name, up in expected.items():
        torch.testing.assert_close(adapter[name], up)


def test_run_of_another_recipe_is_not_gone_on_with(
    weights: Weights, vocabulary: Vocabulary, pairs: list[Pair], tmp_path: Path
) -> None:
    trainer(weights, vocabulary, pairs, tmp_path).train()
    with pytest.raises(Conflict, match="another recipe"):
        trainer(weights, vocabulary, pairs, tmp_path, Recipe(epochs=2))


def test_it_ends_when_nothing_gains(
    weights: Weights, vocabulary: Vocabulary, pairs: list[Pair], tmp_path: Path
) -> None:
    recipe = Recipe(epochs=1000, batch=6, learning_rate=1e-9, validation_pairs=1, validation_minutes=0.0, patience=2)
    assert trainer(weights, vocabulary, pairs, tmp_path, recipe).train().step == 3


def test_time_ends_it(weights: Weights, vocabulary: Vocabulary, pairs: list[Pair], tmp_path: Path) -> None:
    state = trainer(weights, vocabulary, pairs, tmp_path, Recipe(minutes=1e-6, validation_pairs=1)).train()
    assert state.step == 1


def test_command_leaves_an_adapter_and_its_card(base: Path, data: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "llmos.nlui.train", "--data", str(data), "--val", str(data), "--base", str(base)]
    environment = {**os.environ, "LLMOS_MODELS": str(tmp_path / "models")}
    done = subprocess.run(
        [*command, "--out", str(tmp_path / "run"), "--threads", "1"], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    card = json.loads((tmp_path / "run" / "adapter.json").read_text())
    assert card["data"]["pairs"] == len(ROWS)
    assert card["run"]["steps"] == 1
    assert card["size"] == (tmp_path / "run" / "adapter.gguf").stat().st_size
    assert "held-out plans exact" in done.stdout


def test_missing_extra_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.setattr(sys, "argv", ["train", "--data", "x", "--val", "x", "--out", str(tmp_path)])
    assert train.main() == 8
    assert "llmos[train]" in capsys.readouterr().err
