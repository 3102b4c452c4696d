"""English quantities: number words become digits, then patterns over digits find sizes, durations, times and schedules.

What the words say as digits comes from `spelling_en`.
"""

import re
from fractions import Fraction
from typing import TypeVar

from llmos.nlui.calendar_words import Clock, Reading, Schedule, before, day_fields, day_range, either_half
from llmos.nlui.spelling_en import spelled_out, with_fractions

Unit = TypeVar("Unit")

_MONTH_FORMS = [
    "jan(?:uary)?", "feb(?:ruary)?", "mar(?:ch)?", "apr(?:il)?", "may", "june?", "july?", "aug(?:ust)?",
    "sep(?:t|tember)?", "oct(?:ober)?", "nov(?:ember)?", "dec(?:ember)?",
]  # fmt: skip
_DURATION_UNITS = {
    r"s|secs?|seconds?": ("s", 1), r"m|mins?|minutes?": ("m", 1), r"h|hrs?|hours?": ("h", 1),
    r"d|days?|nights?|evenings?|mornings?": ("d", 1), r"w|wks?|weeks?": ("d", 7), r"fortnights?": ("d", 14),
    r"months?": ("d", 30), r"years?": ("d", 365),
}  # fmt: skip
_SIZE_UNITS = {
    r"k|kb|kib|kbs|kbytes?|kilos?|kilobytes?|kibibytes?": "K",
    r"m|mb|mib|mbs|megs?|mbytes?|megabytes?|megabites?|mebibytes?": "M",
    r"g|gb|gib|gbs|gigs?|gbytes?|gigabytes?|gigabites?|gibibytes?": "G",
    r"t|tb|tib|tbs|teras?|tbytes?|terabytes?|tebibytes?": "T",
}
_ANY_DURATION = "|".join(_DURATION_UNITS)
_ANY_SIZE = "|".join(_SIZE_UNITS)
_UNIT = rf"(?:{_ANY_DURATION}|{_ANY_SIZE}|cores?|cpus?|gpus?)\b"
_NUMBER = r"\d+(?:\.\d+)?"
_AMOUNT = rf"(?<![\w.:])({_NUMBER})"

_DURATION = re.compile(rf"{_AMOUNT} ?({_ANY_DURATION})\b(?:,? ?(?:and )?(\d+) ?({_ANY_DURATION})?\b)?")
_GLUED_DURATION = re.compile(r"(?<![\w.:])(\d+)h(\d{1,2})(?:m|min)?\b")
_RATE = re.compile(rf"\b({_NUMBER})(?: ?x| [a-z]+)? (?:(?:an?|per|each|every|in) )?(?:1 )?(minute|min|hour|day|week)\b")
_RATES = {"minute": ("s", 60), "min": ("s", 60), "hour": ("m", 60), "day": ("h", 24), "week": ("d", 7)}
_ADVERBS = [
    (r"hourly|each hour|every hour", "1h"), (r"daily|nightly|every ?day|each day|every night|each night", "1d"),
    (r"weekly|every week|each week", "7d"), (r"fortnightly|bi ?weekly|every fortnight", "14d"),
    (r"every minute|each minute|minutely", "1m"), (r"bi ?hourly", "2h"), (r"overnight", "1d"),
    (r"monthly", "30d"), (r"half ?hourly", "30m"), (r"quarter ?hourly", "15m"), (r"alternate days", "2d"),
    (r"today|yesterday", "1d"),
]  # fmt: skip
_SIZE = re.compile(rf"(?<![\w.:])({_NUMBER}) ?({_ANY_SIZE})(?![a-z0-9])")

_HALF_OF_DAY = (
    r"(?:[ ,]*(?:oclock|sharp|on the dot|hours|hrs))?[ ,]*"
    r"(?:(am|pm|a|p)\b|(?:in the |this |tomorrow |every |each |1 )*(morning|afternoon|evening|night)"
    r"|(?:at )?(night|tonight))?"
)
_HOUR = r"(\d{1,2}|noon|midday|midnight)(?!\d|\.\d|:\d)"
_PAST = re.compile(
    r"\b(\d{1,2}|half|(?:an? |1 )?quarter)(?: minutes?| mins?| m)? "
    rf"(past|after|to|before|of|till?) {_HOUR}{_HALF_OF_DAY}"
)
_CLOCK = re.compile(rf"(?<![\d.:/-])(\d{{1,2}})[:.h ]([0-5]\d)(?!:?\d|\.\d){_HALF_OF_DAY}")
_BARE_CLOCK = re.compile(r"(?<![\d.:/a-z-])([01]\d|2[0-3]) ?([0-5]\d)(?![\da-z]|[.:]\d)")
_HOUR_ONLY = re.compile(rf"(?<![\w.:/-])@?(\d{{1,2}})(?![\d%/]|[.:-]\d| ?(?:{_UNIT})(?! ?sharp)){_HALF_OF_DAY}")
_NAMED_HOUR = re.compile(r"\b(noon|midday|midnight)\b")
_HALF_HOUR = re.compile(rf"\bhalf (\d{{1,2}})\b{_HALF_OF_DAY}")
_BOTH_HALVES = re.compile(
    r"\b(\d{1,2})(?: ?(?:am|oclock))?,? (?:both )?(?:in the )?(?:am and pm|morning and (?:evening|night))"
)

