"""Chinese quantities: sizes, durations, times and schedules as they are said and written, numerals read by `cn2an`."""

import re
from collections.abc import Iterator
from fractions import Fraction
from typing import TypeVar

import cn2an

from llmos.nlui.calendar_words import Clock, Reading, Schedule, before, day_fields, day_range, either_half

Unit = TypeVar("Unit")

_NUMERAL = r"[零〇一二两俩三仨四五六七八九十百千万]+"
_N = rf"(?:\d+(?:\.\d+)?|{_NUMERAL}(?:点{_NUMERAL}(?!分|刻))?)"
_INT = rf"(?:\d+|{_NUMERAL})"
_DURATION_UNITS = {
    "秒钟?|s|sec": ("s", 1), "分[钟种]?|min|m": ("m", 1), "小时|钟头|钟|个?钟头?|h": ("h", 1),
    "天|日|昼夜|晚": ("d", 1),
    "周|星期|礼拜": ("d", 7), "个?月": ("d", 30), "年": ("d", 365), "刻钟": ("m", 15),
}  # fmt: skip
_SECOND_UNITS = {"分": ("m", 1), "秒": ("s", 1), "小": ("h", 1), "钟": ("h", 1), "刻": ("m", 15)}
_NEXT_UNIT = {"h": ("m", 1), "m": ("s", 1), "d": ("h", 1)}
_ANY_DURATION = r"秒钟?|分[钟种]?|小时|钟头|个钟|刻钟|天|昼夜|晚|周|星期|礼拜|个?月|年|s|sec|min|m|h"
_SIZE_UNITS = {
    "kb?|千字节": "K",
    "m[bi]?b?|兆字?节?|mib|百万字节": "M",
    "g[bi]?b?|吉字?节?|千兆": "G",
    "t[bi]?b?|太字?节?": "T",
}
_ANY_SIZE = r"千兆|千字节|兆|吉|kb?|mi?b?|gi?b?|ti?b?"

_DURATION = re.compile(
    rf"(?:({_N})\s*|(半)\s*)(个半|个)?\s*({_ANY_DURATION})(?![a-z])\s*(半)?"
    rf"(?:零?\s*({_INT})(?![点次天个])\s*(分钟?|秒钟?|小时|刻钟?|钟头)?)?",
    re.IGNORECASE,
)
_SIZE = re.compile(rf"(?<![a-z_.-])(?:({_N})\s*(个半|个)?|(半)个?)\s*({_ANY_SIZE})(?![a-z])(半)?", re.IGNORECASE)
_EVERY = [
    ("每(?:个|一)?小时|每个?钟头|每隔?一个?小时", "1h"),
    ("每(?:一)?天|每日|天天|每晚|每夜|夜夜|晚晚|日常|每(?:个|天)?(?:早|晚|凌晨|清晨|上午|下午)", "1d"),
    ("每(?:个|一)?(?:周|星期|礼拜)", "7d"), ("每分[钟种]", "1m"), ("隔(?:一)?天|隔日|每隔一天", "2d"), ("每秒", "1s"),
    ("每(?:个)?月", "30d"), ("今天|昨天|一整天|整天", "1d"), ("隔周", "14d"),
    ("隔(?:一|个)?小时", "2h"), ("半天", "12h"),
    ("半夜|整夜|一宿|通宵", "1d"),
]  # fmt: skip
_RATE = re.compile(rf"(?:每(?:一|个)?|一|1)\s*个?(分钟|小时|钟头|天|日|周)\D{{0,3}}?({_INT})\s*(?:次|回|遍|趟)")
_RATES = {"分钟": ("s", 60), "小时": ("m", 60), "钟头": ("m", 60), "天": ("h", 24), "日": ("h", 24), "周": ("d", 7)}

