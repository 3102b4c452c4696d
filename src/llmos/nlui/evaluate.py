"""Measure how well a model understands: exact-plan accuracy and seconds on a file of cases.

    python -m llmos.nlui.evaluate CASES [--model NAME]… [--misses] [--few-shot] [--unconstrained] [--predictions FOLDER]

A case is one JSON object a line: `{"id", "lang", "request", "accept": [[line, …], …], "tags": […]}`. The requests go
the way that the daemon's go, through a worker process.
"""

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmos.errors import LlmosError
from llmos.nlui import models
from llmos.nlui.plan_match import plan_matches
from llmos.nlui.worker_client import ModelWorker

REQUEST_SECONDS = 120.0
Case = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Result:
    """What one case gave: the plan's lines, whether they were accepted, and the seconds from request to plan."""

    case: Case
    plan: list[str]
    right: bool
    seconds: float
    note: str = ""


def read_cases(path: Path) -> list[Case]:
    """The cases of a file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


async def evaluate(
    cases: Sequence[Case], model: str, *, constrained: bool = True, adapted: bool = True
) -> list[Result]:
    """Ask a model for a plan of each case, one after the other; the load is not in the seconds."""
    with tempfile.TemporaryDirectory(prefix="llmos-evaluate-") as folder:
        worker = ModelWorker(model, Path(folder), adapted=adapted)
        try:
            await worker.load()
            return [await _result(worker, case, constrained) for case in cases]
        finally:
            await worker.close()


async def _result(worker: ModelWorker, case: Case, constrained: bool) -> Result:
    began, lines, note = time.perf_counter(), [], ""
    try:
        answer = await worker.plan(case["request"], [], timeout=REQUEST_SECONDS, constrained=constrained)
        lines = answer.text.splitlines()
    except LlmosError as error:
        note = error.message
    return Result(case, lines, plan_matches(lines, case["accept"]), time.perf_counter() - began, note)


def report(results: Sequence[Result]) -> str:
    """Accuracy of all, by language and by tag, and the seconds."""
    groups: defaultdict[str, list[bool]] = defaultdict(list)
    for result in results:
        for group in ("all", result.case["lang"], *result.case.get("tags", [])):
            groups[group].append(result.right)
    order = sorted(groups, key=lambda group: (group != "all", group not in ("en", "zh"), group))
    lines = []
    for group in order:
        right, asked = sum(groups[group]), len(groups[group])
        lines.append(f"{group:>12}  {right:4d} / {asked:4d}  {right / asked:6.1%}")
    seconds = sorted(result.seconds for result in results)
    p95 = seconds[min(len(seconds) - 1, int(len(seconds) * 0.95))]
    return "\n".join([*lines, f"{'seconds':>12}  median {statistics.median(seconds):.2f}, p95 {p95:.2f}"])


def misses(results: Sequence[Result]) -> str:
    """Each request that went wrong, with what was wanted and what came."""
    return "\n".join(
        f"{result.case['id']}: {result.case['request']}\n    want {result.case['accept'][0]}\n    got  {result.plan}"
        + (f"\n    {result.note}" if result.note else "")
        for result in results
        if not result.right
    )


def write_predictions(results: Sequence[Result], path: Path) -> None:
    """Write `{"id", "plan", "seconds"}`, one object a line."""
    rows = ({"id": result.case["id"], "plan": result.plan, "seconds": round(result.seconds, 4)} for result in results)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def main() -> int:
    """Evaluate each model named, or every one that is installed."""
    parser = argparse.ArgumentParser(prog="llmos.nlui.evaluate", description="Measure exact-plan accuracy.")
    parser.add_argument("cases", type=Path, help="file of cases, JSON lines")
    parser.add_argument(
        "--model", action="append", help="a model; may be given more than once (all that are installed)"
    )
    parser.add_argument("--misses", action="store_true", help="print each request that went wrong")
    parser.add_argument("--few-shot", action="store_true", help="show examples instead of using the adapter")
    parser.add_argument("--unconstrained", action="store_true", help="let the model write without the grammar")
    parser.add_argument("--predictions", type=Path, help="folder to write MODEL.jsonl into, one plan a line")
    options = parser.parse_args()
    try:
        cases = read_cases(options.cases)
        for model in options.model or [found.name for found in models.installed()]:
            title = models.locate(model).title
            results = asyncio.run(
                evaluate(cases, model, constrained=not options.unconstrained, adapted=not options.few_shot)
            )
            grammar = "without grammar" if options.unconstrained else "with grammar"
            print(f"{title}, {grammar}, {len(cases)} requests of {options.cases.name}", flush=True)
            if options.misses:
                print(misses(results))
            print(report(results), flush=True)
            if options.predictions:
                options.predictions.mkdir(parents=True, exist_ok=True)
                write_predictions(results, options.predictions / f"{Path(model).stem}.jsonl")
    except (LlmosError, OSError, ValueError) as error:
        print(f"evaluate: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
