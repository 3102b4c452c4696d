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
from contextlib import contextmanager, suppress
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
        """Every card that can be read, by index; one that has fallen off the bus is none.

        Raises:
            Unsupported: no NVML, or no card.
        """
        cards, problem = [], None
        with self._reading() as handles:
            for index, handle in handles.items():
                try:
                    cards.append(self._card(index, handle))
                except self._nvml.NVMLError as error:
                    problem = error
            if problem is not None and not cards:
                raise problem
        return cards

    def memory_by_process(self) -> dict[int, int]:
        """Bytes of GPU memory, over all cards, by pid. A process in another pid namespace has that namespace's number.

        Raises:
            Unsupported: no NVML, or no card.
        """
        total: Counter[int] = Counter()
        for held in self.memory_by_card().values():
            total.update(held)
        return dict(total)

    def memory_by_card(self) -> dict[str, dict[int, int]]:
        """Bytes of GPU memory by pid, of each card by its UUID.

        Raises:
            Unsupported: no NVML, or no card.
        """
        found: dict[str, dict[int, int]] = {}
        with self._reading() as handles:
            listings = self._nvml.nvmlDeviceGetComputeRunningProcesses, self._nvml.nvmlDeviceGetGraphicsRunningProcesses
            for handle in handles.values():
                if (uuid := self._told(self._nvml.nvmlDeviceGetUUID, handle)) is None:
                    continue
                # A process that computes and draws is in both lists, each time with all it holds.
                found[_text(uuid)] = {
                    process.pid: process.usedGpuMemory or 0
                    for listing in listings
                    for process in self._told(listing, handle) or []
                }
        return found

    def percent_by_process(self, since_microseconds: int = 0) -> dict[int, float]:
        """Percent of one card's multiprocessors, summed over cards, by pid: the latest sample after a time since the epoch.

        Raises:
            Unsupported: no NVML, or no card.
        """
        total: dict[int, float] = {}
        with self._reading() as handles:
            for handle in handles.values():
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
    def _reading(self) -> Iterator[dict[int, Any]]:
        """The handles of all cards, by index; what NVML raises meanwhile becomes Unsupported."""
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
            handles = {index: self._told(nvml.nvmlDeviceGetHandleByIndex, index) for index in range(count)}
            if not (found := {index: handle for index, handle in handles.items() if handle is not None}):
                raise Unsupported("the NVIDIA driver is there, but has lost its GPUs: see `nvidia-smi`")
            yield found
        except nvml.NVMLError as error:
            self._begin_anew()
            raise Unsupported(f"no GPU can be read, the NVIDIA driver says: {error}; see `nvidia-smi`") from error

    def _begin_anew(self) -> None:
        """Have the next read start NVML again: a driver that was loaded anew knows nothing of the old."""
        with self._lock:
            if self._ready:
                self._ready = False
                with suppress(self._nvml.NVMLError):
                    self._nvml.nvmlShutdown()

    def _told(self, ask: Callable[..., Any], *arguments: Any) -> Any:
        """The answer, or None where this card or driver does not tell it, has no sample, or the card is lost."""
        nvml = self._nvml
        try:
            return ask(*arguments)
        except (
            nvml.NVMLError_NotSupported,
            nvml.NVMLError_FunctionNotFound,
            nvml.NVMLError_NotFound,
            nvml.NVMLError_NoPermission,
            nvml.NVMLError_GpuIsLost,
        ):
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
