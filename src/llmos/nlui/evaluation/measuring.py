"""Asking a model for a plan of each case, the way that the daemon does: through a worker process."""

import os
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track

from llmos.errors import BadInput, LlmosError
from llmos.machine.procfs import read_peak_memory_bytes, read_stat
from llmos.nlui.evaluation.cases import Case
from llmos.nlui.evaluation.figures import Result
from llmos.nlui.grammar import reachable
from llmos.nlui.plan_match import plan_matches
from llmos.nlui.serving import served
from llmos.nlui.worker_client import ModelWorker
from llmos.plan.language import parse_plan

REQUEST_SECONDS = 120.0
MIB = 1024**2


@dataclass(frozen=True, slots=True)
class Footprint:
    """What a loaded model costs.

    Attributes:
        cold_load_seconds: from the start of the worker until it is ready, the model's file not in memory.
        load_seconds: the same with the file in memory.
        resident_mib, peak_mib: physical memory of the worker after all cases, and the most that it has held.
    """

    cold_load_seconds: float
    load_seconds: float
    resident_mib: float
    peak_mib: float

    @classmethod
    def of(cls, pid: int, cold_load_seconds: float, load_seconds: float) -> "Footprint":
        """With the memory of the process as it is now."""
        stat = read_stat(pid)
        resident, peak = stat.rss_bytes if stat else 0, read_peak_memory_bytes(pid) or 0
        return cls(cold_load_seconds, load_seconds, resident / MIB, peak / MIB)


async def evaluate(
    cases: Sequence[Case], model: str, *, constrained: bool = True, adapted: bool = True
) -> tuple[list[Result], Footprint]:
    """Ask a model for a plan of each case, one after the other; the load is not in their seconds.

    :raises LlmosError: the model is not there, or cannot be loaded.
    """
    with tempfile.TemporaryDirectory(prefix="llmos-evaluate-") as folder:
        async with _loaded(model, Path(folder), adapted):
            pass  # what a load keeps for the next one is there from now on
        drop_from_memory(served(model, Path(folder), adapted=adapted).path)
        async with _loaded(model, Path(folder), adapted) as (_, cold_load_seconds):
            pass
        async with _loaded(model, Path(folder), adapted) as (worker, load_seconds):
            console = Console(stderr=True)
            asked = track(cases, f"asking {model}", console=console, transient=True, disable=not console.is_terminal)
            results = [await _asked(worker, case, constrained) for case in asked]
            return results, Footprint.of(worker.status()["pid"] or 0, cold_load_seconds, load_seconds)


def judged(case: Case, text: str, seconds: float, **facts: Any) -> Result:
    """The result that the text of a plan is; `facts` are the rest of its attributes."""
    lines = text.split("\n") if text else []
    return Result(case, tuple(lines), plan_matches(lines, case.accept), _in_grammar(lines, case), seconds, **facts)


def drop_from_memory(path: Path) -> None:
    """Have the kernel forget what it holds of a file, so that the next to read it waits for the disk."""
    with path.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


@asynccontextmanager
async def _loaded(model: str, state: Path, adapted: bool) -> AsyncIterator[tuple[ModelWorker, float]]:
    """A worker that is ready, and the seconds that took."""
    worker = ModelWorker(model, state, adapted=adapted)
    try:
        began = time.perf_counter()
        await worker.load()
        yield worker, time.perf_counter() - began
    finally:
        await worker.close()


async def _asked(worker: ModelWorker, case: Case, constrained: bool) -> Result:
    began = time.perf_counter()
    try:
        answer = await worker.plan(case.request, [], timeout=REQUEST_SECONDS, constrained=constrained)
    except LlmosError as error:
        return Result(case, (), False, False, time.perf_counter() - began, note=error.message)
    return judged(
        case,
        answer.text,
        time.perf_counter() - began,
        confidence=answer.confidence,
        least_confidence=answer.least_confidence,
        tokens=(answer.tokens["prompt"], answer.tokens["generated"], answer.tokens["forced"]),
    )


def _in_grammar(lines: Sequence[str], case: Case) -> bool:
    try:
        parse_plan(lines)
    except BadInput:
        return False
    return reachable(lines, case.request)
