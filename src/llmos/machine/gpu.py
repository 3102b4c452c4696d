"""The GPUs, through NVML: the one seam between llmos and the vendor's library.

`pynvml` (the package nvidia-ml-py) is an optional extra and needs the NVIDIA driver's libnvidia-ml. Without either every
method raises Unsupported. Synchronous: the first call may take a second while the driver wakes; the daemon calls it in a
thread. NVML itself is safe to call from several threads.
"""

import functools
import importlib
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from llmos.errors import Unsupported
from llmos.machine.row import Row


@dataclass(frozen=True, slots=True)
class Card(Row):
    """One GPU now. What the card does not tell (many do not tell power or temperature) is None."""

    index: int
    uuid: str
    name: str
    memory_total_bytes: int
    memory_used_bytes: int
    percent: float | None
    temperature_celsius: float | None
    power_watts: float | None


class Gpus:
    """All GPUs of the machine. `nvml` is the pynvml module; None imports it when first needed."""

    def __init__(self, nvml: Any = None) -> None:
        self._nvml = nvml
        self._ready = False
        self._lock = threading.Lock()

    def probe(self) -> list[Card]:
        """Every card, by index.

        Raises:
            Unsupported: no NVML, or no card.
        """
        with self._reading() as handles:
            return [self._card(index, handle) for index, handle in enumerate(handles)]

    def memory_by_process(self) -> dict[int, int]:
        """Bytes of GPU memory, over all cards, by pid. A process in another pid namespace has that namespace's number.

        Raises:
            Unsupported: no NVML, or no card.
        """
        total: Counter[int] = Counter()
        with self._reading() as handles:
            listings = self._nvml.nvmlDeviceGetComputeRunningProcesses, self._nvml.nvmlDeviceGetGraphicsRunningProcesses
            for handle in handles:
                # A process that computes and draws is in both lists, each time with all it holds.
                held = {
                    process.pid: process.usedGpuMemory or 0
                    for listing in listings
                    for process in self._told(listing, handle) or []
                }
                total.update(held)
        return dict(total)

    def percent_by_process(self, since_microseconds: int = 0) -> dict[int, float]:
        """Percent of one card's multiprocessors, summed over cards, by pid: the latest sample after a time since the epoch.

        Raises:
            Unsupported: no NVML, or no card.
        """
        total: dict[int, float] = {}
        with self._reading() as handles:
            for handle in handles:
                samples = self._told(self._nvml.nvmlDeviceGetProcessUtilization, handle, since_microseconds) or []
                latest = {each.pid: each.smUtil for each in sorted(samples, key=lambda each: each.timeStamp)}
                for pid, percent in latest.items():
                    total[pid] = total.get(pid, 0.0) + percent
        return total

    def _card(self, index: int, handle: Any) -> Card:
        nvml = self._nvml
        memory = nvml.nvmlDeviceGetMemoryInfo(handle)
        utilization = self._told(nvml.nvmlDeviceGetUtilizationRates, handle)
        power = self._told(nvml.nvmlDeviceGetPowerUsage, handle)
        return Card(
            index=index,
            uuid=_text(nvml.nvmlDeviceGetUUID(handle)),
            name=_text(nvml.nvmlDeviceGetName(handle)),
            memory_total_bytes=memory.total,
            memory_used_bytes=memory.used,
            percent=None if utilization is None else float(utilization.gpu),
            temperature_celsius=self._told(nvml.nvmlDeviceGetTemperature, handle, nvml.NVML_TEMPERATURE_GPU),
            power_watts=None if power is None else power / 1000,
        )

    @contextmanager
    def _reading(self) -> Iterator[list[Any]]:
        """The handles of all cards; what NVML raises meanwhile becomes Unsupported."""
        with self._lock:
            if self._nvml is None:
                self._nvml = _import_nvml()
        nvml = self._nvml
        try:
            with self._lock:
                if not self._ready:
                    nvml.nvmlInit()
                    self._ready = True
            count = nvml.nvmlDeviceGetCount()
            if count == 0:
                raise Unsupported("the NVIDIA driver is there, but no GPU that it may use: see `nvidia-smi -L`")
            yield [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(count)]
        except nvml.NVMLError as error:
            raise Unsupported(f"no GPU can be read, the NVIDIA driver says: {error}; see `nvidia-smi`") from error

    def _told(self, ask: Callable[..., Any], *arguments: Any) -> Any:
        """The answer, or None where this card or driver does not tell it, or has no sample."""
        nvml = self._nvml
        try:
            return ask(*arguments)
        except (nvml.NVMLError_NotSupported, nvml.NVMLError_NotFound, nvml.NVMLError_NoPermission):
            return None


@functools.cache
def gpus() -> Gpus:
    """The GPUs of this machine."""
    return Gpus()


def _import_nvml() -> Any:
    try:
        return importlib.import_module("pynvml")
    except ImportError:
        raise Unsupported(
            "GPUs are read through NVML, and its Python binding is not installed: "
            "install the package nvidia-ml-py beside llmos (NVIDIA GPUs only)"
        ) from None


def _text(name: str | bytes) -> str:
    return name.decode() if isinstance(name, bytes) else name
