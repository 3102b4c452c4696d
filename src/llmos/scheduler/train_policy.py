"""Train the network that moves ranks, by reinforcement learning in the simulator.

    python -m llmos.scheduler.train_policy [TRACE[.gz]=PROCESSORS …] --out FOLDER [--steps N] [--minutes N] [--seed N]

Windows are drawn from the first 60 % of each trace and from the generators; what has been learned is measured on windows
from the rest and from other seeds. FOLDER then holds a checkpoint, from which the same command goes on, TensorBoard
events, policy.json with the figures, and policy.npz if the network did better than none on windows it was not trained
on. Needs the extra `train`.
"""

import argparse
import hashlib
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from llmos.errors import LlmosError, Unsupported
from llmos.scheduler.workload import Job, read_swf

_TRAINED_ON = 0.6
_SIZE = 384
"""Jobs in a window."""
_PROBLEMS, _CHOOSING, _HELD_OUT = 12, 3, 5
"""Windows of each trace and generator: to train on, to choose among the states of the network, to measure."""


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; exit status 1 with a message where a trace cannot be used or a package is missing."""
    parser = argparse.ArgumentParser(prog="python -m llmos.scheduler.train_policy", description=__doc__.splitlines()[0])
    parser.add_argument("traces", nargs="*", help="TRACE=PROCESSORS")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=500_000, help="arrivals and ends, about 1,000 a window")
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    traces = [trace.rpartition("=") for trace in options.traces]
    if not all(path and processors.isdigit() and int(processors) for path, _, processors in traces):
        parser.error("a trace is told as FILE=PROCESSORS")
    try:
        _train([(Path(path), int(processors)) for path, _, processors in traces], options)
    except LlmosError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _train(traces: Sequence[tuple[Path, int]], options: argparse.Namespace) -> None:
    # Threads that spin for one another come to a crawl as soon as anything else wants a core.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    recorded = [(path.name, read_swf(path), processors) for path, processors in traces]
    try:
        import torch

        from llmos.scheduler.policy_network import PolicyNetwork
        from llmos.scheduler.training.reinforcement import gain, learn, measured
        from llmos.scheduler.training.scheduling_environment import problems
    except ImportError as error:
        raise Unsupported(f"training needs {error.name}; install it with: pip install 'llmos[train]'") from None

    torch.set_num_threads(1)
    seed: int = options.seed
    earlier: list[tuple[str, Sequence[Job], int]] = []
    later: list[tuple[str, Sequence[Job], int]] = []
    for name, jobs, processors in recorded:
        at = int(_TRAINED_ON * len(jobs))
        earlier.append((name, jobs[:at], processors))
        later.append((name, jobs[at:], processors))
    folder: Path = options.out
    folder.mkdir(parents=True, exist_ok=True)
    steps = learn(
        problems(earlier, count=_PROBLEMS, size=_SIZE, seed=seed),
        problems(earlier, count=_CHOOSING, size=_SIZE, seed=seed + 1_000_000),
        folder,
        steps=options.steps,
        minutes=options.minutes,
        seed=seed,
        say=lambda line: print(json.dumps(line), flush=True),
    )
    card: dict[str, Any] = {
        "seed": seed,
        "steps": steps,
        "traces": {name: len(jobs) for name, jobs, _ in earlier},
        "held_out": None,
    }
    best = folder / "policy.npz"
    if best.is_file():
        rows = measured(
            PolicyNetwork.read(str(best)), problems(later, count=_HELD_OUT, size=_SIZE, seed=seed + 2_000_000)
        )
        card["sha256"] = hashlib.sha256(best.read_bytes()).hexdigest()
        card["held_out"] = {
            "gain": gain(rows),
            "log_ratios": [
                {"window": name, "completion": completion, "slowdown": slowdown} for name, completion, slowdown in rows
            ],
        }
    (folder / "policy.json").write_text(json.dumps(card, indent=2) + "\n")
    print(json.dumps({key: value for key, value in card.items() if key != "held_out"}))


if __name__ == "__main__":
    raise SystemExit(main())
