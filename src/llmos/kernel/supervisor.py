"""The supervisor: it starts, watches, restarts, schedules and ends jobs, through the reaper.

Nothing here waits for the disk: who acknowledges a change calls `flush` first.
"""

import asyncio
import logging
import signal
import time
import uuid
from collections.abc import Awaitable, Callable, Collection, Iterable
from contextlib import suppress
from dataclasses import asdict
from typing import Any

from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt, wait_exponential_jitter

from llmos.errors import Conflict, LlmosError, NotFound, TimedOut, Unavailable
from llmos.kernel import health, ordering, restarts, schedule
from llmos.kernel.confinement import Confinement
from llmos.kernel.job import Job, timeout_seconds
from llmos.kernel.job_log import JobLogs
from llmos.kernel.job_table import JobTable
from llmos.kernel.journal import Journal
from llmos.kernel.probing import Prober
from llmos.kernel.readiness import Readiness
from llmos.kernel.reaper_client import KnownRun, Reaper, Spawned
from llmos.kernel.states import ALIVE, AT_REST, Move, State
from llmos.kernel.timers import Timers
from llmos.machine.identity import boot_id
from llmos.plan import values
from llmos.settings import JobSettings

log = logging.getLogger("llmos.supervisor")

KILL_GRACE_SECONDS = 5.0
"""How long after KILL a process may take to be gone (it can hang in the kernel) before a stop gives up waiting."""

SPAWN_ATTEMPTS = 4
"""How often a start is tried when there is no room for one more process, or the reaper has just died."""

ENDING_SIGNALS = frozenset({signal.SIGTERM, signal.SIGKILL, signal.SIGINT, signal.SIGQUIT})

JobListener = Callable[[Job], None]


