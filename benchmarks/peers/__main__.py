"""`python -m benchmarks.peers`: llmosd beside supervisord, circus, pm2 and the floor; a table, or JSON for programs."""

import argparse
import json
import os
import platform
import signal
import statistics
import sys
from functools import partial
from importlib import import_module

from rich.console import Console
from rich.status import Status
from rich.table import Table

from benchmarks.peers.peer import Missing, Peer
from benchmarks.peers.rows import GROUPS, QUICK, ROWS, Scale, measure

PEERS = {"supervisord": "Supervisord", "circus": "Circus", "pm2": "Pm2", "floor": "Floor", "llmosd": "Llmosd"}
"""The file and the class of each."""

Figures = dict[str, dict[str, float]]


def main() -> int:
    """Measure in rounds, each supervisor once a round; returns 1 where llmosd fell short."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    parser.add_argument("rows", nargs="*", choices=[*GROUPS, []], help=f"rows to measure, of {', '.join(GROUPS)}")
    parser.add_argument("--only", action="append", choices=PEERS, help="measure this one; may be repeated")
    parser.add_argument("--quick", action="store_true", help="one short round, to see that all works")
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that everything is ended in order
    scale = QUICK if arguments.quick else Scale()
    console = Console(stderr=True)
    peers, missing = _prepared(arguments.only or list(PEERS), console)
    figures = _measured(peers, scale, frozenset(arguments.rows), console)
    short = [row.title for row in ROWS if row.reached(figures.get("llmosd", {})) is False]
    if arguments.json:
        machine = {"python": platform.python_version(), "kernel": platform.release(), "cores": os.cpu_count()}
        rows = [{"row": row.title, "figures": row.figures, "bars": row.bars, "at_least": row.at_least} for row in ROWS]
        print(json.dumps({**machine, "figures": figures, "missing": missing, "rows": rows, "short": short}))
    else:
        Console().print(_table(figures))
        for name, why in missing.items():
            print(f"{name} was not measured: {why}")
    return 1 if short else 0


def _prepared(names: list[str], console: Console) -> tuple[dict[str, type[Peer]], dict[str, str]]:
    """The supervisors that can be had here, and why the others cannot."""
    peers, missing = {}, {}
    for name in names:
        peer: type[Peer] = getattr(import_module(f"benchmarks.peers.{name}"), PEERS[name])
        try:
            with console.status(f"installing {name}"):
                peer.prepare()
            peers[name] = peer
        except Missing as error:
            missing[name] = str(error)
    return peers, missing


def _measured(peers: dict[str, type[Peer]], scale: Scale, wanted: frozenset[str], console: Console) -> Figures:
    """The medians over the rounds."""
    rounds: dict[str, list[dict[str, float]]] = {name: [] for name in peers}
    for number in range(scale.rounds):
        for name, peer in peers.items():
            with console.status("") as status:
                tell = partial(_tell, status, f"round {number + 1} of {scale.rounds}, {name}")
                rounds[name].append(measure(peer, scale, tell, wanted))
    return {name: _medians(done) for name, done in rounds.items()}


def _medians(rounds: list[dict[str, float]]) -> dict[str, float]:
    keys = {key: None for figures in rounds for key in figures}
    return {key: statistics.median(figures[key] for figures in rounds if key in figures) for key in keys}


def _tell(status: Status, where: str, what: str) -> None:
    status.update(f"{where}, {what}")


def _table(figures: Figures) -> Table:
    table = Table("what", *figures, "bar", "llmosd")
    for row in ROWS:
        cells = [row.shown(figures[name]) for name in figures]
        if all(cell == "–" for cell in cells):
            continue
        sign = "≥" if row.at_least else "≤"
        verdict = {True: "PASS", False: "short", None: "–"}[row.reached(figures.get("llmosd", {}))]
        table.add_row(row.title, *cells, f"{sign} " + " / ".join(f"{bar:,g}" for bar in row.bars), verdict)
    return table


if __name__ == "__main__":
    sys.exit(main())
