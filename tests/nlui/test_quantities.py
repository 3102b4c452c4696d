"""Sizes, durations, times, schedules and numbers are read off the words, in both languages."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmos.nlui.quantities import MAX_CANDIDATES, candidates
from llmos.plan import values


@pytest.mark.parametrize(
    ("phrase", "size"),
    [
        ("keep it below half a gig", "512M"),
        ("one and a half gigabytes at most", "1536M"),
        ("a gig and a half", "1536M"),
        ("two G", "2G"),
        ("1.5G", "1536M"),
        ("800 megs", "800M"),
        ("48 gigs of memory", "48G"),
        ("three quarters of a gig", "768M"),
        ("twenty MB/s", "20M"),
        ("2 terabytes", "2T"),
        ("at 256kb", "256K"),
        ("it has 4G, make that 6", "6G"),
        ("两个 G", "2G"),
        ("两个半G就行", "2560M"),
        ("半个G", "512M"),
        ("一个半 G", "1536M"),
        ("十兆每秒", "10M"),
        ("三十二G内存", "32G"),
        ("四分之三个G", "768M"),
        ("512M", "512M"),
    ],
)
def test_sizes(phrase: str, size: str) -> None:
    assert size in candidates(phrase).sizes


@pytest.mark.parametrize(
    ("phrase", "duration"),
    [
        ("for a quarter of an hour", "15m"),
        ("an hour and a half", "90m"),
        ("hour twenty", "80m"),
        ("ninety seconds", "90s"),
        ("0.5 h", "30m"),
        ("half an hour", "30m"),
        ("every other day", "2d"),
        ("every third hour", "3h"),
        ("2h30", "150m"),
        ("a couple of hours", "2h"),
        ("three whole minutes", "3m"),
        ("a fortnight", "14d"),
        ("nightly", "1d"),
        ("twice a day", "12h"),
        ("four times an hour", "15m"),
        ("a 30-second beat", "30s"),
        ("forty-five mintues", "45m"),
        ("半小时", "30m"),
        ("一刻钟", "15m"),
        ("两个半小时", "150m"),
        ("两周", "14d"),
        ("一分半钟", "90s"),
        ("一小时二十分", "80m"),
        ("隔天", "2d"),
        ("每晚", "1d"),
        ("一天四次", "6h"),
        ("每隔十分钟", "10m"),
    ],
)
def test_durations(phrase: str, duration: str) -> None:
    assert duration in candidates(phrase).durations


@pytest.mark.parametrize(
    ("phrase", "times"),
    [
        ("at half past two", {"02:30", "14:30"}),
        ("a quarter to seven in the evening", {"18:45"}),
        ("8pm", {"20:00"}),
        ("8 a.m.", {"08:00"}),
        ("at noon", {"12:00"}),
        ("at midnight", {"00:00"}),
        ("at 6", {"06:00", "18:00"}),
        ("18:05", {"18:05"}),
        ("twenty to five in the afternoon", {"16:40"}),
        ("ten to midnight", {"23:50"}),
        ("seven forty-five pm", {"19:45"}),
        ("0930 hours", {"09:30"}),
        ("at 21:15: ./x", {"21:15"}),
        ("早上八点半", {"08:30"}),
        ("晚上９点", {"21:00"}),
        ("下午三点一刻", {"15:15"}),
        ("差五分八点", {"07:55", "19:55"}),
        ("凌晨四点", {"04:00"}),
        ("晚上十一点四十", {"23:40"}),
        ("中午", {"12:00"}),
        ("零点", {"00:00"}),
        ("晚上十二点", {"00:00"}),
        ("上午十点二十分", {"10:20"}),
    ],
)
def test_times(phrase: str, times: set[str]) -> None:
    assert times <= {*candidates(phrase).times}


@pytest.mark.parametrize(
    ("phrase", "cron"),
    [
        ("each Monday at nine in the morning", "0 9 * * 1"),
        ("weekdays at 7:15", "15 7 * * 1-5"),
        ("on weekends at noon", "0 12 * * 0,6"),
        ("Tuesdays and Thursdays at 7", "0 7 * * 2,4"),
        ("Mon-Thu 22:00", "0 22 * * 1-4"),
        ("Sunday to Wednesday at 5 pm", "0 17 * * 0-3"),
        ("on Thursday", "0 0 * * 4"),
        ("the first of the month at 3", "0 3 1 * *"),
        ("the 1st and the 15th, midnight", "0 0 1,15 * *"),
        ("monthly", "0 0 1 * *"),
        ("every hour at a quarter past", "15 * * * *"),
        ("ten to every hour", "50 * * * *"),
        ("every 10 minutes on weekdays", "*/10 * * * 1-5"),
        ("at 6 am and 6 pm", "0 6,18 * * *"),
        ("weekdays except Friday at 8:00", "0 8 * * 1-4"),
        ("on wendesdays at 4pm", "0 16 * * 3"),
        ("on 24 December at 8 am", "0 8 24 12 *"),
        ("use */5 8-18 * * 1-5 for it", "*/5 8-18 * * 1-5"),
        ("put it on @weekly", "@weekly"),
        ("工作日早上八点半", "30 8 * * 1-5"),
        ("每月一号零点", "0 0 1 * *"),
        ("每天 6 点、14 点、22 点", "0 6,14,22 * * *"),
        ("周一三五晚上七点", "0 19 * * 1,3,5"),
        ("周一到周四早上六点", "0 6 * * 1-4"),
        ("每周日凌晨四点", "0 4 * * 0"),
        ("周末中午十二点", "0 12 * * 0,6"),
        ("每天早晚九点", "0 9,21 * * *"),
        ("每小时的第 5 分钟", "5 * * * *"),
        ("每月15号晚上九点", "0 21 15 * *"),
    ],
)
def test_crons(phrase: str, cron: str) -> None:
    assert cron in candidates(phrase).crons


@pytest.mark.parametrize(
    ("phrase", "number"),
    [
        ("fifteen", "15"),
        ("twenty-five", "25"),
        ("a dozen lines", "12"),
        ("half a dozen", "6"),
        ("one and a half cores", "1.5"),
        ("half a core", "0.5"),
        ("three quarters of a core", "0.75"),
        ("more than half", "50"),
        ("less than 10% free", "90"),
        ("four changes", "4"),
        ("both cards", "2"),
        ("nine tenths", "90"),
        ("port 8080/tcp", "8080"),
        ("a thousand lines", "1000"),
        ("两", "2"),
        ("八成", "80"),
        ("九成以上", "90"),
        ("九成五", "95"),
        ("百分之九十五", "95"),
        ("两核半", "2.5"),
        ("剩不到两成", "80"),
        ("最后一百二十行", "120"),
        ("一点五核", "1.5"),
        ("pid 一二三四", "1234"),
    ],
)
def test_numbers(phrase: str, number: str) -> None:
    assert number in candidates(phrase).numbers


def test_a_day_that_no_month_has_is_no_schedule() -> None:
    assert not any(cron.split()[2:4] == ["31", "4"] for cron in candidates("on 31 April at 8").crons)


def test_nothing_said_offers_no_measure() -> None:
    found = candidates("kill the web server")
    assert (found.sizes, found.durations, found.times, found.crons) == ((), (), (), ())


def test_mentions_keep_their_order_without_repeats() -> None:
    assert candidates("2G, then 1G, then 2 gigs").sizes[:2] == ("2G", "1G")


_WORDS = st.sampled_from(
    ["half", "past", "a quarter", "to", "twenty-", "one and", "7", "5:30", "12", "0", "99", "pm", "every other", "day",
     "monday", "- sat", ",", "1st", "month", "2 gigs", "hour", "minutes", "point", "dozen", "三", "点", "半", "刻",
     "每", "周", "一", "到", "五", "号", "个", "G", "小时", "成", "百分之", "差", "分", "零", "两", "万",
     "*", "/", "@daily", "٣", "²"]
)  # fmt: skip


@given(st.lists(st.one_of(_WORDS, st.text(max_size=6)), max_size=20).map(" ".join))
def test_every_candidate_is_canonical(request_text: str) -> None:
    found = candidates(request_text)
    for offered, form in [
        (found.sizes, values.size),
        (found.durations, values.duration),
        (found.times, values.time),
        (found.crons, values.cron),
        (found.numbers, values.number),
    ]:
        assert [form(value) for value in offered] == list(offered)
        assert len(offered) <= MAX_CANDIDATES
