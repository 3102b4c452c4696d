"""When a schedule comes next, over months' ends and both changes of daylight saving."""

import time
from collections.abc import Callable, Iterator
from datetime import datetime
from itertools import pairwise

import pytest

from llmos.kernel import schedule

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
        moments.append(schedule.following(wanted, moments[-1]))
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
    assert schedule.following({"at": "02:00", "every": "2d"}, at("2026-05-01T02:00:07")) == at("2026-05-03T02:00")


def test_a_run_that_went_past_midnight_skips_no_day(zone: Zone) -> None:
    ended = at("2026-05-02T00:40")
    assert schedule.following({"at": "23:30"}, ended) == at("2026-05-02T23:30")
    assert schedule.following({"at": "23:30", "every": "3d"}, ended) == at("2026-05-04T23:30")


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
    assert times({"at": "02:30"}, "2026-03-28T12:00:00", 2) == ["2026-03-29 03:30:00", "2026-03-30 02:30:00"]
    assert times({"once": "02:30"}, "2026-03-29T01:00:00", 1) == ["2026-03-29 03:30:00"]
    assert times({"cron": "30 2 * * *"}, "2026-03-28T12:00:00", 2) == ["2026-03-29 03:00:00", "2026-03-30 02:30:00"]


def test_a_time_that_comes_twice_comes_once(zone: Zone) -> None:
    zone(BERLIN)
    for wanted in ({"at": "02:30"}, {"cron": "30 2 * * *"}):
        assert times(wanted, "2026-10-25T00:00:00", 2) == ["2026-10-25 02:30:00", "2026-10-26 02:30:00"]
        assert times(wanted, "2026-10-25T02:45:00", 1, fold=1) == ["2026-10-26 02:30:00"]


def test_what_repeats_within_the_hour_goes_on_through_both_changes(zone: Zone) -> None:
    zone(BERLIN)
    for start in ("2026-03-29T01:00:00", "2026-10-25T01:00:00"):
        moments = [at(start)]
        for _ in range(12):
            moments.append(schedule.following({"cron": "*/20 * * * *"}, moments[-1]))
        assert {later - earlier for earlier, later in pairwise(moments)} == {1200}
    hourly = [at("2026-10-25T01:00:00")]
    for _ in range(3):
        hourly.append(schedule.following({"cron": "@hourly"}, hourly[-1]))
    assert [said(moment)[11:16] for moment in hourly] == ["01:00", "02:00", "02:00", "03:00"]


def test_a_clock_that_was_set_back_still_gives_what_comes_next(zone: Zone) -> None:
    wanted = {"at": "02:00"}
    later = schedule.first(wanted, at("2026-05-10T12:00:00"))
    assert schedule.first(wanted, at("1971-01-01T00:00:00")) == at("1971-01-01T02:00:00")
    assert schedule.following(wanted, later) > later


def test_a_half_hour_zone_and_seconds(zone: Zone) -> None:
    zone("IST-5:30")
    assert times({"cron": "15 6 * * *"}, "2026-05-01T06:14:59", 1) == ["2026-05-01 06:15:00"]
    assert times({"at": "06:15"}, "2026-05-01T06:15:01", 1) == ["2026-05-02 06:15:00"]


def test_in_words() -> None:
    assert schedule.in_words({"at": "02:00", "every": "7d"}) == "at 02:00 every 7d"
