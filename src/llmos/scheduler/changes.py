"""What the scheduler has changed and not yet put back: each with its inverse in the journal before it is done.

Whatever somebody else has set since is theirs: it is left as it is, here and after a crash.
"""

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Self

from llmos.errors import LlmosError, NotFound, Unavailable
from llmos.kernel.journal import Journal
from llmos.machine.identity import Identity
from llmos.scheduler.actuators.actuator import Change, Subject
from llmos.scheduler.actuators.available import Actuators

_FACT = "scheduler changes"


@dataclass(slots=True)
class _Held:
    """How to put it back, and what it may stand at by our doing."""

    subject: Subject
    change: Change
    ours: list[Any] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        return {
            "processes": [identity.as_text() for identity in self.subject.processes],
            "group": self.subject.group,
            "change": self.change.as_json(),
            "ours": self.ours,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        subject = Subject(tuple(map(Identity.from_text, data["processes"])), data["group"])
        return cls(subject, Change.from_json(data["change"]), list(data["ours"]))


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a lever is to be set to, for whom."""

    key: str
    subject: Subject
    lever: str
    setting: Any


class Changes:
    """By key; one lever a key."""

    def __init__(self, journal: Journal, actuators: Actuators) -> None:
        self._journal = journal
        self._actuators = actuators
        self._held: dict[str, _Held] = {}

    def __contains__(self, key: object) -> bool:
        return key in self._held

    def __iter__(self) -> Iterator[str]:
        """The keys of all that is changed."""
        return iter(list(self._held))

    def lever(self, key: str) -> str | None:
        """Which lever is changed for a key, None where none is."""
        return self._held[key].change.actuator if key in self._held else None

    def standing(self, key: str) -> Any:
        """What the lever stands at by our doing, None where nothing is changed."""
        return self._held[key].ours[-1] if key in self._held else None

    async def restore(self) -> dict[str, str]:
        """Put back what an llmosd before has left; returns what came of each."""
        found: Mapping[str, Any] = await self._journal.fact(_FACT) or {}
        self._held = {key: _Held.from_json(data) for key, data in found.items()}
        return await self.take_back(self)

    async def make(self, wanted: Sequence[Wanted]) -> dict[str, str]:
        """Set what is wanted; returns why not, for those that failed.

        :raises Unavailable: the journal does not take the inverses, and nothing is changed.
        """
        failed: dict[str, str] = {}
        intended = await asyncio.to_thread(self._intend, wanted, failed)
        await self._write({**self._held, **intended}, checked=True)
        self._held |= intended
        await asyncio.to_thread(self._set, [each for each in wanted if each.key in intended], failed)
        await self._write(self._held)
        return failed

    async def adopt(self, key: str, subject: Subject, change: Change) -> None:
        """Take charge of a change that came about by other means, to put it back with all others."""
        self._held[key] = _Held(subject, change, [change.after])
        await self._write(self._held)

    async def take_back(self, keys: Iterable[str]) -> dict[str, str]:
        """Put these back; returns what came of each: empty where it is as it was before."""
        wanted = [key for key in keys if key in self._held]
        if not wanted:
            return {}
        came = await asyncio.to_thread(lambda: {key: self._undo(self._held[key]) for key in wanted})
        for key in wanted:
            del self._held[key]
        await self._write(self._held)
        return came

    async def let_go(self, key: str) -> None:
        """Leave what is set to who has set it since, or to what has ended."""
        if self._held.pop(key, None) is not None:
            await self._write(self._held)

    def set_by_others(self) -> dict[str, str]:
        """Of what is changed, that which somebody has set since: key to what it stands at now. Blocks."""
        found = {}
        for key, held in list(self._held.items()):
            with suppress(LlmosError):
                now = self._actuators[held.change.actuator].read(held.subject)
                if now not in held.ours:
                    found[key] = f"its {held.change.actuator} was set to {now}"
        return found

    def _intend(self, wanted: Sequence[Wanted], failed: dict[str, str]) -> dict[str, _Held]:
        """What will have to be put back, as far as that can be known beforehand."""
        intended: dict[str, _Held] = {}
        for each in wanted:
            try:
                if (held := self._held.get(each.key)) is not None:
                    intended[each.key] = replace(held, ours=[held.ours[-1], each.setting])
                    continue
                change = self._actuators[each.lever].foreseen(each.subject, each.setting)
                intended[each.key] = _Held(each.subject, change, [change.before, each.setting])
            except LlmosError as error:
                failed[each.key] = error.message
        return intended

    def _set(self, wanted: Sequence[Wanted], failed: dict[str, str]) -> None:
        for each in wanted:
            held = self._held[each.key]
            try:
                change = self._actuators[each.lever].set(each.subject, each.setting)
            except LlmosError as error:
                failed[each.key] = error.message
                if len(held.ours) > 1:
                    held.ours.pop()
                if held.ours[-1] == held.change.before:
                    self._undo(held)
                    self._held.pop(each.key, None)
                continue
            held.subject, held.ours = each.subject, [each.setting]
            held.change = _joined(held.change, change)

    def _undo(self, held: _Held) -> str:
        try:
            now = self._actuators[held.change.actuator].read(held.subject)
            if now not in held.ours:
                return f"left as it is: its {held.change.actuator} was set to {now} by somebody"
            self._actuators.undo(held.change)
        except NotFound:
            return "it has ended"
        except LlmosError as error:
            return error.message
        return ""

    async def _write(self, held: Mapping[str, _Held], *, checked: bool = False) -> None:
        fact = {key: each.as_json() for key, each in held.items()}
        self._journal.remember(_FACT, fact)
        if checked and await self._journal.fact(_FACT) != fact:  # read back, it outlives us
            raise Unavailable("the journal cannot be written, so the scheduler changes nothing")


def _joined(first: Change, then: Change) -> Change:
    """What puts both back: what was there before the first, and what only the second has found."""
    kept = {name: {**then.kept.get(name, {}), **found} for name, found in first.kept.items()}
    return replace(first, after=then.after, kept={**then.kept, **kept})
