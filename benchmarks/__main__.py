"""`python -m benchmarks [NAME …]`: run the benchmarks and print their figures; `--json` prints them for programs."""

import argparse
import json
import platform

from rich.console import Console
from rich.table import Table

from benchmarks import (
    api_calls,
    ask_seconds,
    idle_use,
    log_flood,
    memory_pressure,
    memory_use,
    spawn_latency,
    telemetry_cost,
)

BENCHMARKS = {
    "spawn": spawn_latency.measure,
    "api": api_calls.measure,
    "memory": memory_use.measure,
    "idle": idle_use.measure,
    "telemetry": telemetry_cost.measure,
    "pressure": memory_pressure.measure,
    "flood": log_flood.measure,
    "ask": ask_seconds.measure,
}


def main() -> None:
    """Run those that are named, or all."""
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*BENCHMARKS, []], help="which to run; all when none is named")
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args()
    rows = []
    console = Console(stderr=True)
    for name in arguments.names or BENCHMARKS:
        with console.status(f"measuring {name}"):
            rows += [{"benchmark": name, **row} for row in BENCHMARKS[name]()]
    if arguments.json:
        print(json.dumps({"python": platform.python_version(), "kernel": platform.release(), "rows": rows}))
        return
    table = Table("benchmark", "what", "measured", "bare", "ratio", "target")
    for row in rows:
        table.add_row(
            row["benchmark"], *(str(row.get(key, "")) for key in ("what", "measured", "bare", "ratio", "target"))
        )
    Console().print(table)


if __name__ == "__main__":
    main()
