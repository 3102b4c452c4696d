"""The default model with its adapter in each quantisation: size, memory, seconds and accuracy, as one table.

    python -m benchmarks.models --cases FILE [--heldout N] [--types TYPE …] [--write] [--json]

All are loaded at the same time and each request is put to one after the other, so that what else the machine does falls
on all alike. Takes an hour on 2 cores, 6 GB of memory, and 4 GB of disk for the time.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track
from rich.table import Table

from llmos.errors import LlmosError, ModelError
from llmos.nlui import models
from llmos.nlui.adapters import adapter_for
from llmos.nlui.evaluation.cases import Case, heldout_cases, read_cases
from llmos.nlui.evaluation.figures import Result, figures
from llmos.nlui.evaluation.measuring import Footprint, drop_from_memory, judged
from llmos.nlui.evaluation.report import percent
from llmos.nlui.merge import TYPES, merge
from llmos.nlui.serving import Served

PAGE = Path(__file__).resolve().parent.parent / "docs/models.md"
BEGIN, END = "<!-- begin: python -m benchmarks.models -->\n", "<!-- end -->\n"
MEASURED_TYPES = ("Q4_0", "IQ4_NL", "Q4_K_M", "Q5_K_M", "Q6_K", "Q8_0")


class Worker:
    """A model worker that is asked without a daemon; it serves what it is given."""

    def __init__(self, served: Served, state: Path) -> None:
        command = [sys.executable, "-m", "llmos.nlui.worker", "--model", str(served.path), "--trained"]
        command += ["--adapter", str(served.adapter)] if served.adapter else []
        began = time.perf_counter()
        self._process = subprocess.Popen(
            [*command, "--state", str(state)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        first = self._line()
        self.load_seconds = time.perf_counter() - began
        self.pid = self._process.pid
        if not first.get("ready"):
            self.close()
            raise ModelError(f"{served.path.name} cannot be loaded: {first.get('failed', 'its worker ended')}")

    def ask(self, case: Case) -> Result:
        """What it makes of one case."""
        began = time.perf_counter()
        print(json.dumps({"id": 1, "request": case.request}), file=self._process.stdin, flush=True)
        answer = self._line()
        text, note = answer.get("plan_text", ""), answer.get("error", "")
        return judged(case, text, time.perf_counter() - began, confidence=answer.get("confidence", 0.0), note=note)

    def close(self) -> None:
        """End it."""
        self._process.communicate()

    def _line(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        return dict(json.loads(line)) if line else {}


@contextmanager
def candidates(types: Sequence[str], console: Console) -> Iterator[dict[str, Served]]:
    """The model with its adapter on it, and merged in each quantisation, for the time of the block."""
    base = models.locate(models.DEFAULT)
    adapter = adapter_for(base)
    if adapter is None:
        raise ModelError(f"{base.title} has no adapter; train one first")
    with tempfile.TemporaryDirectory(prefix=".benchmark-", dir=models.folder()) as folder:
        found = {"base + adapter": Served(base.path, adapter, trained=True)}
        for quantisation in track(types, "merging", console=console, transient=True):
            path = Path(folder, f"{quantisation}.gguf")
            merge(base, adapter, path, quantisation=quantisation)
            found[f"merged {quantisation}"] = Served(path, trained=True)
        yield found


def measure(
    cases: Sequence[Case], heldout: Sequence[Case], types: Sequence[str], console: Console
) -> list[dict[str, str]]:
    """A row for each way to serve the model."""
    with ExitStack() as stack:
        found = stack.enter_context(candidates(types, console))
        state = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="llmos-bench-")))
        workers: dict[str, Worker] = {}
        cold: dict[str, float] = {}
        results: dict[str, list[Result]] = {name: [] for name in found}
        for name, served in found.items():
            own = state / name
            Worker(served, own).close()  # what a load keeps for the next one is there from now on
            drop_from_memory(served.path)
            first = Worker(served, own)
            cold[name] = first.load_seconds
            first.close()
            workers[name] = Worker(served, own)
            stack.callback(workers[name].close)
        for case in track([*cases, *heldout], "asking", console=console, transient=True):
            for name, worker in workers.items():
                results[name].append(worker.ask(case))
        footprints = {
            name: Footprint.of(worker.pid, cold[name], worker.load_seconds) for name, worker in workers.items()
        }
        return [
            _row(name, served, footprints[name], results[name][: len(cases)], results[name][len(cases) :])
            for name, served in found.items()
        ]


def _row(
    name: str, served: Served, footprint: Footprint, results: Sequence[Result], heldout: Sequence[Result]
) -> dict[str, str]:
    size = served.path.stat().st_size + (served.adapter.stat().st_size if served.adapter else 0)
    found = figures(results)
    row = {
        "served": name,
        "file, MB": f"{size / 1e6:.0f}",
        "resident, MiB": f"{footprint.resident_mib:.0f}",
        "load, s (cold / warm)": f"{footprint.cold_load_seconds:.2f} / {footprint.load_seconds:.2f}",
        "request, s (median / p95)": f"{found.median_seconds:.2f} / {found.p95_seconds:.2f}",
    }
    row |= {group: percent(found.exact[group].share) for group in ("all", "en", "zh") if group in found.exact}
    if heldout:
        row["held-out"] = percent(figures(heldout).exact["all"].share)
    return row


def markdown(rows: Sequence[dict[str, str]], about: str) -> str:
    """The table for the page, and what it was measured on."""
    head = list(rows[0])
    lines = [head, ["---"] * len(head), *([row[name] for name in head] for row in rows)]
    return f"{about}\n\n" + "".join(f"| {' | '.join(line)} |\n" for line in lines)


def write(text: str, page: Path = PAGE) -> None:
    """Put the text between the page's marks."""
    before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    page.write_text(f"{before}{BEGIN}{text}{END}{after}", encoding="utf-8")


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="benchmarks.models", description="Measure the model in each quantisation.")
    parser.add_argument("--cases", type=Path, required=True, help="file of cases, JSON lines")
    parser.add_argument("--heldout", type=int, default=0, metavar="N", help="N held-out wordings of the generator too")
    parser.add_argument("--types", nargs="+", choices=TYPES, default=MEASURED_TYPES, help="quantisations to merge to")
    parser.add_argument("--write", action="store_true", help=f"write the table into {PAGE.name}")
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args()
    console = Console(stderr=True)
    try:
        cases = read_cases(arguments.cases)
        heldout = heldout_cases(arguments.heldout) if arguments.heldout else []
        rows = measure(cases, heldout, arguments.types, console)
    except (LlmosError, OSError) as error:
        print(f"benchmarks.models: {error}", file=sys.stderr)
        return 1
    if arguments.write:
        write(markdown(rows, f"{len(cases)} requests of {arguments.cases.name}, {len(heldout)} held-out wordings."))
    if arguments.json:
        print(json.dumps({"cases": len(cases), "heldout": len(heldout), "rows": rows}))
        return 0
    table = Table(*rows[0])
    for row in rows:
        table.add_row(*row.values())
    Console().print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
