"""The ledger on a real disk: what is replayed, what a tear, a full disk or another boot does, and its length."""

import json
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from llmos.kernel import reaper_ledger
from llmos.kernel.reaper_ledger import Ledger, Run, unknown_exit

FULL = """
import resource, sys
from llmos.kernel.reaper_ledger import Ledger, Run
ledger = Ledger(sys.argv[1])
record = {"run": "one", "pid": 1, "start_ticks": 2, "started_at": 3.0, "cgroups": [], "label": None}
ledger.append("spawned", **record)
run = Run(record)
ledger.add(run)
resource.setrlimit(resource.RLIMIT_FSIZE, (300, resource.RLIM_INFINITY))
try:
    ledger.append("spawned", **{**record, "run": "x" * 300})
except OSError as error:
    print("refused", error.errno)
ledger.exited(run, {"code": 4, "why": "x" * 300})
print(open(sys.argv[1], "rb").read().endswith(b"}\\n"))
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
ledger.append("failed", run="other")
ledger.exited(run, {"code": 5})
"""


def record(run: str) -> dict[str, Any]:
    known = {"run": run, "pid": 1, "start_ticks": 2, "started_at": 3.0, "cgroups": ["/c"], "label": {"a": 1}}
    return {**known, "notify": True, "ready": run == "runs"}


def start(ledger: Ledger, run: str) -> Run:
    ledger.append("spawned", **record(run))
    started = Run(record(run))
    ledger.add(started)
    return started


def test_replay_knows_what_was_written(tmp_path: Path) -> None:
    path = str(tmp_path / "ledger")
    ledger = Ledger(path)
    start(ledger, "runs")
    ledger.exited(start(ledger, "ended"), {"code": 0})
    ledger.exited(ended := start(ledger, "taken"), {"code": 0})
    ledger.taken(ended)
    ledger.failed(start(ledger, "failed"))
    for _ in range(2):  # the second reads what the first has shortened
        again = Ledger(path)
        assert {run: known.record() for run, known in again.runs.items()} == {
            "runs": {**record("runs"), "exit": None},
            "ended": {**record("ended"), "exit": {"code": 0}},
        }
    assert len(Path(path).read_text().splitlines()) == 3
    assert Path(path).stat().st_mode & 0o777 == 0o600


def test_another_boot_ended_everything(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    ledger = Ledger(str(path))
    start(ledger, "runs")
    ledger.exited(start(ledger, "ended"), {"code": 0})
    path.write_text(path.read_text().replace(reaper_ledger.boot_id(), "another"))
    runs = Ledger(str(path)).runs
    assert runs["ended"].exit == {"code": 0}
    outcome = runs["runs"].exit
    assert outcome
    assert outcome == {**unknown_exit(reboot=True), "at": outcome["at"]}


def test_it_stays_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reaper_ledger, "COMPACT_BYTES", 4096)
    path = tmp_path / "ledger"
    ledger = Ledger(str(path))
    start(ledger, "stays")
    for number in range(200):
        ledger.exited(run := start(ledger, f"run {number}"), {"code": 0})
        ledger.taken(run)
        assert path.stat().st_size < 5000
    assert list(Ledger(str(path)).runs) == ["stays"]
    assert [child.name for child in tmp_path.iterdir()] == ["ledger"]


def test_a_full_disk_refuses_starts_and_loses_no_exit(tmp_path: Path) -> None:
    """A limit on the size of files stands for the disk: both cut a write short."""
    path = tmp_path / "ledger"
    done = subprocess.run([sys.executable, "-c", FULL, path], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["refused", "28", "True"]
    assert "could not be written" in done.stderr
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert lines[0]["event"] == "boot"
    outcome = Ledger(str(path)).runs["one"].exit
    assert outcome == {"code": 5}
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
