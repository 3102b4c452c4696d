"""The simulated scheduler: the share of the gap from LAS to SRTF that each policy closes, with and without its parts.

    python -m benchmarks.sched_sim [TRACE[.gz]=PROCESSORS …] [--split 0.6] [--windows 4] [--seed 0]

Of each trace the first part is the history and windows are drawn from the rest; without a trace, the generators are
used, with no history. The windows are the same for all arms, and the interval is that of resampling them in pairs.
"""

import argparse
import random
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean

from rich.console import Console
from rich.table import Table

from llmos.scheduler import generators
from llmos.scheduler.contest import BOUNDED, POLICIES, Contest, Make
from llmos.scheduler.learned import Learned
from llmos.scheduler.policies import quantum
from llmos.scheduler.simulator import Outcome
from llmos.scheduler.workload import WINDOW, read_swf, windows

LOADS = (0.7, 0.9)
PROCESSORS = {"lublin": 256, "philly": 64, "bursts": 8}
_RESAMPLES = 2000


class WithoutNetwork(Learned):
    """Only the runs of the same kind, and LAS where there are none."""

    def rank(self, position: int, served: float, now: float) -> tuple[float, float]:
        """The inverse index by runs, or what it was served."""
        exact = self.by_runs(self._jobs[position][0], served)
        return (served if exact is None else exact), quantum(served)


class NetworkAlone(Learned):
    """Only the network."""

    def by_runs(self, job: object, served: float) -> None:
        """Nothing."""


ARMS: dict[str, Make] = {
    **{name: POLICIES[name] for name in ("las", "srtf", "hybrid", "learned")},
    "learned, no network": lambda knowledge: WithoutNetwork(knowledge.experience),
    "learned, network alone": lambda knowledge: NetworkAlone(knowledge.experience),
    "learned, no guard": lambda knowledge: Learned(knowledge.experience, guarded=False),
    "learned, no envelope": POLICIES["learned"],
}
BOUNDS = {name: BOUNDED["learned"] for name in ARMS if name.startswith("learned") and name != "learned, no envelope"}


def contests(
    traces: Mapping[str, int], *, split: float, load: float, count: int, seed: int
) -> Iterable[tuple[str, Contest]]:
    """A contest for each trace, or for each generator where there is none."""
    if not traces:
        for name in sorted(generators.NAMES):
            jobs = generators.draw(name, WINDOW * count, seed)
            drawn = windows(jobs, count, load=load, processors=PROCESSORS[name], seed=seed)
            yield name, Contest(drawn, jobs, [], PROCESSORS[name])
    for path, processors in traces.items():
        jobs = read_swf(Path(path))
        at = int(len(jobs) * split)
        drawn = windows(jobs[at:], count, load=load, processors=processors, seed=seed)
        yield Path(path).name, Contest(drawn, jobs[at:], jobs[:at], processors)


def shares(las: Sequence[float], srtf: Sequence[float], arm: Sequence[float], seed: int) -> tuple[float, float, float]:
    """The share of the gap that an arm closes over all windows, and its 95 % interval, from each window's mean."""

    def closed(of: Sequence[int]) -> float:
        gap = sum(las[n] - srtf[n] for n in of)
        return sum(las[n] - arm[n] for n in of) / gap if gap > 0 else 0.0

    draw = random.Random(seed)
    whole = range(len(las))
    drawn = sorted(closed([draw.choice(whole) for _ in whole]) for _ in range(_RESAMPLES))
    return closed(whole), drawn[int(0.025 * _RESAMPLES)], drawn[int(0.975 * _RESAMPLES)]


def _means(outcomes: Sequence[Outcome], what: str) -> list[float]:
    return [fmean(getattr(outcome, what)) for outcome in outcomes]


def main() -> int:
    """Print a table for each trace and load."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sched_sim", description=__doc__.splitlines()[0])
    parser.add_argument("traces", nargs="*", help="TRACE=PROCESSORS")
    parser.add_argument("--split", type=float, default=0.6)
    parser.add_argument("--windows", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    traces = {path: int(processors) for path, _, processors in (trace.rpartition("=") for trace in options.traces)}
    console = Console(width=120)
    for load in LOADS:
        for name, contest in contests(traces, split=options.split, load=load, count=options.windows, seed=options.seed):
            results = contest.run(ARMS, bounded=BOUNDS)
            table = Table(
                "arm", "completion, s", "closed (95 %)", "slowdown", "closed (95 %)", "waits, h",
                title=f"{name}, load {load:g}, {options.windows} windows",
            )  # fmt: skip
            for arm, outcomes in results.items():
                row = [arm]
                for what, digits in (("completion", 0), ("slowdown", 3)):
                    las, srtf, ours = (_means(results[of], what) for of in ("las", "srtf", arm))
                    share, low, high = shares(las, srtf, ours, options.seed)
                    row += [f"{fmean(ours):.{digits}f}", f"{share:.2f} ({low:.2f} to {high:.2f})"]
                row.append(f"{max(outcome.longest_wait for outcome in outcomes) / 3600:.1f}")
                table.add_row(*row)
            console.print(table)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
