"""How good the predictions of runtimes are, by time order: pinball loss and coverage against the baselines.

    python -m llmos.scheduler.predictions HISTORY[.gz] TRACE[.gz] [--jobs N] [--json]

Every job of TRACE is predicted when it comes, knowing HISTORY and what of TRACE had ended by then. The pinball loss is of
log2 of the seconds, at the 10th, 50th and 90th percentile (Koenker and Bassett 1978); coverage is the part of runtimes
between the first and the last. Baselines: the mean of the last two runs of the same user and program (Tsafrir et al.,
TPDS 2007), one number for all percentiles, and the percentiles of the last 50 runs of the same user and program.
"""

import argparse
import heapq
import json
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean

from llmos.errors import LlmosError
from llmos.scheduler.hazard import quantile, shipped
from llmos.scheduler.history import History
from llmos.scheduler.policies import Runs
from llmos.scheduler.workload import Job, read_swf

LEVELS = (0.1, 0.5, 0.9)


def evaluate(history: Sequence[Job], trace: Sequence[Job]) -> dict[str, dict[str, float]]:
    """Pinball losses and coverage by predictor; `pinball` is the mean of the three."""
    network, known, runs = shipped(), History(), Runs()
    for job in sorted(history, key=lambda job: job.submit + job.runtime):
        known.note(known.rows(job), job.runtime)
        runs.note(job)

    def by_network(job: Job) -> list[float]:
        hazards = network(known.inputs(job, known.rows(job), job.submit / 3600.0 % 24.0))
        return [quantile(hazards, level) for level in LEVELS]

    def by_last_two(job: Job) -> list[float]:
        return [fmean(list(runs.of(job) or runs.everyone or [1.0])[-2:])] * len(LEVELS)

    def by_fingerprint(job: Job) -> list[float]:
        seen = sorted(runs.of(job) or runs.everyone or [1.0])
        return [seen[min(len(seen) - 1, int(level * len(seen)))] for level in LEVELS]

    predictors: dict[str, Callable[[Job], list[float]]] = {
        "network": by_network,
        "mean of last two": by_last_two,
        "fingerprint": by_fingerprint,
    }
    losses: dict[str, list[tuple[float, ...]]] = {name: [] for name in predictors}
    covered: dict[str, list[bool]] = {name: [] for name in predictors}
    ending: list[tuple[float, int]] = []
    for at, job in enumerate(trace):
        while ending and ending[0][0] <= job.submit:
            done = trace[heapq.heappop(ending)[1]]
            known.end(known.rows(done), 0, done.runtime)
            runs.note(done)
        for name, predictor in predictors.items():
            predicted = predictor(job)
            losses[name].append(tuple(map(_pinball, LEVELS, predicted, [job.runtime] * len(LEVELS))))
            covered[name].append(predicted[0] <= job.runtime <= predicted[-1])
        known.begin(known.rows(job))
        heapq.heappush(ending, (job.submit + job.runtime, at))
    return {
        name: {
            "pinball": fmean(map(fmean, losses[name])),
            **{f"pinball_{level:g}": fmean(row[n] for row in losses[name]) for n, level in enumerate(LEVELS)},
            "coverage": fmean(covered[name]),
        }
        for name in predictors
    }


def _pinball(level: float, predicted: float, runtime: float) -> float:
    error = math.log2(max(runtime, 1.0)) - math.log2(max(predicted, 1.0))
    return max(level * error, (level - 1.0) * error)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; exit status 1 with a message where a trace cannot be used."""
    parser = argparse.ArgumentParser(prog="python -m llmos.scheduler.predictions", description=__doc__.splitlines()[0])
    parser.add_argument("history", type=Path)
    parser.add_argument("trace", type=Path)
    parser.add_argument("--jobs", type=int, help="of the trace, from its beginning; default: all")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    try:
        table = evaluate(read_swf(options.history), read_swf(options.trace)[: options.jobs])
    except LlmosError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if options.json:
        print(json.dumps(table))
        return 0
    print(f"{'predictor':18}" + "".join(f"{key:>14}" for key in next(iter(table.values()))))
    for name, row in table.items():
        print(f"{name:18}" + "".join(f"{value:14.3f}" for value in row.values()))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
