"""All jobs by name: looked up, moved from state to state, and waited for.

Every change of a job goes through `_move`, which asks the state machine, writes the job and an event to the journal and
wakes who waits for it.
"""

import asyncio
from collections.abc import Iterable
from typing import Any

from llmos.errors import Conflict, NotFound
from llmos.kernel.job import Job, JobList, JobRow
from llmos.kernel.journal import Journal
from llmos.kernel.states import ALIVE, Move, State, transition


class JobTable:
    """The jobs of one daemon."""

    def __init__(self, journal: Journal) -> None:
        self.jobs: dict[str, Job] = {}
        self._journal = journal
        self._pids: dict[int, Job] = {}
        self._waiters: dict[str, list[asyncio.Future[None]]] = {}
        self._waiting: dict[str, dict[str, Job]] = {}
        """The jobs that wait for others, by the name of each of those and their own."""
        self._rows: dict[str, JobRow] = {}
        self._list: JobList | None = None

    def listing(self) -> JobList:
        """Every job as callers see it; of those that have not changed, nothing is made anew."""
        if self._list is None:
            self._list = self.listing_of(self.jobs)
        return self._list

    def listing_of(self, names: Iterable[str]) -> JobList:
        """These jobs as callers see them.

        :raises NotFound: there is none of a name.
        """
        return JobList([self._rows.get(name) or self._row(name) for name in names])

    def _row(self, name: str) -> JobRow:
        row = self._rows[name] = JobRow(self.get(name))
        return row

    def get(self, name: str) -> Job:
        """The job of that name.

        :raises NotFound: there is none.
        """
        try:
            return self.jobs[name]
        except KeyError:
            raise NotFound(f"there is no job {name!r}; `llmos jobs` lists them", name=name) from None

    def by_pid(self, pid: int) -> Job | None:
        """The job whose main process that is; may be called from any thread."""
        return self._pids.get(pid)

    def free_name(self, wanted: str) -> str:
        """`wanted`, or `wanted-2`, `wanted-3`… where it is taken."""
        name, number = wanted, 1
        while name in self.jobs:
            number += 1
            name = f"{wanted}-{number}"
        return name

    def ended(self, job: Job) -> asyncio.Future[None]:
        """A future that is done when the job's run has ended, or it came to rest without one; cancel it when done."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting = self._waiters.setdefault(job.name, [])
        waiting.append(future)
        future.add_done_callback(lambda done: waiting.remove(done) if done in waiting else None)
        return future

    async def at_rest(self, job: Job) -> None:
        """Return once the job neither runs nor is about to be restarted."""
        while job.state in ALIVE or job.state is State.BACKOFF:
            await self.ended(job)

    def _waiting_for(self, job: Job) -> list[Job]:
        """The jobs that wait for it."""
        return list(self._waiting.get(job.name, {}).values())

    def _waits(self, job: Job) -> None:
        for name in job.after:
            self._waiting.setdefault(name, {})[job.name] = job

    def _waits_no_more(self, job: Job) -> None:
        for name in job.after:
            if (waiting := self._waiting.get(name)) is not None:
                waiting.pop(job.name, None)
                if not waiting:
                    del self._waiting[name]

    def _next(self, job: Job, move: Move) -> State:
        try:
            return transition(job.state, move)
        except Conflict as problem:
            raise Conflict(f"{job.name}: {problem.message}") from None

    def _move(self, job: Job, move: Move, reason: str) -> None:
        self._set_state(job, self._next(job, move), reason)

    def _cards_came_free(self) -> None:
        """Who gives out GPUs looks who waits for them."""

    def _release_waiters(self, job: Job) -> None:
        for waiter in self._waiters.pop(job.name, []):
            if not waiter.done():
                waiter.set_result(None)

    def _set_state(self, job: Job, state: State, reason: str) -> None:
        was, job.state, job.reason = job.state, state, reason
        if was is State.WAITING:
            self._waits_no_more(job)
        if state is State.WAITING:
            self._waits(job)
        elif state is not State.STARTING:
            job.gpu_since = None
        if job.cards and state not in ALIVE:
            job.cards = []
            self._cards_came_free()
        self._note(job, str(state), {"from": str(was), "to": str(state), "reason": reason})
        if state in (State.STOPPED, State.FAILED, State.BACKOFF):
            self._release_waiters(job)

    def _changed(self, job: Job) -> None:
        self._list = None
        self._rows.pop(job.name, None)

    def _note(self, job: Job, what: str, body: dict[str, Any]) -> None:
        self._changed(job)
        self._journal.save_job(job.name, job.record())
        self._journal.note(f"job.{what}", job.name, job.uid, {"pid": job.pid, **body})
