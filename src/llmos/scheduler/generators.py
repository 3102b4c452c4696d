"""Seeded workloads: the Lublin-Feitelson model, heavy tails as on a GPU cluster, and bursts of one user's jobs.

Lublin and Feitelson, JPDC 2003 (the constants are those of its batch jobs). The heavy tails follow what Jeon et al.,
USENIX ATC 2019, report of the Philly cluster: a median of some minutes, a per cent of jobs beyond a week.
"""

import math
import random
from collections.abc import Callable

from llmos.scheduler.workload import Job

_DAY = 86400.0


def draw(name: str, count: int, seed: int) -> list[Job]:
    """Jobs of a workload, by the time they are submitted; the same for the same seed.

    :raises KeyError: there is no such workload.
    """
    return sorted(_WORKLOADS[name](count, random.Random(f"{name}/{seed}")), key=lambda job: job.submit)


def _lublin(count: int, draw: random.Random) -> list[Job]:
    """Sizes by a two-stage uniform of powers of two, runtimes by a hyper-gamma whose mixture depends on the size,
    arrivals by a daily cycle of gamma gaps. Nothing is known of users and programs."""
    jobs, at, largest = [], 0.0, 8.0  # 256 processors
    for number in range(count):
        if draw.random() < 0.244:
            processors = 1
        else:
            low, middle, high = 0.8, largest - 2.5, largest
            power = draw.uniform(low, middle) if draw.random() < 0.86 else draw.uniform(middle, high)
            processors = max(2, round(2 ** (round(power) if draw.random() < 0.576 / 0.756 else power)))
        share = min(1.0, max(0.0, -0.0054 * processors + 0.78))
        log_runtime = draw.gammavariate(4.2, 0.94) if draw.random() < share else draw.gammavariate(312.0, 0.03)
        runtime = min(math.exp(log_runtime), 2 * _DAY)
        gap = 2.0 ** draw.gammavariate(10.2303, 0.4871)
        hour = (at / 3600.0) % 24.0
        at += gap / (0.35 + 1.3 * max(0.0, math.sin((hour - 5.0) * math.pi / 19.0)))
        jobs.append(Job(number, at, max(1.0, round(runtime)), processors))
    return jobs


def _philly(count: int, draw: random.Random) -> list[Job]:
    """Log-normal runtimes with a Pareto tail, one to sixteen cards; each user repeats a few programs, whose runtimes
    spread by a factor and which fail early now and then."""
    users = [f"u{number}" for number in range(40)]
    popularity = [1.0 / rank for rank in range(1, len(users) + 1)]
    programs = {user: [_program(draw, user, number) for number in range(draw.randint(1, 6))] for user in users}
    jobs, at = [], 0.0
    for number in range(count):
        at += draw.expovariate(1.0 / 120.0)
        user = draw.choices(users, popularity)[0]
        name, typical, spread, processors, failing = draw.choice(programs[user])
        if draw.random() < 0.02:  # programs change
            programs[user][draw.randrange(len(programs[user]))] = _program(draw, user, number + 1000)
        runtime = draw.uniform(10.0, 120.0) if draw.random() < failing else typical * draw.lognormvariate(0.0, spread)
        jobs.append(Job(number, at, min(max(1.0, round(runtime)), 30 * _DAY), processors, user, name))
    return jobs


def _program(draw: random.Random, user: str, number: int) -> tuple[str, float, float, int, float]:
    tail = draw.random() < 0.15
    typical = 3600.0 * draw.paretovariate(0.9) if tail else draw.lognormvariate(math.log(600.0), 1.8)
    width = draw.choices([1, 2, 4, 8, 16], [70, 10, 9, 8, 3])[0]
    return f"{user}-p{number}", min(typical, 14 * _DAY), draw.uniform(0.1, 1.5), width, draw.uniform(0.05, 0.4)


def _bursts(count: int, draw: random.Random) -> list[Job]:
    """A background of short jobs, and batches of one user's program that come within a minute and run alike."""
    jobs: list[Job] = []
    at = 0.0
    while len(jobs) < count:
        at += draw.expovariate(1.0 / 300.0)
        if draw.random() < 0.15:
            user = f"u{draw.randrange(12)}"
            program = f"{user}-batch{draw.randrange(4)}"
            typical, spread = draw.lognormvariate(math.log(900.0), 1.5), draw.uniform(0.02, 0.6)
            for _ in range(min(draw.randint(10, 120), count - len(jobs))):
                runtime = typical * draw.lognormvariate(0.0, spread)
                jobs.append(Job(len(jobs), at + draw.uniform(0.0, 60.0), max(1.0, round(runtime)), 1, user, program))
        else:
            user = f"u{draw.randrange(12)}"
            program = f"{user}-tool{draw.randrange(8)}"
            runtime = draw.lognormvariate(math.log(40.0), 1.2)
            jobs.append(Job(len(jobs), at, max(1.0, round(runtime)), 1, user, program))
    return jobs


_WORKLOADS: dict[str, Callable[[int, random.Random], list[Job]]] = {
    "lublin": _lublin,
    "philly": _philly,
    "bursts": _bursts,
}
NAMES = frozenset(_WORKLOADS)
