"""The runs of jobs: a process is started for a job, looked after while it lives, ended, and what follows its end is done.

Nothing here waits for the disk: who acknowledges a change calls `flush` first.
"""

import asyncio
import logging
import os
import signal
import time
import uuid
from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress
from dataclasses import asdict
from typing import Any

from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt, wait_exponential_jitter

from llmos.errors import Conflict, LlmosError, NotFound, TimedOut, Unavailable
from llmos.kernel import health, ordering, restarts
from llmos.kernel.confinement import Confinement
from llmos.kernel.job import Job, timeout_seconds
from llmos.kernel.job_log import JobLogs
from llmos.kernel.journal import Journal
from llmos.kernel.probing import Prober
from llmos.kernel.readiness import Readiness
from llmos.kernel.reaper_client import KnownRun, Reaper, Spawned
from llmos.kernel.scheduled_jobs import ScheduledJobs
from llmos.kernel.states import ALIVE, Move, State
from llmos.kernel.timers import Timers
from llmos.machine.clocks import BOOT, MONOTONIC
from llmos.machine.identity import boot_id
from llmos.plan import values
from llmos.scheduler.gpu.queue import GpuQueue
from llmos.settings import JobSettings

log = logging.getLogger("llmos.supervisor")

KILL_GRACE_SECONDS = 5.0
"""How long after KILL a process may take to be gone (it can hang in the kernel) before a stop gives up waiting."""

SPAWN_ATTEMPTS = 4
"""How often a start is tried when there is no room for one more process, or the reaper has just died."""

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
"""Of a process's start, counted in boot time."""

JobListener = Callable[[Job], None]


