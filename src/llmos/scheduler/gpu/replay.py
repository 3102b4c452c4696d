"""Replay pods that used GPUs against simulated cards, under the admission that llmosd has and others.

    python -m llmos.scheduler.gpu.replay FILE[.gz] --cards N --load L --windows K --seed N --json

FILE is a CSV file of pods as in Alibaba's openb traces. Of each window, all policies get the same pods, whose arrivals
are stretched so that what they hold over (cards x span of arrivals) is the load.
"""

import argparse
import heapq
import json
import math
import random
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, quantiles

from llmos.errors import LlmosError
from llmos.scheduler.gpu.admission import BEST_FIT, FIFO, SHORTEST, WHOLE, Card, Rules, Want, admit
from llmos.scheduler.gpu.pods import Pod, read_pods
from llmos.scheduler.gpu.runtimes import Runtimes
from llmos.scheduler.simulator import FLOOR
from llmos.scheduler.workload import Job, windows

WINDOW = 512
"""Pods in a window."""
POLICIES: Mapping[str, Rules] = {"fifo": FIFO, "best-fit": BEST_FIT, "ours": SHORTEST}
_RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a policy made of a window; lists are by position, times in seconds."""

    wait: list[float]
    slowdown: list[float]
    makespan: float
    utilisation: float
    """Share of the cards that was held, until the last pod came."""
    fragmentation: float
    """Share of the cards that was idle while somebody waited."""
    most_of_a_card: float
    """The most of one card that was given out at a time."""


def replay(jobs: Sequence[Job], pods: Sequence[Pod], known: Sequence[Pod], *, cards: int, rules: Rules) -> Outcome:
    """Run a window to its end. Pods run until they end; none is moved or interrupted.

    :param jobs: the window; the number of a job is the position of its pod in `pods`.
    :param known: the pods that had ended before, in the order of their ends.
    """
    return _Cards(jobs, pods, known, cards, rules).run()


class _Cards:
    def __init__(
        self, jobs: Sequence[Job], pods: Sequence[Pod], known: Sequence[Pod], cards: int, rules: Rules
    ) -> None:
        self._jobs = jobs
        self._pods = [pods[job.number] for job in jobs]
        self._names = [f"card {number}" for number in range(cards)]
        self._rules = rules
        self._runtimes = Runtimes()
        for pod in known:
            self._runtimes.note(pod.as_job(0))
        self._waiting: list[int] = []
        self._on: dict[str, set[int]] = {name: set() for name in self._names}
        self._places: dict[int, tuple[str, ...]] = {}
        self._began: dict[int, float] = {}
        self._ends: list[tuple[float, int]] = []

    def run(self) -> Outcome:
        jobs, arrived, now = self._jobs, 0, self._jobs[0].submit
        held = idle = contended = most = 0.0
        wait = [0.0] * len(jobs)
        while arrived < len(jobs) or self._ends:
            arrival = jobs[arrived].submit if arrived < len(jobs) else math.inf
            due = self._ends[0][0] if self._ends else math.inf
            passed = min(arrival, due) - now
            given = [self._given(name) for name in self._names]
            if arrived < len(jobs):
                held += passed * sum(given) / WHOLE
            if self._waiting:
                contended += passed
                idle += passed * (len(given) - sum(given) / WHOLE)
            now += passed
            if due <= arrival:
                self._end(heapq.heappop(self._ends)[1])
            else:
                self._waiting.append(arrived)
                arrived += 1
            for position in self._admit(now):
                wait[position] = now - jobs[position].submit
            most = max(most, *map(self._given, self._names)) if self._names else 0.0
            if most > WHOLE:
                raise AssertionError(f"{most} thousandths of one card were given out")
        span = jobs[-1].submit - jobs[0].submit
        return Outcome(
            wait,
            [
                max(1.0, (waited + job.runtime) / max(job.runtime, FLOOR))
                for waited, job in zip(wait, jobs, strict=True)
            ],
            now - jobs[0].submit,
            held / (span * len(self._names)) if span > 0 else 0.0,
            idle / (contended * len(self._names)) if contended else 0.0,
            most / WHOLE,
        )

    def _given(self, name: str) -> int:
        """Thousandths of a card that are held, by what runs on it and not by what was decided."""
        return sum(self._pods[position].share for position in self._on[name])

    def _end(self, position: int) -> None:
        for name in self._places.pop(position):
            self._on[name].remove(position)
        self._runtimes.note(self._pods[position].as_job(0))

    def _admit(self, now: float) -> list[int]:
        if not self._waiting:
            return []
        wants = [self._want(position) for position in self._waiting]
        free = [Card(name, WHOLE - self._given(name)) for name in self._names]
        started = []
        for start in admit(wants, free, self._remaining(now) if self._rules.keeping else {}, now, self._rules):
            position = int(start.want.key)
            self._places[position], self._began[position] = start.cards, now
            for name in start.cards:
                self._on[name].add(position)
            heapq.heappush(self._ends, (now + self._jobs[position].runtime, position))
            self._waiting.remove(position)
            started.append(position)
        return started

    def _want(self, position: int) -> Want:
        pod, job = self._pods[position], self._jobs[position]
        expected, _ = self._runtimes.expected(job)
        return Want(str(position), min(pod.cards, len(self._names)), job.submit, expected, pod.share)

    def _remaining(self, now: float) -> dict[str, list[float]]:
        left = {
            position: self._runtimes.expected(self._jobs[position], now - self._began[position])[0]
            for position in self._places
        }
        return {name: [left[position] for position in there] for name, there in self._on.items()}


def contest(
    pods: Sequence[Pod], *, cards: int, load: float, count: int, seed: int, policies: Mapping[str, Rules] = POLICIES
) -> dict[str, list[Outcome]]:
    """Each policy's outcomes, by window. Before a window the pods are known that had ended when it begins.

    :raises BadInput: there are fewer pods than two.
    """
    jobs = [pod.as_job(number) for number, pod in enumerate(pods)]
    drawn = windows(jobs, count, load=load, processors=cards * WHOLE, seed=seed, size=WINDOW)
    by_end = deque(sorted(pods, key=lambda pod: pod.ended))
    known: list[Pod] = []
    results: dict[str, list[Outcome]] = {name: [] for name in policies}
    for window in drawn:
        while by_end and by_end[0].ended < pods[window.begin].came:
            known.append(by_end.popleft())
        for name, rules in policies.items():
            results[name].append(replay(window.jobs, pods, known, cards=cards, rules=rules))
    return results


def figures(outcomes: Sequence[Outcome]) -> dict[str, float]:
    """Means over all pods of all windows, 95th percentiles, and means over the windows; times in seconds."""
    wait = [value for outcome in outcomes for value in outcome.wait]
    slowdown = [value for outcome in outcomes for value in outcome.slowdown]
    return {
        "mean_wait": fmean(wait),
        "p95_wait": _p95(wait),
        "longest_wait": max(wait),
        "mean_slowdown": fmean(slowdown),
        "p95_slowdown": _p95(slowdown),
        "makespan": fmean(outcome.makespan for outcome in outcomes),
        "utilisation": fmean(outcome.utilisation for outcome in outcomes),
        "fragmentation": fmean(outcome.fragmentation for outcome in outcomes),
        "most_of_a_card": max(outcome.most_of_a_card for outcome in outcomes),
    }


_COMPARED: Mapping[str, Callable[[Outcome], float]] = {
    "mean_wait": lambda outcome: fmean(outcome.wait),
    "p95_wait": lambda outcome: _p95(outcome.wait),
    "longest_wait": lambda outcome: max(outcome.wait),
    "mean_slowdown": lambda outcome: fmean(outcome.slowdown),
    "makespan": lambda outcome: outcome.makespan,
}


def compared(ours: Sequence[Outcome], other: Sequence[Outcome], seed: int) -> dict[str, dict[str, float]]:
    """Ours over the other's, over all windows, with the 95 % interval of resampling these in pairs; below 1 is better."""
    draw = random.Random(seed)
    whole = range(len(ours))
    samples = [[draw.choice(whole) for _ in whole] for _ in range(_RESAMPLES)]
    table = {}
    for name, figure in _COMPARED.items():
        mine, theirs = [figure(outcome) for outcome in ours], [figure(outcome) for outcome in other]
        ratios = sorted(_ratio(mine, theirs, sample) for sample in samples)
        table[name] = {
            "ratio": _ratio(mine, theirs, whole),
            "low": ratios[int(0.025 * _RESAMPLES)],
            "high": ratios[int(0.975 * _RESAMPLES)],
        }
    return table


