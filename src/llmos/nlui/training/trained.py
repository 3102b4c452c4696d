"""What the commands that look at a trained adapter work on: the adapter on its base, and some of the pairs of a file."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from llmos.nlui import models
from llmos.nlui.training import validation
from llmos.nlui.training.batches import Pair, read_pairs
from llmos.nlui.training.export import read_adapter
from llmos.nlui.training.gguf_weights import read_weights
from llmos.nlui.training.network import Network
from llmos.nlui.training.vocabulary import Vocabulary


@dataclass(frozen=True, slots=True)
class Trained:
    """The base's file and vocabulary, the network with the adapter, and the pairs, the same ones each time."""

    base: Path
    vocabulary: Vocabulary
    network: Network
    pairs: Sequence[Pair]


def add_options(parser: argparse.ArgumentParser, *, count: int) -> None:
    """Have a parser take what `load` needs."""
    parser.add_argument("adapter", type=Path)
    parser.add_argument("pairs", type=Path, help="JSON lines of request and plan")
    parser.add_argument("--base", default=models.DEFAULT, help="the model it was trained on, by name or path")
    parser.add_argument("--count", type=int, default=count, help="pairs to take (%(default)s)")


def load(options: argparse.Namespace) -> Trained:
    """Read what the options name.

    :raises LlmosError: a file is not there, or the adapter does not fit the base.
    """
    base = models.locate(options.base).path
    vocabulary, weights = Vocabulary(base), read_weights(base)
    pairs = validation.sample(read_pairs(options.pairs, vocabulary), options.count, seed=0)
    return Trained(base, vocabulary, Network(weights, read_adapter(options.adapter, weights)), pairs)
