"""The short form of the campaign: a few of every blow, and nothing may be lost. `make chaos` is the whole."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
SHORT = ("--seed", "7", "--kills", "12", "--jobs", "16", "--json")
COUNTS = (
    *("children_lost", "started_twice", "signalled_wrongly", "exit_codes_lost"),
    *("lines_lost", "lines_doubled", "calls_forgotten", "other"),
)


def campaign(*arguments: str) -> dict[str, Any]:
    """Run some of it, and return the sum of what it found."""
    command = [sys.executable, "-m", "tests.chaos", *SHORT, *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout.startswith("{"), done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    for scenario in answer["scenarios"]:
        if scenario["skipped"]:
            print(f"{scenario['name']}: {scenario['skipped']}")
    return answer


@pytest.mark.timeout(300)
@pytest.mark.parametrize("names", [["kill"], ["reaper", "journal", "disk"]], ids="+".join)
def test_nothing_is_lost_under_fire(names: list[str]) -> None:
    answer = campaign(*(word for name in names for word in ("--only", name)))
    total = answer["total"]
    assert {count: total[count] for count in COUNTS} == dict.fromkeys(COUNTS, 0), total["cases"]
    assert total["tried"]["calls"] and (total["tried"]["runs"] or all(each["skipped"] for each in answer["scenarios"]))
    assert not [left for left in Path(tempfile.gettempdir()).glob("llmos-chaos-*") if _is_dead(left)]


def _is_dead(left: Path) -> bool:
    return not Path(f"/proc/{left.name.split('-')[2]}").exists()
