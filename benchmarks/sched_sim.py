"""The simulated scheduler: the share of the gap from LAS to SRTF that each policy closes, with and without its parts.

    python -m benchmarks.sched_sim [TRACE[.gz]=PROCESSORS …] [--history FILE …] [--split 0.6] [--windows 4] [--seed 0]
        [--size 1024] [--load L …] [--arm NAME …]

Of each trace the first part is the history and windows are drawn from the rest; with `--history`, a file for each trace,
windows are drawn from the whole trace. Without a trace, the generators are used, with no history. The windows are the
same for all arms, and the intervals are those of resampling them in pairs: of the share that an arm closes, and of what an
arm takes against `learned`. Traces and loads are run side by side, one on each processor.
"""

import argparse
import os
import random
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean

from rich.console import Console
from rich.table import Table

from llmos.errors import LlmosError
from llmos.scheduler import generators
from llmos.scheduler.contest import BOUNDED, POLICIES, Contest, Knowledge, Make
from llmos.scheduler.learned import Learned
from llmos.scheduler.policies import LeastAttained, quantum
from llmos.scheduler.policy_network import Reranked, shipped_policy
from llmos.scheduler.simulator import Outcome
from llmos.scheduler.workload import WINDOW, read_swf, windows

LOADS = (0.7, 0.9)
PROCESSORS = {"lublin": 256, "philly": 64, "bursts": 8}
SEARCH_TRIALS = 64
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


def _reranked(knowledge: Knowledge) -> Learned:
    return Reranked(knowledge.experience, shipped_policy())


ARMS: dict[str, Make] = {
    **{name: POLICIES[name] for name in ("las", "srtf", "hybrid", "learned")},
    "no prediction": lambda knowledge: LeastAttained(),
    "no network": lambda knowledge: WithoutNetwork(knowledge.experience),
    "network alone": lambda knowledge: NetworkAlone(knowledge.experience),
    "no guard": lambda knowledge: Learned(knowledge.experience, guarded=False),
    "no envelope": lambda knowledge: Learned(knowledge.experience),
    "with search": lambda knowledge: Learned(knowledge.experience),
}
"""`learned`, and others in which a part of it is missing or added; `no prediction` is LAS within the envelope."""
if shipped_policy() is not None:
    ARMS["policy network"] = _reranked
BOUNDS = {name: BOUNDED["learned"] for name in ARMS if name not in ("las", "srtf", "hybrid", "no envelope")}
_PAIR = ("las", "srtf", "learned")
"""What the others are measured against."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One trace, or a generator, at a load: `path` is empty for a generator."""

    name: str
    path: str
    history: str
    processors: int
    load: float

    def contest(self, *, split: float, count: int, seed: int, size: int) -> Contest:
        """Read or draw it.

        :raises LlmosError: a file cannot be used.
        """
        if not self.path:
            jobs = generators.draw(self.name, size * count, seed)
            drawn = windows(jobs, count, load=self.load, processors=self.processors, seed=seed, size=size)
            return Contest(drawn, jobs, [], self.processors)
        jobs = read_swf(Path(self.path))
        at = 0 if self.history else int(len(jobs) * split)
        earlier = read_swf(Path(self.history)) if self.history else jobs[:at]
        drawn = windows(jobs[at:], count, load=self.load, processors=self.processors, seed=seed, size=size)
        return Contest(drawn, jobs[at:], earlier, self.processors)

    def run(
        self, arms: Sequence[str], *, split: float, count: int, seed: int, size: int
    ) -> tuple[dict[str, list[Outcome]], float]:
        """Outcomes by arm, and the seconds that it took."""
        begun = time.monotonic()
        contest = self.contest(split=split, count=count, seed=seed, size=size)
        wanted = {arm: ARMS[arm] for arm in arms}
        return contest.run(wanted, bounded=BOUNDS, searched={"with search": SEARCH_TRIALS}), time.monotonic() - begun