_MORNING = "凌晨|零晨|清晨|清早|大清早|一早|早上|早晨|早间|上午|今早|明早|早"
_EVENING = "中午|正午|下午|午后|傍晚|黄昏|晚上|晚间|夜晚|今晚|明晚|晚|夜里|夜间|半夜|深夜|午夜|夜"
_PART = rf"(?P<part>{_MORNING}|{_EVENING})?\s*(?:的|里|时)?\s*"
_MINUTES = rf"(?P<half>半)|(?P<quarter>[一二三1-3两])\s*刻|过?零?(?P<minute>{_INT})\s*分?(?!钟)|整|钟"
_CLOCK = re.compile(
    rf"{_PART}(?P<hour>{_INT})\s*(?:点|點|时(?!间|段|限)|:|：)\s*(?:{_MINUTES})?"
    rf"(?:差\s*(?P<less>{_INT})\s*(?P<lessunit>分|刻))?"
)
_LACKING = re.compile(
    rf"{_PART}差\s*(?P<less>{_INT})\s*(?P<lessunit>分钟?|刻钟?)\s*(?:到|就)?\s*(?P<hour>{_INT})\s*(?:点|點)|"
    rf"{_PART.replace('part', 'part2')}(?P<hour2>{_INT})\s*(?:点|點)\s*还?"
    rf"差\s*(?P<less2>{_INT})\s*(?P<lessunit2>分|刻)"
)
_NAMED = [("正午|中午|晌午", (12, 0)), ("午夜|子夜|半夜|零点|0点|零时", (0, 0))]
_SHARED_PARTS = re.compile(rf"早(?:上)?[、和与及]?晚(?:上)?(?:各)?(?:的)?\s*(?P<hour>{_INT})\s*点(?P<half>半)?")

_DAY = r"[一二三四五六日天1-7]"
_WEEK = r"(?:周|星期|礼拜|週)"
_DAY_RANGE = re.compile(rf"{_WEEK}\s*({_DAY})\s*(?:到|至|~|～|-|—|－)+\s*{_WEEK}?\s*({_DAY})")
_DAY_LIST = re.compile(
    rf"{_WEEK}\s*{_DAY}(?:[、,，和与及跟/ ]*{_WEEK}?{_DAY}(?![0-9点:：个十百兆秒分小天月号日半刻]))*"
)
_MONTH_DAY = re.compile(rf"({_INT})\s*[号號日](?!志|程|常)")
_MONTH = re.compile(rf"(?<!个)({_INT})\s*月(?!份?\s*{_INT}?\s*个)")
_MINUTE_OF_HOUR = [re.compile(rf"第?\s*({_INT})\s*分(?!之)"), re.compile(rf"过\s*({_INT})\s*分")]
_EVERY_STEP = re.compile(rf"(?:每|隔)\s*隔?\s*({_N}|半)\s*个?\s*(分钟?|小时|钟头|刻钟|min)")
_HOUR_RANGE = re.compile(
    rf"{_PART}({_INT})\s*(?:点|时|:00)?\s*(?:到|至|~|-|—)\s*{_PART.replace('part', 'part2')}({_INT})\s*(?:点|时|:00)"
)

_SPOKEN_DIGITS = str.maketrans("〇零一二三四五六七八九幺", "001234567891")
_TENTHS = re.compile(rf"({_NUMERAL}|\d)\s*成\s*(半|[一二三四五六七八九])?")
_PERCENT = re.compile(rf"百分之\s*({_N})")
_FRACTION = re.compile(rf"({_INT})\s*分之\s*({_INT})")


def read(request: str) -> Reading:
    """Everything that the Chinese words of a request can mean, latin units beside Chinese numerals included."""
    found = Reading()
    if not re.search(r"[\u3007\u3400-\u9fff]", request):
        return found
    text = re.sub(r"(?<=[\u3000-\u9fff\d])\s+(?=[\u3000-\u9fff\d])", " ", request)
    _durations(text, found)
    _sizes(text, found)
    schedule = Schedule()
    _clocks(text, schedule)
    for mention in schedule.clocks:
        found.add_times(mention)
    _calendar(text, schedule)
    found.crons += schedule.crons()
    _numbers(text, found)
    return found


def _number(word: str) -> Fraction:
    """A numeral as a number; 0 when it is none."""
    try:
        return Fraction(word)
    except ValueError:
        pass
    word = word.replace("俩", "两").replace("仨", "三").replace("〇", "零")
    try:
        return Fraction(str(cn2an.cn2an(word, "smart")))
    except (ValueError, KeyError, ZeroDivisionError):
        return Fraction(0)


def _unit(word: str, units: dict[str, Unit]) -> Unit | None:
    return next((unit for form, unit in units.items() if re.fullmatch(form, word, re.IGNORECASE)), None)