class Supervisor(JobTable):
    """All jobs of one daemon, and what makes them run and end."""

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
        self._prober = Prober(reaper, confinement)
        self._readiness = Readiness(self._prober, reaper, logs)
        self._alarms = Timers()
        self._deadlines = Timers()
        self._runs: dict[str, Job] = {}
        self._early: dict[str, dict[str, Any]] = {}
        self._restoring = True
        self._ending = False
        self._signalled: dict[str, tuple[float, str]] = {}
        self._given_up: dict[str, tuple[str, bool]] = {}
        self._lookers: dict[str, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._taken: list[str] = []

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
            self._arm(job, schedule.first(job.schedule, time.time()))
        elif unmet := [other for other in awaited if not ordering.met(other)]:
            self._move(job, Move.WAIT, f"until {ordering.in_words(unmet)}")
        else:
            try:
                await self.start(job, "as asked")
            except LlmosError:
                if old is None:
                    await self.forget(job)
                else:
                    self.jobs[job.name] = old
                    self._note(old, "kept", {"reason": "its successor of the same name could not be started"})
                raise

    async def start(self, job: Job, reason: str, among: Collection[str] = ()) -> None:
        """Start a job that has no process; it waits where one that it comes after is to be ready first.

        Of `among`, which are started with it, it also waits for those that are to end.

        :raises Conflict: it has one.
        :raises LlmosError: its process cannot be started; the job is then failed.
        """
        state = self._next(job, Move.START)
        if job.state is State.BACKOFF or not job.schedule:
            self._alarms.cancel(job.name)
            job.next_run_at = None
        if unmet := ordering.holding_back(self.jobs, job, among):
            self._move(job, Move.WAIT, f"until {ordering.in_words(unmet)}")
            return
        if job.state in (State.STOPPED, State.FAILED, State.SCHEDULED):
            self._forgive(job)
        run = job.run = uuid.uuid4().hex
        job.boot = boot_id()
        self._set_state(job, state, reason)
        self._runs[run] = job
        try:
            spawned = await self._spawn(job)
        except Exception as error:
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
        if (seconds := timeout_seconds(job)) is not None:
            self._set_deadline(job, seconds)
        if job.priority != "normal":
            self._spawn_task(self._prioritise(job))
        self._look_after(job)
        for listener in self.start_listeners:
            listener(job)
        if job.state is State.STOPPING:  # a stop came while it was starting
            await self._signal(job, _stop_signal(job))

    async def stop(self, job: Job, patience: float | None = None, reason: str = "as asked") -> None:
        """End a job: its stop signal to its whole tree, and KILL after `patience` seconds, else its own or the settings'.

        What it leaves behind is killed.

        :raises Conflict: it is scheduled and not running.
        :raises TimedOut: it outlives KILL, which a process that hangs in the kernel can.
        """
        if job.state is State.SCHEDULED:
            raise Conflict(f"{job.name} is not running; `unschedule {job.name}` takes it off its schedule")
        self._forgive(job)
        if job.state not in ALIVE:
            self._alarms.cancel(job.name)
            job.next_run_at = None
            self._move(job, Move.STOP, reason)
            self._arm_again(job)
            return
        self._move(job, Move.STOP, reason)
        await self._end(job, patience)

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

    async def pause(self, job: Job) -> str:
        """Freeze it with all its children; returns what was used."""
        self._next(job, Move.PAUSE)
        means = await self._confinement.pause(job)
        try:
            self._move(job, Move.PAUSE, f"as asked, by {means}")
        except Conflict:  # it has ended meanwhile, or is to end
            await self._confinement.resume(job)
            raise
        return means

    async def resume(self, job: Job) -> None:
        """Let it go on."""
        self._next(job, Move.RESUME)
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
        if wanted:
            self._arm(job, schedule.first(wanted, time.time()))
        elif job.state is not State.BACKOFF:  # there the timer is that of the next try
            self._alarms.cancel(job.name)
            job.next_run_at = None
            if job.state is State.SCHEDULED:
                self._move(job, Move.STOP, "taken off its schedule")
            else:
                self._note(job, "unscheduled", {})

    async def forget(self, job: Job) -> None:
        """Forget a job at rest, its output and its control groups with it.

        :raises Conflict: it is not at rest.
        """
        if job.state not in AT_REST:
            raise Conflict(f"{job.name} is {job.state}; stop it before it is removed")
        self._alarms.cancel(job.name)
        del self.jobs[job.name]
        self._list = None
        self._release_waiters(job)
        for waiting in ordering.waiting_for(self.jobs, job):
            self._move(waiting, Move.BROKE, f"{job.name}, which it waited for, was removed")
        await self.flush()  # the reaper must not tell of a run whose job is forgotten
        await self._journal.drop_job(job.name)
        self._journal.note("job.removed", job.name, None, {})
        await self._logs.remove(job)
        await self._confinement.remove(job)

    # Beginning and end of the daemon

    async def restore(self) -> None:
        """Take up what was there: the journal's jobs, as the reaper and the machine say they are now."""
        for name, record in (await self._journal.jobs()).items():
            self.jobs[name] = Job.from_record(record)
        entries = sorted(await self._reaper.list(), key=lambda entry: entry.started_at)
        runs = {entry.run for entry in entries}
        for entry in entries:
            self._take_up(entry, runs)
        for job in list(self.jobs.values()):
            if job.run is not None and job.run not in runs:
                self._lost(job)
            elif job.next_run_at is not None:
                self._set_alarm(job, job.next_run_at)
            if job.state is State.STOPPING:
                self._spawn_task(self.stop(job, reason=job.reason))
        for job in list(self.jobs.values()):
            if job.state is State.WAITING:
                self._reconsider(job)
        self._restoring = False
        told, self._early = self._early, {}
        for run, exit_record in told.items():
            self.on_exit(run, exit_record)
        await self.flush()

    async def end_all(self) -> None:
        """Stop every job that runs, in order, and wait for it; nothing starts by itself any more."""
        self._ending = True
        self._alarms.close()
        alive = [job for job in self.jobs.values() if job.state in ALIVE]
        try:
            await self.stop_each(alive, reason="llmosd was shut down with its jobs")
        except LlmosError as problem:
            log.warning("a job could not be stopped: %s", problem)

    async def close(self) -> None:
        """Drop the timers; the jobs live on under the reaper."""
        self._alarms.close()
        self._deadlines.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._prober.close()
        self._readiness.close()
        await self.flush()

    async def flush(self) -> None:
        """Return once all moves so far are on disk, and let the reaper forget the exits among them."""
        taken = list(self._taken)
        await self._journal.flush()
        del self._taken[: len(taken)]
        if taken:
            await self._reaper.take(taken)

    def on_exit(self, run: str, exit_record: dict[str, Any]) -> None:
        """What the reaper tells of the end of a run."""
        job = self._runs.get(run)
        if self._restoring or (job is not None and job.pid is None):
            self._early[run] = exit_record  # told before it is known that it was started
        elif job is not None:
            self._ended(job, exit_record)
        elif not self._prober.ended(run, exit_record):
            self._taken.append(run)

    # The life of a job

    async def _spawn(self, job: Job) -> Spawned:
        log_path = await self._logs.open(job)
        request = await self._confinement.request(job, log_path, await self._readiness.expect(job))
        # No room for a process now, or a reaper that has just died: asking again by the same run id starts nothing twice.
        retrying = AsyncRetrying(
            retry=retry_if_exception_type(Unavailable),
            stop=stop_after_attempt(SPAWN_ATTEMPTS),
            wait=wait_exponential_jitter(multiplier=0.1, max=1, jitter=0.1),
            reraise=True,
        )
        return await retrying(self._reaper.spawn, request)

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

    async def _give_up(self, job: Job, run: str, reason: str, *, retry: bool) -> None:
        """End a run that is not as it should be; that counts as a failure, whatever its process says in the end."""
        if job.run == run and job.state is not State.STOPPING:
            self._given_up[run] = reason, retry
            self._note(job, "given_up", {"reason": reason})
            await self._end(job, None)

    def _ended(self, job: Job, exit_record: dict[str, Any]) -> None:
        if job.memory is not None and exit_record["code"] != 0:
            self._spawn_task(self._ended_badly(job, job.run, exit_record))
        else:
            self._exited(job, exit_record)

    async def _ended_badly(self, job: Job, run: str | None, exit_record: dict[str, Any]) -> None:
        oom = False
        with suppress(LlmosError):  # its group may have been taken away by somebody
            oom = await self._confinement.ran_out_of_memory(job)
        if job.run == run:  # its end may have been told twice
            self._exited(job, {**exit_record, "oom": oom})

    def _exited(self, job: Job, exit_record: dict[str, Any]) -> None:
        assert job.run is not None and job.pid is not None
        run = job.run
        self._taken.append(run)
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
        job.exited({"run": run, **exit_record})
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
        job.next_run_at = time.time() + delay
        self._move(job, Move.RETRY, f"{reason}; again in {delay:.1f} s" if delay else f"{reason}; again at once")
        self._set_alarm(job, job.next_run_at)

    def _lost(self, job: Job) -> None:
        """A run that the journal knows and the reaper does not: the machine was restarted, or it never began."""
        reason = "the machine was restarted" if job.boot != boot_id() else "its end was seen by nobody"
        if job.state is State.STARTING and job.pid is None:
            reason = "llmosd ended before it was started"
        job.exited({"run": job.run, "code": None, "signal": None, "at": time.time()})
        self._settle(job, well=False, reason=reason, retry=job.restart != "never")

    @staticmethod
    def _forgive(job: Job) -> None:
        """Its failures of before count no more."""
        job.failures, job.restarted_at = 0, []

    def _wake_successors(self, job: Job) -> None:
        for waiting in ordering.waiting_for(self.jobs, job):
            self._reconsider(waiting)

    def _reconsider(self, job: Job) -> None:
        """Start a waiting job that has nothing left to wait for; it fails where that has failed."""
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

    # Timers

    def _arm(self, job: Job, at: float, reason: str = "") -> None:
        """Have the schedule start the job at an instant; a running job keeps its state."""
        job.next_run_at = at
        if job.state in AT_REST:
            self._move(job, Move.SCHEDULE, reason or schedule.in_words(job.schedule))
        else:
            self._note(job, "scheduled", {"schedule": job.schedule, "next_run_at": at})
        self._set_alarm(job, at)

    def _arm_again(self, job: Job) -> None:
        """Put a job that has come to rest back on its schedule."""
        if job.next_run_at is not None or job.recurs:
            self._arm(job, job.next_run_at or schedule.following(job.schedule, time.time()), job.reason)

    def _set_alarm(self, job: Job, at: float) -> None:
        if not self._ending:
            self._alarms.set(job.name, at, lambda: self._due(job))

    def _due(self, job: Job) -> None:
        """The time has come to start it: by its schedule or after its back-off."""
        job.next_run_at = None
        if job.state is State.BACKOFF:
            self._start_by_itself(job, "restarted after its back-off")
            return
        if not job.recurs:
            job.schedule = {}
        if job.state in AT_REST:
            self._start_by_itself(job, "its time has come")
            return
        self._note(job, "skipped", {"reason": "the run before is not over"})
        if job.recurs:
            self._arm(job, schedule.following(job.schedule, time.time()))

    def _set_deadline(self, job: Job, seconds: float) -> None:
        """End the run when it has lasted that long from its start."""

        def late() -> None:
            if job.state in ALIVE:
                self._spawn_task(self.stop(job, reason=f"it ran longer than its timeout of {seconds:g} s"))

        self._deadlines.set(job.name, (job.started_at or time.time()) + seconds, late)

    # Plumbing

    def _take_up(self, entry: KnownRun, runs: set[str]) -> None:
        """Take up a run that the reaper knows, unless the journal has its end already."""
        label: dict[str, Any] = entry.label if isinstance(entry.label, dict) else {}
        job = self.jobs.get(str(label.get("name")))
        if job is None and label:  # llmosd was killed before the journal had it
            job = self.jobs[str(label["name"])] = Job.from_record(label)
        recorded = job is not None and any(past.get("run") == entry.run for past in job.recent)
        if job is None or recorded or (job.run != entry.run and job.run in runs):
            self._taken.append(entry.run)
            if job is None and entry.exit is None:  # a probe of the llmosd before
                self._spawn_task(self._reaper.signal(entry.run, signal.SIGKILL, "tree"))
            return
        self._alarms.cancel(job.name)
        job.run, job.pid, job.start_ticks, job.boot = entry.run, entry.pid, entry.start_ticks, boot_id()
        job.started_at = entry.started_at
        self._runs[entry.run] = self._pids[entry.pid] = job
        job.log_from, job.oom_kills = label.get("log_from", 0), label.get("oom_kills", 0)
        if job.state not in (State.RUNNING, State.PAUSED, State.STOPPING):
            self._set_state(job, State.RUNNING if job.ready is None else State.STARTING, "found running")
        if entry.exit is not None:
            self._ended(job, asdict(entry.exit))
            return
        if (seconds := timeout_seconds(job)) is not None:
            self._set_deadline(job, seconds)
        self._logs.adopt(job)
        self._look_after(job)

    async def _prioritise(self, job: Job) -> None:
        with suppress(NotFound, Conflict):  # it has ended meanwhile
            await self._confinement.set_priority(job)

    async def _signal(self, job: Job, number: int) -> None:
        if job.run is not None and job.pid is not None:
            with suppress(NotFound):  # it has ended, and that will be told
                await self._reaper.signal(job.run, number, "tree")

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
