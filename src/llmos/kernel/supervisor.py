"""The supervisor: what is asked for jobs, and what becomes of them when llmosd begins and ends.

Nothing here waits for the disk: who acknowledges a change calls `flush` first.
"""

import asyncio
import logging
import signal
import time
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from llmos.errors import Conflict, LlmosError, NotFound
from llmos.kernel import ordering
from llmos.kernel.job import Job
from llmos.kernel.job_runs import JobRuns
from llmos.kernel.states import ALIVE, AT_REST, Move, State

log = logging.getLogger("llmos.supervisor")

ENDING_SIGNALS = frozenset({signal.SIGTERM, signal.SIGKILL, signal.SIGINT, signal.SIGQUIT})


class Supervisor(JobRuns):
    """All jobs of one daemon, and what makes them run and end."""

    # Acting

    async def define(self, job: Job) -> None:
        """Take on a new job: start it, or wait for its time or for the jobs that it comes after.

        :raises BadInput: it would wait for itself.
        :raises Conflict: a job of that name is there and has not ended, or one that it comes after has failed.
        :raises LlmosError: it cannot be started; nothing is left of it.
        """
        old = self.jobs.get(job.name)
        if old is not None and old.state not in (State.STOPPED, State.FAILED):
            raise Conflict(f"a job {job.name!r} is {old.state} already; stop it first, or choose another name")
        awaited = [self.get(name) for name in job.after]
        if awaited:
            ordering.require_no_cycle(self.jobs, job)
        for other in awaited:
            if other.state is State.FAILED:
                raise Conflict(f"{other.name} has failed already ({other.reason}); start it again first")
        self.jobs[job.name] = job
        if job.schedule:
            self.set_schedule(job, job.schedule)
        elif unmet := [other for other in awaited if not ordering.met(other)]:
            self._move(job, Move.WAIT, f"until {ordering.in_words(unmet)}")
        else:
            try:
                await self.start(job, "as asked")
            except LlmosError:
                if job.state in ALIVE:  # it may have begun
                    raise
                if old is None:
                    with suppress(LlmosError):  # else it stays, failed
                        await self.forget(job)
                else:
                    self.jobs[job.name] = old
                    self._note(old, "kept", {"reason": "its successor of the same name could not be started"})
                raise

    async def stop_each(self, jobs: Iterable[Job], patience: float | None = None, reason: str = "as asked") -> None:
        """Stop jobs, each once those that come after it are stopped; all are tried, and the first failure is raised."""
        problems: list[BaseException] = []
        for wave in reversed(ordering.waves(self.jobs, jobs)):
            done = await asyncio.gather(*(self.stop(job, patience, reason) for job in wave), return_exceptions=True)
            problems += [problem for problem in done if problem is not None]
        if problems:
            raise problems[0]

    async def restart(self, job: Job, reason: str = "restarted as asked") -> None:
        """Stop it where it runs, then start it."""
        if job.state in ALIVE:
            await self.stop(job, reason=reason)
        self._forgive(job)
        job.restarts += 1
        await self.start(job, reason)

    async def kill(self, job: Job, number: int) -> None:
        """Send a signal to the job's main process; one that soon ends it counts as a stop, so it is not restarted.

        :raises Conflict: it has no process.
        """
        if job.run is None or job.pid is None:
            raise Conflict(f"{job.name} is {job.state} and has no process to signal")
        name = signal.Signals(number).name
        if number in ENDING_SIGNALS:
            self._signalled[job.run] = time.time() + self._settings.stop_timeout_seconds, f"{name} as asked"
        await self._reaper.signal(job.run, number, "main")
        self._note(job, "signalled", {"signal": name.removeprefix("SIG"), "reason": "as asked"})
        if number == signal.SIGKILL:
            await self._confinement.resume(job)

    async def pause(self, job: Job, reason: str = "as asked") -> str:
        """Freeze it with all its children; returns what was used."""
        self._next(job, Move.PAUSE)
        means = await self._confinement.pause(job)
        try:
            self._move(job, Move.PAUSE, f"{reason}, by {means}")
        except Conflict:  # it has ended meanwhile, or is to end
            await self._confinement.resume(job)
            raise
        return means

    async def resume(self, job: Job, reason: str = "as asked") -> None:
        """Let it go on."""
        self._next(job, Move.RESUME)
        await self._confinement.resume(job)
        self._move(job, Move.RESUME, reason)

    async def renice(self, job: Job, priority: str, reason: str = "as asked") -> list[str]:
        """Set its priority, now and for later runs; returns notes."""
        notes = await self._confinement.set_priority(job, priority) if job.pid is not None else []
        job.priority = priority
        self._note(job, "reniced", {"priority": priority, "reason": reason})
        return notes

    async def limit(self, job: Job, limits: dict[str, str]) -> dict[str, Any]:
        """Set or lift (`none`) limits, now and for later runs; returns the means used."""
        changed = {name: None if value == "none" else value for name, value in limits.items()}
        used = await self._confinement.set_limits(job, changed)
        for name, value in changed.items():
            setattr(job, name, value)
        self._note(job, "limited", {"limits": limits, **used})
        return used

    def change(self, job: Job, wanted: dict[str, Any]) -> None:
        """Set what needs no new run: how it is restarted, stopped, checked, and bounded in time."""
        fields = {name: {"from": getattr(job, name), "to": value} for name, value in wanted.items()}
        for name, value in wanted.items():
            setattr(job, name, value)
        self._note(job, "changed", {"fields": fields})
        if job.run is None or job.pid is None:
            return
        if "timeout" in wanted:
            self._set_deadline(job)
        if "health" in wanted and job.state in (State.RUNNING, State.PAUSED):
            if (looker := self._lookers.pop(job.run, None)) is not None:
                looker.cancel()
            job.failed_checks = 0
            self._look_after(job)

    async def forget(self, job: Job) -> None:
        """Forget a job at rest, its output and its control groups with it.

        :raises Conflict: it is not at rest.
        :raises Unavailable: it cannot be recorded, and the job stays.
        """
        await self.flush()  # the reaper must not tell of a run whose job is forgotten
        if job.state not in AT_REST:
            raise Conflict(f"{job.name} is {job.state}; stop it before it is removed")
        if self.jobs.get(job.name) is not job:
            raise NotFound(f"{job.name} has been removed already")
        self._disarm(job)
        del self.jobs[job.name]
        self._changed(job)
        self._release_waiters(job)
        self._waits_no_more(job)
        for waiting in self._waiting_for(job):
            self._move(waiting, Move.BROKE, f"{job.name}, which it waited for, was removed")
        try:
            await self._journal.drop_job(job.name)
        except LlmosError:
            self.jobs.setdefault(job.name, job)
            self._changed(job)
            raise
        self._journal.note("job.removed", job.name, None, {})
        await self._logs.remove(job)
        await self._confinement.remove(job)

    # Beginning and end of the daemon

    async def restore(self) -> None:
        """Take up what was there: the journal's jobs, as the reaper and the machine say they are now."""
        for timers in (self._wall, self._boot, self._retries, self._deadlines):
            timers.watch()  # from now on, for later there may be no descriptors left
        for name, record in (await self._journal.jobs()).items():
            job = self.jobs[name] = Job.from_record(record)
            if job.state is State.WAITING:
                job.cards = []
                self._waits(job)
        entries = sorted(await self._reaper.list(), key=lambda entry: entry.started_at)
        runs = {entry.run for entry in entries}
        for entry in entries:
            self._take_up(entry, runs)
        for job in list(self.jobs.values()):
            if job.run is not None and job.run not in runs:
                self._lost(job)
            elif job.state is State.BACKOFF:
                self._set_retry(job, (job.retry_at or 0) - time.time())
            if job.state is State.STOPPING:
                self._spawn_task(self.stop(job, reason=job.reason, again=job.queued))
        await self._restore_paused()
        self._restore_schedules()
        for job in list(self.jobs.values()):
            if job.state is State.WAITING:
                self._reconsider(job)
        self.gpus.came_free()
        self._restoring = False
        told, self._early = self._early, {}
        for run, exit_record in told.items():
            self.on_exit(run, exit_record)
        await self.flush()

    async def _restore_paused(self) -> None:
        """Know of each job whether it is frozen: it may have been, or have been let go on, just before the end."""
        running = [job for job in self.jobs.values() if job.state in (State.RUNNING, State.PAUSED) and job.pid]
        found = await self._confinement.found_paused(running)
        for job in running:
            if job.state is State.RUNNING and job.name in found:
                job.paused = found[job.name]
                self._move(job, Move.PAUSE, f"found paused, by {job.paused['means']}")
            elif job.state is State.PAUSED and job.name not in found:
                job.paused = None
                self._move(job, Move.RESUME, "found running")

    async def end_all(self) -> None:
        """Stop every job that runs, in order, and wait for it; nothing starts by itself any more."""
        self._ending = True
        self._close_schedules()
        self._retries.close()
        await self.gpus.close()
        alive = [job for job in self.jobs.values() if job.state in ALIVE]
        try:
            await self.stop_each(alive, reason="llmosd was shut down with its jobs")
        except LlmosError as problem:
            log.warning("a job could not be stopped: %s", problem)

    async def close(self) -> None:
        """Drop the timers; the jobs live on under the reaper."""
        self._close_schedules()
        self._retries.close()
        self._deadlines.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.gpus.close()
        await self._prober.close()
        await self.flush()
