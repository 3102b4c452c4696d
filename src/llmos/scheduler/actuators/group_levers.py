"""Levers on a group of processes, by cgroup v1 or v2: its weight for the CPU, for disks, and when its memory is reclaimed.

A subject without a place in the controller's hierarchy is given one: its processes join its group there when the lever is
moved, and go back to where they were when it is undone.
"""

from abc import abstractmethod
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from llmos.errors import NotFound, Unsupported
from llmos.machine.cgroup import Cgroups
from llmos.machine.cgroup_moves import Origins, gather, give_back, origins_as_json, origins_from_json
from llmos.machine.identity import Identity
from llmos.scheduler.actuators.actuator import Actuator, Change, Subject


@dataclass(frozen=True, slots=True)
class _Lever:
    controller: str
    get: Callable[[str], Any]
    put: Callable[[str, Any], None]
    usual: Any  # what a new group stands at


class GroupActuator(Actuator[Any]):
    """What the levers on groups share."""

    def __init__(self, cgroups: Cgroups) -> None:
        self._cgroups = cgroups
        self._lever = self._of(cgroups)

    @classmethod
    @abstractmethod
    def _of(cls, cgroups: Cgroups) -> _Lever:
        """What is moved, and how."""

    def probe(self) -> str:
        return self._cgroups.why_not(self._lever.controller)

    def read(self, subject: Subject) -> Any:
        group = self._group(subject)
        if not self._cgroups.exists(group, self._lever.controller):
            return self._lever.usual
        return self._lever.get(group)

    def set(self, subject: Subject, setting: Any) -> Change:
        if not any(identity.alive() for identity in subject.processes):
            raise NotFound("none of the processes lives any more")
        group, before = self._group(subject), self.read(subject)
        origins: Origins = {}
        self._cgroups.create(group, [self._lever.controller])
        with ExitStack() as undo:
            undo.callback(give_back, self._cgroups, origins)
            undo.callback(self._lever.put, group, before)
            self._lever.put(group, setting)
            gather(self._cgroups, group, subject.processes, [self._lever.controller], origins)
            undo.pop_all()
        return Change(self.name, before, setting, group, {"origins": origins_as_json(origins)})

    def foreseen(self, subject: Subject, setting: Any) -> Change:
        return replace(super().foreseen(subject, setting), kept={"origins": {}})

    def undo(self, change: Change) -> None:
        assert change.group is not None  # as `set` made it
        if not self._cgroups.exists(change.group, self._lever.controller):
            return
        give_back(self._cgroups, origins_from_json(change.kept["origins"]))
        self._lever.put(change.group, change.before)

    def _group(self, subject: Subject) -> str:
        if subject.group is None:
            raise Unsupported(f"{self.name} takes a group of llmos's own, which only jobs have")
        return subject.group


class CpuWeight(GroupActuator):
    """cpu.weight of v2, cpu.shares of v1."""

    name: ClassVar[str] = "cpu weight"
    unit: ClassVar[str] = "1 to 10000, 100 by default"

    @classmethod
    def _of(cls, cgroups: Cgroups) -> _Lever:
        return _Lever("cpu", cgroups.weight, cgroups.set_weight, 100)

    def born(self, name: str, main: Identity) -> Change | None:
        """What moves a process that was born in its own group out of it; None where it was not. Raises NotFound."""
        group = self._cgroups.directory(name, "cpu")
        if self._cgroups.place(main, "cpu") != group:
            return None
        outside = [
            self._cgroups.nearest(self._cgroups.directory(name, part).parent) for part in self._cgroups.parts(["cpu"])
        ]
        return Change(self.name, 100, 100, name, {"origins": origins_as_json({main: outside})})


class MemoryHigh(GroupActuator):
    """memory.high of v2; of v1 the soft limit, which counts only when the machine is short of memory."""

    name: ClassVar[str] = "memory high"
    unit: ClassVar[str] = "bytes, or none"

    @classmethod
    def _of(cls, cgroups: Cgroups) -> _Lever:
        return _Lever("memory", cgroups.memory_high, cgroups.set_memory_high, None)


class IoWeight(GroupActuator):
    """io.weight of v2, and that of the BFQ scheduler on v1 and v2, which counts on disks that BFQ schedules."""

    name: ClassVar[str] = "io weight"
    unit: ClassVar[str] = "1 to 1000, 100 by default"

    @classmethod
    def _of(cls, cgroups: Cgroups) -> _Lever:
        return _Lever("io", cgroups.io_weight, cgroups.set_io_weight, 100)
