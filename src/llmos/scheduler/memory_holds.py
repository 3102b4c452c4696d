"""Jobs that are held still for want of memory: paused as a person would pause them, with the scheduler's reason.

Which are held is in the journal before it is done, so that they go on after a crash. Who is let go on by a person is
theirs from then on.
"""

import logging
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from llmos.errors import Conflict, LlmosError, NotFound
from llmos.kernel.states import State
from llmos.scheduler.memory_guard import Act, MemoryGuard, User
from llmos.scheduler.pressure import Memory
from llmos.scheduler.run_history import PastRun
from llmos.scheduler.task import RECENT_SECONDS, Task

if TYPE_CHECKING:
    from llmos.kernel.kernel import Kernel

log = logging.getLogger("llmos.scheduler")

_FACT = "scheduler holds"
_MAX_KINDS = 2000
_FADING = 0.9
"""What an earlier run's memory counts against the next one's."""


class MemoryHolds:
    """By name of the job: `run`, and `since` in seconds of the epoch."""

    def __init__(self, kernel: "Kernel", left_alone: Callable[[Task], str]) -> None:
        self.held: dict[str, dict[str, Any]] = {}
        self._kernel = kernel
        self._left_alone = left_alone
        self._guard = MemoryGuard()
        self._peaks: dict[tuple[str, int], float] = {}

    async def restore(self) -> None:
        """Let go on what an llmosd before held."""
        self.held = await self._kernel.journal.fact(_FACT) or {}
        await self.let_all_go("llmosd had ended while it held it")

    async def let_all_go(self, reason: str) -> None:
        """Hold nothing any more."""
        for name in list(self.held):
            await self._let_go(name, reason, None)

    def note_peak(self, run: PastRun) -> None:
        """The most that the last runs of a kind came to, older ones counting less and less."""
        if run.peak_bytes:
            kind = run.fingerprint, run.uid
            self._peaks[kind] = max(float(run.peak_bytes), _FADING * self._peaks.pop(kind, 0.0))
            if len(self._peaks) > _MAX_KINDS:
                del self._peaks[next(iter(self._peaks))]

    async def forget_released(self) -> list[str]:
        """Forget what has ended, and what somebody has let go on; returns the names of the latter."""
        theirs = []
        for name, held in list(self.held.items()):
            job = self._kernel.supervisor.jobs.get(name)
            if job is not None and job.run == held["run"] and job.state is State.PAUSED:
                continue
            self.held.pop(name)
            await self._remember()
            if job is not None and job.run == held["run"]:
                theirs.append(name)
        return theirs

    async def mind(self, tasks: Sequence[Task], memory: Memory, stalled: float | None) -> None:
        """Hold jobs where memory runs short, or let one go on."""
        for each in [each for each in tasks if each.fresh]:
            if (user := self._user(each)) is not None and user.held_since is None and user.expected_bytes is not None:
                running = [other for other in self._users(tasks) if other.key != user.key and other.held_since is None]
                if (act := self._guard.wait_at_start(user, running, memory)) is not None:
                    await self._hold(each, act, memory)
        by_key = {each.key: each for each in tasks}
        for _ in range(len(by_key)):
            act = self._guard.decide(self._users(tasks), memory, stalled, time.monotonic())
            if act is None:
                break
            if not act.hold:
                await self._let_go(by_key[act.key].subject, act.reason, memory)
                break
            await self._hold(by_key[act.key], act, memory)

    def _users(self, tasks: Sequence[Task]) -> list[User]:
        return [user for each in tasks if (user := self._user(each)) is not None]

    def _user(self, each: Task) -> User | None:
        """A job that may be held or is; None for any other."""
        job = each.job
        if job is None or each.serves():
            return None
        held = self.held.get(job.name)
        if held is None and (job.state is not State.RUNNING or self._left_alone(each)):
            return None
        newest = each.watched.ring.newest()
        return User(
            key=each.key,
            rank=each.rank,
            memory_bytes=newest.memory_bytes if newest is not None else 0.0,
            growth=each.watched.rates(RECENT_SECONDS)[2] if held is None else 0.0,
            expected_bytes=self._peaks.get((each.ranked.program, each.uid)),
            held_since=time.monotonic() - (time.time() - held["since"]) if held is not None else None,
        )

    async def _hold(self, each: Task, act: Act, memory: Memory) -> None:
        job = each.job
        assert job is not None  # only jobs are users
        self.held[job.name] = {"run": job.run, "since": time.time()}
        await self._remember()
        try:
            await self._kernel.supervisor.pause(job, f"held by the scheduler: {act.reason}")
        except LlmosError as error:  # it has just ended, or does not come to rest
            self.held.pop(job.name, None)
            await self._remember()
            log.warning("%s is not held: %s", job.name, error)
            return
        self._note("scheduler.held", job.name, act.reason, memory)

    async def _let_go(self, name: str, reason: str, memory: Memory | None) -> None:
        held = self.held.pop(name)
        job = self._kernel.supervisor.jobs.get(name)
        if job is not None and job.run == held["run"] and job.state is State.PAUSED:
            try:
                await self._kernel.supervisor.resume(job, f"let go on by the scheduler: {reason}")
                self._note("scheduler.let_go", name, reason, memory)
            except (Conflict, NotFound):
                pass  # it has just ended
        await self._remember()

    def _note(self, kind: str, name: str, reason: str, memory: Memory | None) -> None:
        seen = memory and {"available_bytes": memory.available_bytes, "total_bytes": memory.total_bytes}
        self._kernel.journal.note(kind, name, None, {"reason": reason, "seen": seen})

    async def _remember(self) -> None:
        self._kernel.journal.remember(_FACT, self.held)
        await self._kernel.journal.fact(_FACT)  # once it can be read back, it outlives us
