"""Train the network that predicts runtimes, on traces and on generated workloads.

    python -m llmos.scheduler.train TRACE[.gz] … --out FOLDER [--epochs N] [--minutes N] [--seed N]

FOLDER then holds hazard.npz and its card, hazard.json, and TensorBoard events where the extra `train` is installed. Give
traces whose later parts you want to measure on only with their earlier parts.
"""

import argparse
import hashlib
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from llmos.errors import LlmosError
from llmos.scheduler import generators
from llmos.scheduler.event_file import EventFile
from llmos.scheduler.workload import Job, read_swf

_LOOKS = 12_000
"""Jobs of one trace that are looked at, all variants together."""
_GENERATED = 3_000


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; exit status 1 with a message where a trace cannot be used."""
    parser = argparse.ArgumentParser(prog="python -m llmos.scheduler.train", description=__doc__.splitlines()[0])
    parser.add_argument("traces", nargs="*", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    try:
        _train(options)
    except LlmosError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _train(options: argparse.Namespace) -> None:
    # Threads that spin for one another come to a crawl as soon as anything else wants a core.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from llmos.scheduler.training.backpropagation import fit, untrained, write
    from llmos.scheduler.training.samples import Samples, samples, without

    seed = options.seed

    def looked_at(jobs: Sequence[Job]) -> list[Samples]:
        share = min(0.7, _LOOKS / len(jobs))
        return [
            samples(jobs, share=share, seed=seed, weight=2.0),
            samples(jobs, share=share * 0.6, seed=seed, forget_after=1024),
            samples(
                without(jobs, "program", "queue", "requested", scale=0.2), share=share * 0.3, seed=seed, weight=0.5
            ),
            samples(
                without(jobs, "user", "program", "queue", "requested"),
                share=share * 0.2,
                seed=seed,
                forget_after=2000,
                weight=0.5,
            ),
        ]

    data = [part for path in options.traces for part in looked_at(read_swf(path))]
    for name in sorted(generators.NAMES):
        for number in range(3):
            jobs = generators.draw(name, _GENERATED, 1000 * (seed + 1) + number)
            data.append(samples(jobs, share=0.25, seed=seed, forget_after=1500, weight=0.5))
    layers = untrained(seed)
    progress: dict[str, float] = {}
    options.out.mkdir(parents=True, exist_ok=True)
    with EventFile.of_training(options.out) as events:
        for progress in fit(layers, data, epochs=options.epochs, minutes=options.minutes, seed=seed):
            print(json.dumps(progress), flush=True)
            events.scalars({"loss": progress["loss"]}, int(progress["epoch"]))
            write(layers, options.out / "hazard.npz")
    card = {
        "file": "hazard.npz",
        "sha256": hashlib.sha256((options.out / "hazard.npz").read_bytes()).hexdigest(),
        "seed": seed,
        "traces": [path.name for path in options.traces],
        "generators": sorted(generators.NAMES),
        "rows": sum(len(part.ended) for part in data),
        "training": progress,
    }
    (options.out / "hazard.json").write_text(json.dumps(card, indent=2) + "\n")


if __name__ == "__main__":
    raise SystemExit(main())
