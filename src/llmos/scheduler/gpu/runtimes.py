"""How long something will hold its cards, by what earlier runs of its kind took.

The kind with at least two runs that is the most particular speaks: user, program and what is asked of the cards, then
user and program, user and what is asked, user and number of cards, user, everybody.
"""

from statistics import fmean

from llmos.scheduler.policies import Runs
from llmos.scheduler.workload import Job

UNKNOWN_SECONDS = 3600.0
"""What is expected where nothing has ended yet."""
_ENOUGH = 2
_MAX_MEANS = 1000


class Runtimes:
    """The last 50 runs of each kind. `queue` of a job says what is asked of the cards, `processors` how many."""

    def __init__(self) -> None:
        self._levels = [
            Runs(kind=lambda job: (job.user, job.program, job.queue)),
            Runs(kind=lambda job: (job.user, job.program)),
            Runs(kind=lambda job: (job.user, job.queue)),
            Runs(kind=lambda job: (job.user, job.processors)),
            Runs(kind=lambda job: job.user),
            Runs(kind=lambda job: None),
        ]
        self._means: dict[tuple[str, str, str, int], tuple[float, int]] = {}
        """Of those that have not begun, until another run ends: many that wait are alike."""

    def note(self, job: Job) -> None:
        """A run has ended."""
        self._means.clear()
        for level in self._levels:
            level.note(job)

    def expected(self, job: Job, served: float = 0.0) -> tuple[float, int]:
        """The mean of the seconds that a job will still take which has run for `served`, and of how many runs that is.

        Where it has outlived all of its kind, as long again as until now.
        """
        if served:
            return self._expected(job, served)
        kind = job.user, job.program, job.queue, job.processors
        if kind not in self._means:
            if len(self._means) >= _MAX_MEANS:
                self._means.clear()
            self._means[kind] = self._expected(job, 0.0)
        return self._means[kind]

    def _expected(self, job: Job, served: float) -> tuple[float, int]:
        for level in self._levels:
            runs = level.of(job)
            if len(runs) >= _ENOUGH:
                longer = [runtime - served for runtime in runs if runtime > served] if served else runs
                return (fmean(longer), len(longer)) if longer else (served, 0)
        return max(UNKNOWN_SECONDS, served), 0