_DAY_TOKEN = re.compile(r"<(\d)>")
_DAY_RANGE = re.compile(r"<(\d)> ?(?:-|–|to|thru|through|till?|until|up to)+ ?<(\d)>")
_DAY_LIST = re.compile(r"<\d>(?:[ ,/&+]*(?:and|or|as well as|plus)?[ ,/&+]*<\d>)*")
_ORDINAL = r"(\d{1,2}) ?(?:st|nd|rd|th)"
_ORDINALS = re.compile(rf"\b{_ORDINAL}\b")
_DAY_OF_MONTH = re.compile(r"\bday (\d{1,2})\b")
_MONTH = re.compile("|".join(rf"\b({form})\b" for form in _MONTH_FORMS))
_DATE = re.compile(r"\b(\d{1,2})(?: of)? ?(?=\{)|(?<=\} )(\d{1,2})\b")
_MONTH_RANGE = re.compile(r"\{(\d+)\} ?(?:-|–|to|thru|through|till?|until)+ ?\{(\d+)\}")
_MINUTE_OF_HOUR = [
    re.compile(
        r"\b(\d{1,2}|half|(?:an? |1 )?quarter)(?: minutes?| mins?)? "
        r"(past|after|to|before)(?: (?:the|each|every|1|an?))*(?: hour)?\b"
    ),
    re.compile(r"(?:\bminutes?|(?<!\d):)(?: (?:number|no))? ?(\d{1,2})\b()"),
    re.compile(r"(?:and|,|&) (\d{1,2})()(?= (?:past|after) )"),
    re.compile(r"(?:and|,) (?:minute )?(\d{1,2})()(?= of (?:each|every|the) )"),
]  # fmt: skip
_ON_THE_HOUR = re.compile(
    r"\b(?:on|at|top of) (?:the|each|every)(?: full)?(?: 1)? hour\b|\bhourly\b|\bevery (?:1 )?hour\b"
)
_HOUR_RANGE = re.compile(
    rf"\b(\d{{1,2}})(?::00)? ?(?:(am|pm)|oclock)? ?(?:-|–|to|till?|until|and|through) ?(?:{_HOUR})(?::00)? ?(am|pm)?"
)
_EVERY = re.compile(r"\b(?:every|each) (\d+(?:\.\d+)?) ?(m|mins?|minutes?|h|hrs?|hours?)\b")

_NUMBERS = re.compile(r"(?<![\w.])(?<![a-z]-)\d+(?:\.\d+)?(?![\d.]*\d)")
_FRACTIONS = re.compile(r"(?:\b(\d{1,2})[ /])?\b(\d{1,2})(?:(?:th|rd)s?\b(?= of)|ths?\b|(?<=/\d)\b)")
_PORT_PAIRS = re.compile(r"\b(\d\d) (\d\d)\b")
_PERCENTS = re.compile(rf"({_NUMBER}) ?(?:%|percent)")
_SHARES = [(r"\bhalf\b", ("50", "0.5")), (r"\b3 quarters?\b", ("75", "0.75")), (r"\bquarter\b", ("25", "0.25")),
           (r"\bthirds?\b|\b3rds?\b", ("33", "66")), (r"\bfull\b", ("100",))]  # fmt: skip


def read(request: str) -> Reading:
    """Everything that the English words of a request can mean."""
    spelled = spelled_out(request)
    text = with_fractions(spelled)
    found = Reading()
    _durations(text, found)
    for match in _SIZE.finditer(text):
        found.add_size(Fraction(match[1]), _unit(match[2], _SIZE_UNITS))
    schedule = Schedule()
    _clocks(spelled, schedule)
    for mention in schedule.clocks:
        found.add_times(mention)
    _calendar(spelled, text, schedule)
    found.crons += schedule.crons()
    _numbers(spelled, text, found)
    return found


def _unit(word: str, units: dict[str, Unit]) -> Unit:
    return next(unit for form, unit in units.items() if re.fullmatch(form, word))


