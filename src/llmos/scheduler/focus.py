"""Focus: a fixed boost for what a person favours, and a step back for the other jobs, until it is lifted.

How everything stood before is kept in the journal, so that a daemon that was killed can still put it back.
"""

import asyncio
import logging
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from llmos.errors import Conflict, LlmosError, NotFound
from llmos.kernel.caller import Caller
from llmos.kernel.job import Job
from llmos.kernel.targets import JobTarget, ProcessTarget, Resolved
from llmos.kernel.timers import Timers
from llmos.machine import priority
from llmos.machine.identity import Identity, with_descendants
from llmos.machine.priority import Priority

if TYPE_CHECKING:
    from llmos.kernel.kernel import Kernel

log = logging.getLogger("llmos.focus")

_FACT = "focus"


class Focus:
    """What is favoured now, by its key (`job NAME` or a process's identity)."""

    def __init__(self, kernel: "Kernel") -> None:
        self._kernel = kernel
        self._held: dict[str, dict[str, Any]] = {}
        self._before: dict[str, Any] = {}
        self._timers = Timers()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._turn = asyncio.Lock()
        kernel.supervisor.start_listeners.append(self._job_started)

    async def restore(self) -> None:
        """Take up what is favoured still, and put back what is over."""
        fact = await self._kernel.journal.fact(_FACT) or {"held": {}, "before": {}}
        self._held, self._before = fact["held"], fact["before"]
        for key in self._held:
            self._expire_in_time(key)

    async def close(self) -> None:
        """Put everything back."""
        self._timers.close()
        for key in list(self._held):
            await self.lift(key)

    async def favour(self, target: Resolved, seconds: float | None, caller: Caller) -> str:
        """Favour a target for a time, or until it is lifted; returns its key.

        :raises NotFound: it has no process.
        :raises Forbidden: priority may not be raised.
        """
        key, name = _key(target), _name(target)
        until = time.time() + seconds if seconds is not None else None
        await self.put_back(key, {"name": name, "uid": caller.uid, "until": until})
        self._kernel.journal.note("focus.set", _subject(target), caller.uid, {"name": name, "until": until})
        return key

    async def put_back(self, key: str, entry: dict[str, Any]) -> None:
        """Favour again what `lift` returned; raises as `favour` does."""
        if not self._roots(key):
            raise NotFound(f"{entry['name']} has no process that could be favoured")
        earlier = self._held.get(key)
        self._held[key] = entry
        try:
            await self._apply()
        except LlmosError:
            self._held.pop(key)
            if earlier is not None:
                self._held[key] = earlier
            await self._apply()
            raise
        self._expire_in_time(key)

    async def lift(self, key: str) -> dict[str, Any]:
        """Favour it no longer; returns what `put_back` needs.

        :raises NotFound: it is not favoured.
        """
        entry = self._held.pop(key, None)
        if entry is None:
            raise NotFound("it is not favoured any more")
        self._timers.cancel(key)
        await self._apply()
        self._kernel.journal.note("focus.lifted", key.removeprefix("job "), entry["uid"], {"name": entry["name"]})
        return entry

    @property
    def favoured(self) -> frozenset[str]:
        """The keys of all that is favoured."""
        return frozenset(self._held)

    def keys(self, target: Resolved | None, caller: Caller) -> list[str]:
        """The keys of what is favoured and the caller's to lift: of a target, or all."""
        return [
            key
            for key, entry in self._held.items()
            if caller.may_touch(entry["uid"]) and (target is None or key == _key(target))
        ]

    def _roots(self, key: str) -> list[Identity]:
        if not key.startswith("job "):
            return [Identity.from_text(key.removeprefix("process "))]
        job = self._kernel.supervisor.jobs.get(key.removeprefix("job "))
        return [job.identity] if job is not None and job.identity is not None else []

    async def _apply(self) -> None:
        """Make every priority what it is to be now, and remember how it was."""
        async with self._turn:
            roots = [root for key in self._held for root in self._roots(key)]
            others = [
                job
                for job in self._kernel.supervisor.jobs.values()
                if job.pid is not None
                and f"job {job.name}" not in self._held
                and any(entry["uid"] in (0, job.uid) for entry in self._held.values())
            ]
            await asyncio.to_thread(self._change, roots, others)
            self._kernel.journal.remember(_FACT, {"held": self._held, "before": self._before})

    def _change(self, roots: Sequence[Identity], others: Sequence[Job]) -> None:
        wanted = dict.fromkeys(with_descendants(roots), "high")
        for job in others:
            with suppress(NotFound, Conflict):  # it has just ended
                for member in self._kernel.confinement.members(job):
                    wanted.setdefault(member, "low")
        for text in list(self._before):
            if Identity.from_text(text) not in wanted:
                with suppress(NotFound):
                    priority.restore(Identity.from_text(text), Priority.from_json(self._before[text]))
                del self._before[text]
        for identity, word in wanted.items():
            with suppress(NotFound):
                self._before.setdefault(identity.as_text(), priority.get(identity).as_json())
                priority.apply([identity], word)

    def _job_started(self, job: Job) -> None:
        if self._held:
            self._task(self._apply())

    def _expire_in_time(self, key: str) -> None:
        self._timers.cancel(key)
        if (until := self._held[key]["until"]) is not None:
            self._timers.set(key, until, lambda: self._task(self.lift(key)))

    def _task(self, work: Any) -> None:
        async def run() -> None:
            try:
                await work
            except LlmosError as error:
                log.warning("%s", error)

        task = asyncio.get_running_loop().create_task(run())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _key(target: Resolved) -> str:
    """What a target is favoured as: a job whatever process it has."""
    return f"job {target.name}" if isinstance(target, JobTarget) else target.key


def _subject(target: Resolved) -> str:
    return _name(target) if isinstance(target, JobTarget) else target.key


def _name(target: Resolved) -> str:
    return target.name if isinstance(target, ProcessTarget | JobTarget) else ""
