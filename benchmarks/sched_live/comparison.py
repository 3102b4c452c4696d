"""Arms side by side, run by run: means with intervals, differences in pairs, and which bars are reached."""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from benchmarks.sched_live.arms import KERNEL, LAS, OURS
from benchmarks.sched_live.run import Figures

_RESAMPLES = 2000

Runs = Mapping[str, Sequence[Figures]]
"""By arm, in the order of the pairs."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value over all pairs with its 95 % interval, from resampling the pairs."""

    value: float
    low: float
    high: float

    def as_json(self) -> list[float]:
        """Value, low, high."""
        return [self.value, self.low, self.high]


def mean_of(runs: Sequence[Figures], name: str) -> Estimate:
    """The mean of a figure of one arm."""
    values = [getattr(each, name) for each in runs]
    return _resampled(lambda of: fmean(values[n] for n in of), len(values))


def change(ours: Sequence[Figures], theirs: Sequence[Figures], name: str) -> Estimate:
    """By which share the mean of a figure differs from that of another arm in the same pairs: -0.3 is 30 % less."""
    pairs = [(getattr(one, name), getattr(other, name)) for one, other in zip(ours, theirs, strict=True)]
    return _resampled(
        lambda of: sum(pairs[n][0] for n in of) / max(1e-12, sum(pairs[n][1] for n in of)) - 1.0, len(pairs)
    )


@dataclass(frozen=True, slots=True)
class Bar:
    """What is asked for, what was measured (with its interval where it has one), and whether it suffices."""

    asked: str
    measured: str
    reached: bool


def bars(load: float, runs: Runs, starvation_seconds: float) -> list[Bar]:
    """Those that these arms can be held against."""
    found: list[Bar] = []
    ours = runs.get(OURS)
    if not ours:
        return found
    for kernel in (arm for arm in runs if arm.startswith(KERNEL)):
        if load >= 0.9:
            found.append(_at_most(f"mean slowdown against {kernel}: −30 %", ours, runs[kernel], "mean_slowdown", -0.3))
        for name, what in (("late_p99", "wakes"), ("done_p99", "is done")):
            asked = f"probe {what}, p99, against {kernel}: a third"
            found.append(_at_most(asked, ours, runs[kernel], name, -2 / 3))
        found.append(_at_most(f"makespan against {kernel}: +2 % at most", ours, runs[kernel], "makespan", 0.02))
    if LAS in runs:
        found.append(_at_most("mean slowdown against LAS: less", ours, runs[LAS], "mean_slowdown", 0.0))
    longest = max(each.longest_starvation for each in ours)
    asked = f"nobody starves for {starvation_seconds:g} s"
    found.append(Bar(asked, f"{longest:.1f} s at the longest", longest < starvation_seconds))
    if KERNEL in runs:
        pairs = [one.daemon_percent - other.daemon_percent for one, other in zip(ours, runs[KERNEL], strict=True)]
        cost = _resampled(lambda of: fmean(pairs[n] for n in of), len(pairs))
        asked = "the scheduler takes 1 % of a core at most"
        found.append(Bar(asked, f"{cost.value:.2f} ({cost.low:.2f} to {cost.high:.2f})", cost.value <= 1.0))
    return found


def _at_most(asked: str, ours: Sequence[Figures], theirs: Sequence[Figures], name: str, bar: float) -> Bar:
    found = change(ours, theirs, name)
    return Bar(asked, percent(found), found.value <= bar)


def percent(found: Estimate) -> str:
    """A change as people read it."""
    return f"{found.value:+.1%} ({found.low:+.1%} to {found.high:+.1%})"


def _resampled(figure: Callable[[Sequence[int]], float], count: int) -> Estimate:
    draw = random.Random(0)
    whole = range(count)
    drawn = sorted(figure(draw.choices(whole, k=count)) for _ in range(_RESAMPLES))
    return Estimate(figure(whole), drawn[int(0.025 * _RESAMPLES)], drawn[int(0.975 * _RESAMPLES)])