def interval(of: Sequence[Sequence[float]], what: str, seed: int) -> tuple[float, float, float]:
    """A figure over all windows, and its 95 % interval by resampling them (the bootstrap: Efron 1979).

    :param of: means by window: of LAS, SRTF and an arm for the share of the gap that is `closed`; of an arm and another
        for their `ratio`.
    """

    def figure(windows: Sequence[int]) -> float:
        sums = [sum(means[n] for n in windows) for means in of]
        if what == "ratio":
            return sums[0] / sums[1]
        las, srtf, arm = sums
        return (las - arm) / (las - srtf) if las > srtf else 0.0

    draw = random.Random(seed)
    whole = range(len(of[0]))
    drawn = sorted(figure([draw.choice(whole) for _ in whole]) for _ in range(_RESAMPLES))
    return figure(whole), drawn[int(0.025 * _RESAMPLES)], drawn[int(0.975 * _RESAMPLES)]


def _means(outcomes: Sequence[Outcome], what: str) -> list[float]:
    return [fmean(getattr(outcome, what)) for outcome in outcomes]


def table(title: str, results: Mapping[str, Sequence[Outcome]], seed: int) -> Table:
    """A row for each arm."""
    made = Table(title=title)
    made.add_column("arm", no_wrap=True)
    for column in ("completion, s", "closed", "of learned", "slowdown", "closed", "of learned", "waits, h"):
        made.add_column(column, justify="right", no_wrap=True)
    for arm, outcomes in results.items():
        row = [arm]
        for what, digits in (("completion", 0), ("slowdown", 3)):
            ours = _means(outcomes, what)
            las, srtf, learned = (_means(results[of], what) for of in _PAIR)
            row.append(f"{fmean(ours):.{digits}f}")
            for means, figure in (((las, srtf, ours), "closed"), ((ours, learned), "ratio")):
                value, low, high = interval(means, figure, seed)
                row.append(f"{value:.2f} ({low:.2f} to {high:.2f})")
        row.append(f"{max(outcome.longest_wait for outcome in outcomes) / 3600:.1f}")
        made.add_row(*row)
    return made


def _trials(options: argparse.Namespace) -> list[Trial]:
    loads = options.load or LOADS
    if not options.traces:
        return [Trial(name, "", "", PROCESSORS[name], load) for name in sorted(generators.NAMES) for load in loads]
    histories = options.history or [""] * len(options.traces)
    found = []
    for trace, history in zip(options.traces, histories, strict=True):
        path, _, processors = trace.rpartition("=")
        found += [Trial(Path(path).name, path, history, int(processors), load) for load in loads]
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a table for each trace and load; exit status 1 with a message where a trace cannot be used."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sched_sim", description=__doc__.splitlines()[0])
    parser.add_argument("traces", nargs="*", help="TRACE=PROCESSORS")
    parser.add_argument("--history", nargs="+", help="a file of earlier jobs for each trace")
    parser.add_argument("--split", type=float, default=0.6)
    parser.add_argument("--windows", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--size", type=int, default=WINDOW, help="jobs in a window")
    parser.add_argument("--load", type=float, nargs="+", help="default: 0.7 and 0.9")
    parser.add_argument("--arm", nargs="+", choices=list(ARMS), help="beside las, srtf and learned; default: all")
    options = parser.parse_args(arguments)
    if not all(trace.rpartition("=")[2].isdigit() for trace in options.traces):
        parser.error("a trace is told as FILE=PROCESSORS")
    if options.history and len(options.history) != len(options.traces):
        parser.error("a history is told for each trace, in their order")
    arms = list(ARMS) if options.arm is None else [arm for arm in ARMS if arm in _PAIR or arm in options.arm]
    trials = _trials(options)
    run = partial(
        Trial.run, arms=arms, split=options.split, count=options.windows, seed=options.seed, size=options.size
    )
    console = Console(width=150)
    try:
        with ProcessPoolExecutor(min(len(trials), len(os.sched_getaffinity(0)))) as pool:
            for trial, (results, seconds) in zip(trials, pool.map(run, trials), strict=True):
                title = f"{trial.name}, load {trial.load:g}, {options.windows} windows, {seconds:.0f} s"
                console.print(table(title, results, options.seed))
    except LlmosError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
