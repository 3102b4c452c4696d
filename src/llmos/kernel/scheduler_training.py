"""Training the scheduler, as the daemon has it: run the job that adapts its weights, and take in what it made."""

import asyncio
import logging
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmos.errors import Conflict, LlmosError
from llmos.kernel.job import Job
from llmos.kernel.states import ALIVE
from llmos.scheduler.adaptation import Adaptation
from llmos.scheduler.adaptation_job import usable
from llmos.scheduler.run_history import PastRun

if TYPE_CHECKING:
    from llmos.kernel.kernel import Kernel

log = logging.getLogger("llmos.scheduler")

JOB = "llmos-scheduler-train"
TIMEOUT = "1h"
AGAIN_SECONDS = 86400.0
"""From one training that nobody asked for to the next."""
_FACT = "scheduler retrained at"


class SchedulerTraining:
    """The job of one kernel."""

    def __init__(self, kernel: "Kernel", adaptation: Adaptation, past: Callable[[], Sequence[PastRun]]) -> None:
        self._kernel = kernel
        self._state_dir = kernel.settings.state_dir
        self._adaptation = adaptation
        self._past = past
        self._turn = asyncio.Lock()
        self._ends: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        """Wait for what is being taken in."""
        await asyncio.gather(*self._ends)

    async def start(self, *, standing_in: bool) -> Job:
        """Start the job.

        :param standing_in: the static policy is in use, for the learned one was switched off.
        :raises BadInput: too few runs have ended to learn from.
        :raises Conflict: it runs already.
        """
        await asyncio.gather(*self._ends)
        async with self._turn:
            if self._ends or (self.job is not None and self.job.state in ALIVE):
                raise Conflict(f"{JOB} runs already; `llmos stop {JOB}` ends it")
            folder = await asyncio.to_thread(self._prepare)
            command = [*self._command(), "--out", str(folder.absolute())]
            command += ["--standing-in"] if standing_in else []
            job = Job(JOB, command, "/", dict(os.environ), os.geteuid(), os.getegid(), priority="idle", timeout=TIMEOUT)
            await self._kernel.supervisor.define(job)
            await self._kernel.supervisor.flush()
        return job

    async def retrain(self) -> str:
        """Start the job, unless that was done in the last day; what came of it, in words."""
        if time.time() - (await self._kernel.journal.fact(_FACT) or 0.0) < AGAIN_SECONDS:
            return "not started: it was in the last day"
        try:
            await self.start(standing_in=True)
        except LlmosError as error:
            return f"not started: {error.message}"
        self._kernel.journal.remember(_FACT, time.time())
        return f"started as {JOB}"

    def as_json(self) -> dict[str, Any]:
        """Where it stands, and what came of the last. Reads files: called in a thread."""
        return {"training": str(self.job.state) if self.job else None, "last_training": self._adaptation.last()}

    @property
    def job(self) -> Job | None:
        """The job; None where there is none, or somebody gave its name to another."""
        job = self._kernel.supervisor.jobs.get(JOB)
        return job if job is not None and self._is_ours(job) else None

    def job_ended(self, job: Job) -> None:
        """Take in what it made, where it was the one that trains."""
        if job.name == JOB and self._is_ours(job):
            task = asyncio.get_running_loop().create_task(self._finish(Path(job.argv[job.argv.index("--out") + 1])))
            self._ends.add(task)
            task.add_done_callback(self._ends.discard)

    async def _finish(self, folder: Path) -> None:
        async with self._turn:
            try:
                if folder.parent != self._adaptation.generations.home.absolute():
                    return
                result = await asyncio.to_thread(self._adaptation.judged, folder)
            except (LlmosError, OSError) as error:
                log.error("what was trained is not used: %s", error)
                return
        failed = {"won": False, "reason": f"it came to no result; `llmos logs {JOB}` says why"}
        self._kernel.journal.note("scheduler.trained", "scheduler", None, result or failed)

    def _prepare(self) -> Path:
        usable(self._past())
        candidate = self._adaptation.candidate()
        self._adaptation.generations.remove_unused(*([candidate.number] if candidate else []))
        return self._adaptation.generations.new_folder()

    def _command(self) -> list[str]:
        return [sys.executable, "-m", "llmos.scheduler.adaptation_job", "--state", str(self._state_dir.absolute())]

    def _is_ours(self, job: Job) -> bool:
        ours = self._command()
        return job.uid == os.geteuid() and job.argv[: len(ours)] == ours and "--out" in job.argv[:-1]
