"""Processor sharing, egalitarian and without cost: every job that is there runs at the same rate at once."""

import heapq
from collections.abc import Sequence

from llmos.scheduler.simulator import FLOOR, Outcome
from llmos.scheduler.workload import Job


def share(jobs: Sequence[Job], processors: int) -> Outcome:
    """Run a window; the rate is 1 as long as all jobs fit, else processors over what they want together."""
    there: list[tuple[float, int]] = []  # by the common service at which each ends
    ends = [0.0] * len(jobs)
    service, now, wanted, coming = 0.0, 0.0, 0, 0
    while coming < len(jobs) or there:
        rate = 1.0 if wanted <= processors else processors / wanted
        arrival = jobs[coming].submit if coming < len(jobs) else float("inf")
        end = now + (there[0][0] - service) / rate if there else float("inf")
        if arrival <= end:
            service += (arrival - now) * rate
            now = arrival
            heapq.heappush(there, (service + jobs[coming].runtime, coming))
            wanted += min(jobs[coming].processors, processors)
            coming += 1
        else:
            service, now = there[0][0], end
            position = heapq.heappop(there)[1]
            wanted -= min(jobs[position].processors, processors)
            ends[position] = now
    completion = [end - job.submit for end, job in zip(ends, jobs, strict=True)]
    slowdown = [max(1.0, took / max(job.runtime, FLOOR)) for took, job in zip(completion, jobs, strict=True)]
    return Outcome(completion, slowdown, max(ends) - jobs[0].submit, 0, 0.0)
