"""Jobs as a scheduler meets them, read from the Standard Workload Format and cut into windows of a given load.

The format: https://www.cs.huji.ac.il/labs/parallel/workload/swf.html (Chapin et al., 1999), 18 fields a line, `;` before
comments, -1 for what is not known.
"""

import gzip
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from llmos.errors import BadInput, NotFound

WINDOW = 1024
"""Jobs in a window."""
_FIELDS = 18
_MOST_JOBS = 5_000_000


@dataclass(frozen=True, slots=True)
class Job:
    """One job: when it comes, what it needs, and what is known of it beforehand. Times in seconds."""

    number: int
    submit: float
    runtime: float
    processors: int = 1
    user: str = ""
    program: str = ""
    queue: str = ""
    requested: float = 0.0
    """The runtime that its user asked for; 0 where none is known."""


def read_swf(path: Path) -> list[Job]:
    """The jobs of an SWF file, plain or gzipped, that ran, by the time they were submitted.

    :raises NotFound: there is no such file.
    :raises BadInput: it is not SWF, or no job in it ran.
    """
    try:
        with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as lines:
            jobs = list(_jobs(lines, path))
    except FileNotFoundError:
        raise NotFound(f"there is no trace {path}") from None
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise BadInput(f"{path} cannot be read as a trace: {error}") from None
    if not jobs:
        raise BadInput(f"no job of {path} ran")
    return sorted(jobs, key=lambda job: job.submit)


def _jobs(lines: Iterable[str], path: Path) -> Iterable[Job]:
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith(";"):
            continue
        if number > _MOST_JOBS:
            raise BadInput(f"{path} has more than {_MOST_JOBS} lines; cut it into parts")
        fields = line.split()
        try:
            values = [float(field) for field in fields]
        except ValueError:
            values = []
        if len(values) != _FIELDS:
            raise BadInput(f"line {number} of {path} does not have the {_FIELDS} numbers of SWF")
        runtime, allocated, wanted = values[3], values[4], values[7]
        if runtime <= 0:
            continue
        yield Job(
            number=int(values[0]),
            submit=values[1],
            runtime=runtime,
            processors=max(1, int(allocated if allocated > 0 else wanted)),
            user=_name(fields[11]),
            program=_name(fields[13]),
            queue="/".join(filter(None, (_name(fields[12]), _name(fields[14]), _name(fields[15])))),
            requested=max(0.0, values[8]),
        )


def _name(field: str) -> str:
    return "" if field == "-1" else field


@dataclass(frozen=True, slots=True)
class Window:
    """Consecutive jobs whose arrivals were stretched to a load, and where in its trace it begins."""

    jobs: Sequence[Job]
    begin: int


def windows(
    jobs: Sequence[Job], count: int, *, load: float, processors: int, seed: int, size: int = WINDOW
) -> list[Window]:
    """Draw windows of `size` jobs from a trace, without overlap as long as there is room.

    A job that wants more processors than there are gets all there are.

    :raises BadInput: there are fewer jobs than two.
    """
    if len(jobs) < 2:
        raise BadInput("a window needs two jobs at least")
    size = min(size, len(jobs))
    draw = random.Random(seed)
    blocks = len(jobs) // size
    slack = len(jobs) - blocks * size
    if count <= blocks:
        offset = draw.randint(0, slack)
        begins = sorted(offset + size * block for block in draw.sample(range(blocks), count))
    else:
        begins = sorted(draw.randint(0, len(jobs) - size) for _ in range(count))
    return [Window(rescaled(jobs[begin : begin + size], load, processors), begin) for begin in begins]


def rescaled(jobs: Sequence[Job], load: float, processors: int) -> list[Job]:
    """The jobs with their arrivals stretched so that work over (processors x span of arrivals) is the load."""
    fitted = [min(job.processors, processors) for job in jobs]
    work = sum(job.runtime * width for job, width in zip(jobs, fitted, strict=True))
    first = jobs[0].submit
    span = jobs[-1].submit - first
    if span <= 0:  # all at once: spread evenly
        step = work / (load * processors) / max(1, len(jobs) - 1)
        return [
            replace(job, submit=step * at, processors=width)
            for at, (job, width) in enumerate(zip(jobs, fitted, strict=True))
        ]
    stretch = work / (load * processors * span)
    return [
        replace(job, submit=(job.submit - first) * stretch, processors=width)
        for job, width in zip(jobs, fitted, strict=True)
    ]