def _durations(text: str, found: Reading) -> None:
    for match in _GLUED_DURATION.finditer(text):
        found.add_duration(Fraction(int(match[1]) * 60 + int(match[2])), "m")
    for match in _DURATION.finditer(text):
        unit, times = _unit(match[2], _DURATION_UNITS)
        found.add_duration(Fraction(match[1]) * times, unit)
        if match[3]:
            smaller = _unit(match[4], _DURATION_UNITS) if match[4] else {"h": ("m", 1), "m": ("s", 1)}.get(unit)
            if smaller:
                found.add_duration(Fraction(match[3]) * smaller[1], smaller[0])
                found.add_compound(Fraction(match[1]) * times, unit, Fraction(match[3]) * smaller[1], smaller[0])
    for match in _RATE.finditer(text):
        letter, length = _RATES[match[2]]
        if rate := Fraction(match[1]):
            found.add_duration(Fraction(length) / rate, letter)
    for form, value in _ADVERBS:
        if re.search(rf"\b(?:{form})\b", text):
            found.durations.append(value)


def _clock(hour: str, minute: int, markers: tuple[str | None, ...]) -> tuple[Clock, ...]:
    """The times an hour as said can mean, given what was said beside it."""
    if not hour.isdigit():
        return ((0, minute),) if hour == "midnight" else ((12, minute),)
    marker = next((marker for marker in markers if marker), None)
    number = int(hour)
    both = either_half(number, minute)
    if not both or number > 12 or marker is None:
        return both
    if marker in {"am", "a", "morning"}:
        return ((number % 12, minute),)
    if marker in {"night", "tonight"}:
        return tuple(sorted(both, reverse=5 < number < 12))
    return ((number % 12 + 12, minute),)


def _minute(word: str) -> int:
    return 30 if word == "half" else 15 if word.endswith("quarter") else int(word)


def _clocks(text: str, schedule: Schedule) -> None:
    """Fill `schedule.clocks`, one entry a mention, in text order."""
    mentions: list[tuple[int, tuple[Clock, ...]]] = []
    taken: list[tuple[int, int]] = []
    for match in _PAST.finditer(text):
        minute = _minute(match[1])
        if minute < 60 and (minute % 5 == 0 or "m" in match[0][:12] or match[2] in {"past", "after"}):
            whole = _clock(match[3], 0, match.groups()[3:])
            past = match[2] in {"past", "after"}
            clocks = tuple((hour, minute) for hour, _ in whole) if past else before(whole, minute)
            mentions.append((match.start(), clocks))
            taken.append(match.span())
    written = list(_CLOCK.finditer(text))
    mentions += [(match.start(), _written(match)) for match in written]
    taken += [match.span() for match in written]
    mentions += [(match.start(), ((int(match[1]), int(match[2])),)) for match in _BARE_CLOCK.finditer(text)]
    for match in _HOUR_ONLY.finditer(text):
        if not any(start <= match.start() < stop for start, stop in taken):
            mentions.append((match.start(), _clock(match[1], 0, match.groups()[1:])))
    for match in _BOTH_HALVES.finditer(text):
        mentions += [(match.start(), (clock,)) for clock in either_half(int(match[1]), 0)]
    mentions += [(match.start(), _clock(match[1], 0, ())) for match in _NAMED_HOUR.finditer(text)]
    mentions += [(match.start(), _clock(match[1], 30, match.groups()[1:])) for match in _HALF_HOUR.finditer(text)]
    schedule.clocks = [clocks for _, clocks in sorted(mentions) if clocks]


def _written(match: re.Match[str]) -> tuple[Clock, ...]:
    """`7:45`, with what stands beside it; a leading zero means the 24-hour clock."""
    hour, minute = match[1], int(match[2])
    if hour.startswith("0") and not any(match.groups()[2:]):
        return ((int(hour), minute),)
    return _clock(hour, minute, match.groups()[2:])


