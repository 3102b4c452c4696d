"""When a job is started again by itself: which ends its policy answers, after what delay, and how often at most."""

import random
import signal
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from llmos.kernel.job import Job, Span
from llmos.plan import values
from llmos.settings import JobSettings


class RestartLimit(BaseModel):
    """How often a job may be restarted by itself within a time; one restart more, and it has failed."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    restarts: int = Field(ge=1, le=1000)
    within: Span = "10m"


def wanted(job: Job, *, well: bool) -> bool:
    """Whether the policy of a job that has ended by itself starts it again."""
    if job.ended_as(job.restart_prevent):
        return False
    if job.restart == "on-failure" and job.restart_on:
        return not well and job.ended_as(job.restart_on)
    return job.restart == "always" or (job.restart == "on-failure" and not well)


def delay(failures: int, settings: JobSettings) -> float:
    """Seconds until the next try: none after the first failure, then doubling up to a cap, less up to a fifth.

    The jitter keeps jobs that failed together from coming back together.
    """
    if failures == 0:
        return 0.0
    full = min(settings.backoff_cap_seconds, settings.backoff_first_seconds * 2.0 ** min(failures - 1, 30))
    return full * random.uniform(0.8, 1.0)


def count(job: Job, now: float) -> str:
    """Take down a restart at `now` (epoch seconds); where it would be one too many, the limit in words, and nothing."""
    if job.restart_limit is None:
        return ""
    limit = RestartLimit.model_validate(job.restart_limit)
    recent = [at for at in job.restarted_at if now - values.seconds_of(limit.within) < at <= now]
    if len(recent) >= limit.restarts:
        times = "time" if limit.restarts == 1 else "times"
        return f"it was restarted {limit.restarts} {times} within {limit.within}, its limit"
    job.restarted_at = [*recent, now]
    return ""


def codes_and_signals(given: list[Any]) -> list[int | str]:
    """Ends of a run in one form: exit codes from 0 to 255, and names of signals without SIG.

    :raises ValueError: one is neither.
    """
    names = {number.name.removeprefix("SIG") for number in signal.Signals}
    found: list[int | str] = []
    for value in given:
        name = value.upper().removeprefix("SIG") if isinstance(value, str) else value
        if name not in names and not (type(name) is int and 0 <= name <= 255):
            raise ValueError(f"{value!r} is neither an exit code from 0 to 255 nor a signal such as SEGV")
        found.append(name)
    return found


def failures(given: list[Any]) -> list[int | str]:
    """The same, of ends that are no success by themselves.

    :raises ValueError: one is 0, or neither a code nor a signal.
    """
    if 0 in (found := codes_and_signals(given)):
        raise ValueError("exit code 0 is always a success; leave it out")
    return found
