"""Histories of runs, written by a test: those on which the learned policy does better than the static one, and worse."""

import os
from collections.abc import Sequence
from random import Random

from llmos.scheduler.run_history import PastRun

CORES = os.cpu_count() or 1


def runs(sizes: Sequence[tuple[str, float]], *, ended_by: float, every: float, seed: int = 1) -> list[PastRun]:
    """Runs of (program, seconds), each on all processors; they came at random, one in so many seconds, and the last of
    them ended at `ended_by`."""
    draw = Random(seed)
    at, found = 0.0, []
    for program, seconds in sizes:
        at += draw.expovariate(1.0 / every)
        found.append((program, at, seconds))
    last = max(at + seconds for _, at, seconds in found)
    ended = [
        PastRun(program, 0, program, ended_by - last + at + seconds, seconds, seconds * CORES, None, None, 0)
        for program, at, seconds in found
    ]
    return sorted(ended, key=lambda run: run.ended_at)


def telling(count: int, seed: int = 1) -> list[tuple[str, float]]:
    """Programs that always take the same, some short and some long: who knows them does better than who does not."""
    draw = Random(seed)
    programs = [(f"short{n}", 20.0 + n) for n in range(6)] + [(f"long{n}", 200.0 + 20 * n) for n in range(4)]
    return [(program, seconds * draw.uniform(0.95, 1.05)) for program, seconds in draw.choices(programs, k=count)]


def misleading(count: int, seed: int = 1) -> tuple[list[tuple[str, float]], list[tuple[str, float]]]:
    """Programs that have always been short or long, and then, each once, are the other: who knows them does worse."""
    draw = Random(seed)
    long = set(draw.sample(range(count), count // 8))
    before = [(f"once{n}", 3.0 if n in long else 500.0) for n in range(count)]
    after = [(f"once{n}", 500.0 if n in long else 3.0) for n in range(count)]
    draw.shuffle(after)
    return before * 6, after
