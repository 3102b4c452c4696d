"""The supervisor: it starts, watches, restarts, schedules and ends jobs, through the reaper.

Every change of a job goes through `_move`, which asks the state machine, writes the job and an event to the journal and
lets subscribers know. Nothing here waits for the disk: who acknowledges a change calls `journal.flush` first.
"""

import asyncio
import logging
import random
import signal
import time
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from llmos.errors import Conflict, LlmosError, NotFound, TimedOut
from llmos.kernel import schedule
from llmos.kernel.confinement import Confinement
from llmos.kernel.job import Job, timeout_seconds
from llmos.kernel.job_log import JobLogs
from llmos.kernel.journal import Journal
from llmos.kernel.reaper_client import ForkRefused, Reaper, SpawnRequest
from llmos.kernel.states import ALIVE, AT_REST, Move, State, transition
from llmos.machine.identity import boot_id
from llmos.settings import JobSettings

log = logging.getLogger("llmos.supervisor")

LONGEST_TIMER_SECONDS = 60.0
"""A timer towards a wall-clock time is set anew at least this often, so that a clock that is set is noticed."""

KILL_GRACE_SECONDS = 5.0
"""How long after KILL a process may take to be gone (it can hang in the kernel) before a stop gives up waiting."""

ExitListener = Callable[[Job], None]


