"""The live scheduler: it looks, ranks, lets the envelope bound what comes of that, and moves levers so that people wait less.

Nothing is done while the processors suffice. When they do not, those that the policy runs first keep their usual weight
and the others are put behind, with a small share; once nobody has to wait, everything is put back. It wakes at events: a
job that starts or ends, or the kernel's word of pressure; only while it has something to decide it looks every second,
and less often where looking would cost more than a hundredth of a processor.
"""

import asyncio
import logging
import math
import os
import resource
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmos.errors import LlmosError, NotFound, want
from llmos.kernel.job import Job
from llmos.kernel.states import State
from llmos.machine.identity import Identity
from llmos.machine.priority import LEVELS
from llmos.scheduler import account, pressure, task
from llmos.scheduler.actuators.actuator import Change, Subject
from llmos.scheduler.actuators.available import Actuators
from llmos.scheduler.actuators.group_levers import CpuWeight
from llmos.scheduler.changes import Changes, Wanted
from llmos.scheduler.envelope import USUAL, Envelope, Place, Wish
from llmos.scheduler.heavy import HeavyProcesses
from llmos.scheduler.memory_holds import MemoryHolds
from llmos.scheduler.ranking import Ranking
from llmos.scheduler.run_history import PastRun
from llmos.scheduler.task import Task, past_run
from llmos.scheduler.telemetry import Telemetry, Watched

if TYPE_CHECKING:
    from llmos.kernel.kernel import Kernel
    from llmos.scheduler.hazard import HazardNetwork

_COMMON = "scheduler common weight"

log = logging.getLogger("llmos.scheduler")

BUSY_SECONDS = 1.0
"""From one look to the next while there is something to decide."""
WHOLE_SECONDS = 0.9
"""From one look at everything to the next; between them only those are looked at that want a processor."""
IDLE_SECONDS = 30.0
"""The same while there is nothing and the kernel will tell of pressure."""
BLIND_SECONDS = 10.0
"""The same where the kernel has no word of pressure."""
GATHER_SECONDS = 0.02
"""After something started, so that what comes with it is seen with it."""
MOST_COST_AT_START = 0.1
"""Share of one processor that looking may take while things start one after another."""
MOST_COST = 0.008
"""Share of one processor that looking may take."""
RELEASE_SECONDS = 5.0
"""For how long the processors have to suffice before everything is put back."""
MOST_BACK_OFF = 16.0
"""Longest pause between looks that pressure calls for and that find nothing to do."""
LOOKS_AHEAD = 10.0
"""Looks before memory would be used up by what grows."""
MAX_CHANGES = 16
"""Changes at one look."""
MAX_TASKS = 1000
MAX_EXPLAINED = 2
"""Predictions at one look whose inputs are weighed: some ms each."""
EXPLAINED_AGAIN = 2.0
"""Times the service, after which they are weighed again."""
YIELDING = 10
"""What all that is placed weighs together a processor, of USUAL. Less, and the kernel no longer spreads it evenly."""
MOST_COMMON = 10_000
"""The most that all groups of ours may weigh together."""
FULL = 0.9
"""Share of the processors wanted, from which on they are short."""


