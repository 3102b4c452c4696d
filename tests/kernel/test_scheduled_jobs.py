"""Schedules across missed times, overlapping runs, restarts and clocks that are set.

On a real llmosd wherever a test may do it; where the machine's clock would have to be set, the timers run on clocks that
are played, in the same loop and on the same journal.
"""

import asyncio
import json
import sqlite3
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from conftest import Daemon
from llmos.kernel.job import Job
from llmos.kernel.journal import Journal
from llmos.kernel.scheduled_jobs import ScheduledJobs
from llmos.kernel.states import State
from llmos.machine.clocks import Clock

Call = Callable[..., Any]
Eventually = Callable[[Callable[[], object]], Any]
HOUR = 3600.0


class PlayedClock(Clock):
    """A clock that shows more than the kernel's; setting it moves nobody else's."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.ahead = 0.0

    def now(self) -> float:
        return super().now() + self.ahead

    def arm(self, descriptor: int, at: float | None) -> None:
        super().arm(descriptor, None if at is None else at - self.ahead)


class Table(ScheduledJobs):
    """The schedules alone: what is to be started is taken down."""

    def __init__(self, journal: Journal) -> None:
        self.wall, self.boot = PlayedClock(time.CLOCK_REALTIME), PlayedClock(time.CLOCK_BOOTTIME)
        super().__init__(journal, self.wall, self.boot)
        self.started: list[str] = []

    def _start_by_itself(self, job: Job, reason: str) -> None:
        self.started.append(reason)

    def _start_anew(self, job: Job, reason: str) -> None:
        self.started.append(f"anew: {reason}")

    def add(self, wanted: dict[str, str], **fields: Any) -> Job:
        """A job with a schedule."""
        job = Job(name=f"job-{len(self.jobs)}", argv=["true"], cwd="/", env={}, uid=0, gid=0, **fields)
        self.jobs[job.name] = job
        self.set_schedule(job, wanted)
        return job

    async def set_clock(self, seconds: float) -> None:
        """Set the wall clock forwards or backwards."""
        self.wall.ahead += seconds
        self._wall.wake(was_set=True)
        await asyncio.sleep(0.05)

    async def sleep(self, seconds: float) -> None:
        """Suspend the machine: time goes on, and when it is woken the kernel says that the clock was set."""
        self.wall.ahead += seconds
        self.boot.ahead += seconds
        self._boot.wake()
        self._wall.wake(was_set=True)
        await asyncio.sleep(0.05)

    def restart(self) -> None:
        """What a new llmosd does with what the journal has."""
        self._close_schedules()
        for name, job in self.jobs.items():
            self.jobs[name] = Job.from_record(json.loads(json.dumps(job.record())))
        self._ahead = self.wall.now() - self.boot.now()
        self._restore_schedules()

    def shown_in(self, name: str) -> float:
        """Seconds until it is said to come."""
        at = self.jobs[name].next_run_at
        assert at is not None
        return at - self.wall.now()

    def close(self) -> None:
        """Drop the timers."""
        self._close_schedules()


@pytest.fixture
async def table(tmp_path: Path) -> AsyncIterator[Table]:
    journal = await Journal.open(tmp_path / "journal.db")
    made = Table(journal)
    yield made
    made.close()
    await journal.close()


def from_now(seconds: float) -> str:
    """A time of day that long from now, to the minute before."""
    return time.strftime("%H:%M", time.localtime(time.time() + seconds))


async def test_what_counts_time_does_not_heed_the_wall_clock(table: Table) -> None:
    job = table.add({"every": "2h"})
    once = table.add({"once": "30m"})
    for seconds in (5 * HOUR, -48 * HOUR, 400 * HOUR, -1.5):
        await table.set_clock(seconds)
        assert table.started == []
        assert abs(table.shown_in(job.name) - 2 * HOUR) < 60
        assert abs(table.shown_in(once.name) - 0.5 * HOUR) < 60
    table.restart()
    table.wall.ahead -= 30 * HOUR
    table.restart()
    assert abs(table.shown_in(job.name) - 2 * HOUR) < 60
    await table.sleep(1800.5)
    assert table.started == ["its time has come"] and table.jobs[once.name].schedule == {}


async def test_a_corrected_clock_brings_what_it_jumped_over_and_repeats_nothing(table: Table) -> None:
    daily = table.add({"at": from_now(HOUR)})
    due = table.shown_in(daily.name)
    await table.set_clock(2 * HOUR)
    [reason] = table.started
    assert "was missed, so it comes now" in reason
    tomorrow = table.jobs[daily.name].next_run_at
    assert tomorrow is not None and abs(table.shown_in(daily.name) - (due + 22 * HOUR)) < 60 + HOUR
    await table.set_clock(-2 * HOUR)
    assert table.jobs[daily.name].next_run_at == tomorrow and len(table.started) == 1
    table.wall.ahead -= HOUR
    table.restart()  # the clock was set back while llmosd was away
    assert table.jobs[daily.name].next_run_at == tomorrow


async def test_a_clock_that_was_wrong_begins_anew(table: Table) -> None:
    daily = table.add({"at": from_now(2 * HOUR)})
    await table.set_clock(24 * 400 * HOUR)
    assert table.started == [] and 0 < table.shown_in(daily.name) < 26 * HOUR
    await table.set_clock(-24 * 800 * HOUR)
    assert table.started == [] and 0 < table.shown_in(daily.name) < 26 * HOUR
    table.wall.ahead -= 24 * 30 * HOUR
    table.restart()
    assert table.started == [] and 0 < table.shown_in(daily.name) < 26 * HOUR


async def test_what_cron_repeats_within_the_hour_goes_on_when_the_clock_is_set_back(table: Table) -> None:
    job = table.add({"cron": "*/5 * * * *"})
    await table.set_clock(-2 * HOUR)
    assert 0 < table.shown_in(job.name) <= 300


@pytest.mark.parametrize("wanted", [{"at": from_now(3 * HOUR)}, {"every": "3h"}, {"cron": "0 */3 * * *"}])
async def test_a_night_asleep_is_made_up_for_once_or_not(table: Table, wanted: dict[str, str]) -> None:
    runs, skips = table.add(wanted), table.add(wanted, missed="skip")
    await table.sleep(9.5 * HOUR)
    [reason] = table.started
    assert "was missed, so it comes now" in reason
    assert 0 < table.shown_in(runs.name) < 24 * HOUR and 0 < table.shown_in(skips.name) < 24 * HOUR
    assert table.jobs[skips.name].state is State.SCHEDULED


async def test_a_one_time_that_was_missed(table: Table) -> None:
    table.add({"once": "1h"}, missed="skip")
    await table.sleep(2 * HOUR)
    [job] = table.jobs.values()
    assert table.started == [] and job.state is State.STOPPED and "was missed" in job.reason
    assert (job.schedule, job.next_run_at) == ({}, None)


@pytest.mark.parametrize(("away", "missed"), [(30.0, False), (300.0, True)])
async def test_a_short_absence_is_only_late(table: Table, away: float, missed: bool) -> None:
    table.add({"every": "10s"}, missed="skip")
    await table.sleep(10 + away)
    assert bool(table.started) is not missed


async def test_times_stand_when_llmosd_comes_back_in_another_boot(table: Table) -> None:
    every = table.add({"every": "2h"})
    table.add({"at": from_now(2 * HOUR)})

    async def boot_after(seconds: float) -> None:
        for job in table.jobs.values():
            assert job.armed is not None
            job.armed["boot"] = "another"
        table.wall.ahead += seconds
        table.boot.ahead -= 1000
        table.restart()
        await asyncio.sleep(0.05)

    await boot_after(HOUR)
    assert table.started == []
    assert abs(table.shown_in(every.name) - HOUR) < 60
    await boot_after(2 * HOUR)
    assert len(table.started) == 2
    table.jobs[every.name].armed = None  # as a record of before has it
    table.wall.ahead -= 100 * HOUR
    table.restart()
    assert 0 < table.shown_in(every.name) <= 2 * HOUR


def test_the_run_before_is_not_over(call: Call, tmp_path: Path, eventually: Eventually) -> None:
    def began(name: str) -> int:
        file = tmp_path / name
        return len(file.read_text().split()) if file.exists() else 0

    for overlap in ("skip", "queue", "replace"):
        script = f"echo x >> {tmp_path}/{overlap}; while [ ! -e {tmp_path}/go ]; do sleep 0.05; done"
        call("run", name=overlap, argv=["sh", "-c", script], every="1s", overlap=overlap)
    eventually(lambda: began("replace") >= 3)
    assert began("skip") == began("queue") == 1
    skipped, queued = call("show", target="skip"), call("show", target="queue")
    assert (skipped["state"], queued["state"], skipped["restarts"]) == ("running", "running", 0)
    eventually(lambda: call("show", target="skip")["next_run_at"] > time.time())  # it is armed while it runs
    assert "overlap" not in skipped and queued["overlap"] == "queue"
    kinds = {event["kind"] for event in call("why", target="skip")["events"]}
    assert "job.skipped" in kinds
    assert "job.queued" in {event["kind"] for event in call("why", target="queue")["events"]}
    (tmp_path / "go").touch()
    eventually(lambda: began("skip") >= 2 and began("queue") >= 2)
    for overlap in ("skip", "queue", "replace"):
        call("unschedule", job=overlap)


def test_a_stop_by_hand_also_drops_what_is_queued(call: Call, tmp_path: Path, eventually: Eventually) -> None:
    call("run", name="patient", argv=["sleep", "600"], overlap="queue")
    call("schedule", job="patient", once="1s")
    eventually(lambda: "job.queued" in {event["kind"] for event in call("why", target="patient")["events"]})
    [stopped] = call("stop", target="patient")
    assert stopped["state"] == "stopped"
    time.sleep(0.2)
    assert call("show", target="patient")["state"] == "stopped"


def test_a_timeout_keeps_what_is_queued(call: Call, tmp_path: Path, eventually: Eventually) -> None:
    script = f"echo x >> {tmp_path}/runs; exec sleep 600"
    call("run", name="bounded", argv=["sh", "-c", script], timeout="3s", overlap="queue")
    call("schedule", job="bounded", once="1s")
    eventually(lambda: (tmp_path / "runs").read_text().split() == ["x", "x"])
    call("stop", target="bounded")


def test_a_back_off_is_tried_again_beside_a_schedule(call: Call, eventually: Eventually) -> None:
    armed = call("run", name="both", argv=["sh", "-c", "exit 3"], cron="0 3 * * *", restart="on-failure")["next_run_at"]
    call("start", job="both")
    eventually(lambda: call("show", target="both")["restarts"] >= 2)
    call("stop", target="both") if call("show", target="both")["state"] != "scheduled" else None
    eventually(lambda: call("show", target="both")["state"] == "scheduled")
    assert call("show", target="both")["next_run_at"] == armed


def test_a_queued_run_and_a_missed_time_outlive_a_killed_llmosd(
    llmosd: Daemon, tmp_path: Path, eventually: Eventually
) -> None:
    script = f"echo x >> {tmp_path}/runs; while [ ! -e {tmp_path}/go ]; do sleep 0.05; done"
    with llmosd.client() as client:
        client.call("run", name="waits", argv=["sh", "-c", script], overlap="queue")
        client.call("schedule", job="waits", once="1s")
        eventually(lambda: "queued" in str(client.call("why", target="waits")["events"]))
        for name, missed in (("made-up", "run-once"), ("left-out", "skip")):
            client.call("run", name=name, argv=["true"], cron="0 3 * * *", missed=missed)
    llmosd.kill()
    (tmp_path / "go").touch()
    with sqlite3.connect(llmosd.state_dir / "journal.db") as journal:  # as if llmosd had been away for two hours
        for name in ("made-up", "left-out"):
            [record] = journal.execute("SELECT record FROM jobs WHERE name = ?", [name]).fetchone()
            earlier = json.dumps({**json.loads(record), "next_run_at": time.time() - 2 * HOUR})
            journal.execute("UPDATE jobs SET record = ? WHERE name = ?", [earlier, name])
    journal.close()
    llmosd.start()
    with llmosd.client() as client:
        eventually(lambda: (tmp_path / "runs").read_text().split() == ["x", "x"])
        eventually(lambda: client.call("show", target="made-up")["exit_code"] == 0)
        left_out = client.call("show", target="left-out")
        assert (left_out["state"], left_out["exit_code"], left_out["missed"]) == ("scheduled", None, "skip")
        assert left_out["next_run_at"] > time.time()
        assert "job.missed" in {event["kind"] for event in client.call("why", target="left-out")["events"]}
