"""Whether a running job is well: a probe at every interval, and what follows when it fails too often in a row."""

import asyncio
from collections.abc import Callable
from typing import Literal

from pydantic import Field

from llmos.kernel.job import Job, Span
from llmos.kernel.probing import Probe, Prober
from llmos.kernel.states import State
from llmos.plan import values


class Health(Probe):
    """How a job is checked: in one of these ways, every `interval` once it is ready.

    After `failures` failed checks in a row it is ended, and started again or left failed.
    """

    interval: Span = "10s"
    timeout: Span = Field("5s", description="how long one check may take")
    failures: int = Field(3, ge=1, le=1000)
    then: Literal["restart", "stop"] = "restart"


async def watch(job: Job, prober: Prober, changed: Callable[[str], None]) -> str:
    """Check a job until it has failed too often in a row; returns what was wrong.

    `changed` is told of a first failure, and with an empty text when it is well again. A paused job is not checked.
    """
    health = Health.model_validate(job.health)
    while True:
        await asyncio.sleep(values.seconds_of(health.interval))
        if job.state is not State.RUNNING:
            continue
        problem = await prober.problem(job, health, values.seconds_of(health.timeout))
        if job.state is not State.RUNNING:  # it was paused, or is to end, while it was asked
            continue
        before = job.failed_checks
        job.failed_checks = before + 1 if problem else 0
        if bool(before) is not bool(problem):
            changed(problem)
        if job.failed_checks >= health.failures:
            times = "once" if health.failures == 1 else f"{health.failures} times in a row"
            return f"its health check failed {times}: {problem}"
