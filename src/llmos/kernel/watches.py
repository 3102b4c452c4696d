"""Standing watches: rules on metrics, ends and output that notify or carry out a line until they are dropped.

Metrics are sampled in a thread, all watches at once, and only while there are such watches. A rule fires when its
condition has held for its time, and again only after the condition has been false in between.
"""

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from llmos.errors import LlmosError, NotFound
from llmos.kernel import targets
from llmos.kernel.caller import Caller
from llmos.kernel.job import Job
from llmos.kernel.process_end import wait_for_end
from llmos.kernel.targets import JobTarget, ProcessTarget, Resolved, WatchTarget
from llmos.machine.identity import Identity, with_descendants
from llmos.machine.metrics import MetricSampler
from llmos.plan import values
from llmos.plan.language import parse_line, print_line
from llmos.syscalls import Risk
from llmos.syscalls.watch import Watch

if TYPE_CHECKING:
    from llmos.kernel.kernel import Kernel

log = logging.getLogger("llmos.watches")

SAMPLE_SECONDS = 2.0
MAX_WATCHES = 1000
SAMPLED = frozenset({"cpu", "memory", "disk", "gpu", "load", "temperature"})


@dataclass(slots=True)
class Standing:
    """One standing watch. `granted`: up to which risk its `then` was agreed to; `bound`: what its `$N` stand for."""

    number: int
    line: str
    uid: int
    gid: int
    granted: int
    created_at: float
    jobs: list[str] = field(default_factory=list)
    processes: list[dict[str, Any]] = field(default_factory=list)
    bound: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    fired: int = 0
    last_fired_at: float | None = None

    call: Watch = field(init=False)
    sampler: MetricSampler = field(init=False, default_factory=MetricSampler)
    armed: bool = field(init=False, default=True)
    holding_since: float | None = field(init=False, default=None)
    task: asyncio.Task[None] | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        call = parse_line(self.line)
        assert isinstance(call, Watch)
        self.call = call

    def record(self) -> dict[str, Any]:
        """What the journal keeps."""
        kept = ("number", "line", "uid", "gid", "granted", "created_at", "jobs", "processes", "bound", "fired")
        return {name: getattr(self, name) for name in (*kept, "last_fired_at")}

    def as_json(self) -> dict[str, Any]:
        """As callers see it."""
        return {
            "id": self.number,
            "line": self.line,
            "uid": self.uid,
            "created_at": self.created_at,
            "fired": self.fired,
            "last_fired_at": self.last_fired_at,
        }

    def target(self) -> WatchTarget:
        """The target that it is for `unwatch`."""
        return WatchTarget(self.number, self.uid, self.line)


