"""The order that `after` makes among jobs: who waits for whom and until when, starts along it and stops against it.

A job that says how it is found ready is waited for until it is ready, any other until it has ended well. Circles are
refused. `after` only orders: nothing is started because something else waits for it. Functions of the table of jobs.
"""

from collections.abc import Collection, Iterable, Mapping
from graphlib import CycleError, TopologicalSorter

from llmos.errors import BadInput
from llmos.kernel.job import Job
from llmos.kernel.states import AT_REST, State

Jobs = Mapping[str, Job]


def require_no_cycle(jobs: Jobs, new: Job) -> None:
    """Raise `BadInput` naming the jobs that would wait for one another with a new one among them."""
    try:
        TopologicalSorter(_graph_before(jobs, new)).prepare()
    except CycleError as error:
        circle = " after ".join(reversed(error.args[1]))
        raise BadInput(f"{new.name} would wait for itself: {circle}; leave one of them out", field="after") from None


def waves(jobs: Jobs, chosen: Iterable[Job]) -> list[list[Job]]:
    """The chosen jobs in groups, each of which comes after none but those before it, if only by way of others."""
    left = {job.name: job for job in chosen}
    if len(left) < 2:
        return [list(left.values())]
    sorter = TopologicalSorter(_graph(jobs))
    try:
        sorter.prepare()
    except CycleError:  # in a journal from before circles were refused
        return [list(left.values())]
    found = []
    while sorter.is_active():
        level = sorter.get_ready()
        sorter.done(*level)
        if wave := [left[name] for name in level if name in left]:
            found.append(wave)
    return found


def awaited(jobs: Jobs, job: Job) -> list[Job]:
    """The jobs that it comes after, those that are still there."""
    return [jobs[name] for name in job.after if name in jobs]


def holding_back(jobs: Jobs, job: Job, among: Collection[str]) -> list[Job]:
    """What it has to wait for when it is started: what is not ready, and of `among` also what has not ended well."""
    return [other for other in awaited(jobs, job) if (other.ready or other.name in among) and not met(other)]


def met(job: Job) -> bool:
    """Whether what comes after it may start."""
    if job.ready is not None:
        return job.state in (State.RUNNING, State.PAUSED)
    return job.state in AT_REST and job.ended_well()


def in_words(jobs: Iterable[Job]) -> str:
    """What is waited for, such as `db is ready and build has ended well`."""
    return " and ".join(f"{job.name} {'is ready' if job.ready is not None else 'has ended well'}" for job in jobs)


def _graph_before(jobs: Jobs, new: Job) -> dict[str, list[str]]:
    """What a job comes after, and what that does, and so on."""
    found = {new.name: new.after}
    ahead = list(new.after)
    while ahead:
        name = ahead.pop()
        if name not in found and name in jobs:
            found[name] = jobs[name].after
            ahead += found[name]
    return found


def _graph(jobs: Jobs) -> dict[str, list[str]]:
    return {job.name: job.after for job in jobs.values()}
