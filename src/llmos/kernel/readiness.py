"""Whether a job is ready: what can tell it, and the waiting for it. What is asked again and again is in `probing.py`.

A job tells it by itself, with a line of its output or with sd_notify(3), or it is asked by a probe until that goes well.
"""

import asyncio
from contextlib import aclosing

from pydantic import Field

from llmos.errors import TimedOut
from llmos.kernel.job import Job, Span
from llmos.kernel.job_log import JobLogs
from llmos.kernel.probing import Probe, Prober
from llmos.kernel.reaper_client import Reaper
from llmos.plan import values

FIRST_PAUSE_SECONDS = 0.05
LONGEST_PAUSE_SECONDS = 1.0
"""Between two probes of a job that is not ready yet; each pause is half as long again as the one before."""
PROBE_SECONDS = 5.0
"""How long one probe may take."""


class Ready(Probe):
    """How a job is found ready, and by when: in one of these ways.

    `log`: a line of its output holds this text. `notify`: it, or a process of it, sends READY=1 as sd_notify(3) does.
    """

    log: str | None = Field(None, min_length=1, description="text that a line of its output holds when it is ready")
    notify: bool = Field(False, description="it says READY=1 to the socket in NOTIFY_SOCKET, as sd_notify(3) does")
    timeout: Span = "60s"


class Readiness:
    """The waiting for jobs of one daemon to be ready: `expect` before the process is there, then `wait`, then `forget`."""

    def __init__(self, prober: Prober, reaper: Reaper, logs: JobLogs) -> None:
        self._prober = prober
        self._logs = logs
        self._said: dict[str, asyncio.Event] = {}
        reaper.on_ready = self.told

    async def expect(self, job: Job) -> dict[str, str]:
        """From now on nothing that the job tells is missed; returns the variables that it needs for that."""
        ready = Ready.model_validate(job.ready) if job.ready is not None else None
        if ready is not None and ready.log is not None:
            job.log_from = await self._logs.ends(job.name)
        if ready is None or not ready.notify:
            return {}
        return {"NOTIFY_SOCKET": f"@llmos/{job.run}"}

    async def wait(self, job: Job) -> None:
        """Return once the job is ready.

        :raises TimedOut: it is not, after all the time it has for that.
        """
        ready = Ready.model_validate(job.ready)
        found = "it did not say so"
        try:
            async with asyncio.timeout(values.seconds_of(ready.timeout)):
                if ready.notify:
                    await self._notified(job)
                elif ready.log is not None:
                    await self._logged(job, ready.log)
                else:
                    pause = FIRST_PAUSE_SECONDS
                    while found := await self._prober.problem(job, ready, PROBE_SECONDS):
                        await asyncio.sleep(pause)
                        pause = min(pause * 1.5, LONGEST_PAUSE_SECONDS)
        except TimeoutError:
            raise TimedOut(f"it was not ready within {ready.timeout}: {found}") from None

    def told(self, run: str) -> None:
        """The run has said that it is ready."""
        self._said.setdefault(run, asyncio.Event()).set()

    def forget(self, run: str) -> None:
        """The run is ready, or has ended."""
        self._said.pop(run, None)

    async def _logged(self, job: Job, text: str) -> None:
        async with aclosing(self._logs.follow(job.name, since=job.log_from)) as following:
            async for lines in following:
                if any(text in line for line in lines):
                    return

    async def _notified(self, job: Job) -> None:
        assert job.run is not None
        await self._said.setdefault(job.run, asyncio.Event()).wait()
