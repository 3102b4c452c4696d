"""The mean of adapters of one run: better than each of them, as a rule (model soups, https://arxiv.org/abs/2203.05482).

    python -m llmos.nlui.training.average ADAPTER ADAPTER… --out ADAPTER [--base NAME]

The two matrices of each layer are averaged by themselves, which is only near the mean of what they do, and near enough
where one adapter went on from the other. The card of the first is taken over, with the sha256 of all of them.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from llmos.errors import LlmosError
from llmos.nlui import models
from llmos.nlui.models import Installed, sha256_of
from llmos.nlui.training.export import read_adapter, write_adapter, write_card
from llmos.nlui.training.gguf_weights import read_weights

_OF_THE_FILE = ("file", "size", "sha256")


def average(base: Installed, adapters: Sequence[Path], out: Path) -> None:
    """Write the mean of adapters of this base, and its card.

    Raises:
        ModelError: one of them does not fit the base.
    """
    weights = read_weights(base.path)
    mean, *others = (read_adapter(path, weights) for path in adapters)
    with torch.no_grad():
        for parameter, *more in zip(mean.parameters(), *(other.parameters() for other in others), strict=True):
            parameter.copy_(torch.stack([parameter, *more]).mean(0))
    write_adapter(mean, out, architecture=weights.shape.architecture, base_sha256=base.sha256)
    card = json.loads(adapters[0].with_suffix(".json").read_text(encoding="utf-8"))
    facts = {name: fact for name, fact in card.items() if name not in _OF_THE_FILE}
    write_card(out, {**facts, "mean_of": [sha256_of(path) for path in adapters]})


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="llmos.nlui.training.average", description="Average adapters of one run.")
    parser.add_argument("adapters", type=Path, nargs="+", help="GGUF adapters; the first has a card")
    parser.add_argument("--out", type=Path, required=True, help="the adapter to write")
    parser.add_argument("--base", default=models.DEFAULT, help="the model they were trained on, by name or path")
    options = parser.parse_args()
    try:
        average(models.locate(options.base), options.adapters, options.out)
    except (LlmosError, OSError, ValueError) as error:
        print(f"average: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