def _durations(text: str, found: Reading) -> None:
    for match in _DURATION.finditer(text):
        amount, half, middle, word, tail_half, more, more_unit = match.groups()
        if (amount is None and half is None) or (unit := _unit(word, _DURATION_UNITS)) is None:
            continue
        total = _number(amount) if amount else Fraction(0)
        if half or middle == "个半":
            total += Fraction(1, 2)
        letter, times = unit
        found.add_duration(total * times, letter)
        if tail_half:
            found.add_duration((total + Fraction(1, 2)) * times, letter)
        if more and letter in {"h", "m", "d"}:
            smaller, length = _SECOND_UNITS[more_unit[0]] if more_unit else _NEXT_UNIT[letter]
            found.add_compound(total * times, letter, _number(more) * length, smaller)
            found.add_duration(_number(more) * length, smaller)
    for match in _RATE.finditer(text):
        letter, length = _RATES[match[1]]
        if rate := _number(match[2]):
            found.add_duration(Fraction(length) / rate, letter)
    for form, value in _EVERY:
        if re.search(form, text):
            found.durations.append(value)


def _sizes(text: str, found: Reading) -> None:
    for below, above, word in re.findall(rf"({_INT})\s*分之\s*({_INT})\s*个?\s*({_ANY_SIZE})", text, re.IGNORECASE):
        if _number(below) and (letter := _unit(word, _SIZE_UNITS)):
            found.add_size(_number(above) / _number(below), letter)
    for match in _SIZE.finditer(text):
        amount, middle, half, word, tail_half = match.groups()
        unit = _unit(word, _SIZE_UNITS)
        if unit is None:
            continue
        total = Fraction(1, 2) if half else _number(amount)
        if middle == "个半" or tail_half:
            total += Fraction(1, 2)
        found.add_size(total, unit)


def _hours(hour: int, minute: int, part: str | None) -> tuple[Clock, ...]:
    """The times an hour can mean after a word for a part of the day."""
    both = either_half(hour, minute)
    if not both or hour > 12 or not part:
        return both
    if re.fullmatch(_MORNING, part):
        return ((hour % 12, minute),)
    if part in {"中午", "正午"}:
        return ((hour if hour >= 10 else hour + 12, minute),)
    if hour == 12 or (
        hour < 6 and part in {"半夜", "深夜", "夜里", "午夜", "夜间", "夜", "晚上", "晚", "今晚", "明晚"}
    ):
        return ((hour % 12, minute), (hour % 12 + 12, minute))
    return ((hour % 12 + 12, minute),)


def _clocks(text: str, schedule: Schedule) -> None:
    mentions: list[tuple[int, tuple[Clock, ...]]] = []
    part_before: str | None = None
    for match in _CLOCK.finditer(text):
        part_before = match["part"] or part_before
        mentions.append((match.start("hour"), _said(match, match["part"])))
        if match["part"] is None and part_before:
            mentions.append((match.start("hour"), _said(match, part_before)))
    for match in _LACKING.finditer(text):
        hour, less, unit = (
            match["hour"] or match["hour2"],
            match["less"] or match["less2"],
            match["lessunit"] or match["lessunit2"],
        )
        minutes = int(_number(less)) * (15 if unit.startswith("刻") else 1)
        mentions.append(
            (match.start(), before(_hours(int(_number(hour)), 0, match["part"] or match["part2"]), minutes))
        )
    for match in _SHARED_PARTS.finditer(text):
        minute = 30 if match["half"] else 0
        mentions += [(match.start(), (clock,)) for clock in either_half(int(_number(match["hour"])), minute)]
    for form, clock in _NAMED:
        mentions += [(match.start(), (clock,)) for match in re.finditer(form, text)]
    for match in re.finditer(rf"(?:{_MORNING}|{_EVENING})\s*({_NUMERAL})(?![点點时\d])", text):
        mentions.append((match.start(), either_half(int(_number(match[1])), 0)))
    schedule.clocks = [clocks for _, clocks in sorted(mentions) if clocks]
    schedule.clocks += [((hour, 0),) for hour in _listed(text, "[点时]") if hour < 24]


def _listed(text: str, mark: str) -> list[int]:
    """The numbers of lists such as `1、15 号`, where the last alone need carry the mark."""
    lists = re.finditer(rf"(?:{_INT}\s*{mark}?\s*[、,，和]\s*)+{_INT}\s*{mark}", text)
    return [int(_number(word)) for found in lists for word in re.findall(_INT, found.group())]


def _said(match: re.Match[str], part: str | None) -> tuple[Clock, ...]:
    minute = 30 if match["half"] else int(_number(match["quarter"])) * 15 if match["quarter"] else 0
    if match["minute"]:
        minute = int(_number(match["minute"]))
    clocks = _hours(int(_number(match["hour"])), minute, part)
    if match["less"]:
        return before(clocks, int(_number(match["less"])) * (15 if match["lessunit"] == "刻" else 1))
    return clocks


def _weekday(char: str) -> int:
    return 0 if char in "日天7" else "一二三四五六".find(char) + 1 or int(char)


