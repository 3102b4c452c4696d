"""Seconds from a request in words to its plan, warm, over the project's own sample of requests."""

import json
import statistics
import time
from pathlib import Path
from typing import Any

from benchmarks.private_daemon import private_daemon

SAMPLE = Path(__file__).resolve().parent.parent / "tests/data/nl_sample.jsonl"


def measure() -> list[dict[str, Any]]:
    """Median and 95th percentile in seconds; the first request, which loads the model, by itself."""
    requests = [json.loads(line)["request"] for line in SAMPLE.read_text(encoding="utf-8").splitlines()]
    with private_daemon() as client:
        began = time.perf_counter()
        client.ask(requests[0], dry_run=True)
        first = time.perf_counter() - began
        seconds = [client.ask(request, dry_run=True)["seconds"] for request in requests[1:]]
    p95 = statistics.quantiles(seconds, n=20)[-1]
    return [
        {"what": "first request, model loaded for it, s", "measured": f"{first:.2f}"},
        {"what": "request to plan, warm, s (p50 / p95)", "measured": f"{statistics.median(seconds):.2f} / {p95:.2f}"},
    ]