class Watches:
    """All standing watches of one kernel, by number."""

    def __init__(self, kernel: "Kernel") -> None:
        self._kernel = kernel
        self.standing: dict[int, Standing] = {}
        self._sampling: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def load(self) -> None:
        """Take up the watches of the journal; those on the ends of jobs stand from now on."""
        for number, record in (await self._kernel.journal.watches()).items():
            self.standing[number] = Standing(**{**record, "number": number})
        self._kernel.supervisor.exit_listeners.append(self._job_ended)

    def begin(self) -> None:
        """Start what the loaded watches need."""
        for watch in list(self.standing.values()):
            self._begin(watch)

    async def close(self) -> None:
        """Stop watching; the watches stay in the journal."""
        tasks = [*self._tasks, *(watch.task for watch in self.standing.values() if watch.task)]
        tasks += [self._sampling] if self._sampling else []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def set(
        self,
        call: Watch,
        caller: Caller,
        resolved: Sequence[Resolved],
        earlier: dict[int, list[Resolved]],
        granted: Risk,
    ) -> Standing:
        """Set a watch.

        :raises NotFound: there are too many, or a sensor that it needs is not there.
        """
        if len(self.standing) >= MAX_WATCHES:
            raise NotFound(f"there are {MAX_WATCHES} watches already; drop some first")
        if call.metric in SAMPLED:
            # A metric that this machine cannot give is an error now, not silence for ever.
            await asyncio.to_thread(_sample, call, MetricSampler(), [])
        inner = parse_line(call.then) if call.then is not None else None
        watch = Standing(
            number=0,
            line=print_line(call),
            uid=caller.uid,
            gid=caller.gid,
            granted=int(max(granted, Risk.READ)),
            created_at=time.time(),
            jobs=[target.name for target in resolved if isinstance(target, JobTarget)],
            processes=[_as_record(target) for target in resolved if isinstance(target, ProcessTarget)],
            bound={
                str(line): [_as_record(target) for target in earlier.get(line, [])]
                for line in (inner.references() if inner is not None else ())
            },
        )
        watch.number = await self._kernel.journal.save_watch(None, watch.record())
        self._begin(watch)
        return watch

    async def drop(self, number: int) -> Standing:
        """Drop a watch.

        :raises NotFound: there is none of that number.
        """
        watch = self.standing.pop(number, None)
        if watch is None:
            raise NotFound(f"there is no watch {number}; `llmos watches` lists them")
        if watch.task is not None and watch.task is not asyncio.current_task():
            watch.task.cancel()
        await self._kernel.journal.drop_watch(number)
        return watch

    async def put_back(self, record: dict[str, Any]) -> Standing:
        """Set again a watch that was dropped."""
        watch = Standing(**record)
        if watch.number in self.standing:  # its number was given away meanwhile
            watch.number = 0
        watch.number = await self._kernel.journal.save_watch(watch.number or None, watch.record())
        self._begin(watch)
        return watch

    def find(self, text: str) -> list[Resolved]:
        """The watches that an ID, a target or a metric names.

        :raises NotFound: none.
        """
        if text.isascii() and text.isdigit() and int(text) in self.standing:
            return [self.standing[int(text)].target()]
        found: list[Resolved] = [
            watch.target() for watch in self.standing.values() if text in (watch.call.metric, watch.call.target)
        ]
        if not found:
            raise NotFound(f"no watch has the number, target or metric {text!r}; `llmos watches` lists them")
        return found

    def _begin(self, watch: Standing) -> None:
        self.standing[watch.number] = watch
        if watch.call.metric == "log":
            watch.task = self._task(self._follow(watch))
        elif watch.call.metric == "exit" and watch.processes:
            watch.task = self._task(self._await_end(watch))
        elif watch.call.metric in SAMPLED and (self._sampling is None or self._sampling.done()):
            self._sampling = asyncio.get_running_loop().create_task(self._sample_all())

    # What makes a watch fire

    async def _sample_all(self) -> None:
        while sampled := [watch for watch in self.standing.values() if watch.call.metric in SAMPLED]:
            identities = {watch.number: self._identities(watch) for watch in sampled}
            found = await asyncio.to_thread(_sample_each, sampled, identities)
            for watch, value in zip(sampled, found, strict=True):
                self._weigh(watch, value)
            await asyncio.sleep(SAMPLE_SECONDS)

    def _identities(self, watch: Standing) -> list[Identity]:
        jobs = [job.identity for name in watch.jobs if (job := self._kernel.supervisor.jobs.get(name)) is not None]
        return [
            *(identity for identity in jobs if identity is not None),
            *(Identity.from_text(record["identity"]) for record in watch.processes),
        ]

    def _weigh(self, watch: Standing, value: float | None) -> None:
        if value is None:
            return
        call, now = watch.call, time.monotonic()
        over = call.above is not None and value > _level(call.above)
        under = call.below is not None and value < _level(call.below)
        if not (over or under):
            watch.holding_since, watch.armed = None, True
            return
        watch.holding_since = watch.holding_since if watch.holding_since is not None else now
        held = values.seconds_of(call.for_) if call.for_ is not None else 0
        if watch.armed and now - watch.holding_since >= held:
            watch.armed = False
            limit = f"above {call.above}" if over else f"below {call.below}"
            self._task(self._fire(watch, f"{call.metric} is {value:.4g}, {limit}", {"value": value}))

    def _job_ended(self, job: Job) -> None:
        for watch in self.standing.values():
            if watch.call.metric == "exit" and job.name in watch.jobs:
                self._task(self._fire(watch, f"{job.name} has ended: {job.ended_how()}", {"exit_code": job.exit_code}))

    async def _await_end(self, watch: Standing) -> None:
        """Fire when each process has ended, then drop the watch: none of them can come back."""

        async def one(record: dict[str, Any]) -> None:
            identity = Identity.from_text(record["identity"])
            await wait_for_end(identity)
            await self._fire(watch, f"{record['name']} (pid {identity.pid}) has ended", {})

        await asyncio.gather(*map(one, watch.processes))
        await self.drop(watch.number)

    async def _follow(self, watch: Standing) -> None:
        wanted = watch.call.match or ""
        async for lines in self._kernel.logs.follow(watch.jobs[0]):
            for line in lines:
                if wanted in line:
                    await self._fire(watch, f"the output of {watch.jobs[0]} holds {wanted!r}", {"text": line[:500]})
                    break

    async def _fire(self, watch: Standing, why: str, seen: dict[str, Any]) -> None:
        watch.fired += 1
        watch.last_fired_at = time.time()
        journal = self._kernel.journal
        journal.note("watch.fired", str(watch.number), watch.uid, {"line": watch.line, "reason": why, **seen})
        if watch.number in self.standing:
            await journal.save_watch(watch.number, watch.record())
        if watch.call.then is None:
            return
        bound = {int(line): [self._from_record(each) for each in found] for line, found in watch.bound.items()}
        caller = Caller(watch.uid, watch.gid, None)
        try:
            executor = self._kernel.executor
            check = await executor.check([parse_line(watch.call.then)], caller, bound)
            results = await executor.run(
                check, caller, allow=Risk(watch.granted), request=f"watch {watch.number}: {why}"
            )
            result = {name: value for name, value in results[0].items() if name != "raised"}
        except LlmosError as error:
            result = {"ok": False, "error": error.as_json()}
        journal.note("watch.acted", str(watch.number), watch.uid, {"line": watch.call.then, **result})

    def _from_record(self, record: dict[str, Any]) -> Resolved:
        if "identity" not in record:
            return targets.job_target(self._kernel.supervisor, record["name"])
        return ProcessTarget(**{**record, "identity": Identity.from_text(record["identity"])})

    def _task(self, work: Any) -> asyncio.Task[None]:
        async def run() -> None:
            try:
                await work
            except Exception:
                log.exception("a watch failed")

        task = asyncio.get_running_loop().create_task(run())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _as_record(target: Resolved) -> dict[str, Any]:
    if isinstance(target, ProcessTarget):
        return {**asdict(target), "identity": target.identity.as_text()}
    return {"name": target.name if isinstance(target, JobTarget) else str(target.number)}


def _level(text: str) -> float:
    """A threshold in percent, degrees or load, or in bytes."""
    return float(values.bytes_of(text)) if text[-1].isalpha() else float(text)


def _sample_each(watches: Sequence[Standing], identities: dict[int, list[Identity]]) -> list[float | None]:
    found: list[float | None] = []
    for watch in watches:
        try:
            found.append(_sample(watch.call, watch.sampler, identities[watch.number]))
        except LlmosError as error:
            log.debug("%s: %s", watch.line, error)
            found.append(None)
        except Exception:
            log.exception("%s cannot be sampled", watch.line)
            found.append(None)
    return found


def _sample(call: Watch, sampler: MetricSampler, identities: Sequence[Identity]) -> float | None:
    """The present value of a watch's metric, or None while it is not known. Blocks."""
    in_bytes = call.metric == "memory" and any(level and level[-1].isalpha() for level in (call.above, call.below))
    metric: Any = "memory_bytes" if in_bytes else call.metric
    if call.metric == "disk":
        return sampler.machine("disk", call.target or "/")
    if call.target is None:
        return sampler.machine(metric)
    return sampler.process(metric, [identity.pid for identity in with_descendants(identities)])