class JobRuns(ScheduledJobs):
    """The jobs of one daemon, each with its present run."""

    def __init__(
        self, settings: JobSettings, journal: Journal, reaper: Reaper, confinement: Confinement, logs: JobLogs
    ) -> None:
        super().__init__(journal)
        self.start_listeners: list[JobListener] = []
        self.exit_listeners: list[JobListener] = []
        self._settings = settings
        self._reaper = reaper
        self._confinement = confinement
        self._logs = logs
        self.gpus = GpuQueue(
            self.jobs,
            journal,
            confinement.members,
            self._start_by_itself,
            lambda job, why: self._move(job, Move.WAIT, why),
        )
        self._prober = Prober(reaper, confinement)
        self._readiness = Readiness(self._prober, reaper, logs)
        self._retries = Timers(MONOTONIC)
        self._deadlines = Timers(MONOTONIC)
        self._runs: dict[str, Job] = {}
        self._early: dict[str, dict[str, Any]] = {}
        self._restoring = True
        self._signalled: dict[str, tuple[float, str]] = {}
        self._given_up: dict[str, tuple[str, bool]] = {}
        self._lookers: dict[str, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._taken: set[str] = set()
        self._taking = asyncio.Lock()

    async def start(self, job: Job, reason: str, among: Collection[str] = ()) -> None:
        """Start a job that has no process; it waits where one that it comes after is to be ready first, or for GPUs.

        One that waits for GPUs already gets those that no job holds, however full their memory is. Of `among`, which are
        started with it, it also waits for those that are to end.

        :raises Conflict: it has one.
        :raises LlmosError: its process cannot be started; the job is then failed.
        :raises Unavailable, TimedOut: the reaper has not said how it went, and will be asked when it is back.
        """
        state = self._next(job, Move.START)
        self._retries.cancel(job.name)
        job.retry_at = None
        if unmet := ordering.holding_back(self.jobs, job, among):
            job.gpu_since = None
            self._move(job, Move.WAIT, f"until {ordering.in_words(unmet)}")
            return
        if job.state in (State.STOPPED, State.FAILED, State.SCHEDULED):
            self._forgive(job)
        run = job.run = uuid.uuid4().hex
        job.boot = boot_id()
        self._set_state(job, state, reason)
        self._runs[run] = job
        try:
            if job.gpu is not None and not job.cards and (awaited := await self.gpus.ask(job)):
                self._runs.pop(run, None)
                job.run = None
                if job.state is State.STARTING:
                    self._move(job, Move.WAIT, awaited)
                else:  # a stop came meanwhile
                    self._settle(job, well=True, reason=job.reason, retry=False)
                return
            spawned = await self._spawn(job)
        except Exception as error:
            if isinstance(error, Unavailable | TimedOut) and "stage" not in error.data:
                self._spawn_task(self._find_out(job, run))
                raise
            self._runs.pop(run, None)
            self._early.pop(run, None)
            self._readiness.forget(run)
            job.run = job.exit_code = job.exit_signal = None
            job.ended_at = time.time()
            self._settle(job, well=False, reason=f"could not be started: {_message(error)}", retry=job.failures > 0)
            raise
        job.pid, job.start_ticks, job.started_at = spawned.pid, spawned.start_ticks, time.time()
        job.exit_code = job.exit_signal = job.ended_at = None
        job.failed_checks = 0
        self._pids[job.pid] = job
        if job.ready is None or job.state is State.STOPPING:
            self._move(job, Move.SPAWNED, job.reason)
        else:
            self._note(job, "spawned", {"reason": job.reason})
        if (early := self._early.pop(run, None)) is not None:
            self._ended(job, early)
            return
        self._set_deadline(job)
        if job.priority != "normal":
            self._spawn_task(self._prioritise(job))
        self._look_after(job)
        for listener in self.start_listeners:
            listener(job)
        if job.state is State.STOPPING:  # a stop came while it was starting
            await self._signal(job, _stop_signal(job))

    async def stop(
        self, job: Job, patience: float | None = None, reason: str = "as asked", *, again: bool = False
    ) -> None:
        """End a job: its stop signal to its whole tree, and KILL after `patience` seconds, else its own or the settings'.

        What it leaves behind is killed. With `again` it is started anew once it has ended.

        :raises Conflict: it is scheduled and not running.
        :raises TimedOut: it outlives KILL, which a process that hangs in the kernel can.
        """
        if job.state is State.SCHEDULED:
            raise Conflict(f"{job.name} is not running; `unschedule {job.name}` takes it off its schedule")
        self._forgive(job)
        job.queued = again
        if job.state not in ALIVE:
            self._retries.cancel(job.name)
            job.retry_at = None
            self._move(job, Move.STOP, reason)
            self._arm_again(job)
            return
        self._move(job, Move.STOP, reason)
        await self._end(job, patience)

    async def flush(self) -> None:
        """Return once all moves so far are on disk, and let the reaper forget the exits among them."""
        taken = set(self._taken)
        await self._journal.flush()
        async with self._taking:
            if taken := taken & self._taken:  # without what another flush has let go of meanwhile
                await self._reaper.take(list(taken))
                self._taken -= taken  # not before: what comes back after a crash must not be a job that was forgotten

    def on_exit(self, run: str, exit_record: dict[str, Any]) -> None:
        """What the reaper tells of the end of a run."""
        job = self._runs.get(run)
        if self._restoring or (job is not None and job.pid is None):
            self._early[run] = exit_record  # told before it is known that it was started
        elif job is not None:
            self._ended(job, exit_record)
        elif not self._prober.ended(run, exit_record):
            self._taken.add(run)

    # While it runs

    async def _spawn(self, job: Job) -> Spawned:
        outputs = await self._logs.open(job)
        request = await self._confinement.request(job, outputs, await self._readiness.expect(job))
        with suppress(Unavailable):
            return await self._reaper.spawn(request)
        # No room for a process now, or a reaper that has just died: asking again by the same run id starts nothing twice.
        retrying = AsyncRetrying(
            retry=retry_if_exception_type(Unavailable),
            stop=stop_after_attempt(SPAWN_ATTEMPTS - 1),
            wait=wait_exponential_jitter(multiplier=0.1, max=1, jitter=0.1),
            reraise=True,
        )
        return await retrying(self._reaper.spawn, request)

    async def _find_out(self, job: Job, run: str) -> None:
        """Settle a start of which the reaper did not say how it went: it may have begun, and must not begin twice."""
        unanswered = retry_if_exception_type((Unavailable, TimedOut))
        retrying = AsyncRetrying(retry=unanswered, wait=wait_exponential_jitter(multiplier=0.1, max=5, jitter=0.1))
        entries: list[KnownRun] = await retrying(self._reaper.list)
        if job.run != run or job.pid is not None:
            return
        self._early.pop(run, None)
        if (entry := next((entry for entry in entries if entry.run == run), None)) is not None:
            self._take_up(entry, {run})
        else:
            self._runs.pop(run, None)
            self._readiness.forget(run)
            self._lost(job, "the reaper ended before it was started")
        if job.state is State.STOPPING:
            await self._signal(job, _stop_signal(job))
        await self.flush()

    def _take_up(self, entry: KnownRun, runs: set[str]) -> None:
        """Take up a run that the reaper knows, unless the journal has its end already."""
        label: dict[str, Any] = entry.label if isinstance(entry.label, dict) else {}
        job = self.jobs.get(str(label.get("name")))
        if job is None and label:  # llmosd was killed before the journal had it
            job = self.jobs[str(label["name"])] = Job.from_record(label)
        recorded = job is not None and any(past.get("run") == entry.run for past in job.recent)
        if job is None or recorded or (job.run != entry.run and job.run in runs):
            self._taken.add(entry.run)
            if job is None and entry.exit is None:  # a probe of the llmosd before
                self._spawn_task(self._reaper.signal(entry.run, signal.SIGKILL, "tree"))
            return
        self._retries.cancel(job.name)
        job.retry_at = None
        job.run, job.pid, job.start_ticks, job.boot = entry.run, entry.pid, entry.start_ticks, boot_id()
        job.started_at = entry.started_at
        self._runs[entry.run] = self._pids[entry.pid] = job
        job.log_from, job.oom_kills = label.get("log_from", []), label.get("oom_kills", 0)
        job.cards = label.get("cards", [])
        job.machine_oom_kills = label.get("machine_oom_kills", 0)
        if job.state not in (State.RUNNING, State.PAUSED, State.STOPPING):
            self._set_state(job, State.RUNNING if job.ready is None else State.STARTING, "found running")
        if entry.exit is not None:
            self._ended(job, asdict(entry.exit))
            return
        self._set_deadline(job)
        self._logs.adopt(job)
        # A reaper of before an upgrade does not listen: it runs, and that must do.
        if job.ready is not None and (entry.ready or not entry.notify):
            self._readiness.told(entry.run)
        self._look_after(job)

    def _look_after(self, job: Job) -> None:
        """As long as the job runs: wait until it is ready, then check its health."""
        run = job.run
        if run is None or (job.ready is None and job.health is None):
            return

        async def look() -> None:
            if job.state is State.STARTING:
                began = time.monotonic()
                try:
                    await self._readiness.wait(job)
                except TimedOut as late:
                    self._spawn_task(self._give_up(job, run, late.message, retry=job.restart != "never"))
                    return
                if job.state is not State.STARTING:  # it is to end
                    return
                self._readiness.forget(run)
                self._move(job, Move.READY, f"{job.reason}; ready after {time.monotonic() - began:.1f} s")
                self._wake_successors(job)
            if job.health is not None:
                problem = await health.watch(job, self._prober, lambda wrong: self._note_health(job, wrong))
                self._spawn_task(self._give_up(job, run, problem, retry=job.health.get("then") != "stop"))

        self._lookers[run] = self._spawn_task(look())

    def _note_health(self, job: Job, wrong: str) -> None:
        self._note(job, "unhealthy" if wrong else "healthy", {"reason": wrong or "its check goes well again"})

    async def _prioritise(self, job: Job) -> None:
        with suppress(NotFound, Conflict):  # it has ended meanwhile
            await self._confinement.set_priority(job)

    def _set_deadline(self, job: Job) -> None:
        """End the run when it has lasted as long as its timeout from its start; not at all where it has none."""
        if (seconds := timeout_seconds(job)) is None:
            self._deadlines.cancel(job.name)
            return

        def late() -> None:
            if job.state in ALIVE:
                reason = f"it ran longer than its timeout of {seconds:g} s"
                self._spawn_task(self.stop(job, reason=reason, again=job.queued))

        age = BOOT.now() - (job.start_ticks or 0) / TICKS_PER_SECOND
        self._deadlines.set(job.name, MONOTONIC.now() + seconds - age, late)

    # Its end

    async def _end(self, job: Job, patience: float | None) -> None:
        """Raises TimedOut where it outlives KILL."""
        if patience is None:
            own = values.seconds_of(job.stop_timeout) if job.stop_timeout is not None else None
            patience = self._settings.stop_timeout_seconds if own is None else own
        ended = self.ended(job)
        try:
            await self._signal(job, _stop_signal(job))
            await self._confinement.resume(job)
            with suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(ended), patience)
                return
            await self._signal(job, signal.SIGKILL)
            await asyncio.wait_for(asyncio.shield(ended), KILL_GRACE_SECONDS)
        except TimeoutError:
            raise TimedOut(f"{job.name} (pid {job.pid}) is still there after KILL; it hangs in the kernel") from None
        finally:
            ended.cancel()

    async def _give_up(self, job: Job, run: str, reason: str, *, retry: bool) -> None:
        """End a run that is not as it should be; that counts as a failure, whatever its process says in the end."""
        if job.run == run and job.state is not State.STOPPING:
            self._given_up[run] = reason, retry
            self._note(job, "given_up", {"reason": reason})
            await self._end(job, None)

    async def _signal(self, job: Job, number: int) -> None:
        if job.run is not None and job.pid is not None:
            with suppress(NotFound):  # it has ended, and that will be told
                await self._reaper.signal(job.run, number, "tree")

    def _ended(self, job: Job, exit_record: dict[str, Any]) -> None:
        if self._confinement.may_have_run_out(job, exit_record):
            self._spawn_task(self._ended_badly(job, job.run, exit_record))
        else:
            self._exited(job, exit_record)

    async def _ended_badly(self, job: Job, run: str | None, exit_record: dict[str, Any]) -> None:
        oom: dict[str, Any] = {"oom": False}
        with suppress(LlmosError):  # its group may have been taken away by somebody
            oom = await self._confinement.ran_out_of_memory(job, exit_record)
        if job.run == run:  # its end may have been told twice
            self._exited(job, {**exit_record, **oom})

    def _exited(self, job: Job, exit_record: dict[str, Any]) -> None:
        assert job.run is not None and job.pid is not None
        run = job.run
        self._taken.add(run)
        self._runs.pop(run, None)
        self._pids.pop(job.pid, None)
        self._deadlines.cancel(job.name)
        self._readiness.forget(run)
        if (looker := self._lookers.pop(run, None)) is not None:
            looker.cancel()
        if exit_record["at"] - (job.started_at or exit_record["at"]) >= self._settings.healthy_seconds:
            job.failures = 0
        asked = job.reason if job.state is State.STOPPING else ""
        until, signalled = self._signalled.pop(run, (0.0, ""))
        if not asked and exit_record["at"] <= until:
            asked = signalled
        given_up = self._given_up.pop(run, None)
        job.exited({"run": run, **exit_record, **self.gpus.used(job)})
        self._logs.ended(job)
        well, how = job.ended_well(), job.ended_how()
        if asked:
            self._settle(job, well=True, reason=f"{how}, {asked}", retry=False)
        elif given_up is not None:
            self._settle(job, well=False, reason=f"{given_up[0]} ({how})", retry=given_up[1])
        elif job.state is State.STARTING:
            retry = restarts.wanted(job, well=False)
            self._settle(job, well=False, reason=f"{how} before it was ready", retry=retry)
        else:
            self._settle(job, well=well, reason=how, retry=restarts.wanted(job, well=well))
        for listener in self.exit_listeners:
            listener(job)
        self._spawn_task(self.flush())

    def _lost(self, job: Job, unborn: str = "llmosd ended before it was started") -> None:
        """A run that the journal knows and the reaper does not: the machine was restarted, or it never began."""
        reason = "the machine was restarted" if job.boot != boot_id() else "its end was seen by nobody"
        if job.state is State.STARTING and job.pid is None:
            reason = unborn
            if job.gpu_since is not None:  # it had been told to wait for GPUs, and still does
                job.run = None
                self._move(job, Move.WAIT, f"waits for a GPU: {unborn}")
                return
        job.exited({"run": job.run, "code": None, "signal": None, "at": time.time(), "unknown": True})
        self._settle(job, well=False, reason=reason, retry=job.restart != "never")

    # What follows

    def _settle(self, job: Job, *, well: bool, reason: str, retry: bool) -> None:
        """Where a job goes that has just ended, or could not be started."""
        if retry and job.state is not State.STOPPING:
            if not (limit := restarts.count(job, time.time())):
                self._retry(job, reason)
                return
            well, reason = False, f"{reason}; {limit}"
        if not job.recurs and job.next_run_at is None:
            job.schedule = {}
        self._move(job, Move.ENDED if well else Move.BROKE, reason)
        self._arm_again(job)
        self._wake_successors(job)

    def _retry(self, job: Job, reason: str) -> None:
        """Start it again, at once the first time, then after a delay that grows."""
        delay = restarts.delay(job.failures, self._settings)
        job.failures += 1
        job.restarts += 1
        job.retry_at = time.time() + delay
        self._move(job, Move.RETRY, f"{reason}; again in {delay:.1f} s" if delay else f"{reason}; again at once")
        self._set_retry(job, delay)

    def _set_retry(self, job: Job, delay: float) -> None:
        if not self._ending:
            at = MONOTONIC.now() + min(max(0.0, delay), self._settings.backoff_cap_seconds)
            self._retries.set(job.name, at, lambda: self._start_by_itself(job, "restarted after its back-off"))

    @staticmethod
    def _forgive(job: Job) -> None:
        """Its failures of before count no more."""
        job.failures, job.restarted_at = 0, []

    def _wake_successors(self, job: Job) -> None:
        for waiting in self._waiting_for(job):
            self._reconsider(waiting)

    def _reconsider(self, job: Job) -> None:
        """Start a waiting job that has nothing left to wait for but GPUs; it fails where that has failed."""
        if job.gpu_since is not None:
            return
        awaited = ordering.awaited(self.jobs, job)
        if failed := next((other for other in awaited if other.state is State.FAILED), None):
            self._move(job, Move.BROKE, f"{failed.name}, which it waited for, failed: {failed.reason}")
            self._wake_successors(job)
        elif awaited and all(map(ordering.met, awaited)):
            self._start_by_itself(job, ordering.in_words(awaited))

    def _start_by_itself(self, job: Job, reason: str) -> None:
        async def begin() -> None:
            try:
                await self.start(job, reason)
            finally:
                await self.flush()

        if not self._ending:
            self._spawn_task(begin())

    def _cards_came_free(self) -> None:
        self.gpus.came_free()

    def _start_anew(self, job: Job, reason: str) -> None:
        self._spawn_task(self.stop(job, reason=reason, again=True))

    # Work that nobody waits for

    def _spawn_task(self, work: Awaitable[Any]) -> asyncio.Task[None]:
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
        return task


def _message(error: Exception) -> str:
    return error.message if isinstance(error, LlmosError) else f"{type(error).__name__}: {error}"


def _stop_signal(job: Job) -> int:
    return signal.Signals[f"SIG{job.stop_signal}"]
