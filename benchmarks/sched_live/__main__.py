"""`python -m benchmarks.sched_live`: real jobs under each arm in turn, the same in each pair; a table, or JSON.

Each pair draws jobs anew and every arm runs them, in an order that rotates. Needs a machine that does nothing else.
"""

import argparse
import json
import os
import platform
import shutil
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict

from rich.console import Console
from rich.table import Table

from benchmarks.sched_live.arms import ARMS, OURS, autogroup_kept, why_not
from benchmarks.sched_live.arrivals import draw
from benchmarks.sched_live.comparison import Runs, bars, change, mean_of, percent
from benchmarks.sched_live.run import FLOOR, Figures, measure
from llmos.settings import SchedulerSettings

_SHOWN = {
    "mean_slowdown": ("slowdown, mean", 1, 2),
    "p95_slowdown": ("slowdown, p95", 1, 2),
    "mean_completion": ("completion, mean, s", 1, 2),
    "makespan": ("makespan, s", 1, 1),
    "longest_starvation": ("longest standstill, s", 1, 1),
    "late_p50": ("probe wakes, p50, ms", 1000, 2),
    "late_p99": ("probe wakes, p99, ms", 1000, 2),
    "done_p50": ("probe is done, p50, ms", 1000, 1),
    "done_p99": ("probe is done, p99, ms", 1000, 1),
    "cyclic_p99": ("cyclictest wakes, p99, ms", 1000, 2),
    "daemon_percent": ("llmosd, % of a core", 1, 2),
}
"""By figure: its row, by what it is multiplied, decimals."""
_COMPARED = ("mean_slowdown", "p95_slowdown", "mean_completion", "makespan", "late_p99", "done_p99")


def main() -> int:
    """Measure and print; returns 1 where a bar is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sched_live", description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=10, help="pairs of runs")
    parser.add_argument("--seconds", type=float, default=120, help="of arrivals in a run")
    parser.add_argument("--load", type=float, action="append", help="may be repeated; 0.7 and 0.9 by default")
    parser.add_argument("--arm", action="append", choices=ARMS, help="may be repeated; all by default")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that everything is put back in order
    console = Console(stderr=True)
    for arm in options.arm or ARMS:
        if reason := why_not(ARMS[arm]):
            console.print(f"without {arm}: {reason}")
    if not shutil.which("cyclictest"):
        console.print("without cyclictest: it is not installed (Debian has it in rt-tests)")
    arms = [arm for arm in options.arm or ARMS if not why_not(ARMS[arm])]
    results = {}
    with autogroup_kept():
        for load in options.load or (0.7, 0.9):
            results[load] = _paired(arms, load, options, console)
    found = {load: bars(load, runs, SchedulerSettings().starvation_seconds) for load, runs in results.items()}
    if options.json:
        machine = {"python": platform.python_version(), "kernel": platform.release(), "cores": os.cpu_count()}
        loads = {
            str(load): {
                "runs": {arm: [asdict(each) for each in figures] for arm, figures in runs.items()},
                "bars": [asdict(bar) for bar in found[load]],
                "change": _changes(runs),
            }
            for load, runs in results.items()
        }
        print(json.dumps({**machine, "seconds": options.seconds, "floor": FLOOR, "loads": loads}))
    else:
        for load, runs in results.items():
            _print(load, runs, options)
            for bar in found[load]:
                print(f"  {'reached' if bar.reached else 'MISSED '}  {bar.asked}: {bar.measured}")
    return 1 if any(not bar.reached for each in found.values() for bar in each) else 0


def _paired(arms: Sequence[str], load: float, options: argparse.Namespace, console: Console) -> Runs:
    runs: dict[str, list[Figures]] = {arm: [] for arm in arms}
    processors = os.cpu_count() or 1
    for pair in range(options.runs):
        seed = options.seed + pair
        arrivals = draw(seed, seconds=options.seconds, load=load, processors=processors)
        turn = pair % len(arms)
        for arm in [*arms[turn:], *arms[:turn]]:
            where = f"load {load:g}, pair {pair + 1} of {options.runs}, {ARMS[arm].title}"
            with console.status(where) as status:
                figures = measure(ARMS[arm], arrivals, seed, lambda what, at=where: status.update(f"{at}: {what}"))  # type: ignore[misc]
            runs[arm].append(figures)
            console.print(
                f"{where}: slowdown {figures.mean_slowdown:.2f}, makespan {figures.makespan:.0f} s, "
                f"probe p99 {1000 * figures.late_p99:.1f} and {1000 * figures.done_p99:.1f} ms"
            )
    return runs


def _changes(runs: Runs) -> Mapping[str, Mapping[str, list[float]]]:
    """Of ours against each other arm."""
    ours = runs.get(OURS, ())
    others = {arm: figures for arm, figures in runs.items() if arm != OURS and ours}
    return {arm: {name: change(ours, figures, name).as_json() for name in _COMPARED} for arm, figures in others.items()}


def _print(load: float, runs: Runs, options: argparse.Namespace) -> None:
    console = Console(width=max(100, 24 + 24 * len(runs)))
    title = f"load {load:g}: {options.runs} pairs of {options.seconds:g} s; means with their 95 % intervals"
    table = Table("", *(ARMS[arm].title for arm in runs), title=title)
    for name, (row, times, decimals) in _SHOWN.items():
        cells = []
        for figures in runs.values():
            if any(getattr(each, name) is None for each in figures):
                cells.append("–")
                continue
            mean = mean_of(figures, name)
            value, low, high = (f"{times * each:.{decimals}f}" for each in (mean.value, mean.low, mean.high))
            cells.append(f"{value} ({low} to {high})")
        table.add_row(row, *cells)
    console.print(table)
    if OURS in runs and len(runs) > 1:
        others = [arm for arm in runs if arm != OURS]
        against = Table("ours against", *(ARMS[arm].title for arm in others), title="differences in pairs")
        for name in _COMPARED:
            cells = [percent(change(runs[OURS], runs[arm], name)) for arm in others]
            against.add_row(_SHOWN[name][0], *cells)
        console.print(against)


if __name__ == "__main__":
    raise SystemExit(main())
