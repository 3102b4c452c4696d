"""When a schedule comes next, over months' ends and both changes of daylight saving."""

import time
import zoneinfo
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from datetime import time as time_of_day
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmos.kernel import schedule

CHANGES = [1774746000, 1792890000, 1774746001, 1325239200, 1396112400, 1727532000, 1743433200]
"""Instants near which clocks were or will be changed somewhere: Europe, Apia (a day was left out), Lord Howe, …"""
Zone = Callable[[str], None]
BERLIN = "CET-1CEST,M3.5.0,M10.5.0/3"
"""Needs no file of the machine: 2026-03-29 02:00 to 03:00 is skipped, 2026-10-25 02:00 to 03:00 comes twice."""


@pytest.fixture
def zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[Zone]:
    def set_zone(name: str) -> None:
        monkeypatch.setenv("TZ", name)
        time.tzset()

    set_zone("UTC0")
    yield set_zone
    monkeypatch.undo()
    time.tzset()


def at(text: str, fold: int = 0) -> float:
    return datetime.fromisoformat(text).replace(fold=fold).timestamp()


def said(moment: float) -> str:
    return datetime.fromtimestamp(moment).strftime("%Y-%m-%d %H:%M:%S")


def times(wanted: dict[str, str], now: str, count: int, fold: int = 0) -> list[str]:
    """The next few times, each counted from the one before."""
    moments = [schedule.first(wanted, at(now, fold))]
    while len(moments) < count:
        moments.append(schedule.following(wanted, moments[-1], moments[-1]))
    assert moments == sorted(set(moments))
    return [said(moment) for moment in moments]


def test_once_is_the_next_such_time_or_after_a_while(zone: Zone) -> None:
    assert times({"once": "08:00"}, "2026-05-01T07:59:59", 1) == ["2026-05-01 08:00:00"]
    assert times({"once": "08:00"}, "2026-05-01T08:00:00", 1) == ["2026-05-02 08:00:00"]
    assert times({"once": "08:00"}, "2026-12-31T09:00:00", 1) == ["2027-01-01 08:00:00"]
    assert times({"once": "90s"}, "2026-05-01T08:00:00", 1) == ["2026-05-01 08:01:30"]


def test_every_counts_from_when_it_was_set(zone: Zone) -> None:
    assert times({"every": "2h"}, "2026-05-01T23:30:10", 2) == ["2026-05-02 01:30:10", "2026-05-02 03:30:10"]


def test_at_is_daily_and_with_every_in_days_it_skips_days_after_the_first(zone: Zone) -> None:
    assert times({"at": "02:00"}, "2026-02-27T12:00:00", 3) == [
        "2026-02-28 02:00:00", "2026-03-01 02:00:00", "2026-03-02 02:00:00",
    ]  # fmt: skip
    assert times({"at": "02:00", "every": "7d"}, "2026-05-01T12:00:00", 2) == [
        "2026-05-02 02:00:00", "2026-05-09 02:00:00",
    ]  # fmt: skip


def test_times_that_were_missed_are_left_out_and_the_rhythm_stays(zone: Zone) -> None:
    came = at("2026-05-01T02:00")
    for wanted, now, then in (
        ({"every": "2h"}, "2026-05-01T08:00:00", "2026-05-01T10:00:00"),
        ({"every": "2h"}, "2026-05-01T07:59:59", "2026-05-01T08:00:00"),
        ({"at": "02:00"}, "2026-05-09T01:00:00", "2026-05-09T02:00:00"),
        ({"at": "02:00", "every": "3d"}, "2026-05-09T01:00:00", "2026-05-10T02:00:00"),
        ({"cron": "0 2 1 * *"}, "2026-08-09T01:00:00", "2026-09-01T02:00:00"),
    ):
        assert said(schedule.following(wanted, came, at(now))) == then.replace("T", " ")


def test_cron_over_months_ends(zone: Zone) -> None:
    assert times({"cron": "0 0 31 * *"}, "2026-01-31T00:00:00", 3) == [
        "2026-03-31 00:00:00", "2026-05-31 00:00:00", "2026-07-31 00:00:00",
    ]  # fmt: skip
    assert times({"cron": "0 0 29 2 *"}, "2026-01-01T00:00:00", 2) == ["2028-02-29 00:00:00", "2032-02-29 00:00:00"]
    assert times({"cron": "0 0 L * *"}, "2026-02-01T00:00:00", 2) == ["2026-02-28 00:00:00", "2026-03-31 00:00:00"]
    assert times({"cron": "@monthly"}, "2026-12-01T00:00:00", 1) == ["2027-01-01 00:00:00"]
    assert times({"cron": "0 9 * * 0,6"}, "2026-05-01T00:00:00", 2) == ["2026-05-02 09:00:00", "2026-05-03 09:00:00"]
    assert times({"cron": "0 9 1 * 1"}, "2026-05-25T10:00:00", 2) == ["2026-06-01 09:00:00", "2026-06-08 09:00:00"]


