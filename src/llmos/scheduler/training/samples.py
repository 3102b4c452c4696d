"""Examples for the hazard network, by letting a trace happen: what was known of a job at a moment, and what came.

Every job runs from its submission, as in the trace. It is looked at when it comes and when it has been served for some
bins, so that what still runs counts as it does when the network is used.
"""

import heapq
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from llmos.scheduler.history import EDGES, Array, History, bin_of
from llmos.scheduler.workload import Job

_FIRST_LOOK, _LOOK_EVERY = 4, 3
"""Bins of service at which a job that runs is looked at again."""
_AHEAD = 14
"""Bins ahead that a later look is asked about."""
_ENDS, _LOOKS, _COMES = 0, 1, 2


@dataclass(frozen=True, slots=True)
class Samples:
    """Rows for bins that were reached: inputs (N, INPUTS), whether the job ended there (N,), and what a row weighs."""

    inputs: NDArray[np.float16]
    ended: Array
    weight: float


def samples(
    jobs: Sequence[Job],
    *,
    share: float,
    seed: int,
    weight: float = 1.0,
    forget_after: int | None = None,
    history: History | None = None,
) -> Samples:
    """Let the jobs happen and look.

    :param share: the part of the looks that is kept.
    :param forget_after: jobs after which everything is forgotten, as on a machine that is new.
    :param history: what is known before; it is gone on with.
    """
    draw = random.Random(seed)
    known = history or History()
    events = [(job.submit, _COMES, at, 0) for at, job in enumerate(jobs)]
    heapq.heapify(events)
    inputs, ended = [], []
    running: dict[int, int] = {}  # the bin that each got to
    came = 0
    while events:
        now, what, at, bin_ = heapq.heappop(events)
        job = jobs[at]
        if what != _COMES and at not in running:
            continue  # from before all was forgotten
        last = bin_of(job.runtime)
        if what == _ENDS:
            known.end(known.rows(job), running.pop(at), job.runtime)
            continue
        if what == _COMES:
            if forget_after and came and came % forget_after == 0:
                known, running = History(), {}
            came += 1
            known.begin(known.rows(job))
            heapq.heappush(events, (now + job.runtime, _ENDS, at, 0))
            for later in range(_FIRST_LOOK, last + 1, _LOOK_EVERY):
                heapq.heappush(events, (now + float(EDGES[later]), _LOOKS, at, later))
        else:
            known.reach(known.rows(job), running[at], bin_)
        running[at] = bin_
        if draw.random() < share:
            upper = last + 1 if what == _COMES else min(last + 1, bin_ + _AHEAD)
            seen = known.inputs(job, known.rows(job), now / 3600.0 % 24.0)[bin_:upper]
            inputs.append(seen.astype(np.float16))
            outcome = np.zeros(upper - bin_, np.float32)
            outcome[-1] = float(upper == last + 1)
            ended.append(outcome)
    return Samples(np.concatenate(inputs), np.concatenate(ended), weight)


def without(jobs: Iterable[Job], *names: str, scale: float = 1.0) -> list[Job]:
    """The jobs with some of what is known of them left out, and times scaled, so that the network does not rely on
    one trace's habits."""
    blank = {"user": "", "program": "", "queue": "", "requested": 0.0}
    return [
        replace(
            job,
            submit=job.submit * scale,
            runtime=max(1.0, job.runtime * scale),
            **{"requested": job.requested * scale, **{name: blank[name] for name in names}},  # type: ignore[arg-type]
        )
        for job in jobs
    ]
