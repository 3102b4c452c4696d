"""Jobs that come by chance: programs of several kinds, each with sizes of its own, heavy-tailed all together.

Arrivals are Poisson, given their number; the sizes of a kind are lognormal. The load is that of what was drawn:
processor seconds over (processors x seconds of arrivals).
"""

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass

SHORTEST, LONGEST = 0.05, 20.0
"""Bounds of a size, in processor seconds."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A program: how often it is among the jobs, its sizes, and whether static rules know it for a background load."""

    program: str
    often: float
    median: float
    spread: float
    """Standard deviation of the logarithm of a size."""
    background: bool = False


KINDS = (
    Kind("format", 0.30, 0.1, 0.5),
    Kind("lint", 0.22, 0.25, 0.5),
    Kind("check", 0.20, 0.6, 0.7),
    Kind("compile", 0.14, 1.2, 0.6, background=True),
    Kind("backup", 0.08, 2.5, 0.8, background=True),
    Kind("encode", 0.04, 5.0, 0.5, background=True),
    Kind("train", 0.02, 10.0, 0.5),
)


@dataclass(frozen=True, slots=True)
class Arrival:
    """A job: when it comes, in seconds from the first one, and its size in processor seconds."""

    at: float
    kind: Kind
    size: float


def draw(seed: int, *, seconds: float, load: float, processors: int) -> list[Arrival]:
    """The jobs of one run, in the order in which they come. The same seed draws the same sizes at every load."""
    chance = random.Random(seed)
    drawn = sizes(chance)
    jobs: list[tuple[Kind, float]] = []
    while sum(size for _, size in jobs) < load * processors * seconds:
        jobs.append(next(drawn))
    span = sum(size for _, size in jobs) / (load * processors)
    instants = sorted(chance.uniform(0.0, span) for _ in jobs)
    return [Arrival(at - instants[0], *job) for at, job in zip(instants, jobs, strict=True)]


def sizes(chance: random.Random) -> Iterator[tuple[Kind, float]]:
    """Kinds and sizes without end."""
    while True:
        kind = chance.choices(KINDS, [each.often for each in KINDS])[0]
        size = kind.median * math.exp(chance.gauss(0.0, kind.spread))
        yield kind, min(LONGEST, max(SHORTEST, size))
