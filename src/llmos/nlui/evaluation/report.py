"""The figures as tables for a terminal, the misses as text, the predictions as a file."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.table import Table

from llmos.nlui.evaluation.figures import Count, Figures, Result
from llmos.nlui.evaluation.measuring import Footprint


def tables(name: str, found: Figures) -> Iterator[Table]:
    """Two tables: exact plans by group, and everything else."""
    exact = Table("", "right", "of", "exact", title=f"exact plans, {name}", title_justify="left")
    for group, count in found.exact.items():
        exact.add_row(group, str(count.count), str(count.of), percent(count.share))
    yield exact
    rest = Table("", "measured", title=name, title_justify="left")
    for row in _rows(found):
        rest.add_row(*row)
    yield rest


def footprint_table(footprint: Footprint) -> Table:
    """What the loaded model costs."""
    table = Table("", "measured", title="the model worker", title_justify="left")
    table.add_row("load, file not in memory, s", f"{footprint.cold_load_seconds:.2f}")
    table.add_row("load, file in memory, s", f"{footprint.load_seconds:.2f}")
    table.add_row("resident / peak, MiB", f"{footprint.resident_mib:.0f} / {footprint.peak_mib:.0f}")
    return table


def percent(share: float | None) -> str:
    """A share for a cell; empty for a share of nothing."""
    return "" if share is None else f"{share:.1%}"


def misses(results: Sequence[Result]) -> str:
    """Each request that went wrong, with what was wanted and what came."""
    return "\n".join(
        f"{one.case.id}: {one.case.request}\n    want {list(one.case.accept[0])}\n    got  {list(one.plan)}"
        f"  confidence {one.confidence:.3f}" + (f"\n    {one.note}" if one.note else "")
        for one in results
        if not one.right
    )


def write_predictions(results: Sequence[Result], path: Path) -> None:
    """Write `{"id", "plan", "right", "confidence", "least_confidence", "seconds"}`, one object a line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = (
        {
            "id": one.case.id,
            "plan": list(one.plan),
            "right": one.right,
            "confidence": one.confidence,
            "least_confidence": one.least_confidence,
            "seconds": round(one.seconds, 4),
        }
        for one in results
    )
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def as_json(sets: dict[str, Figures], footprint: Footprint) -> dict[str, Any]:
    """The same for programs: the worker's footprint, and the figures of each set of cases."""
    return {"worker": asdict(footprint), "cases": {name: found.as_json() for name, found in sets.items()}}


def _rows(found: Figures) -> Iterator[tuple[str, str]]:
    for verb, count in found.recall.items():
        yield f"recall of {verb}", _counted(count)
    yield "false refusals", _counted(found.false_refusals)
    yield "plans outside the grammar", _counted(found.outside_grammar)
    yield "requests without a plan", _counted(found.no_plan)
    yield "seconds, median / p95", f"{found.median_seconds:.2f} / {found.p95_seconds:.2f}"
    yield "tokens, " + " / ".join(found.tokens), " / ".join(f"{mean:.1f}" for mean in found.tokens.values())
    for coverage, accuracy in found.accuracy_at.items():
        yield f"exact among the surest {coverage:.0%}", percent(accuracy)
    yield "confidence, AUROC", "" if found.auroc is None else f"{found.auroc:.3f}"
    bare = "" if found.asked else " (not calibrated)"
    yield f"confidence, calibration error{bare}", f"{found.calibration_error:.3f}"
    if found.asked and found.right_unasked:
        yield "asked which of two is meant", _counted(found.asked)
        yield "exact among the others", _counted(found.right_unasked)


def _counted(count: Count) -> str:
    return f"{count.count} / {count.of}  {percent(count.share)}".rstrip()
