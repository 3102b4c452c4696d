"""Focus: a fixed boost for what a person favours, and a step back for the other jobs, until it is lifted.

What was before is kept in the journal, so that a daemon that was killed puts it back when it starts again.
"""

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from llmos.errors import LlmosError, NotFound
from llmos.kernel.job import Job
from llmos.kernel.targets import JobTarget, ProcessTarget, Resolved
from llmos.machine import priority
from llmos.machine.identity import Identity, with_descendants
from llmos.machine.priority import Priority

if TYPE_CHECKING:
    from llmos.kernel.kernel import Kernel

_FACT = "focus"


class Focus:
    """What is favoured now, by the key of its target."""

    def __init__(self, kernel: "Kernel") -> None:
        self._kernel = kernel
        self._held: dict[str, dict[str, Any]] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._tasks: set[asyncio.Task[Any]] = set()

    async def restore(self) -> None:
        """Take up what is favoured still, and put back what is over."""
        self._held = await self._kernel.journal.fact(_FACT) or {}
        for key, entry in list(self._held.items()):
            if entry["until"] is not None:
                self._expire_at(key, entry["until"])

    async def close(self) -> None:
        """Put everything back."""
        for key in list(self._held):
            await self.lift(key)

    async def favour(self, target: Resolved, seconds: float | None) -> str:
        """Favour a target for a time, or until it is lifted; returns its key.

        :raises Forbidden: priority may not be raised.
        """
        roots = self._roots(target)
        if not roots:
            raise NotFound(f"{_name(target)} has no process that could be favoured")
        others = [
            job for job in self._kernel.supervisor.jobs.values() if job.pid is not None and job.name != _name(target)
        ]
        if target.key in self._held:
            await self.lift(target.key)
        changed = await asyncio.to_thread(self._apply, roots, others)
        until = time.time() + seconds if seconds is not None else None
        self._held[target.key] = {"name": _name(target), "until": until, "before": changed}
        self._kernel.journal.remember(_FACT, self._held)
        if until is not None:
            self._expire_at(target.key, until)
        self._kernel.journal.note("focus.set", _name(target), None, {"key": target.key, "until": until})
        return target.key

    async def lift(self, key: str) -> None:
        """Favour it no longer.

        :raises NotFound: it is not favoured.
        """
        entry = self._held.pop(key, None)
        if entry is None:
            raise NotFound("it is not favoured")
        if (timer := self._timers.pop(key, None)) is not None:
            timer.cancel()
        await asyncio.to_thread(_put_back, entry["before"])
        self._kernel.journal.remember(_FACT, self._held)
        self._kernel.journal.note("focus.lifted", entry["name"], None, {"key": key})

    def keys(self, target: Resolved | None) -> list[str]:
        """The keys of what is favoured: of a target, or all."""
        if target is None:
            return list(self._held)
        return [key for key, entry in self._held.items() if key == target.key or entry["name"] == _name(target)]

    def _roots(self, target: Resolved) -> list[Identity]:
        if isinstance(target, ProcessTarget):
            return [target.identity]
        job = self._kernel.supervisor.jobs.get(_name(target))
        return [job.identity] if job is not None and job.identity is not None else []

    def _apply(self, roots: Sequence[Identity], others: Sequence[Job]) -> dict[str, Any]:
        before: dict[str, Any] = {}
        _change(with_descendants(roots), "high", before)
        try:
            for job in others:
                with suppress(NotFound):
                    _change(self._kernel.confinement.members(job), "low", before)
        except LlmosError:
            _put_back(before)
            raise
        return before

    def _expire_at(self, key: str, until: float) -> None:
        def over() -> None:
            task = asyncio.get_running_loop().create_task(self._expire(key))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        self._timers[key] = asyncio.get_running_loop().call_later(max(0.0, until - time.time()), over)

    async def _expire(self, key: str) -> None:
        with suppress(NotFound):
            await self.lift(key)


def _name(target: Resolved) -> str:
    return target.name if isinstance(target, ProcessTarget | JobTarget) else ""


def _change(identities: Sequence[Identity], word: str, before: dict[str, Any]) -> None:
    for identity in identities:
        with suppress(NotFound):
            before.setdefault(identity.as_text(), priority.get(identity).as_json())
    priority.apply(identities, word)


def _put_back(before: dict[str, Any]) -> None:
    for text, state in before.items():
        with suppress(NotFound):
            priority.restore(Identity.from_text(text), Priority.from_json(state))
