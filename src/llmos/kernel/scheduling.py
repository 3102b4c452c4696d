"""The scheduler as the daemon has it: on or off, its history of runs, what it hears of jobs, what it has learned, and
what `scheduler.*` do."""

import asyncio
import logging
import os
from collections import deque
from typing import TYPE_CHECKING, Any

from llmos.errors import BadInput, Forbidden, LlmosError
from llmos.kernel.caller import Caller
from llmos.kernel.job import Job
from llmos.kernel.scheduler_training import SchedulerTraining
from llmos.scheduler.actuators.available import Actuators
from llmos.scheduler.adaptation import Adaptation
from llmos.scheduler.live import LiveScheduler
from llmos.scheduler.run_history import PastRun, RunHistory
from llmos.scheduler.shadow_guard import ShadowGuard
from llmos.scheduler.task import past_run

if TYPE_CHECKING:
    from llmos.kernel.kernel import Kernel
    from llmos.scheduler.hazard import HazardNetwork

log = logging.getLogger("llmos.scheduler")

_OFF = "scheduler off"
_LEARNED_FROM = 5000
"""Past runs that a start looks at, the newest."""
_MAX_UNWRITTEN = 2000


class Scheduling:
    """The scheduler of one kernel."""

    def __init__(self, kernel: "Kernel") -> None:
        self._kernel = kernel
        self._live: LiveScheduler | None = None
        self._history: RunHistory
        self._actuators: Actuators
        self._unwritten: deque[PastRun] = deque(maxlen=_MAX_UNWRITTEN)
        self._writing: asyncio.Task[None] | None = None
        self._turn = asyncio.Lock()
        self._adaptation = Adaptation(kernel.settings.state_dir)
        self._training = SchedulerTraining(kernel, self._adaptation, self._past)
        self._guard = ShadowGuard(kernel.journal, self._adaptation, self._past, self._training.retrain)

    async def load(self) -> None:
        """Open the history of runs, and hear of jobs from now on.

        :raises Unavailable: the history cannot be opened.
        """
        self._history = await asyncio.to_thread(RunHistory, self._kernel.settings.state_dir / "runs.db")
        for run in await asyncio.to_thread(self._past_of_gpus):
            self._kernel.supervisor.gpus.learn(run)
        self._kernel.supervisor.start_listeners.append(self._job_started)
        self._kernel.supervisor.exit_listeners.append(self._job_ended)
        self._kernel.subscribers.add(self._event)

    async def restore(self) -> None:
        """Put back what an llmosd before has left changed, and begin where it is on. Jobs are taken up already."""
        self._actuators = await asyncio.to_thread(Actuators, self._kernel.cgroups)
        await self._guard.restore()
        live = self._new_live()
        await live.restore()
        if self._kernel.settings.scheduler.enabled and not await self._kernel.journal.fact(_OFF):
            await self._begin(live)

    async def close(self) -> None:
        """Put everything back, and write what is to be kept."""
        self._kernel.subscribers.discard(self._event)
        self._kernel.supervisor.start_listeners.remove(self._job_started)
        self._kernel.supervisor.exit_listeners.remove(self._job_ended)
        async with self._turn:
            await self._end()
        if self._writing is not None:
            await asyncio.gather(self._writing, return_exceptions=True)
        await self._guard.close()
        await self._training.close()
        await asyncio.to_thread(self._history.close)

    async def on(self, caller: Caller) -> dict[str, Any]:
        """Begin, now and at later starts.

        :raises Forbidden: it is not the caller's to say.
        """
        self._require_owner(caller)
        async with self._turn:
            await self._remember_off(off=False)
            if self._live is None:
                await self._begin(self._new_live())
                self._kernel.journal.note("scheduler.on", "scheduler", caller.uid, {})
        return await self.status()

    async def off(self, caller: Caller) -> dict[str, Any]:
        """Put everything back and end, now and at later starts.

        :raises Forbidden: it is not the caller's to say.
        """
        self._require_owner(caller)
        async with self._turn:
            await self._remember_off(off=True)
            if self._live is not None:
                await self._end()
                self._kernel.journal.note("scheduler.off", "scheduler", caller.uid, {})
        return await self.status()

    async def train(self, caller: Caller) -> dict[str, Any]:
        """Start the job that adapts the learned policy to the runs of this machine.

        :raises Forbidden: it is not the caller's to say.
        :raises BadInput: the policy is none that learns, or too few runs have ended.
        :raises Conflict: it runs already.
        """
        self._require_owner(caller)
        if not self._learns:
            raise BadInput(
                f'the policy is {self._kernel.settings.scheduler.policy}, which needs no training; set policy = "learned" '
                "under [scheduler] first"
            )
        job = await self._training.start(standing_in=bool(self._guard.off))
        return job.as_json()

    async def roll_back(self, caller: Caller) -> dict[str, Any]:
        """Go back to the weights that were in use before.

        :raises Forbidden: it is not the caller's to say.
        :raises NotFound: the shipped ones are in use.
        """
        self._require_owner(caller)
        now = await asyncio.to_thread(self._adaptation.roll_back)
        self._guard.weights_changed()
        if self._live is not None:
            self._live.ranking.stand_in("")
        self._kernel.journal.note("scheduler.rolled_back", "scheduler", caller.uid, {"weights": now.name})
        return {"in_use": now.name}

    async def status(self) -> dict[str, Any]:
        """Whether it is on, by what policy, what it sees, and where everything that wants a processor stands."""
        await asyncio.to_thread(self._actuators.probe)
        live, settings = self._live, self._kernel.settings.scheduler
        state: dict[str, Any] = {
            "on": live is not None,
            "scope": settings.scope,
            "policy": live.ranking.name if live is not None else settings.policy,
            "levers": self._actuators.usable,
            "missing_levers": self._actuators.missing,
        }
        notes = [self._actuators.note, live.ranking.fallen_back if live is not None else ""]
        if self._learns:
            state["learned"] = await asyncio.to_thread(self._learned)
            notes.append(f"{self._guard.off}, so it is switched off" if self._guard.off else "")
        state["notes"] = [note for note in notes if note]
        if (gpus := await self._kernel.supervisor.gpus.status()) is not None:
            state["gpus"] = gpus
        return {**state, **live.as_json()} if live is not None else state

    # What the kernel tells

    def _job_started(self, job: Job) -> None:
        if self._live is not None:
            self._live.job_started(job)

    def _job_ended(self, job: Job) -> None:
        self._training.job_ended(job)
        run = self._live.job_ended(job) if self._live is not None else past_run(job, None)
        if run is not None:
            self._kernel.supervisor.gpus.learn(run)
            self._unwritten.append(run)
            if self._writing is None:
                self._writing = asyncio.get_running_loop().create_task(self._write())

    def _event(self, event: dict[str, Any]) -> None:
        if self._live is not None and event["kind"] == "job.reniced":
            self._live.person_set(event["subject"], f"its priority was set to {event['body']['priority']}")

    # Plumbing

    @property
    def _learns(self) -> bool:
        return self._kernel.settings.scheduler.policy == "learned"

    def _new_live(self) -> LiveScheduler:
        live = LiveScheduler(self._kernel, self._actuators, self._past, self._network)
        if self._learns:
            live.ranking.stand_in(self._guard.off)
        return live

    def _network(self) -> "HazardNetwork":
        return self._adaptation.in_use().load()

    def _learned(self) -> dict[str, Any]:
        """What was learned and how it does; says what is damaged."""
        state = {**self._guard.as_json(), **self._training.as_json()}
        if self._live is not None:
            state["forecasts"] = self._live.ranking.forecasts.as_json()
        try:
            before, candidate = self._adaptation.before(), self._adaptation.candidate()
            state["weights"] = self._adaptation.in_use().as_json()
            state["before"] = before.as_json() if before is not None else None
            state["tried"] = candidate.as_json() if candidate is not None else None
        except LlmosError as error:
            state["weights"] = {"damaged": error.message}
        return state

    def _past(self) -> list[PastRun]:
        """The newest runs; none where they cannot be read."""
        try:
            return self._history.newest(_LEARNED_FROM)
        except LlmosError as error:
            log.warning("%s", error)
            return []

    def _past_of_gpus(self) -> list[PastRun]:
        """The newest of those that held GPUs."""
        try:
            return self._history.of_gpus(_LEARNED_FROM)
        except LlmosError as error:
            log.warning("%s", error)
            return []

    async def _begin(self, live: LiveScheduler) -> None:
        await live.begin()
        self._live = live

    async def _end(self) -> None:
        live, self._live = self._live, None
        if live is not None:
            await live.close()

    async def _remember_off(self, *, off: bool) -> None:
        self._kernel.journal.remember(_OFF, off)
        await self._kernel.journal.flush()

    async def _write(self) -> None:
        """Write the runs that have ended, all that gathered meanwhile at once."""
        while self._unwritten:
            runs = list(self._unwritten)
            self._unwritten.clear()
            try:
                await asyncio.to_thread(self._history.add, runs)
            except LlmosError as error:
                log.warning("%s", error)
            if self._learns and self._live is not None:
                self._guard.runs_ended(len(runs), self._live.ranking)
        self._writing = None

    def _require_owner(self, caller: Caller) -> None:
        if not caller.may_touch(os.geteuid()):
            raise Forbidden("only root and the user who runs this llmosd may switch its scheduler")