def _calendar(spelled: str, text: str, schedule: Schedule) -> None:
    """Fill the parts of a schedule that name days, months and repetition."""
    ranges = [(int(match[1]), int(match[2])) for match in _DAY_RANGE.finditer(text)]
    schedule.weekdays += [day_range(first, last) for first, last in ranges]
    if re.search(
        r"\bweek ?(?:days?|nights?)\b|\bwork(?:ing)? ?days?\b|\bbusiness days?\b|\bschool (?:days?|nights?)\b", spelled
    ):
        schedule.weekdays.append("1-5")
    if re.search(r"\bweekends?\b", text):
        schedule.weekdays.append("0,6")
    lists = [[int(day) for day in _DAY_TOKEN.findall(match.group())] for match in _DAY_LIST.finditer(text)]
    for days in lists:
        schedule.weekdays += day_fields(days)
    if len(lists) > 1:
        schedule.weekdays += day_fields([day for days in lists for day in days])[:1]
    if excepted := re.search(r"\b(?:except|but not|but|apart from|save|bar|other than|not)(?: on)? <(\d)>", text):
        schedule.weekdays += [_without(int(excepted[1]), 7), _without(int(excepted[1]), 6)]
    days = [int(day) for day in [*_ORDINALS.findall(spelled), *_DAY_OF_MONTH.findall(text)] if 1 <= int(day) <= 31]
    if days:
        schedule.month_days += day_fields(days)
    months = _MONTH.sub(lambda match: "{" + str(match.lastindex) + "}", spelled)
    named = [int(number) for number in re.findall(r"\{(\d+)\}", months)]
    schedule.months += [
        f"{match[1]}-{match[2]}" for match in _MONTH_RANGE.finditer(months) if int(match[1]) < int(match[2])
    ]
    if named:
        schedule.months += day_fields(named)
        dated = [int(before or after) for before, after in _DATE.findall(months)]
        schedule.month_days += day_fields([day for day in dated if 1 <= day <= 31])
    if re.search(
        r"\bquarterly\b|\b(?:each|every|the|per|a|of) quarter\b(?! (?:of|to|past|after|before|hour))", spelled
    ):
        schedule.months.append("1,4,7,10")
    if re.search(r"\bmonth(?:ly|s)?\b|\bquarterly\b", spelled):
        schedule.month_days.append("1")
    if re.search(r"\byear(?:ly)?\b|\bannual(?:ly)?\b", spelled):
        schedule.months.append("1")
    for match in _EVERY.finditer(text):
        amount, unit = Fraction(match[1]), match[2][0]
        if unit == "m" and amount.denominator == 1 and 0 < amount < 60:
            schedule.steps.append(f"*/{amount} *")
        elif unit == "h" and amount.denominator == 1 and 0 < amount < 24:
            schedule.steps.append(f"0 */{amount}" if amount > 1 else "0 *")
        elif unit == "h" and 0 < amount < 1 and (amount * 60).denominator == 1:
            schedule.steps.append(f"*/{amount * 60} *")
    if re.search(r"\bhour", spelled):
        _minutes_of_hour(spelled, schedule)
    _hour_ranges(spelled, schedule)


def _without(day: int, stop: int) -> str:
    """All days of the week but one, or (`stop` 6) all working days but one."""
    others = sorted({*range(7 - stop, stop)} - {day})
    contiguous = others == list(range(others[0], others[-1] + 1))
    return f"{others[0]}-{others[-1]}" if contiguous else ",".join(map(str, others))


def _minutes_of_hour(text: str, schedule: Schedule) -> None:
    for pattern in _MINUTE_OF_HOUR:
        for match in pattern.finditer(text):
            minute = _minute(match[1])
            if minute < 60:
                schedule.minutes.append((60 - minute) % 60 if match[2] in {"to", "before"} else minute)
    if _ON_THE_HOUR.search(text):
        schedule.minutes.append(0)


def _hour_ranges(text: str, schedule: Schedule) -> None:
    for match in _HOUR_RANGE.finditer(text):
        first, last = _clock(match[1], 0, (match[2],)), _clock(match[3], 0, (match[4],))
        for start, _ in first:
            schedule.hour_ranges += [f"{start}-{stop}" for stop, _ in last if start < stop]


def _numbers(spelled: str, text: str, found: Reading) -> None:
    for source in (spelled, text):
        for match in _NUMBERS.finditer(source):
            if len(match.group()) <= 12:
                found.numbers.append(_canonical(match.group()))
    for above, below in _FRACTIONS.findall(spelled):
        if int(above or 1) < int(below) <= 100:
            share = Fraction(int(above or 1), int(below))
            found.numbers += [Reading.plain(share), str(int(share * 100))]
    found.numbers += [first + second for first, second in _PORT_PAIRS.findall(spelled)]
    if re.search(r"\bcores?\b|\bcpus?\b", spelled):
        found.numbers += [Reading.plain(Fraction(percent) / 100) for percent in _PERCENTS.findall(spelled)]
    for form, shares in _SHARES:
        if re.search(form, spelled):
            found.numbers += shares
    if re.search(r"\b(?:an?|single|only|one|last|this)\b", spelled):
        found.numbers.append("1")


def _canonical(number: str) -> str:
    whole, _, rest = number.partition(".")
    return f"{int(whole)}.{rest[:6]}".rstrip("0").rstrip(".") if rest else str(int(whole))
