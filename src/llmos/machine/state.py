"""The state of the machine, aspect by aspect: cpu, memory, disk, network, gpu, load, uptime, pressure, temperature.

Synchronous: the daemon calls it in a thread; rates take one sampling interval. Percents are of the whole machine, sizes
are bytes, rates bytes a second, times seconds, temperatures °C. An aspect that the machine lacks raises Unsupported.
"""

import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, get_args

import psutil
from pydantic import JsonValue

from llmos.errors import Unsupported
from llmos.machine.gpu import gpus

Aspect = Literal["cpu", "memory", "disk", "network", "gpu", "load", "uptime", "pressure", "temperature"]
ASPECTS: tuple[Aspect, ...] = get_args(Aspect)
INTERVAL = 0.2  # seconds between the two samples of a rate

Totals = dict[str, dict[str, int]]

_PRESSURE = Path("/proc/pressure")
_THERMAL = Path("/sys/class/thermal")


def system_state(aspect: Aspect | None = None) -> dict[str, JsonValue]:
    """One aspect, or without one all that the machine has, each under its name, `missing` saying what it lacks and why.

    Raises:
        Unsupported: the machine lacks the aspect that was asked for.
    """
    if aspect is not None:
        return _READERS[aspect]()
    found: dict[str, JsonValue] = {}
    missing: dict[str, JsonValue] = {}
    for each in ASPECTS:
        try:
            found[each] = _READERS[each]()
        except Unsupported as error:
            missing[each] = error.message
    return {**found, "missing": missing}


def _cpu() -> dict[str, JsonValue]:
    per_core: list[float] = psutil.cpu_percent(interval=INTERVAL, percpu=True)
    frequency = psutil.cpu_freq()
    return {
        "percent": round(sum(per_core) / len(per_core), 1),
        "percent_by_core": list(per_core),
        "cores": len(per_core),
        "physical_cores": psutil.cpu_count(logical=False),
        "frequency_mhz": round(frequency.current, 1) if frequency else None,
    }


def _memory() -> dict[str, JsonValue]:
    memory, swap = psutil.virtual_memory(), psutil.swap_memory()
    return {
        "percent": memory.percent,
        "total_bytes": memory.total,
        "used_bytes": memory.total - memory.available,
        "available_bytes": memory.available,
        "cached_bytes": memory.cached,
        "swap_percent": swap.percent,
        "swap_total_bytes": swap.total,
        "swap_used_bytes": swap.used,
    }


def _disk() -> dict[str, JsonValue]:
    # The root file system of a container is on no device, so that psutil leaves it out; a device mounted twice counts once.
    by_device = {each.device: each for each in reversed(psutil.disk_partitions())}
    mounts = {each.mountpoint: each.fstype for each in by_device.values()}
    mounts.setdefault("/", "")
    file_systems: list[JsonValue] = []
    for path, kind in sorted(mounts.items()):
        try:
            usage = psutil.disk_usage(path)
        except OSError:  # unmounted meanwhile, or not for this user to enter
            continue
        file_systems.append(
            {
                "path": path,
                "type": kind,
                "percent": usage.percent,
                "total_bytes": usage.total,
                "used_bytes": usage.used,
                "free_bytes": usage.free,
            }
        )
    return {"file_systems": file_systems, "devices": list(_with_rates(_disk_totals))}


def _network() -> dict[str, JsonValue]:
    addresses, states = psutil.net_if_addrs(), psutil.net_if_stats()
    interfaces: list[JsonValue] = []
    for row in _with_rates(_network_totals):
        name = row["name"]
        state = states.get(name)
        inet: list[JsonValue] = [
            each.address for each in addresses.get(name, []) if each.family in (socket.AF_INET, socket.AF_INET6)
        ]
        interfaces.append({**row, "up": bool(state and state.isup), "addresses": inet})
    return {"interfaces": interfaces}


def _gpu() -> dict[str, JsonValue]:
    return {"cards": [card.as_json() for card in gpus().probe()]}


