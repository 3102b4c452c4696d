"""The interface of all levers: what one stands at for a subject, moving it, and putting back what a move changed.

Synchronous; llmosd calls them in threads. A `Change` holds all that putting back takes, as JSON for the journal.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, Self, TypeVar

from llmos.machine.identity import Identity

Setting = TypeVar("Setting")


@dataclass(frozen=True, slots=True)
class Subject:
    """Whom a lever acts on: processes, the main one first, and the name of the cgroup group that a job has."""

    processes: Sequence[Identity]
    group: str | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """What a lever moved: from where, to where, and in `kept` whatever else `undo` needs."""

    actuator: str
    before: Any
    after: Any
    group: str | None = None
    kept: dict[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """For the journal."""
        return {
            "actuator": self.actuator,
            "before": self.before,
            "after": self.after,
            "group": self.group,
            "kept": self.kept,
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """What `as_json` wrote."""
        return cls(data["actuator"], data["before"], data["after"], data["group"], data["kept"])


class Actuator(ABC, Generic[Setting]):
    """One lever."""

    name: ClassVar[str]
    unit: ClassVar[str]
    """In what `read` and `set` count."""

    @abstractmethod
    def probe(self) -> str:
        """Why it cannot be used on this machine; empty when it can."""

    @abstractmethod
    def read(self, subject: Subject) -> Setting:
        """Where it stands for the subject.

        :raises NotFound: none of its processes lives any more.
        """

    @abstractmethod
    def set(self, subject: Subject, setting: Setting) -> Change:
        """Move it; returns what puts it back.

        :raises NotFound: none of its processes lives any more.
        :raises Forbidden: it is not ours to move; nothing was changed then.
        :raises Unsupported: it does not work on this subject.
        """

    def foreseen(self, subject: Subject, setting: Setting) -> Change:
        """What `set` would return, as far as that can be known before anything is moved: for the journal.

        :raises NotFound: none of its processes lives any more.
        """
        return Change(self.name, self.read(subject), setting, subject.group)

    @abstractmethod
    def undo(self, change: Change) -> None:
        """Put back what a change moved; what has ended meanwhile is left out.

        :raises Forbidden: it may not be put back.
        """
