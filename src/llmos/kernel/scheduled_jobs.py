"""Jobs that are started by their schedules: timers on the right clock, times that were missed, runs that overlap.

What a clock shows (at, cron, once=TIME) waits on the wall clock and is looked at again when that is set; what counts
time (every, once=DUR) waits on boot time, which nobody sets and which goes on while the machine is suspended.
"""

import time
from abc import abstractmethod

from llmos.kernel import schedule
from llmos.kernel.job import Job
from llmos.kernel.job_table import JobTable
from llmos.kernel.journal import Journal
from llmos.kernel.states import AT_REST, Move, State
from llmos.kernel.timers import Timers
from llmos.machine.clocks import BOOT, WALL, Clock
from llmos.machine.identity import boot_id

MISSED_AFTER_SECONDS = 60.0
"""A time that nobody saw come has been missed when it is this long ago; before, it comes late."""


class ScheduledJobs(JobTable):
    """The jobs of one daemon, each started when its schedule says."""

    def __init__(self, journal: Journal, wall: Clock = WALL, boot: Clock = BOOT) -> None:
        super().__init__(journal)
        self._wall = Timers(wall, self._clock_was_set)
        self._boot = Timers(boot)
        self._ahead = wall.now() - boot.now()
        self._ending = False

    @abstractmethod
    def _start_by_itself(self, job: Job, reason: str) -> None:
        """Start a job that nobody waits for."""

    @abstractmethod
    def _start_anew(self, job: Job, reason: str) -> None:
        """End the job's run, with nobody waiting, and start it once that has ended."""

    def set_schedule(self, job: Job, wanted: dict[str, str]) -> None:
        """Set when it runs; an empty schedule takes it off."""
        job.schedule = wanted
        if wanted:
            self._arm(job, schedule.first(wanted, self._wall.clock.now()))
            return
        self._disarm(job)
        if job.state is State.SCHEDULED:
            self._move(job, Move.STOP, "taken off its schedule")
        else:
            self._note(job, "unscheduled", {})

    def _arm(self, job: Job, at: float, reason: str = "") -> None:
        """Have the schedule start the job at an instant (epoch seconds); a running job keeps its state."""
        self._set_next(job, at)
        if job.state in AT_REST:
            self._move(job, Move.SCHEDULE, reason or schedule.in_words(job.schedule))
        else:
            self._note(job, "scheduled", {"schedule": job.schedule, "next_run_at": at})

    def _arm_again(self, job: Job) -> None:
        """Put a job that has come to rest back on its schedule; start it where its time came during the run."""
        if job.next_run_at is not None:
            self._move(job, Move.SCHEDULE, job.reason)
        elif job.recurs:
            self._arm(job, schedule.first(job.schedule, self._wall.clock.now()), job.reason)
        if job.queued:
            job.queued = False
            self._start_by_itself(job, "its time came during the run before")

    def _disarm(self, job: Job) -> None:
        self._wall.cancel(job.name)
        self._boot.cancel(job.name)
        job.next_run_at = job.armed = None

    def _restore_schedules(self) -> None:
        """Set the timers of all jobs anew from what their records say, whatever the clocks have done meanwhile."""
        now, boot_now = self._wall.clock.now(), self._boot.clock.now()
        for job in self.jobs.values():
            if job.next_run_at is not None and job.schedule:
                armed = job.armed or {"at": now, "boot": "", "due": None}
                at = job.next_run_at
                if armed["due"] is not None and armed["boot"] == boot_id():
                    at = now + armed["due"] - boot_now
                elif schedule.counted(job.schedule):  # since another boot began the wall clock alone knows
                    at = min(at, schedule.first(job.schedule, now))
                elif now < armed["at"]:
                    at = schedule.after_set(job.schedule, at, now, now - armed["at"])
                self._set_next(job, at)
            if job.queued and job.state in AT_REST:
                self._arm_again(job)

    def _close_schedules(self) -> None:
        self._wall.close()
        self._boot.close()

    def _set_next(self, job: Job, at: float) -> None:
        now = self._wall.clock.now()
        due = self._boot.clock.now() + at - now if schedule.counted(job.schedule) else None
        self._disarm(job)
        job.next_run_at, job.armed = at, {"at": now, "boot": boot_id(), "due": due}
        if self._ending:
            return
        if due is None:
            self._wall.set(job.name, at, lambda: self._due(job, at))
        else:
            self._boot.set(job.name, due, lambda: self._due(job, self._wall.clock.now() + due - self._boot.clock.now()))

    def _due(self, job: Job, at: float) -> None:
        """Its time has come, which was `at`: start it, unless that was missed or the run before is not over."""
        now = self._wall.clock.now()
        if job.recurs:
            self._set_next(job, schedule.following(job.schedule, at, now))
        else:
            job.schedule = {}
            self._disarm(job)
        missed = now - at > MISSED_AFTER_SECONDS
        came = f"its time, {time.strftime('%Y-%m-%d %H:%M', time.localtime(at))}, was missed"
        if missed and job.missed == "skip":
            if job.state is State.SCHEDULED and not job.schedule:
                self._move(job, Move.STOP, came)
            else:
                self._note(job, "missed", {"at": at, "reason": came})
        elif job.state in AT_REST and job.gpu_since is None:
            self._start_by_itself(job, f"{came}, so it comes now" if missed else "its time has come")
        elif job.overlap == "replace":
            self._note(job, "replaced", {"reason": "its time has come again"})
            self._start_anew(job, "its time has come again")
        elif job.overlap == "queue":
            job.queued = True
            self._note(job, "queued", {"reason": "the run before is not over"})
        else:
            self._note(job, "skipped", {"reason": "the run before is not over"})

    def _clock_was_set(self) -> None:
        """Look at every schedule again: the wall clock was set, or the machine was suspended."""
        now = self._wall.clock.now()
        ahead = now - self._boot.clock.now()
        jumped, self._ahead = ahead - self._ahead, ahead
        for job in list(self.jobs.values()):
            if job.next_run_at is None or not job.schedule:
                continue
            if schedule.counted(job.schedule):
                at = job.next_run_at + jumped
            else:
                at = schedule.after_set(job.schedule, job.next_run_at, now, jumped)
            if abs(at - job.next_run_at) >= 1:
                self._set_next(job, at)
                self._note(
                    job, "scheduled", {"schedule": job.schedule, "next_run_at": at, "reason": "the clock was set"}
                )
