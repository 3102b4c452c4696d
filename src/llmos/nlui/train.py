"""Train an adapter for a model on pairs of request and plan.

    python -m llmos.nlui.train --data PAIRS --val PAIRS --out FOLDER [--base NAME] [--minutes N | --epochs N]

FOLDER then holds adapter.gguf, adapter.json (its card), the TensorBoard events and the checkpoint. A run that was
interrupted goes on when the same command is given again. Needs the extra `train`.
"""

import argparse
import logging
import math
import os
import sys
from dataclasses import asdict
from pathlib import Path

from llmos.errors import BadInput, LlmosError, Unsupported
from llmos.nlui import models
from llmos.nlui.decoding import usable_cores

INTERRUPTED = 75
"""Exit status (EX_TEMPFAIL) of a run that a signal ended early and that the same command goes on with."""


def run(options: argparse.Namespace) -> int:
    """Train as the options say and write the adapter; INTERRUPTED when a signal ended it before its time."""
    # Threads that spin for one another come to a crawl as soon as anything else wants a core.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    try:
        import torch

        from llmos.nlui.training.batches import fingerprint, read_pairs
        from llmos.nlui.training.export import read_adapter, write_adapter, write_card
        from llmos.nlui.training.gguf_weights import read_weights
        from llmos.nlui.training.loop import Trainer, new_network
        from llmos.nlui.training.recipe import Recipe
        from llmos.nlui.training.vocabulary import Vocabulary
    except ImportError as error:
        raise Unsupported(f"training needs {error.name}; install it with: pip install 'llmos[train]'") from None

    recipe = Recipe(
        minutes=options.minutes,
        epochs=options.epochs,
        batch=options.batch,
        rank=options.rank,
        alpha=2.0 * options.rank,
        learning_rate=options.rate,
        seed=options.seed,
    )
    torch.set_num_threads(options.threads)
    base = models.locate(options.base)
    vocabulary = Vocabulary(base.path)
    pairs, held_out = read_pairs(options.data, vocabulary), read_pairs(options.val, vocabulary)
    if not pairs or not held_out:
        raise BadInput(f"{options.data} and {options.val} must each hold a pair at least")
    weights = read_weights(base.path, torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    network = new_network(weights, recipe)
    if options.start is not None:
        network.adapter = read_adapter(options.start, weights)
    trainer = Trainer(network, vocabulary, recipe, pairs, held_out, options.out)
    state = trainer.train()
    if trainer.stopped:
        print(f"stopped at step {state.step}; the same command goes on from there", file=sys.stderr)
        return INTERRUPTED
    adapter = options.out / "adapter.gguf"
    write_adapter(network.adapter, adapter, architecture=weights.shape.architecture, base_sha256=base.sha256)
    write_card(
        adapter,
        {
            "base": {"name": base.name, "title": base.title, "sha256": base.sha256, "licence": base.licence},
            "data": {"pairs": len(pairs), "fingerprint": fingerprint(pairs)},
            "recipe": asdict(recipe),
            "run": {
                "steps": state.step,
                "pairs_seen": state.pairs,
                "minutes": round(state.seconds / 60, 1),
                "best_step": state.best_step,
                "best_accuracy": round(state.best_accuracy, 4),
                "torch": torch.__version__,
            },
        },
    )
    print(f"{adapter}: {state.best_accuracy:.1%} of the held-out plans exact, at step {state.best_step}")
    return 0


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="llmos.nlui.train", description="Train an adapter on request and plan pairs.")
    parser.add_argument("--data", type=Path, required=True, help="pairs to learn, JSON lines")
    parser.add_argument("--val", type=Path, required=True, help="held-out pairs, JSON lines")
    parser.add_argument("--out", type=Path, required=True, help="folder for the adapter and what the run leaves")
    parser.add_argument("--start", type=Path, help="adapter to go on from, of the same base (a fresh one)")
    parser.add_argument("--base", default=models.DEFAULT, help="the model, by name or path (%(default)s)")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--minutes", type=_positive, help="how long to train; the schedule follows the clock")
    length.add_argument("--epochs", type=_positive, default=1.0, help="times through the data (%(default)s)")
    parser.add_argument("--batch", type=int, default=32, help="pairs a step (%(default)s)")
    parser.add_argument("--rank", type=int, default=16, help="rank of the adapter (%(default)s)")
    parser.add_argument("--rate", type=_positive, default=4e-4, help="highest learning rate (%(default)s)")
    parser.add_argument(
        "--seed", type=int, default=1, help="of the order, the adapter's start and dropout (%(default)s)"
    )
    parser.add_argument("--threads", type=int, default=usable_cores(), help="threads to compute with (%(default)s)")
    options = parser.parse_args()
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(message)s")
    try:
        return run(options)
    except LlmosError as error:
        print(f"train: {error.message}", file=sys.stderr)
        return error.exit_code


def _positive(text: str) -> float:
    number = float(text)
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError("must be above 0")
    return number


if __name__ == "__main__":
    sys.exit(main())