def test_a_time_of_day_stays_when_the_clocks_change(zone: Zone) -> None:
    zone(BERLIN)
    for wanted in ({"at": "09:00"}, {"cron": "0 9 * * *"}, {"cron": "0 9 * * 0,1"}):
        assert times(wanted, "2026-03-28T12:00:00", 2) == ["2026-03-29 09:00:00", "2026-03-30 09:00:00"]
        assert times(wanted, "2026-10-24T12:00:00", 2) == ["2026-10-25 09:00:00", "2026-10-26 09:00:00"]
    assert times({"at": "00:30", "every": "2d"}, "2026-10-24T12:00:00", 2) == [
        "2026-10-25 00:30:00", "2026-10-27 00:30:00",
    ]  # fmt: skip
    assert times({"at": "23:30", "every": "2d"}, "2026-03-28T12:00:00", 2) == [
        "2026-03-28 23:30:00", "2026-03-30 23:30:00",
    ]  # fmt: skip


def test_a_time_that_is_skipped_comes_right_after(zone: Zone) -> None:
    zone(BERLIN)
    for wanted in ({"at": "02:30"}, {"cron": "30 2 * * *"}):
        assert times(wanted, "2026-03-28T12:00:00", 2) == ["2026-03-29 03:00:00", "2026-03-30 02:30:00"]
    assert times({"once": "02:30"}, "2026-03-29T01:00:00", 1) == ["2026-03-29 03:00:00"]
    assert times({"at": "02:00", "every": "2d"}, "2026-03-28T12:00:00", 2) == [
        "2026-03-29 03:00:00", "2026-03-31 02:00:00",
    ]  # fmt: skip


def test_a_time_that_comes_twice_comes_once(zone: Zone) -> None:
    zone(BERLIN)
    for wanted in ({"at": "02:30"}, {"cron": "30 2 * * *"}):
        assert times(wanted, "2026-10-25T00:00:00", 2) == ["2026-10-25 02:30:00", "2026-10-26 02:30:00"]
        for within in ("2026-10-25T02:15:00", "2026-10-25T02:45:00"):
            assert times(wanted, within, 1, fold=1) == ["2026-10-26 02:30:00"]


def test_what_repeats_within_the_hour_goes_on_through_both_changes(zone: Zone) -> None:
    zone(BERLIN)
    for start in ("2026-03-29T01:00:00", "2026-10-25T01:00:00"):
        moments = [at(start)]
        for _ in range(12):
            moments.append(schedule.following({"cron": "*/20 * * * *"}, moments[-1], moments[-1]))
        assert {later - earlier for earlier, later in pairwise(moments)} == {1200}
    hourly = [at("2026-10-25T01:00:00")]
    for _ in range(3):
        hourly.append(schedule.following({"cron": "@hourly"}, hourly[-1], hourly[-1]))
    assert [said(moment)[11:16] for moment in hourly] == ["01:00", "02:00", "02:00", "03:00"]


HOUR = 3600.0


@pytest.mark.parametrize(
    ("wanted", "to", "jumped", "then"),
    [
        ({"at": "02:00"}, "2026-05-10T01:59:00", -2 * HOUR, "2026-05-11 02:00:00"),  # it has been today
        ({"at": "02:00"}, "2026-05-09T01:59:00", -26 * HOUR, "2026-05-09 02:00:00"),
        ({"at": "02:00"}, "2026-05-11T02:30:00", 1 * HOUR, "2026-05-11 02:00:00"),  # jumped over: it has come
        ({"at": "02:00"}, "2026-08-01T12:00:00", 99 * HOUR, "2026-08-02 02:00:00"),
        ({"at": "02:00", "every": "3d"}, "2026-05-09T12:00:00", -26 * HOUR, "2026-05-10 02:00:00"),
        ({"cron": "30 2 * * *"}, "2026-05-10T01:59:00", -2 * HOUR, "2026-05-11 02:00:00"),
        ({"cron": "*/5 * * * *"}, "2026-05-10T01:59:00", -2 * HOUR, "2026-05-10 02:00:00"),
        ({"cron": "@hourly"}, "2026-05-10T01:59:00", -2 * HOUR, "2026-05-10 02:00:00"),
        ({"once": "02:00"}, "2026-06-01T12:00:00", 500 * HOUR, "2026-05-11 02:00:00"),
        ({"once": "02:00"}, "2026-05-08T12:00:00", -60 * HOUR, "2026-05-09 02:00:00"),
    ],
)
def test_a_clock_that_was_set(zone: Zone, wanted: dict[str, str], to: str, jumped: float, then: str) -> None:
    assert said(schedule.after_set(wanted, at("2026-05-11T02:00:00"), at(to), jumped)) == then


