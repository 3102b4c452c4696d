"""Compare policies on windows of a trace or of a generator.

    python -m llmos.scheduler.simulate TRACE[.gz] [--history FILE] --policy NAME … --processors N --load L --windows K
        --seed N --json

TRACE is a file in the Standard Workload Format, or `lublin`, `philly` or `bursts`, which are drawn from the seed.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, quantiles

from llmos.errors import LlmosError
from llmos.scheduler.contest import POLICIES, Contest
from llmos.scheduler.simulator import SWITCH_SECONDS, Outcome


def figures(outcomes: Sequence[Outcome]) -> dict[str, float]:
    """Means over all jobs of all windows, 95th percentiles, and the mean makespan; times in seconds."""
    slowdown = [value for outcome in outcomes for value in outcome.slowdown]
    completion = [value for outcome in outcomes for value in outcome.completion]
    return {
        "mean_slowdown": fmean(slowdown),
        "p95_slowdown": quantiles(slowdown, n=20, method="inclusive")[-1],
        "mean_jct": fmean(completion),
        "p95_jct": quantiles(completion, n=20, method="inclusive")[-1],
        "makespan": fmean(outcome.makespan for outcome in outcomes),
    }


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m llmos.scheduler.simulate", description=__doc__.splitlines()[0])
    parser.add_argument("trace", help="an SWF file, or lublin, philly, bursts")
    parser.add_argument("--history", help="an SWF file of earlier jobs, which warms what learns")
    parser.add_argument("--policy", nargs="+", action="extend", choices=sorted(POLICIES), help="default: all")
    parser.add_argument("--processors", type=int, default=16)
    parser.add_argument("--load", type=float, default=0.9)
    parser.add_argument("--windows", type=int, default=4, help="of 1,024 jobs each")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--switch-seconds", type=float, default=SWITCH_SECONDS, help="what a resume costs a job")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    if options.processors < 1 or options.windows < 1 or not 0 < options.load < 10 or options.switch_seconds < 0:
        parser.error("processors and windows are 1 at least, the load is above 0 and below 10")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; exit status 1 with a message where the trace cannot be used."""
    options = _options(arguments)
    try:
        contest = Contest.of(
            options.trace,
            Path(options.history) if options.history else None,
            processors=options.processors,
            load=options.load,
            windows=options.windows,
            seed=options.seed,
        )
        names = list(dict.fromkeys(options.policy or POLICIES))
        results = contest.run({name: POLICIES[name] for name in names}, switch_seconds=options.switch_seconds)
    except LlmosError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    table = {name: figures(outcomes) for name, outcomes in results.items()}
    if options.json:
        print(json.dumps({"policies": table}))
        return 0
    print(f"{'policy':10}" + "".join(f"{key:>15}" for key in next(iter(table.values()))))
    for name, row in table.items():
        print(f"{name:10}" + "".join(f"{value:15.3f}" for value in row.values()))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
