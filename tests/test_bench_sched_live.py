"""The benchmarks of the live scheduler in a short form: what they draw, how they compare, and that they leave nothing."""

import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from benchmarks import memory_pressure
from benchmarks.sched_live import arms
from benchmarks.sched_live.arrivals import LONGEST, SHORTEST, draw
from benchmarks.sched_live.comparison import bars, change
from benchmarks.sched_live.run import Figures

from conftest import needs_root
from llmos.machine.cgroup import Cgroups

ROOT = Path(__file__).parents[1]
SHORT = ["--runs", "1", "--seconds", "3", "--seed", "199", "--load", "0.7", "--arm", "kernel", "--arm", "hybrid"]
FIGURES = Figures(2.0, 4.0, 3.0, 60.0, 1.0, 0.001, 0.009, 0.006, 0.03, 0.5, None)


def start(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "benchmarks.sched_live", *arguments]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_what_is_drawn_has_the_load_and_the_same_sizes_at_every_load() -> None:
    heavy, light = (draw(3, seconds=60, load=load, processors=2) for load in (0.9, 0.7))
    assert [each.size for each in heavy][: len(light)] == [each.size for each in light]
    assert heavy == draw(3, seconds=60, load=0.9, processors=2) != draw(4, seconds=60, load=0.9, processors=2)
    assert heavy[0].at == 0 and [each.at for each in heavy] == sorted(each.at for each in heavy)
    assert all(SHORTEST <= each.size <= LONGEST for each in heavy)
    work = sum(each.size for each in heavy)
    assert work >= 0.9 * 2 * 60 and heavy[-1].at <= work / (0.9 * 2)


def test_arms_are_compared_in_pairs_and_a_bar_is_reached_or_missed() -> None:
    kernel = [replace(FIGURES, mean_slowdown=2.0 * factor, daemon_percent=0.2) for factor in (1.0, 2.0, 3.0)]
    ours = [replace(FIGURES, mean_slowdown=1.0 * factor, late_p99=0.002) for factor in (1.0, 2.0, 3.0)]
    found = change(ours, kernel, "mean_slowdown")
    assert found.value == found.low == found.high == pytest.approx(-0.5)
    reached = {bar.asked.split(":")[0]: bar.reached for bar in bars(0.9, {"kernel": kernel, "hybrid": ours}, 60)}
    assert reached["mean slowdown against kernel"] and reached["probe wakes, p99, against kernel"]
    assert not reached["probe is done, p99, against kernel"] and reached["makespan against kernel"]
    assert reached["the scheduler takes 1 % of a core at most"]
    starved = [replace(each, longest_starvation=61.0) for each in ours]
    assert not all(bar.reached for bar in bars(0.9, {"hybrid": starved}, 60))
    assert not bars(0.9, {"kernel": kernel}, 60)


def test_autogroup_is_put_back_also_after_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file stands for the kernel's switch, which is the whole machine's."""
    switch = tmp_path / "sched_autogroup_enabled"
    switch.write_text("1\n")
    monkeypatch.setattr(arms, "_AUTOGROUP", switch)
    with pytest.raises(ValueError, match="failed"), arms.autogroup_kept():
        arms.set_autogroup(False)
        assert switch.read_text() == "0"
        raise ValueError("failed")
    assert switch.read_text() == "1\n"
    monkeypatch.setattr(arms, "_AUTOGROUP", tmp_path / "none")
    with arms.autogroup_kept():
        arms.set_autogroup(True)
    assert arms.why_not(arms.ARMS["kernel"]) and not arms.why_not(arms.ARMS["static"])


@pytest.mark.timeout(300)
def test_a_short_run_measures_both_arms_and_leaves_nothing() -> None:
    run = start(*SHORT, "--json")
    output, told = run.communicate(timeout=280)
    assert run.returncode in (0, 1) and output, told
    found = json.loads(output)["loads"]["0.7"]
    assert {"kernel", "hybrid"} == found["runs"].keys() and found["change"]["kernel"]["mean_slowdown"]
    for figures in (found["runs"][arm][0] for arm in ("kernel", "hybrid")):
        assert 1.0 <= figures["mean_slowdown"] <= figures["p95_slowdown"]
        assert 0 < figures["late_p50"] <= figures["late_p99"] < figures["done_p99"]
        assert figures["makespan"] > 0 and figures["daemon_percent"] > 0
    assert run.returncode == int(not all(bar["reached"] for bar in found["bars"]))


@pytest.mark.timeout(120)
def test_one_that_is_ended_leaves_nothing() -> None:
    run = start(*SHORT)
    deadline = time.monotonic() + 60
    while not any("probe" in " ".join(each.cmdline()) for each in psutil.Process(run.pid).children()):
        assert time.monotonic() < deadline and run.poll() is None
        time.sleep(0.1)
    below = psutil.Process(run.pid).children(recursive=True)
    run.send_signal(signal.SIGTERM)
    run.communicate(timeout=60)
    assert run.returncode == 143
    assert not [each for each in below if each.is_running() and each.status() != psutil.STATUS_ZOMBIE]


@needs_root
@pytest.mark.skipif("memory" not in Cgroups.probe(parent="llmos-probe").controllers, reason="needs a memory controller")
@pytest.mark.timeout(200)
def test_jobs_that_do_not_fit_together_are_killed_without_the_scheduler_and_finish_with_it() -> None:
    scale = memory_pressure.Scale(jobs=4, each=96, limit=200, step=4)
    finished, killed, held, _ = memory_pressure.run(scale, memory_pressure.OFF, [])
    assert killed and finished + killed == scale.jobs and not held
    finished, killed, held, seconds = memory_pressure.run(scale, "", [])
    assert (finished, killed) == (scale.jobs, 0) and held and seconds > 0
