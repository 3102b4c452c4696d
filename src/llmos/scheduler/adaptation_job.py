"""Adapt the learned policy to this machine's runs: the managed job `llmos-scheduler-train`.

    python -m llmos.scheduler.adaptation_job --state FOLDER --out FOLDER [--standing-in]

It begins from the weights that llmos ships with and learns from the earlier part of the runs in `runs.db`, and from
generated workloads, so that it goes on knowing what other machines do. On the later part the new weights are compared in
the simulator with the policy in use. They have won when they do better, no worse than the static policy, and predict
generated workloads about as well as the weights in use. It writes into `--out` alone: weights, their card, TensorBoard
events, and result.json, which says whether they have won.
"""

import argparse
import hashlib
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from llmos.errors import BadInput, LlmosError
from llmos.scheduler import generators
from llmos.scheduler.adaptation import CARD, RESULT, WEIGHTS, Adaptation, Weights, shipped
from llmos.scheduler.event_file import EventFile
from llmos.scheduler.run_history import PastRun, RunHistory
from llmos.scheduler.shadow import BETTER, STATIC, Comparison, compared, outcomes, replayable, sized
from llmos.scheduler.simulator import Outcome
from llmos.scheduler.workload import Job, rescaled

MIN_RUNS = 120
"""Runs of a known size below which nothing is learned."""
_LATER = 0.3
"""The part of the runs, the newest, that new weights are measured on."""
_WINDOW, _WINDOWS = 512, 4
_LOADS = (0.7, 0.9)
_GENERATED = 600
"""Jobs of each generated workload that are learned from, and as many that are measured on."""
_FORGOTTEN = 0.05
"""Nats a look by which the likelihood of what comes on generated workloads may fall."""
_EPOCHS = 8
_MINUTES = 20.0
_RATE, _ANCHOR = 1e-3, 10.0
SEED = 1


def usable(past: Sequence[PastRun]) -> list[Job]:
    """The runs that can be learned from, the oldest first.

    :raises BadInput: they are too few.
    """
    jobs = [job for run in past if (job := replayable(run)) is not None]
    if len(jobs) < MIN_RUNS:
        raise BadInput(
            f"only {len(jobs)} runs have ended of which it is known what they used; {MIN_RUNS} are needed to learn from"
        )
    return sorted(jobs, key=lambda job: job.submit)


