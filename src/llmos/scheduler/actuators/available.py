"""Which levers this machine has: all are probed at the start, and again when asked, for rights and controllers come and go."""

from pathlib import Path
from typing import Any

from llmos.errors import Unsupported
from llmos.machine.cgroup import Cgroups
from llmos.scheduler.actuators.actuator import Actuator, Change
from llmos.scheduler.actuators.group_levers import CpuWeight, IoWeight, MemoryHigh
from llmos.scheduler.actuators.hold import Hold
from llmos.scheduler.actuators.thread_levers import Affinity, IoPriority, Nice, Slice, TimerSlack

_SCHED_EXT = Path("/sys/kernel/sched_ext")


class Actuators:
    """All levers by name, the gentle ones first and holding last; `missing` says why one cannot be used."""

    def __init__(self, cgroups: Cgroups, *, sched_ext: Path = _SCHED_EXT) -> None:
        self._sched_ext = sched_ext
        self._all: list[Actuator[Any]] = [
            CpuWeight(cgroups),
            MemoryHigh(cgroups),
            IoWeight(cgroups),
            Nice(),
            IoPriority(),
            Affinity(),
            TimerSlack(),
            Slice(),
            Hold(cgroups),
        ]
        self.missing: dict[str, str] = {}
        self.note = ""
        """What makes levers mean less than they say; empty where nothing does."""
        self.probe()

    def probe(self) -> None:
        """Look again at which of them can be used."""
        self.missing = {each.name: reason for each in self._all if (reason := each.probe())}
        self.note = self._scheduler_note()

    @property
    def usable(self) -> list[str]:
        """The names of those that can be used."""
        return [each.name for each in self._all if each.name not in self.missing]

    def __getitem__(self, name: str) -> Actuator[Any]:
        """One that can be used.

        :raises Unsupported: this machine does not have it.
        """
        if name in self.missing:
            raise Unsupported(self.missing[name])
        return next(each for each in self._all if each.name == name)

    def undo(self, change: Change) -> None:
        """Put back what a change moved, be its lever usable for something new or not. Raises Forbidden."""
        next(each for each in self._all if each.name == change.actuator).undo(change)

    def _scheduler_note(self) -> str:
        try:
            if (self._sched_ext / "state").read_text(encoding="utf-8").strip() != "enabled":
                return ""
            name = (self._sched_ext / "root" / "ops").read_text(encoding="utf-8").strip()
        except OSError:
            return ""
        return (
            f"the scheduler {name or 'of sched_ext'} is loaded: weights, niceness and slices mean what it makes of them"
        )
