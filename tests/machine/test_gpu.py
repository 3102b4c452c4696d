"""The seam to NVML, with a fake of the pynvml module where there is no GPU."""

import sys
from types import SimpleNamespace
from typing import Any

import pytest

from llmos.errors import Unsupported
from llmos.machine.gpu import Gpus

GIB = 1 << 30


class NVMLError(Exception):
    pass


class NVMLError_NotSupported(NVMLError):
    pass


class FakeNvml:
    """The part of pynvml that llmos uses: two cards; the second tells no power, and runs in graphics too."""

    NVML_TEMPERATURE_GPU = 0
    NVMLError = NVMLError
    NVMLError_NotSupported = NVMLError_NotSupported
    NVMLError_FunctionNotFound = type("NVMLError_FunctionNotFound", (NVMLError,), {})
    NVMLError_NotFound = type("NVMLError_NotFound", (NVMLError,), {})
    NVMLError_NoPermission = type("NVMLError_NoPermission", (NVMLError,), {})
    NVMLError_GpuIsLost = type("NVMLError_GpuIsLost", (NVMLError,), {})

    def __init__(self, count: int = 2, broken: bool = False) -> None:
        self.count = count
        self.broken = broken
        self.started = 0
        self.lost: set[int] = set()
        self.sick: set[int] = set()

    def nvmlInit(self) -> None:
        self.started += 1
        if self.broken:
            raise NVMLError("Driver Not Loaded")

    def nvmlShutdown(self) -> None:
        self.started -= 1

    def nvmlDeviceGetCount(self) -> int:
        if self.broken:
            raise NVMLError("Driver Not Loaded")
        return self.count

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        if index in self.lost:
            raise self.NVMLError_GpuIsLost("GPU is lost")
        return index

    def nvmlDeviceGetUUID(self, handle: int) -> str:
        return f"GPU-{handle}"

    def nvmlDeviceGetName(self, handle: int) -> bytes | str:
        return b"Old Card" if handle else "New Card"

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> Any:
        if handle in self.sick:
            raise NVMLError("Unknown Error")
        return SimpleNamespace(total=8 * GIB, used=handle * GIB)

    def nvmlDeviceGetUtilizationRates(self, handle: int) -> Any:
        return SimpleNamespace(gpu=40 + handle)

    def nvmlDeviceGetTemperature(self, handle: int, sensor: int) -> int:
        return 60 + handle

    def nvmlDeviceGetPowerUsage(self, handle: int) -> int:
        if handle:
            raise NVMLError_NotSupported("Not Supported")
        return 123_000

    def nvmlDeviceGetComputeRunningProcesses(self, handle: int) -> list[Any]:
        return [SimpleNamespace(pid=10, usedGpuMemory=GIB), SimpleNamespace(pid=20 + handle, usedGpuMemory=None)]

    def nvmlDeviceGetGraphicsRunningProcesses(self, handle: int) -> list[Any]:
        if not handle:
            raise NVMLError_NotSupported("Not Supported")
        return [SimpleNamespace(pid=10, usedGpuMemory=GIB)]

    def nvmlDeviceGetProcessUtilization(self, handle: int, since: int) -> list[Any]:
        if handle:
            raise self.NVMLError_NotFound("Not Found")
        samples = [(10, 2, 70), (10, 1, 5), (20, 2, 30)]
        return [SimpleNamespace(pid=pid, timeStamp=at, smUtil=percent) for pid, at, percent in samples if at > since]


def test_cards() -> None:
    first, second = Gpus(FakeNvml()).probe()
    assert (first.index, first.uuid, first.name, first.memory_total_bytes) == (0, "GPU-0", "New Card", 8 * GIB)
    assert (first.percent, first.temperature_celsius, first.power_watts) == (40.0, 60, 123.0)
    assert (second.name, second.memory_used_bytes, second.power_watts) == ("Old Card", GIB, None)


def test_memory_by_process_counts_each_card_once() -> None:
    assert Gpus(FakeNvml()).memory_by_process() == {10: 2 * GIB, 20: 0, 21: 0}


def test_memory_by_card() -> None:
    assert Gpus(FakeNvml()).memory_by_card() == {"GPU-0": {10: GIB, 20: 0}, "GPU-1": {10: GIB, 21: 0}}


def test_cards_that_cannot_be_read_are_left_out() -> None:
    nvml = FakeNvml(count=3)
    gpus = Gpus(nvml)
    nvml.lost, nvml.sick = {0}, {1}
    assert [(card.index, card.uuid) for card in gpus.probe()] == [(2, "GPU-2")]
    assert list(gpus.memory_by_card()) == ["GPU-1", "GPU-2"]
    nvml.sick = {1, 2}
    with pytest.raises(Unsupported, match="Unknown Error"):
        gpus.probe()
    nvml.lost = {0, 1, 2}
    with pytest.raises(Unsupported, match="has lost its GPUs"):
        gpus.probe()


def test_nvml_is_started_anew_after_a_failure_midway() -> None:
    nvml = FakeNvml()
    gpus = Gpus(nvml)
    gpus.probe()
    nvml.broken = True
    with pytest.raises(Unsupported, match="Driver Not Loaded"):
        gpus.probe()
    assert nvml.started == 0
    nvml.broken = False
    assert len(gpus.probe()) == 2 and nvml.started == 1


def test_percent_by_process_is_the_latest_sample() -> None:
    gpus = Gpus(FakeNvml())
    assert gpus.percent_by_process() == {10: 70.0, 20: 30.0}
    assert gpus.percent_by_process(since_microseconds=2) == {}


def test_what_an_old_driver_does_not_know_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: int) -> None:
        raise FakeNvml.NVMLError_FunctionNotFound("Function Not Found")

    nvml = FakeNvml()
    monkeypatch.setattr(nvml, "nvmlDeviceGetProcessUtilization", unknown)
    assert Gpus(nvml).percent_by_process() == {}


def test_nvml_starts_once_and_again_after_a_failure() -> None:
    nvml = FakeNvml(broken=True)
    gpus = Gpus(nvml)
    with pytest.raises(Unsupported, match="Driver Not Loaded"):
        gpus.probe()
    nvml.broken = False
    gpus.probe()
    gpus.probe()
    assert nvml.started == 2


def test_no_card() -> None:
    with pytest.raises(Unsupported, match="no GPU that it may use"):
        Gpus(FakeNvml(count=0)).probe()


def test_no_binding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with pytest.raises(Unsupported, match="install the package nvidia-ml-py"):
        Gpus().memory_by_process()