def run(state: Path, out: Path, *, standing_in: bool) -> None:
    """Learn, measure, and say whether it has won.

    :param standing_in: the static policy is in use, for the learned one was switched off.
    :raises LlmosError: there is nothing to learn from, or the weights in use are damaged.
    """
    from llmos.scheduler.training import backpropagation
    from llmos.scheduler.training.samples import Samples, samples

    begun = time.monotonic()
    history = RunHistory(state / "runs.db")
    try:
        jobs = usable(history.newest())
    finally:
        history.close()
    later = min(int(_LATER * len(jobs)), _WINDOW * _WINDOWS)
    earlier, held_out = jobs[:-later], jobs[-later:]
    print(f"{len(jobs)} runs, the newest {len(held_out)} of them held out to measure on")

    in_use = Adaptation(state).in_use()
    in_use.load()  # damaged weights are said before, not after, the learning
    learned = [sized(job) for job in earlier]

    def generated(seed: int) -> list[Samples]:
        return [
            samples(generators.draw(name, _GENERATED, seed), share=0.5, seed=seed, weight=0.5, forget_after=500)
            for name in sorted(generators.NAMES)
        ]

    data = [
        samples(learned, share=1.0, seed=SEED, weight=2.0),
        samples(learned, share=0.5, seed=SEED, weight=1.0, forget_after=max(50, len(learned) // 4)),
        *generated(SEED),
    ]
    layers = backpropagation.read(shipped().path)
    with EventFile.of_training(out) as events:
        for progress in backpropagation.fit(
            layers, data, epochs=_EPOCHS, minutes=_MINUTES, seed=SEED, rate=_RATE, anchor=_ANCHOR
        ):
            print(f"epoch {progress['epoch']:.0f} of {_EPOCHS}: a loss of {progress['loss']:.4f} nats a bin")
            events.scalars({"loss": progress["loss"]}, int(progress["epoch"]))
        backpropagation.write(layers, out / WEIGHTS)
        card: dict[str, Any] = {
            "file": WEIGHTS,
            "sha256": hashlib.sha256((out / WEIGHTS).read_bytes()).hexdigest(),
            "at": time.time(),
            "begun_from": shipped().card["sha256"],
            "rows": sum(len(part.ended) for part in data),
        }
        new = Weights(int(out.name), out / WEIGHTS, card)
        own = compared(_own(earlier, held_out, in_use, new), card["at"])
        unseen = generated(SEED + 1)
        fall = backpropagation.loss(layers, unseen) - backpropagation.loss(backpropagation.read(in_use.path), unseen)
        present = STATIC if standing_in else "in_use"
        won, reason = _verdict(own, fall, present)
        card["figures"] = {
            "runs": len(jobs),
            "held_out": len(held_out),
            "cost_against_in_use": round(own.cost("new", "in_use"), 4),
            "cost_against_static": round(own.cost("new", STATIC), 4),
            "nats_forgotten": round(fall, 4),
        }
        print(
            f"on the held-out runs: {own.cost('new', 'in_use'):.3f} of the cost of the weights in use, "
            f"{own.cost('new', STATIC):.3f} of that of the static policy"
        )
        print(f"on generated workloads: {fall:+.3f} nats a look were forgotten")
        events.scalars({name: float(value) for name, value in card["figures"].items()}, _EPOCHS)
    (out / CARD).write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")
    result = {
        "won": won,
        "reason": reason,
        "weights": new.name,
        "compared_with": in_use.name if present == "in_use" else "the static policy",
        "at": card["at"],
        "seconds": round(time.monotonic() - begun, 1),
        **card["figures"],
    }
    (out / RESULT).write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(f"the new weights {'go into the shadow' if won else 'are not used'}: {reason}")


def _verdict(own: Comparison, fall: float, present: str) -> tuple[bool, str]:
    if own.cost("new", present) > 1.0 - BETTER:
        return False, "on the held-out runs they do no better than what is in use"
    if own.cost("new", STATIC) > 1.0:
        return False, "on the held-out runs they do worse than the static policy"
    if fall > _FORGOTTEN:
        return False, "they predict generated workloads worse than the weights in use: too much was forgotten"
    return True, "on the held-out runs they do better than what is in use"


def _own(earlier: Sequence[Job], held_out: Sequence[Job], in_use: Weights, new: Weights) -> list[dict[str, Outcome]]:
    """Windows of the held-out runs at each load; all that had come before a window is known."""
    cores = os.cpu_count() or 1
    networks = {"in_use": in_use.load(), "new": new.load()}
    count = max(1, len(held_out) // _WINDOW)
    size = len(held_out) // count
    return [
        outcomes(
            [*earlier, *held_out[: at * size]], rescaled(held_out[at * size :][:size], load, cores), networks, cores
        )
        for at in range(count)
        for load in _LOADS
    ]


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="llmos.scheduler.adaptation_job", description=__doc__.splitlines()[0])
    parser.add_argument("--state", type=Path, required=True, help="folder of runs.db and scheduler/")
    parser.add_argument("--out", type=Path, required=True, help="folder to write into, named by its number")
    parser.add_argument("--standing-in", action="store_true", help="the static policy is in use")
    options = parser.parse_args()
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    # Threads that spin for one another come to a crawl as soon as anything else wants a core.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    try:
        run(options.state, options.out, standing_in=options.standing_in)
    except LlmosError as error:
        print(f"train: {error.message}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