@pytest.mark.parametrize(
    ("wanted", "counts"),
    [
        ({"every": "2h"}, True), ({"once": "5m"}, True), ({"at": "02:00", "every": "2d"}, False),
        ({"once": "02:00"}, False), ({"at": "02:00"}, False), ({"cron": "@daily"}, False),
    ],
)  # fmt: skip
def test_what_counts_time_and_what_a_clock_shows(wanted: dict[str, str], counts: bool) -> None:
    assert schedule.counted(wanted) is counts


ZONES = sorted(name for name in zoneinfo.available_timezones() if "/" in name)
of_real_zones = pytest.mark.skipif(not ZONES, reason="this machine has no time zones")
instants = st.one_of(
    st.integers(0, 2_100_000_000),
    st.tuples(st.sampled_from(CHANGES), st.integers(-90_000, 90_000)).map(sum),
)


@of_real_zones
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from(ZONES), now=instants, hour=st.integers(0, 23), minute=st.integers(0, 59))
def test_a_time_of_day_in_real_zones(zone: Zone, name: str, now: int, hour: int, minute: int) -> None:
    """Against the zone's own table: it is that time there, the first of two, or the clock has just jumped over it."""
    zone(name)
    there = zoneinfo.ZoneInfo(name)
    wanted = {"at": f"{hour:02}:{minute:02}"}
    found = schedule.first(wanted, now)
    assert now < found <= now + 2 * 86400 + 86400
    moment = datetime.fromtimestamp(found, there)
    if (moment.hour, moment.minute, moment.second) == (hour, minute, 0):
        assert moment.fold == 0
    else:
        before = datetime.fromtimestamp(found - 1, there)
        skipped = datetime.combine(before.date(), time_of_day(hour, minute))
        if skipped < before.replace(tzinfo=None):
            skipped += timedelta(days=1)
        assert before.replace(tzinfo=None) < skipped < moment.replace(tzinfo=None)
    # Nothing that has the time, in the zone's own table, was left out between.
    day = datetime.fromtimestamp(now, there).date()
    while (then := datetime.combine(day, time_of_day(hour, minute), there).timestamp()) < found:
        assert then <= now or datetime.fromtimestamp(then, there).hour != hour
        day += timedelta(days=1)


@of_real_zones
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from(ZONES), now=instants, hour=st.integers(0, 23), minute=st.integers(0, 59))
def test_daily_by_time_and_by_cron_are_the_same(zone: Zone, name: str, now: int, hour: int, minute: int) -> None:
    zone(name)
    daily, cron = {"at": f"{hour:02}:{minute:02}"}, {"cron": f"{minute} {hour} * * *"}
    assert schedule.first(daily, now) == schedule.first(cron, now)


@of_real_zones
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from(ZONES), now=instants, step=st.sampled_from([1, 5, 15, 20, 30]))
def test_what_repeats_within_the_hour_never_pauses(zone: Zone, name: str, now: int, step: int) -> None:
    zone(name)
    moments = [schedule.first({"cron": f"*/{step} * * * *"}, now)]
    for _ in range(8):
        moments.append(schedule.following({"cron": f"*/{step} * * * *"}, moments[-1], moments[-1]))
    assert all(0 < later - earlier <= step * 60 for earlier, later in pairwise([now, *moments]))


def test_a_half_hour_zone_and_seconds(zone: Zone) -> None:
    zone("IST-5:30")
    assert times({"cron": "15 6 * * *"}, "2026-05-01T06:14:59", 1) == ["2026-05-01 06:15:00"]
    assert times({"at": "06:15"}, "2026-05-01T06:15:01", 1) == ["2026-05-02 06:15:00"]


def test_in_words() -> None:
    assert schedule.in_words({"at": "02:00", "every": "7d"}) == "at 02:00 every 7d"