def _load() -> dict[str, JsonValue]:
    one, five, fifteen = os.getloadavg()
    running, threads = Path("/proc/loadavg").read_text("ascii").split()[3].split("/")
    return {
        "load_1min": round(one, 2),
        "load_5min": round(five, 2),
        "load_15min": round(fifteen, 2),
        "cores": os.cpu_count(),
        "running": int(running),
        "threads": int(threads),
    }


def _uptime() -> dict[str, JsonValue]:
    seconds = time.clock_gettime(time.CLOCK_BOOTTIME)
    return {"seconds": round(seconds, 2), "booted_at": round(time.time() - seconds, 2)}


def _pressure() -> dict[str, JsonValue]:
    """Pressure stall information, percent of time in which some or all waited: linux/accounting/psi.rst."""
    found: dict[str, JsonValue] = {}
    for resource in ("cpu", "memory", "io"):
        try:
            lines = (_PRESSURE / resource).read_text("ascii").splitlines()
        except OSError:  # no file, or a kernel that has it switched off: EOPNOTSUPP
            continue
        for line in lines:
            who, *figures = line.split()
            averages = {key: float(value) for key, value in (figure.split("=") for figure in figures)}
            found[f"{resource}_{who}"] = {
                "percent_10s": averages["avg10"],
                "percent_60s": averages["avg60"],
                "percent_300s": averages["avg300"],
                "total_seconds": averages["total"] / 1_000_000,
            }
    if not found:
        raise Unsupported(
            "this kernel tells no pressure: it needs Linux 4.20 with CONFIG_PSI, and psi=1 on its command line where "
            "it is off by default"
        )
    return found


def _temperature() -> dict[str, JsonValue]:
    return {"sensors": [{"name": name, "celsius": celsius} for name, celsius in temperatures()]}


def temperatures() -> list[tuple[str, float]]:
    """Each sensor and its °C, the hottest first: hardware monitors, else the thermal zones.

    Raises:
        Unsupported: there is no sensor.
    """
    found = [
        (f"{chip} {sensor.label}".strip(), sensor.current)
        for chip, sensors in psutil.sensors_temperatures().items()
        for sensor in sensors
    ] or list(_thermal_zones())
    if not found:
        raise Unsupported(
            "this machine has no temperature sensor that Linux can read (virtual machines have none): on real hardware "
            "load its driver, such as coretemp or k10temp"
        )
    return sorted(found, key=lambda sensor: sensor[1], reverse=True)


def _thermal_zones() -> Iterator[tuple[str, float]]:
    for zone in sorted(_THERMAL.glob("thermal_zone*")):
        try:
            yield (zone / "type").read_text("utf-8").strip(), int((zone / "temp").read_text("ascii")) / 1000
        except (OSError, ValueError):  # a zone that is disabled answers EAGAIN or nothing
            continue


def _disk_totals() -> Totals:
    """Of the devices that were ever used: a kernel may have made loop devices by the dozen."""
    counters = psutil.disk_io_counters(perdisk=True) or {}
    return {
        name: {"read_bytes": each.read_bytes, "written_bytes": each.write_bytes}
        for name, each in counters.items()
        if each.read_bytes or each.write_bytes
    }


def _network_totals() -> Totals:
    counters = psutil.net_io_counters(pernic=True)
    return {
        name: {"received_bytes": each.bytes_recv, "sent_bytes": each.bytes_sent, "errors": each.errin + each.errout}
        for name, each in counters.items()
    }


def _with_rates(read: Callable[[], Totals]) -> list[dict[str, Any]]:
    """A row for each name that lives through the interval: its totals, and their rates a second."""
    before, at = read(), time.monotonic()
    time.sleep(INTERVAL)
    now, seconds = read(), time.monotonic() - at
    return [
        {
            "name": name,
            **totals,
            **{f"{key}_per_second": round((total - before[name][key]) / seconds, 1) for key, total in totals.items()},
        }
        for name, totals in now.items()
        if name in before
    ]


_READERS: dict[Aspect, Callable[[], dict[str, JsonValue]]] = {
    "cpu": _cpu,
    "memory": _memory,
    "disk": _disk,
    "network": _network,
    "gpu": _gpu,
    "load": _load,
    "uptime": _uptime,
    "pressure": _pressure,
    "temperature": _temperature,
}
