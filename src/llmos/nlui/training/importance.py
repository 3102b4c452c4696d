"""How much each input of a linear layer matters: its mean square over requests and plans.

    python -m llmos.nlui.training.importance ADAPTER PAIRS --out FILE [--base NAME] [--count 256]

llama.cpp's quantiser rounds so that what matters more is kept better ("imatrix"). The file is of llama.cpp's own format:
for each tensor the sums of squares and their count.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

# Threads that spin for one another come to a crawl as soon as anything else wants a core; read when torch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import gguf
import numpy as np
import torch

from llmos.errors import LlmosError
from llmos.nlui.training import trained
from llmos.nlui.training.batches import Pair, collate, cut_batches
from llmos.nlui.training.network import Network

BATCH = 16


def measure(network: Network, pairs: Sequence[Pair]) -> dict[str, tuple[torch.Tensor, int]]:
    """For each tensor of a linear layer the sums of squares (columns,) of its inputs, and of how many tokens."""
    sums: dict[str, tuple[torch.Tensor, int]] = {}

    def seen(block: int, names: Sequence[str], inputs: torch.Tensor) -> None:
        squares = inputs.float().square().sum(0)
        for name in names:
            before, count = sums.get(f"blk.{block}.{name}.weight", (torch.zeros_like(squares), 0))
            sums[f"blk.{block}.{name}.weight"] = (before + squares, count + len(inputs))

    with torch.inference_mode():
        for rows in cut_batches(pairs, BATCH, seed=0, epoch=0):
            batch = collate(rows, network.weights.output.device)
            network.hidden(batch.tokens, batch.positions, batch.picked, seen=seen)
    return sums


def write(sums: dict[str, tuple[torch.Tensor, int]], path: Path) -> None:
    """Write the file, all or nothing."""
    partial = path.with_suffix(".part")
    writer = gguf.GGUFWriter(partial, "")
    writer.add_type("imatrix")
    for name, (squares, count) in sums.items():
        writer.add_tensor(f"{name}.in_sum2", squares.numpy().astype(np.float32)[None])
        writer.add_tensor(f"{name}.counts", np.array([[count]], np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    partial.replace(path)


def main() -> int:
    """Measure on some pairs."""
    parser = argparse.ArgumentParser(prog="llmos.nlui.training.importance", description="Measure what inputs matter.")
    trained.add_options(parser, count=256)
    parser.add_argument("--out", type=Path, required=True, help="the file to write")
    options = parser.parse_args()
    try:
        ours = trained.load(options)
        write(measure(ours.network, ours.pairs), options.out)
    except LlmosError as error:
        print(f"importance: {error.message}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
