"""Trains an adapter on lessons, from the shipped one and held near it. Needs the extra `train`."""

import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from llmos.errors import LlmosError
from llmos.nlui.dataset.pair import Pair
from llmos.nlui.evaluation.cases import Case
from llmos.nlui.learning.adoption import ADAPTER
from llmos.nlui.models import Installed, sha256_of
from llmos.nlui.training.batches import fingerprint, read_pairs
from llmos.nlui.training.difference import difference
from llmos.nlui.training.export import read_adapter, write_adapter
from llmos.nlui.training.gguf_weights import read_weights
from llmos.nlui.training.loop import Trainer
from llmos.nlui.training.network import Network
from llmos.nlui.training.recipe import Recipe
from llmos.nlui.training.vocabulary import Vocabulary

RECIPE = Recipe(batch=16, learning_rate=2e-4, warmup=0.1, weight_decay=0.0, validation_pairs=24)
ANCHOR = 10.0
"""Pull towards the shipped adapter: the share by which each step, for each unit of its learning rate, takes it back."""


def train(
    base: Installed, start: Path, pairs: Sequence[Pair], measured: Sequence[Case], folder: Path
) -> dict[str, Any]:
    """Write `folder`/adapter.gguf, what is learned upon the adapter `start`; returns the facts for its card.

    :raises LlmosError: it was told to end before it was done.
    """
    vocabulary, weights = Vocabulary(base.path), read_weights(base.path)
    shipped = read_adapter(start, weights)
    network = Network(weights, read_adapter(start, weights))
    recipe = replace(RECIPE, rank=network.adapter.rank, alpha=network.adapter.alpha)
    cases = [{"request": case.request, "accept": [list(plan) for plan in case.accept]} for case in measured]
    with tempfile.TemporaryDirectory(prefix="run-", dir=folder) as run:  # the person's words are not kept twice
        learned = read_pairs(_written(Path(run, "pairs.jsonl"), [pair.as_json() for pair in pairs]), vocabulary)
        held_out = read_pairs(_written(Path(run, "own.jsonl"), cases), vocabulary)
        trainer = Trainer(network, vocabulary, recipe, learned, held_out, Path(run), anchor=ANCHOR)
        state = trainer.train()
    if trainer.stopped:
        raise LlmosError(f"told to end at step {state.step}; nothing was learned")
    learned_upon = difference(weights, network.adapter, shipped)
    write_adapter(learned_upon, folder / ADAPTER, architecture=weights.shape.architecture, base_sha256=base.sha256)
    return {
        "upon": sha256_of(start),
        "base": {"name": base.name, "title": base.title, "sha256": base.sha256, "licence": base.licence},
        "data": {"pairs": len(learned), "fingerprint": fingerprint(learned)},
        "recipe": {**asdict(recipe), "anchor": ANCHOR},
        "run": {"steps": state.step, "minutes": round(state.seconds / 60, 1), "torch": torch.__version__},
    }


def _written(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path
