"""The state of this very machine, and of machines that lack something."""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from llmos.errors import Unsupported
from llmos.machine import state
from llmos.machine.gpu import Gpus
from llmos.machine.state import ASPECTS, system_state, temperatures


def test_overview_tells_what_there_is_and_what_is_missing() -> None:
    overview = system_state()
    missing = overview.pop("missing")
    assert isinstance(missing, dict)
    assert set(overview) | set(missing) == set(ASPECTS)
    assert set(overview) & set(missing) == set()
    assert {"cpu", "memory", "disk", "network", "load", "uptime"} <= set(overview)
    json.dumps(overview)


def test_cpu() -> None:
    cpu: Any = system_state("cpu")
    assert 0 <= cpu["percent"] <= 100
    assert len(cpu["percent_by_core"]) == cpu["cores"]


def test_memory() -> None:
    memory: Any = system_state("memory")
    assert 0 < memory["used_bytes"] < memory["total_bytes"]
    assert memory["available_bytes"] == memory["total_bytes"] - memory["used_bytes"]


def test_disk() -> None:
    disk: Any = system_state("disk")
    (root,) = (each for each in disk["file_systems"] if each["path"] == "/")
    assert 0 < root["percent"] <= 100
    assert all(device["written_bytes_per_second"] >= 0 for device in disk["devices"])


def test_network() -> None:
    network: Any = system_state("network")
    (loopback,) = (each for each in network["interfaces"] if each["name"] == "lo")
    assert loopback["received_bytes"] == loopback["sent_bytes"]
    assert loopback["received_bytes_per_second"] >= 0
    assert isinstance(loopback["up"], bool)


def test_load_and_uptime() -> None:
    load: Any = system_state("load")
    assert load["load_1min"] >= 0
    assert load["threads"] >= load["running"] >= 1
    uptime: Any = system_state("uptime")
    assert uptime["seconds"] > 0
    assert abs(uptime["booted_at"] + uptime["seconds"] - time.time()) < 60
    assert os.cpu_count() == load["cores"]


def test_pressure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "io").write_text(
        "some avg10=1.50 avg60=0.25 avg300=0.00 total=2500000\nfull avg10=0.50 avg60=0.00 avg300=0.00 total=9\n"
    )
    monkeypatch.setattr(state, "_PRESSURE", tmp_path)
    pressure: Any = system_state("pressure")
    assert set(pressure) == {"io_some", "io_full"}
    assert pressure["io_some"] == {
        "percent_10s": 1.5,
        "percent_60s": 0.25,
        "percent_300s": 0.0,
        "total_seconds": 2.5,
    }


def test_no_pressure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "_PRESSURE", tmp_path)
    with pytest.raises(Unsupported, match="psi=1"):
        system_state("pressure")


def test_temperature_from_zones_the_hottest_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number, temp in enumerate(["41000", "63500", ""]):
        zone = tmp_path / f"thermal_zone{number}"
        zone.mkdir()
        (zone / "type").write_text(f"zone{number}\n")
        (zone / "temp").write_text(temp)
    monkeypatch.setattr(psutil, "sensors_temperatures", dict)
    monkeypatch.setattr(state, "_THERMAL", tmp_path)
    assert temperatures() == [("zone1", 63.5), ("zone0", 41.0)]
    assert system_state("temperature") == {
        "sensors": [{"name": "zone1", "celsius": 63.5}, {"name": "zone0", "celsius": 41.0}]
    }


def test_no_sensor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "sensors_temperatures", dict)
    monkeypatch.setattr(state, "_THERMAL", tmp_path)
    with pytest.raises(Unsupported, match="no temperature sensor"):
        system_state("temperature")


def test_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    monkeypatch.setattr(state, "gpus", Gpus)
    with pytest.raises(Unsupported, match="nvidia-ml-py"):
        system_state("gpu")
    assert "gpu" in system_state()["missing"]  # type: ignore[operator]