class Supervisor:
    """All jobs of one daemon, by name."""

    def __init__(
        self, settings: JobSettings, journal: Journal, reaper: Reaper, confinement: Confinement, logs: JobLogs
    ) -> None:
        self.jobs: dict[str, Job] = {}
        self.exit_listeners: list[ExitListener] = []
        self._settings = settings
        self._journal = journal
        self._reaper = reaper
        self._confinement = confinement
        self._logs = logs
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._deadlines: dict[str, asyncio.TimerHandle] = {}
        self._waiters: dict[str, list[asyncio.Future[None]]] = {}
        self._runs: dict[str, Job] = {}
        self._early: dict[str, dict[str, Any]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._taken: list[str] = []

    # Looking

    def get(self, name: str) -> Job:
        """The job of that name.

        :raises NotFound: there is none.
        """
        try:
            return self.jobs[name]
        except KeyError:
            raise NotFound(f"there is no job {name!r}; `llmos jobs` lists them", name=name) from None

    def by_pid(self, pid: int) -> Job | None:
        """The job whose main process that is."""
        return next((job for job in self._runs.values() if job.pid == pid), None)

    def free_name(self, wanted: str) -> str:
        """`wanted`, or `wanted-2`, `wanted-3`… where it is taken."""
        name, number = wanted, 1
        while name in self.jobs:
            number += 1
            name = f"{wanted}-{number}"
        return name

    # Acting

    async def define(self, job: Job) -> None:
        """Take on a new job: start it, or wait for its time or its predecessor.

        :raises Conflict: a job of that name is there and not at rest.
        :raises LlmosError: it cannot be started.
        """
        old = self.jobs.get(job.name)
        if old is not None and old.state not in AT_REST:
            raise Conflict(f"a job {job.name!r} is {old.state} already; stop it first, or choose another name")
        predecessor = self.get(job.after) if job.after else None
        self._cancel(self._timers, job.name)
        self.jobs[job.name] = job
        if job.schedule:
            self._arm(job, schedule.first(job.schedule, time.time()))
        elif predecessor is not None and not (predecessor.state in AT_REST and predecessor.ended_well()):
            self._move(job, Move.WAIT, f"until {job.after} has ended well")
        else:
            try:
                await self.start(job, "as asked")
            except LlmosError:
                if old is None:
                    await self.forget(job)
                raise

    async def start(self, job: Job, reason: str) -> None:
        """Start a job that has no process.

        :raises Conflict: it has one.
        :raises LlmosError: its process cannot be started; the job is then failed.
        """
        self._cancel(self._timers, job.name)
        job.run, job.boot, job.next_run_at = uuid.uuid4().hex, boot_id(), None
        self._move(job, Move.START, reason)
        run = job.run
        self._runs[run] = job
        try:
            log_path = await self._logs.open(job)
            async for attempt in AsyncRetrying(
                retry=retry_if_exception_type(ForkRefused),
                stop=stop_after_attempt(4),
                wait=wait_random_exponential(multiplier=0.05, max=1),
                reraise=True,
            ):
                with attempt:
                    spawned = await self._reaper.spawn(await self._request(job, log_path))
        except Exception as error:
            self._runs.pop(run, None)
            job.run = job.pid = job.start_ticks = None
            job.exit_code, job.exit_signal, job.ended_at = None, None, time.time()
            self._settle(job, well=False, reason=f"could not be started: {error}", retry=job.failures > 0)
            raise
        job.pid, job.start_ticks, job.started_at = spawned.pid, spawned.start_ticks, time.time()
        job.exit_code = job.exit_signal = job.ended_at = None
        self._move(job, Move.SPAWNED, f"pid {job.pid}")
        if job.state is State.STOPPING:  # a stop came while it was starting
            await self._reaper.signal(run, signal.SIGTERM, "tree")
        if job.priority != "normal":
            self._spawn_task(self._confinement.set_priority(job))
        if (seconds := timeout_seconds(job)) is not None:
            self._set_deadline(job, seconds)
        if (early := self._early.pop(run, None)) is not None:
            self._exited(job, early)

    async def stop(self, job: Job, timeout: float | None = None, reason: str = "as asked") -> None:
        """End a job: TERM to its whole tree, and KILL after `timeout` seconds.

        :raises Conflict: it is scheduled and not running.
        :raises TimedOut: it outlives KILL, which a process that hangs in the kernel can.
        """
        if job.state is State.SCHEDULED:
            raise Conflict(f"{job.name} is not running; `unschedule {job.name}` takes it off its schedule")
        self._cancel(self._timers, job.name)
        alive = job.state in ALIVE
        self._move(job, Move.STOP, reason)
        if not alive:
            return
        ended = self.ended(job)
        await self._signal(job, signal.SIGTERM)
        if job.paused is not None:
            await self._confinement.resume(job)
        try:
            await asyncio.wait_for(asyncio.shield(ended), timeout or self._settings.stop_timeout_seconds)
        except TimeoutError:
            await self._signal(job, signal.SIGKILL)
            try:
                await asyncio.wait_for(ended, KILL_GRACE_SECONDS)
            except TimeoutError:
                raise TimedOut(
                    f"{job.name} (pid {job.pid}) is still there after KILL; it hangs in the kernel"
                ) from None

    async def restart(self, job: Job, reason: str = "restarted as asked") -> None:
        """Stop it where it runs, then start it."""
        if job.state in ALIVE:
            await self.stop(job, reason=reason)
            self._cancel(self._timers, job.name)
        job.failures = 0
        job.restarts += 1
        await self.start(job, reason)

    async def kill(self, job: Job, number: int) -> None:
        """Send a signal to the job's main process; one that ends it counts as a stop, so it is not restarted.

        :raises Conflict: it has no process.
        """
        if job.run is None or job.pid is None:
            raise Conflict(f"{job.name} is {job.state} and has no process to signal")
        name = signal.Signals(number).name
        if number in (signal.SIGTERM, signal.SIGKILL, signal.SIGINT, signal.SIGQUIT):
            self._move(job, Move.STOP, f"{name} as asked")
        await self._reaper.signal(job.run, number, "main")
        if job.paused is not None and number == signal.SIGKILL:
            await self._confinement.resume(job)

    async def pause(self, job: Job) -> str:
        """Freeze it with all its children; returns what was used."""
        transition(job.state, Move.PAUSE)
        means = await self._confinement.pause(job)
        self._move(job, Move.PAUSE, f"as asked, by {means}")
        return means

    async def resume(self, job: Job) -> None:
        """Let it go on."""
        transition(job.state, Move.RESUME)
        await self._confinement.resume(job)
        self._move(job, Move.RESUME, "as asked")

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

    def set_schedule(self, job: Job, wanted: dict[str, str]) -> None:
        """Set when it runs; an empty schedule takes it off."""
        job.schedule = wanted
        self._cancel(self._timers, job.name)
        if wanted:
            self._arm(job, schedule.first(wanted, time.time()))
        else:
            job.next_run_at = None
            if job.state is State.SCHEDULED:
                self._set_state(job, State.STOPPED, "taken off its schedule")
            else:
                self._note(job, "unscheduled", {})

    async def forget(self, job: Job) -> None:
        """Forget a job at rest, its output and its control groups with it.

        :raises Conflict: it is not at rest.
        """
        if job.state not in AT_REST:
            raise Conflict(f"{job.name} is {job.state}; stop it before it is removed")
        self._cancel(self._timers, job.name)
        del self.jobs[job.name]
        await self._journal.drop_job(job.name)
        self._journal.note("job.removed", job.name, None, {})
        await self._logs.remove(job)
        await self._confinement.remove(job)

    def ended(self, job: Job) -> asyncio.Future[None]:
        """A future that is done when the job's present run has ended; cancel it to stop waiting."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting = self._waiters.setdefault(job.name, [])
        waiting.append(future)
        future.add_done_callback(lambda done: waiting.remove(done) if done in waiting else None)
        return future

    # Beginning and end of the daemon

    async def restore(self) -> None:
        """Take up what was there: the journal's jobs, as the reaper and the machine say they are now."""
        for name, record in (await self._journal.jobs()).items():
            self.jobs[name] = Job.from_record(record)
        known: set[str] = set()
        for entry in await self._reaper.list():
            label = entry.label if isinstance(entry.label, dict) else {}
            job = self.jobs.get(label.get("name", ""))
            if job is None and label:
                job = self.jobs[label["name"]] = Job.from_record(label)
            if job is None or (job.run != entry.run and job.run in known):
                self._taken.append(entry.run)
                continue
            known.add(entry.run)
            self._adopt(job, entry.run, entry.pid, entry.start_ticks, entry.started_at)
            if entry.exit is not None:
                self._exited(job, entry.exit)
        for job in list(self.jobs.values()):
            if job.run is not None and job.run not in known:
                self._lost(job)
            elif job.state is State.BACKOFF:
                self._retry(job, job.reason)
            elif job.state is State.SCHEDULED and job.next_run_at is not None:
                self._arm(job, job.next_run_at)
        for job in [job for job in self.jobs.values() if job.state is State.WAITING]:
            predecessor = self.jobs.get(job.after or "")
            if predecessor is not None and predecessor.state in AT_REST and predecessor.started_at:
                self._wake_successors(predecessor)
        await self.flush()

    async def end_all(self) -> None:
        """Stop every job and wait for them."""
        await asyncio.gather(
            *(self.stop(job, reason="llmosd is shut down") for job in self.jobs.values() if job.state in ALIVE),
            return_exceptions=True,
        )

    async def close(self) -> None:
        """Drop the timers; the jobs live on under the reaper."""
        for timers in (self._timers, self._deadlines):
            for name in list(timers):
                self._cancel(timers, name)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.flush()

    async def flush(self) -> None:
        """Return once all moves so far are on disk, and let the reaper forget the exits among them."""
        taken, self._taken = self._taken, []
        await self._journal.flush()
        if taken:
            await self._reaper.take(taken)

    def on_exit(self, run: str, exit_record: dict[str, Any]) -> None:
        """What the reaper tells of the end of a run."""
        job = self._runs.get(run)
        if job is None:
            self._taken.append(run)
        elif job.state is State.STARTING or job.pid is None:
            self._early[run] = exit_record
        else:
            self._exited(job, exit_record)

    # The life of a job

    def _exited(self, job: Job, exit_record: dict[str, Any]) -> None:
        assert job.run is not None
        self._taken.append(job.run)
        self._runs.pop(job.run, None)
        self._cancel(self._deadlines, job.name)
        ran = exit_record["at"] - (job.started_at or exit_record["at"])
        asked = job.state is State.STOPPING
        stop_reason = job.reason
        job.exited(exit_record)
        self._logs.ended(job)
        if ran >= self._settings.healthy_seconds:
            job.failures = 0
        how = job.ended_how() + (" (out of memory)" if exit_record.get("oom") else "")
        if asked:
            self._settle(job, well=True, reason=f"{how}, {stop_reason}", retry=False)
        else:
            well = job.ended_well()
            retry = job.restart == "always" or (job.restart == "on-failure" and not well)
            self._settle(job, well=well, reason=how, retry=retry)
        for listener in self.exit_listeners:
            listener(job)
        for waiter in self._waiters.pop(job.name, []):
            if not waiter.done():
                waiter.set_result(None)
        self._spawn_task(self.flush())

    def _settle(self, job: Job, *, well: bool, reason: str, retry: bool) -> None:
        """Where a job goes that has just ended, or could not be started."""
        if retry and job.state is not State.STOPPING:
            self._retry(job, reason)
            return
        self._move(job, Move.ENDED if well else Move.BROKE, reason)
        if job.recurs:
            self._arm(job, schedule.following(job.schedule, time.time()), reason)
        else:
            job.schedule = {}
        self._wake_successors(job)

    def _retry(self, job: Job, reason: str) -> None:
        """Start it again after the back-off: at once the first time, then doubling up to the cap, jittered by a tenth."""
        settings = self._settings
        delay = 0.0
        if job.failures:
            delay = min(settings.backoff_cap_seconds, settings.backoff_first_seconds * 2 ** min(job.failures - 1, 30))
            delay *= random.uniform(0.9, 1.1)  # noqa: S311
        job.failures += 1
        job.restarts += 1
        job.next_run_at = time.time() + delay
        if job.state is not State.BACKOFF:
            self._move(job, Move.RETRY, f"{reason}; again in {delay:.1f} s" if delay else f"{reason}; again at once")
        self._set_timer(job, job.next_run_at)

    def _lost(self, job: Job) -> None:
        """A run that the journal knows and the reaper does not: the machine was restarted, or it never began."""
        begun = job.state is not State.STARTING
        reason = "the machine was restarted" if job.boot != boot_id() else "its end was seen by nobody"
        job.exited({"code": None, "signal": None, "at": time.time()})
        if not begun:
            reason = "llmosd ended before it was started"
        self._settle(job, well=False, reason=reason, retry=job.restart != "never" and job.state is not State.STOPPING)

    def _wake_successors(self, job: Job) -> None:
        for waiting in [other for other in self.jobs.values() if other.after == job.name]:
            if waiting.state is not State.WAITING:
                continue
            if job.state in AT_REST and job.ended_well():
                self._spawn_task(self._start_by_itself(waiting, f"{job.name} has ended well"))
            elif job.state is State.FAILED:
                self._move(waiting, Move.BROKE, f"{job.name}, which it waited for, failed: {job.reason}")
                self._wake_successors(waiting)

    async def _start_by_itself(self, job: Job, reason: str) -> None:
        try:
            await self.start(job, reason)
        except LlmosError as error:
            log.warning("%s: %s", job.name, error)
        await self.flush()

    # Timers

    def _arm(self, job: Job, at: float, reason: str = "") -> None:
        """Have the schedule start the job at an instant; a running job keeps its state and its time."""
        job.next_run_at = at
        if job.state in AT_REST:
            self._move(job, Move.SCHEDULE, reason or schedule.in_words(job.schedule))
        else:
            self._note(job, "scheduled", {"schedule": job.schedule, "next_run_at": at})
        self._set_timer(job, at)

    def _set_timer(self, job: Job, at: float) -> None:
        self._cancel(self._timers, job.name)
        delay = min(max(0.0, at - time.time()), LONGEST_TIMER_SECONDS)
        self._timers[job.name] = asyncio.get_running_loop().call_later(delay, self._timer, job, at)

    def _timer(self, job: Job, at: float) -> None:
        if time.time() < at - 0.01:
            self._set_timer(job, at)
            return
        self._timers.pop(job.name, None)
        if job.state is State.BACKOFF:
            self._spawn_task(self._start_by_itself(job, "restarted after its back-off"))
        elif job.state in AT_REST:
            if not job.recurs:
                job.schedule = {}
            self._spawn_task(self._start_by_itself(job, "its time has come"))
        elif job.recurs:  # still running: this time is left out
            self._note(job, "skipped", {"reason": "the run before is not over"})
            self._arm(job, schedule.following(job.schedule, time.time()))

    def _set_deadline(self, job: Job, seconds: float) -> None:
        def late() -> None:
            self._deadlines.pop(job.name, None)
            self._spawn_task(self._end_late(job, seconds))

        self._deadlines[job.name] = asyncio.get_running_loop().call_later(seconds, late)

    async def _end_late(self, job: Job, seconds: float) -> None:
        if job.state in ALIVE:
            await self.stop(job, reason=f"it ran longer than its timeout of {seconds:g} s")

    @staticmethod
    def _cancel(timers: dict[str, asyncio.TimerHandle], name: str) -> None:
        if (timer := timers.pop(name, None)) is not None:
            timer.cancel()

    # Plumbing

    def _adopt(self, job: Job, run: str, pid: int | None, ticks: int | None, started_at: float | None) -> None:
        job.run, job.pid, job.start_ticks, job.boot = run, pid, ticks, boot_id()
        job.started_at = started_at
        self._runs[run] = job
        if job.state not in (State.RUNNING, State.PAUSED, State.STOPPING):
            self._set_state(job, State.RUNNING, "found running")
        if (seconds := timeout_seconds(job)) is not None and started_at is not None:
            self._set_deadline(job, max(0.0, started_at + seconds - time.time()))
        if job.state is State.STOPPING:
            self._spawn_task(self.stop(job, reason=job.reason))
        self._logs.adopt(job)

    async def _request(self, job: Job, log_path: str) -> SpawnRequest:
        assert job.run is not None
        return await self._confinement.request(job, log_path)

    async def _signal(self, job: Job, number: int) -> None:
        if job.run is not None and job.pid is not None:
            await self._reaper.signal(job.run, number, "tree")

    def _move(self, job: Job, move: Move, reason: str) -> None:
        self._set_state(job, transition(job.state, move), reason)

    def _set_state(self, job: Job, state: State, reason: str) -> None:
        was, job.state, job.reason = job.state, state, reason
        self._note(job, str(state), {"from": str(was), "to": str(state), "reason": reason})

    def _note(self, job: Job, what: str, body: dict[str, Any]) -> None:
        self._journal.save_job(job.name, job.record())
        self._journal.note(f"job.{what}", job.name, job.uid, {"pid": job.pid, **body})

    def _spawn_task(self, work: Awaitable[Any]) -> None:
        async def run() -> None:
            try:
                await work
            except LlmosError as error:
                log.warning("%s", error)
            except Exception:
                log.exception("a piece of the supervisor's work failed")

        task = asyncio.get_running_loop().create_task(run())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
