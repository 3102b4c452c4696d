"""Measure how well and how fast models understand: exact plans, refusals, seconds, memory, and what confidence is worth.

    python -m llmos.nlui.evaluate CASES [--heldout N] [--model NAME]… [--few-shot] [--unconstrained]
                                        [--misses] [--predictions FOLDER] [--json]

`llmos.nlui.evaluation.cases` has the form of a file of cases. The requests go the way that the daemon's go, through a
worker process.
"""

import argparse
import asyncio
import json
import sys
from itertools import islice
from pathlib import Path
from typing import Any

from rich.console import Console

from llmos.errors import LlmosError, ModelError
from llmos.nlui import calibration, models
from llmos.nlui.adapters import adapter_for
from llmos.nlui.evaluation import report
from llmos.nlui.evaluation.cases import Case, heldout_cases, read_cases
from llmos.nlui.evaluation.figures import figures
from llmos.nlui.evaluation.measuring import evaluate
from llmos.nlui.serving import with_adapter

HELD_OUT = "held-out wordings"


def run(options: argparse.Namespace, console: Console) -> list[dict[str, Any]]:
    """Evaluate each model named, or every one that is installed; what the figures are, for programs."""
    sets = {options.cases.name: read_cases(options.cases)}
    if options.heldout:
        sets[HELD_OUT] = heldout_cases(options.heldout)
    names = options.model or [found.name for found in models.installed()]
    if not names:
        raise ModelError("no model is on this machine; fetch one with: llmos model pull default")
    return [_measured(name, sets, options, console) for name in names]


def _measured(name: str, sets: dict[str, list[Case]], options: argparse.Namespace, console: Console) -> dict[str, Any]:
    """Ask one model all cases, print what came, and return it."""
    found = models.locate(name)
    adapter = None if options.few_shot else adapter_for(found)
    trained = f"trained, {with_adapter(found, adapter).path.name}" if adapter else "shown examples"
    how = f"{trained}, with{'out' if options.unconstrained else ''} grammar"
    console.rule(f"{found.title}, {how}")
    asked = [case for cases in sets.values() for case in cases]
    results, footprint = asyncio.run(
        evaluate(asked, name, constrained=not options.unconstrained, adapted=not options.few_shot)
    )
    if options.predictions:
        report.write_predictions(results, options.predictions / f"{Path(name).stem}.jsonl")
    fitted = calibration.load(adapter.with_suffix(".json")) if adapter else None
    left, of_set = iter(results), {}
    for title, cases in sets.items():
        part = list(islice(left, len(cases)))
        of_set[title] = figures(part, fitted)
        if options.misses:
            console.print(report.misses(part), markup=False, highlight=False, soft_wrap=True)
        for table in report.tables(f"{len(cases)} of {title}", of_set[title]):
            console.print(table)
    console.print(report.footprint_table(footprint))
    return {"model": name, "title": found.title, "how": how, **report.as_json(of_set, footprint)}


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="llmos.nlui.evaluate", description="Measure how well models understand.")
    parser.add_argument("cases", type=Path, help="file of cases, JSON lines")
    parser.add_argument(
        "--heldout", type=int, default=0, metavar="N", help="ask N held-out wordings of the generator too"
    )
    parser.add_argument(
        "--model", action="append", help="a model; may be given more than once (all that are installed)"
    )
    parser.add_argument("--few-shot", action="store_true", help="show examples instead of using the adapter")
    parser.add_argument("--unconstrained", action="store_true", help="let the model write without the grammar")
    parser.add_argument("--misses", action="store_true", help="print each request that went wrong")
    parser.add_argument("--predictions", type=Path, help="folder to write MODEL.jsonl into, one plan a line")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    try:
        measured = run(options, Console(quiet=options.json))
    except (LlmosError, OSError) as error:
        print(f"evaluate: {error}", file=sys.stderr)
        return 1
    if options.json:
        print(json.dumps(measured, ensure_ascii=False))
    return 0


if __name__ == "__main__":
    sys.exit(main())