def _ratio(mine: Sequence[float], theirs: Sequence[float], of: Sequence[int]) -> float:
    over, under = sum(mine[at] for at in of), sum(theirs[at] for at in of)
    return over / under if under else 1.0 if not over else math.inf


def _p95(found: Sequence[float]) -> float:
    return quantiles(found, n=20, method="inclusive")[-1]


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m llmos.scheduler.gpu.replay", description=__doc__.splitlines()[0])
    parser.add_argument("trace", help="a CSV file of pods")
    parser.add_argument("--cards", type=int, default=8)
    parser.add_argument("--load", type=float, default=0.9)
    parser.add_argument("--windows", type=int, default=8, help=f"of {WINDOW} pods each")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    if options.cards < 1 or options.windows < 1 or not 0 < options.load < 10:
        parser.error("cards and windows are 1 at least, the load is above 0 and below 10")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; exit status 1 with a message where the trace cannot be used."""
    options = _options(arguments)
    try:
        results = contest(
            read_pods(Path(options.trace)),
            cards=options.cards,
            load=options.load,
            count=options.windows,
            seed=options.seed,
        )
    except LlmosError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    table = {name: figures(outcomes) for name, outcomes in results.items()}
    others = [name for name in results if name != "ours"]
    against = {name: compared(results["ours"], results[name], options.seed) for name in others}
    if options.json:
        print(json.dumps({"policies": table, "ours_over": against}))
        return 0
    print(f"{'policy':10}" + "".join(f"{key:>15}" for key in next(iter(table.values()))))
    for name, row in table.items():
        print(f"{name:10}" + "".join(f"{value:15.3f}" for value in row.values()))
    for name, ratios in against.items():
        for what, ratio in ratios.items():
            print(f"ours over {name}, {what}: {ratio['ratio']:.3f} ({ratio['low']:.3f} to {ratio['high']:.3f})")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
