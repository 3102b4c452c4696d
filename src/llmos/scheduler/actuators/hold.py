"""Holding processes still: by the freezer where there is one, by SIGSTOP as the last resort."""

from typing import ClassVar

from llmos.errors import BadInput, NotFound
from llmos.machine import freezer
from llmos.machine.cgroup import Cgroups
from llmos.machine.identity import read_stat
from llmos.scheduler.actuators.actuator import Actuator, Change, Subject


class Hold(Actuator[bool]):
    """Whether the subject is held. It is let go by `undo` alone: only who held it knows how."""

    name: ClassVar[str] = "hold"
    unit: ClassVar[str] = "true"

    def __init__(self, cgroups: Cgroups) -> None:
        self._cgroups = cgroups

    def probe(self) -> str:
        return ""  # every kernel has SIGSTOP

    def read(self, subject: Subject) -> bool:
        group = subject.group
        if group is not None and self._cgroups.exists(group, "freezer") and self._cgroups.freezing(group):
            return True
        states = [read_stat(identity.pid).state for identity in subject.processes if identity.alive()]
        if not states:
            raise NotFound("none of the processes lives any more")
        return states[0] == "T"

    def set(self, subject: Subject, setting: bool) -> Change:
        if not setting:
            raise BadInput("what is held is let go by undoing that", field="hold")
        paused = freezer.pause(subject.processes, self._cgroups, group=subject.group)
        return Change(self.name, False, True, subject.group, paused.as_json())

    def undo(self, change: Change) -> None:
        freezer.resume(freezer.Paused.from_json(change.kept), self._cgroups)
