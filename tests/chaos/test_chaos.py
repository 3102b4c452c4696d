"""The short form of the campaign: a few of every blow, and nothing may be lost. `make chaos` is the whole."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from chaos import sandbox
from chaos.sandbox import INSIDE
from chaos.witness import living

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


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.1)


def _is_dead(left: Path) -> bool:
    return not Path(f"/proc/{left.name.split('-')[2]}").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_campaign_that_is_interrupted_leaves_nothing(number: signal.Signals) -> None:
    """Of one that is killed itself, folder and cgroups are left to the next; its processes are gone at once."""
    command = [sys.executable, "-m", "tests.chaos", "--kills", "300", "--only", "kill", "--json"]
    campaign = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    mark = f"{INSIDE}={tempfile.gettempdir()}/llmos-chaos-{campaign.pid}-".encode()
    try:
        wait_for(lambda: len(list(living(mark))) > 10)  # its jobs run, and some may be frozen soon
    finally:
        campaign.send_signal(number)
        campaign.wait()
    if number == signal.SIGKILL and os.geteuid() != 0:
        pytest.skip("without root there is no namespace that would end with it")
    if number == signal.SIGKILL:
        sandbox.sweep()  # what was paused cannot end before it is thawed
    wait_for(lambda: not list(living(mark)))
    places = [Path(tempfile.gettempdir()), *sandbox.hierarchies()]
    assert not [path for place in places for path in place.glob(f"llmos-chaos-{campaign.pid}*")]