class LiveScheduler:
    """One machine's, while it is on."""

    def __init__(
        self,
        kernel: "Kernel",
        actuators: Actuators,
        past: Callable[[], Sequence[PastRun]],
        network: "Callable[[], HazardNetwork]",
    ) -> None:
        self._kernel = kernel
        self._settings = kernel.settings.scheduler
        self._actuators = actuators
        self.changes = Changes(kernel.journal, actuators)
        self._past = past
        self.ranking = Ranking(self._settings.policy, past, network)
        self.tasks: dict[str, Task] = {}
        self.telemetry = Telemetry()
        self._envelope = Envelope(self._settings.starvation_seconds)
        self.holds = MemoryHolds(kernel, self._left_alone)
        self._closing: set[asyncio.Task[None]] = set()
        self._heavy = HeavyProcesses(kernel)
        self._cores = os.cpu_count() or 1
        self._position = 0
        self._wake = asyncio.Event()
        self._soon = False
        self._loop: asyncio.Task[None] | None = None
        self._turn = asyncio.Lock()
        self._pressure = pressure.PressureEvents(self._under_pressure)
        self._events: list[pressure.Kind] = []
        self._stalls: dict[pressure.Kind, tuple[float, float]] = {}
        self.stalled: dict[pressure.Kind, float] = {}
        """Share of the time that something waited, by kind, since the last look but at least a second."""
        self._memory_group: Path | None = None
        self.memory: pressure.Memory | None = None
        self._common = USUAL
        self._set_by_others: dict[str, str] = {}
        self._busy = self._adopted = False
        self._short_until = 0.0
        self._fruitless = 0
        self._looked_at = self._sampled_at = 0.0
        self._by_person: dict[str, tuple[str | None, str]] = {}

    # Beginning and end

    async def restore(self) -> None:
        """Put back what an llmosd before left changed, and let go on what it held."""
        for key, left in (await self.changes.restore()).items():
            body = {"reason": left or "llmosd had ended before it put this back"}
            self._kernel.journal.note("scheduler.restored", key.removeprefix("job "), None, body)
        self._common = await self._kernel.journal.fact(_COMMON) or USUAL
        await self._set_common(USUAL)
        for job in list(self._kernel.supervisor.jobs.values()):  # born in a group, and nobody has noted it
            if job.identity is not None and (change := await asyncio.to_thread(self._born, job, job.identity)):
                with suppress(LlmosError):
                    await asyncio.to_thread(self._actuators.undo, change)
        await self.holds.restore()

    async def begin(self) -> None:
        """Look from now on."""
        self._memory_group = await asyncio.to_thread(self._find_memory_group)
        for run in await asyncio.to_thread(self._past):
            self.holds.note_peak(run)
        self._events = await self._pressure.begin()
        self._kernel.confinement.born_weighed = self._born_weighed
        self._loop = asyncio.get_running_loop().create_task(self._run())

    async def close(self) -> None:
        """Put everything back and look no more."""
        self._kernel.confinement.born_weighed = lambda job: False
        self._pressure.close()
        if self._loop is not None:
            self._loop.cancel()
            await asyncio.gather(self._loop, return_exceptions=True)
            self._loop = None
        async with self._turn:
            with suppress(LlmosError, OSError):  # nothing keeps what is known from being put back
                await self._follow_jobs()  # what was born in a group of ours since the last look is put back as well
            await self._release("the scheduler was ended")
            await self.holds.let_all_go("the scheduler was ended")
            for each in list(self.tasks.values()):
                await self._drop(each)
        await asyncio.gather(*self._closing, return_exceptions=True)

    def as_json(self) -> dict[str, Any]:
        """What it sees and does, for a person."""
        memory = self.memory
        rows = []
        for each in self.tasks.values():
            row = each.as_json()
            row["left_alone"] = self._left_alone(each) or None
            if each.subject in self.holds.held:
                row["place"] = "held"
            if each.wants() or row["place"] != "usual":
                expected = each.order.expected if each.order is not None else None
                row["predicted"] = expected.as_json() if expected is not None else None
                rows.append(row)
        return {
            "lever": self._lever(),
            "short_of_processors": self._short_until > time.monotonic(),
            "pressure": {kind: round(share, 3) for kind, share in self.stalled.items()},
            "memory_left": round(memory.free_share, 3) if memory is not None else None,
            "next_look_seconds": self.interval(),
            "last_look_cpu_ms": round(self.telemetry.cost_seconds * 1000, 2),
            "watched": len(self.tasks),
            "targets": rows,
        }

    # What the kernel tells

    def job_started(self, job: Job) -> None:
        """A job has a process."""
        self._by_person.pop(job.name, None)
        self._soon = True
        if self._loop is not None:
            self._wake.set()

    def job_ended(self, job: Job) -> PastRun | None:
        """A run has ended: learn from it; returns what it took, None where nobody saw."""
        key = f"job {job.name}"
        found = self.tasks.get(key)
        run = past_run(job, found)
        if run is not None:
            self.holds.note_peak(run)
        if found is not None:
            self.tasks.pop(key)
            self._envelope.forget(key)
            self._by_person.pop(job.name, None)
            natural = job.recent[-1].get("signal") is None
            expected = self.ranking.forecasts.of(found.position)
            self.ranking.ended(found.position, run.cpu_seconds if run is not None and natural else None)
            if found.placed_behind and run is not None:
                self._kernel.journal.note(
                    "scheduler.outcome", found.subject, None, account.of_outcome(found, run, expected)
                )
            self._spawn_close(found)
        if self._busy:
            self._wake.set()
        return run

    def person_set(self, name: str, what: str) -> None:
        """A person has set something of a job: it is theirs for the rest of its run."""
        job = self._kernel.supervisor.jobs.get(name)
        if job is not None and job.run is not None:
            self._by_person[name] = job.run, what
            self._wake.set()

    def _under_pressure(self, kind: pressure.Kind) -> None:
        pause = self.interval() or 0.0 if self._busy else min(MOST_BACK_OFF, 2.0 * 2**self._fruitless)
        left = self._looked_at + pause - time.monotonic()
        if left > 0:
            self._pressure.rest(left)
        elif len(self._kernel.supervisor.jobs) >= 2:  # one alone has nobody to wait for
            self._wake.set()

    # The loop

    async def _run(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self.interval()):
                    await self._wake.wait()
            if self._soon:
                await asyncio.sleep(max(GATHER_SECONDS, self.telemetry.cost_seconds / MOST_COST_AT_START))
            self._wake.clear()
            self._soon = False
            try:
                await self.look()
            except LlmosError as error:
                log.warning("%s", error)
            except Exception as error:
                if (lacking := want(error)) is not None:
                    log.warning("%s", lacking)
                else:
                    log.exception("a look of the scheduler failed")

    def interval(self) -> float | None:
        """Seconds until the next look, None where only an event brings it."""
        least = max(BUSY_SECONDS, self.telemetry.cost_seconds / MOST_COST)
        if self._busy or any(each.fresh for each in self.tasks.values()):  # what has just come is to be known
            return least
        if not any(job.pid is not None for job in self._kernel.supervisor.jobs.values()):
            return None
        return max(least, min(IDLE_SECONDS if self._events else BLIND_SECONDS, self._memory_lasts() / LOOKS_AHEAD))

    def _memory_lasts(self) -> float:
        """Seconds until memory is used up, if everything goes on to grow as it did."""
        growth = sum(max(0.0, each.watched.rates(task.RECENT_SECONDS)[2]) for each in self.tasks.values())
        return self.memory.available_bytes / growth if self.memory is not None and growth > 0 else math.inf

    async def look(self) -> None:
        """Look once, and act on it."""
        async with self._turn:
            await self._follow_jobs()
            self._looked_at = time.monotonic()
            await asyncio.to_thread(self._sample, list(self.tasks.values()))
            await self._mind_memory()
            placed = await self._mind_processors()
            self._busy = placed or bool(self.holds.held) or any(self.changes)
            self._fruitless = 0 if self._busy else min(self._fruitless + 1, 8)

    async def _follow_jobs(self) -> None:
        """Have a task for each run that lives, and none for others."""
        alive = {
            f"job {job.name}": job
            for job in self._kernel.supervisor.jobs.values()
            if job.identity is not None and job.state in (State.RUNNING, State.STARTING, State.PAUSED)
        }
        for key, known in list(self.tasks.items()):
            job = alive.get(key)
            if known.job is not None and (job is None or job.identity != known.main):
                await self._drop(known)
        for key, job in list(alive.items()):
            identity = job.identity  # while another was looked at, it may have ended
            if identity is not None and key not in self.tasks and len(self.tasks) < MAX_TASKS:
                self._position += 1
                found = await asyncio.to_thread(self._task_of, job, identity, self._position)
                change = await asyncio.to_thread(self._born, job, identity)
                if job.identity == found.main:  # it may have ended meanwhile
                    self.tasks[key] = found
                    self.ranking.came(found.position, found.ranked)
                    if change is not None:
                        self._adopted = True
                        await self.changes.adopt(key, self._subject(found), change)
        if self._settings.scope != "jobs" and self._busy:
            await self._follow_processes()

    def _born_weighed(self, job: Job) -> bool:
        """Whether a job that is started now is to be born in a group of ours: others have to wait, and it is ours."""
        theirs = job.nice is not None or job.priority != "normal" or job.name in self._kernel.settings.policy.protected
        ours = not theirs and not task.serves(job)
        return ours and self._short_until > time.monotonic() and self._lever() == "cpu weight"

    def _born(self, job: Job, identity: Identity) -> Change | None:
        """What undoes that a job was born in a group of ours; None where it was not, or for a limit of its own."""
        if job.cpu is not None or "cpu" not in self._kernel.cgroups.controllers:
            return None
        with suppress(NotFound):
            return CpuWeight(self._kernel.cgroups).born(job.name, identity)
        return None

    async def _follow_processes(self) -> None:
        """Have a task for each heavy process that may be slowed down."""
        of_jobs = {identity.pid for each in self.tasks.values() for identity in each.watched.processes()}
        heavy = await asyncio.to_thread(self._heavy.find, of_jobs, {each.main for each in self.tasks.values()})
        for known in list(self.tasks.values()):
            if known.job is None and known.main not in heavy:
                await self._drop(known)
        for identity, seen in heavy.items():
            key = f"process {identity.as_text()}"
            if key not in self.tasks and len(self.tasks) < MAX_TASKS:
                self._position += 1
                found = seen(self._position)
                self.tasks[key] = found
                self.ranking.came(found.position, found.ranked)

    def _task_of(self, job: Job, identity: Identity, position: int) -> Task:
        cgroups = self._kernel.cgroups
        held = {name: cgroups.exists(job.name, name) for name in ("freezer", "cpu", "cpuacct")}
        group = cgroups.directory(job.name, "freezer") if held["freezer"] else None
        usage = None
        if group is not None and (group / "cpu.stat").exists():  # version 2 counts without a controller
            usage = group / "cpu.stat"
        elif held["cpuacct"]:
            usage = cgroups.directory(job.name, "cpuacct") / "cpuacct.usage"
        found = task.of_job(job, position, Watched(f"job {job.name}", identity, group, usage))
        mine = os.getpriority(os.PRIO_PROCESS, 0)
        if job.nice is None and job.priority == "normal" and found.nice not in (None, mine):
            found.theirs = f"its niceness is {found.nice}"
        return found

    def _sample(self, tasks: Sequence[Task]) -> None:
        now = time.monotonic()
        watched = [each.watched for each in tasks]
        if now - self._sampled_at >= WHOLE_SECONDS:
            self._sampled_at = now
            self.telemetry.sample(watched)
        else:  # something started or ended: whoever wants nothing is left for the next whole look
            tasks = [each for each in tasks if each.wants()]
            self.telemetry.sample(watched, only=[each.watched for each in tasks])
        self.memory = pressure.memory(self._memory_group)
        for kind in self._events:
            total = pressure.stall_seconds(kind)
            before = self._stalls.get(kind)
            if total is not None and (before is None or now - before[0] >= 1.0):
                if before is not None:
                    self.stalled[kind] = min(1.0, (total - before[1]) / (now - before[0]))
                self._stalls[kind] = now, total
        self._set_by_others = self.changes.set_by_others()
        mine = os.getpriority(os.PRIO_PROCESS, 0)
        for each in tasks:
            unset = each.job is None or each.job.priority == "normal"
            if unset and not each.theirs and self.changes.lever(each.key) != "nice":
                nice = task.niceness(each.main)
                if nice is not None and nice not in (each.nice, mine):
                    each.theirs = f"its niceness was set to {nice}"

    # The processors

    async def _mind_processors(self) -> bool:
        """Place those that want a processor, while there are too few; says whether there are."""
        await self._respect_others()
        wanting = [each for each in self.tasks.values() if each.wants() and each.subject not in self.holds.held]
        demand = sum(each.demand() for each in wanting)
        ours = [each for each in wanting if not self._left_alone(each)]
        seen = sum(each.demand() >= task.WANTS for each in ours)
        now = time.monotonic()
        if len(ours) >= 2 and seen and demand > FULL * self._cores:
            self._short_until = now + RELEASE_SECONDS
        elif now >= self._short_until:
            await self._release("nobody has to wait for a processor any more")
            return False
        orders = await asyncio.to_thread(self.ranking.order, {each.position: each.served for each in ours})
        ours = [each for each in ours if each.key in self.tasks and each.position in orders]
        for each in ours:
            each.order = orders[each.position]
        wishes = [
            Wish(
                each.key,
                each.rank,
                orders[each.position].review,
                self._width(each),
                each.starved(now),
                self._first_always(each),
                each.fresh,
            )
            for each in ours
        ]
        places = self._envelope.places(wishes, self._cores, now)
        beside = sorted(ours, key=lambda each: (not self._first_always(each), orders[each.position].runner_up))
        await self._place(ours, places, {each.key for each in beside[: self._cores]})
        return True

    async def _place(self, ours: Sequence[Task], places: dict[str, Place], beside: set[str]) -> None:
        lever = self._lever()
        if lever is None:
            return
        wanted: list[Wanted] = []
        # what has a group already is moved at once, and entering one takes a while
        for each in sorted(ours, key=lambda each: (each.key not in self.changes, not places[each.key].first)):
            place = places[each.key]
            setting = place.share if lever == "cpu weight" else _nice_of(place.share)
            if place.first and each.key not in self.changes and (lever != "cpu weight" or self._first_always(each)):
                each.place = place  # as it is
            elif self.changes.standing(each.key) != setting and len(wanted) < MAX_CHANGES:
                wanted.append(Wanted(each.key, self._subject(each), lever, setting))
        await self._ask_why([each for each in ours if each.key in {one.key for one in wanted}], places)
        earlier = {each.key: each.place for each in ours}
        failed = await self.changes.make(wanted) if wanted else {}
        if lever == "cpu weight":
            await self._weigh_together(made=bool(wanted) or self._adopted)
            self._adopted = False
        for each in ours:
            if each.key not in {one.key for one in wanted} or each.key not in self.tasks:
                continue
            if (problem := failed.get(each.key)) is not None:
                each.theirs = f"it cannot be moved: {problem}"
                continue
            place, before = places[each.key], earlier[each.key]
            each.place = place
            if not place.first:
                each.placed_behind += 1
            if place.share != (before.share if before is not None else USUAL):
                self._note_place(each, before, lever, ours, places, each.key in beside)

    async def _ask_why(self, them: Sequence[Task], places: dict[str, Place]) -> None:
        """What made the prediction, of those that are put behind: of a few, and not again before it may have changed."""
        asked = [each for each in them if not places[each.key].first and each.served >= each.explained_until]
        for each in asked[:MAX_EXPLAINED]:
            each.contributions = await asyncio.to_thread(self.ranking.contributions, each.position, each.served)
            each.explained_until = max(1.0, EXPLAINED_AGAIN * each.served)

    async def _weigh_together(self, *, made: bool = False) -> None:
        """Have all groups of ours together give way to what is outside of them, for a person may be working there; but
        what a person set weighs what it would apart. Where groups were made, that of all may be new too."""
        ours = [self.changes.standing(key) for key in self.changes if self.changes.lever(key) == "cpu weight"]
        others = [
            LEVELS[job.priority].weight
            for job in self._kernel.supervisor.jobs.values()
            if job.cpu is not None and job.pid is not None and f"job {job.name}" not in self.changes
        ]
        weight = sum(ours) + sum(others) if others else YIELDING * self._cores
        await self._set_common(min(MOST_COMMON, max(1, weight)) if ours else USUAL, made)

    async def _set_common(self, weight: int, made: bool = False) -> None:
        if "cpu" not in self._kernel.cgroups.controllers or (weight == self._common and not made):
            return
        self._common = weight
        self._kernel.journal.remember(_COMMON, weight)
        with suppress(NotFound):  # the last group was taken away, and the weight with it
            await asyncio.to_thread(self._kernel.cgroups.set_common_weight, weight)

    def _lever(self) -> str | None:
        """What moves processor time here; niceness only where it can be taken back."""
        usable = self._actuators.usable
        if "cpu weight" in usable:
            return "cpu weight"
        may_take_back = os.geteuid() == 0 or resource.getrlimit(resource.RLIMIT_NICE)[0] >= 20
        return "nice" if "nice" in usable and may_take_back else None

    def _subject(self, each: Task) -> Subject:
        group = each.job.name if each.job is not None else f"/weighed {each.main.pid} {each.main.start_ticks}"
        return Subject(tuple(each.watched.processes() or [each.main]), group)

    def _width(self, each: Task) -> int:
        return max(1, min(self._cores, round(each.demand())))

    def _first_always(self, each: Task) -> str:
        return "a service is not put behind" if each.serves() else ""

    def _left_alone(self, each: Task) -> str:
        """Why it is not ours to move; empty where it is."""
        job = each.job
        if job is None:
            return each.theirs
        run, what = self._by_person.get(job.name, (None, ""))
        if run is not None and run == job.run:
            return what
        if job.priority != "normal":
            return f"its priority was set to {job.priority}"
        if job.nice is not None:
            return f"its niceness was given as {job.nice}"
        if job.state is State.PAUSED:
            return "it is paused"
        if job.name in self._kernel.settings.policy.protected:
            return "it is protected by the settings"
        return "it is favoured" if each.key in self._kernel.focus.favoured else each.theirs

    async def _respect_others(self) -> None:
        """Leave alone what somebody has set since we did, and what has become a person's."""
        for key, what in self._set_by_others.items():
            each = self.tasks.get(key)
            await self.changes.let_go(key)
            if each is not None:
                each.theirs = f"{what} by somebody"
                each.place = None
                self._envelope.forget(key)
                self._kernel.journal.note("scheduler.respected", each.subject, None, {"reason": each.theirs})
        for each in list(self.tasks.values()):
            if each.key in self.changes and (why := self._left_alone(each)):
                await self._put_back([each], why, "scheduler.respected")

    async def _release(self, reason: str) -> None:
        await self._put_back([each for each in self.tasks.values() if each.key in self.changes], reason)
        await self._weigh_together()
        for each in self.tasks.values():
            each.place = None
            each.starving_since = None
            self._envelope.forget(each.key)

    async def _put_back(self, them: Sequence[Task], reason: str, kind: str = "scheduler.put_back") -> None:
        came = await self.changes.take_back([each.key for each in them])
        for each in them:
            if each.place is not None and not each.place.first:
                left = came.get(each.key, "")
                body = {"reason": f"{reason}; {left}" if left else reason, "share": USUAL}
                self._kernel.journal.note(kind, each.subject, None, body)
            each.place = None
            self._envelope.forget(each.key)
            await self._remove_group(each)

    async def _mind_memory(self) -> None:
        for name in await self.holds.forget_released():
            self.person_set(name, "it was let go on by hand")
        if self.memory is not None:
            await self.holds.mind(list(self.tasks.values()), self.memory, self.stalled.get("memory"))

    # Plumbing

    async def _drop(self, each: Task) -> None:
        """It lives no more, or is heavy no more."""
        if self.tasks.get(each.key) is not each:  # it has ended while another was dropped
            return
        del self.tasks[each.key]
        self._envelope.forget(each.key)
        if each.key in self.changes:
            await self.changes.take_back([each.key])
        self.ranking.ended(each.position, None)
        await self._remove_group(each)
        await asyncio.to_thread(each.watched.close)

    async def _remove_group(self, each: Task) -> None:
        """A process that is no job has no use for the group that weighed it."""
        if each.job is None:
            with suppress(LlmosError):
                group = self._subject(each).group
                assert group is not None
                await asyncio.to_thread(self._kernel.cgroups.remove, group)

    def _spawn_close(self, each: Task) -> None:
        async def close() -> None:
            async with self._turn:
                await self.changes.let_go(each.key)
                await asyncio.to_thread(each.watched.close)

        closing = asyncio.get_running_loop().create_task(close())
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)

    def _find_memory_group(self) -> Path | None:
        """The memory cgroup in which the jobs are started: bounds on it bound them all."""
        if "memory" not in self._kernel.cgroups.controllers or self._kernel.reaper.pid is None:
            return None
        with suppress(LlmosError):
            return self._kernel.cgroups.place(Identity.of(self._kernel.reaper.pid), "memory")
        return None

    def _note_place(
        self, each: Task, before: Place | None, lever: str, ours: Sequence[Task], places: dict[str, Place], beside: bool
    ) -> None:
        pressed = {kind: round(share, 3) for kind, share in self.stalled.items()}
        seen = {"pressure": pressed, "processors": self._cores}
        body = account.of_place(each, before, lever, self.ranking, ours, places, beside, seen)
        self._kernel.journal.note("scheduler.placed", each.subject, None, body)


def _nice_of(share: int) -> int:
    """Niceness that weighs as much: a factor of 1.25 a level (sched(7))."""
    return min(19, round(math.log(USUAL / share, 1.25)))
