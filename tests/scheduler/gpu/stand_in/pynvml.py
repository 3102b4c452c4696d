"""A stand-in for the pynvml module, where there is no GPU: cards as a JSON file tells them, read anew at each call.

The file is named by LLMOS_TEST_CARDS: `{"error": null, "cards": [{"uuid", "total", "used", "processes", "lost"}]}`.
"""

import json
import os
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

NVML_TEMPERATURE_GPU = 0


class NVMLError(Exception):
    pass


class NVMLError_NotSupported(NVMLError):
    pass


class NVMLError_FunctionNotFound(NVMLError):
    pass


class NVMLError_NotFound(NVMLError):
    pass


class NVMLError_NoPermission(NVMLError):
    pass


class NVMLError_GpuIsLost(NVMLError):
    pass


def _told() -> dict[str, Any]:
    told: dict[str, Any] = json.loads(Path(os.environ["LLMOS_TEST_CARDS"]).read_text())
    time.sleep(told.get("hangs", 0))
    if told.get("error"):
        raise NVMLError(told["error"])
    return told


def _card(handle: int) -> dict[str, Any]:
    card: dict[str, Any] = _told()["cards"][handle]
    if card.get("lost"):
        raise NVMLError_GpuIsLost("GPU is lost")
    return card


def nvmlInit() -> None:
    _told()


def nvmlShutdown() -> None:
    pass


def nvmlDeviceGetCount() -> int:
    return len(_told()["cards"])


def nvmlDeviceGetHandleByIndex(index: int) -> int:
    _card(index)
    return index


def nvmlDeviceGetUUID(handle: int) -> str:
    return str(_card(handle)["uuid"])


def nvmlDeviceGetName(handle: int) -> str:
    return "Stand-in"


def nvmlDeviceGetMemoryInfo(handle: int) -> Any:
    card = _card(handle)
    return SimpleNamespace(total=card["total"], used=card["used"])


def nvmlDeviceGetUtilizationRates(handle: int) -> Any:
    return SimpleNamespace(gpu=_card(handle).get("percent", 0))


def nvmlDeviceGetTemperature(handle: int, sensor: int) -> int:
    return 40


def nvmlDeviceGetPowerUsage(handle: int) -> int:
    raise NVMLError_NotSupported("Not Supported")


def nvmlDeviceGetComputeRunningProcesses(handle: int) -> list[Any]:
    processes = _card(handle).get("processes", {})
    return [SimpleNamespace(pid=int(pid), usedGpuMemory=used) for pid, used in processes.items()]


def nvmlDeviceGetGraphicsRunningProcesses(handle: int) -> list[Any]:
    return []


def nvmlDeviceGetProcessUtilization(handle: int, since: int) -> list[Any]:
    return []
