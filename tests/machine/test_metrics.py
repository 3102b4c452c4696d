"""The numbers that watches compare, of this machine and of real processes."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from llmos.errors import BadInput, NotFound, Unsupported
from llmos.machine import metrics
from llmos.machine.metrics import MetricSampler

Spawn = Callable[..., int]
IDLE = "print('ready', flush=True); input()"
BUSY = "print('ready', flush=True)\nwhile True: pass"


def test_cpu_of_the_machine_is_known_from_the_second_sample(until: Any) -> None:
    sampler = MetricSampler()
    assert sampler.machine("cpu") is None
    percent = until(lambda: sampler.machine("cpu"))
    assert 0 < percent <= 100


def test_cpu_of_processes_is_the_sum_of_their_shares(spawn: Spawn, until: Any) -> None:
    busy, idle = spawn(BUSY), spawn(IDLE)
    both, one = MetricSampler(), MetricSampler()
    assert both.process("cpu", [busy, idle]) is None
    assert one.process("cpu", [idle]) is None
    share = until(lambda: both.process("cpu", [busy, idle]))
    assert 1 < share <= 110
    until(lambda: one.process("cpu", [idle]) is not None)
    assert one.process("cpu", [idle]) == pytest.approx(0, abs=5)


def test_a_process_that_joins_counts_from_its_second_sample(spawn: Spawn, until: Any) -> None:
    idle = spawn(IDLE)
    sampler = MetricSampler()
    sampler.process("cpu", [idle])
    joined = spawn(BUSY)
    until(lambda: (sampler.process("cpu", [idle, joined]) or 0) > 1)


def test_what_has_vanished_counts_nothing(until: Any) -> None:
    sampler = MetricSampler()
    assert sampler.process("cpu", [99999999]) is None
    assert sampler.process("memory", [99999999]) is None
    mine = sampler.process("memory_bytes", [os.getpid(), 99999999])
    assert mine and mine > 1_000_000


def test_memory(spawn: Spawn) -> None:
    pid = spawn("held = bytearray(b'x') * 80_000_000; print('ready', flush=True); input()")
    sampler = MetricSampler()
    resident = sampler.process("memory_bytes", [pid])
    assert resident and resident > 80_000_000
    percent = sampler.process("memory", [pid])
    assert percent and 0 < percent < 100
    assert 0 < (sampler.machine("memory") or 0) <= 100
    assert (sampler.machine("memory_bytes") or 0) > resident


def test_disk_and_load(tmp_path: Path) -> None:
    sampler = MetricSampler()
    usage = shutil.disk_usage(tmp_path)
    percent = sampler.machine("disk", str(tmp_path))
    assert percent == pytest.approx(100 * usage.used / (usage.used + usage.free), abs=1)
    assert (sampler.machine("load") or 0) >= 0
    with pytest.raises(NotFound, match="missing"):
        sampler.machine("disk", str(tmp_path / "missing"))


class FakeGpus:
    """Two cards, and a process that keeps one of them busy."""

    def probe(self) -> list[Any]:
        return [SimpleNamespace(percent=20.0), SimpleNamespace(percent=None), SimpleNamespace(percent=75.0)]

    def percent_by_process(self, since: int) -> dict[int, float]:
        return {os.getpid(): 60.0, 1: 15.0}


def test_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "gpus", FakeGpus)
    sampler = MetricSampler()
    assert sampler.machine("gpu") == 75.0
    assert sampler.process("gpu", [os.getpid(), 99999999]) == 60.0
    assert sampler.process("gpu", [99999999]) is None


def test_a_gpu_that_does_not_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "gpus", lambda: SimpleNamespace(probe=lambda: [SimpleNamespace(percent=None)]))
    with pytest.raises(Unsupported, match="how busy"):
        MetricSampler().machine("gpu")


def test_temperature(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "temperatures", lambda: [("package", 81.0), ("core", 60.0)])
    assert MetricSampler().machine("temperature") == 81.0


@pytest.mark.parametrize("metric", ["load", "temperature", "disk"])
def test_what_only_the_machine_has(metric: Any) -> None:
    with pytest.raises(BadInput, match="without a target"):
        MetricSampler().process(metric, [os.getpid()])