def _calendar(text: str, schedule: Schedule) -> None:
    for match in _DAY_RANGE.finditer(text):
        schedule.weekdays.append(day_range(_weekday(match[1]), _weekday(match[2])))
    if re.search("工作日|上班日|平日|平时", text):
        schedule.weekdays.append("1-5")
    if re.search("周末|週末|双休日|休息日", text):
        schedule.weekdays.append("0,6")
    lists = [[_weekday(day) for day in re.findall(_DAY, match.group())] for match in _DAY_LIST.finditer(text)]
    for days in lists:
        schedule.weekdays += day_fields(days)
    if len(lists) > 1:
        schedule.weekdays += day_fields([day for days in lists for day in days])[:1]
    days = [int(_number(word)) for word in _MONTH_DAY.findall(text)]
    days += _listed(text, "[号日]")
    if days := [day for day in days if 1 <= day <= 31]:
        schedule.month_days += day_fields(days)
    if re.search("月初|每(?:个)?月|季度|每季|按月", text):
        schedule.month_days.append("1")
    months = [int(_number(word)) for word in _MONTH.findall(text)]
    months += _listed(text, "月")
    if months := [month for month in months if 1 <= month <= 12]:
        schedule.months += day_fields(months)
        if len(months) > 1 and months[0] < months[-1]:
            schedule.months.append(f"{months[0]}-{months[-1]}")
    if re.search("季度|每季", text):
        schedule.months.append("1,4,7,10")
    if re.search("每年|年初", text):
        schedule.months.append("1")
    for amount, unit in _EVERY_STEP.findall(text):
        number = Fraction(1, 2) if amount == "半" else _number(amount)
        minutes = number * {"分": 1, "小": 60, "钟": 60, "刻": 15, "m": 1}[unit[0]]
        if minutes.denominator == 1 and 0 < minutes < 60:
            schedule.steps.append(f"*/{minutes} *")
        elif minutes % 60 == 0 and 60 <= minutes < 1440:
            schedule.steps.append(f"0 */{minutes // 60}" if minutes > 60 else "0 *")
    if re.search("小时|钟头|整点|每点", text):
        schedule.minutes += [minute for minute in _minutes_of_hour(text) if 0 <= minute < 60]
    for match in _HOUR_RANGE.finditer(text):
        first = _hours(int(_number(match[2])), 0, match["part"])
        last = _hours(int(_number(match[4])), 0, match["part2"] or match["part"])
        for start, _ in first:
            schedule.hour_ranges += [f"{start}-{stop}" for stop, _ in last if start < stop]


def _minutes_of_hour(text: str) -> Iterator[int]:
    for pattern in _MINUTE_OF_HOUR:
        yield from (int(_number(word)) for word in pattern.findall(text))
    if re.search("整点|每(?:个|一)?小时|每个?钟头", text):
        yield 0
    if "半" in text:
        yield 30
    yield from (15 * int(_number(word)) for word in re.findall(r"([一三1-3])刻", text))
    yield from (60 - int(_number(word)) for word in re.findall(rf"(?:差|前)\s*({_INT})\s*分", text) if _number(word))


def _numbers(text: str, found: Reading) -> None:
    for match in re.finditer(rf"\d+(?:\.\d+)?|{_NUMERAL}(?:点{_NUMERAL})?", text):
        if len(match.group()) <= 12:
            for word in dict.fromkeys([match.group(), *match.group().split("点")]):
                found.numbers.append(Reading.plain(_number(word)))
    for match in re.finditer(rf"({_N})\s*[个核]?半", text):
        found.numbers.append(Reading.plain(_number(match[1]) + Fraction(1, 2)))
    for match in _TENTHS.finditer(text):
        more = Fraction(5) if match[2] == "半" else _number(match[2]) if match[2] else Fraction(0)
        found.numbers.append(Reading.plain(_number(match[1]) * 10 + more))
    for match in _PERCENT.finditer(text):
        found.numbers.append(Reading.plain(_number(match[1])))
    for below, above in _FRACTION.findall(text):
        if _number(below):
            share = _number(above) / _number(below)
            found.numbers += [Reading.plain(share), str(int(share * 100))]
    for spoken in re.findall(r"[〇零一二三四五六七八九幺]{3,9}", text):
        found.numbers.append(str(int(spoken.translate(_SPOKEN_DIGITS))))
    if "半" in text:
        found.numbers += ["50", "0.5"]
    if "满" in text:
        found.numbers.append("100")
    if re.search("单|个|台|张|上一", text):
        found.numbers.append("1")
