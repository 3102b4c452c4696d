"""Wordings of sizes, durations, times of day and numbers, English and Chinese, each with its value.

A wording has a form, which says where it may stand: `num` ("ninety minutes", also after "the last"), `art` ("half an
hour", not after an article), `tight` ("90m"), `adj` ("ten-minute", before a noun), `bare` (a clock time whose half of
the day the words around it say). The same tables find the wordings in authored requests and put others in their place.
"""

from functools import cache

_ONES = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
]
_TENS = ["_", "_", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
_DIGITS_ZH = "零一二三四五六七八九"

Wording = tuple[str, str]
"""A phrase and its form."""


def words_en(number: int) -> str:
    """A whole number below 10,000 in English words."""
    if number < 20:
        return _ONES[number]
    if number < 100:
        return _TENS[number // 10] + (f"-{_ONES[number % 10]}" if number % 10 else "")
    if number < 1000:
        rest = f" and {words_en(number % 100)}" if number % 100 else ""
        return f"{_ONES[number // 100]} hundred{rest}"
    rest = f" {words_en(number % 1000)}" if number % 1000 else ""
    return f"{words_en(number // 1000)} thousand{rest}"


def words_zh(number: int, measure: bool = False) -> str:
    """A whole number below 10,000 in Chinese; `measure`: before a measure word, where 2 is 两."""
    if number == 2 and measure:
        return "两"
    if number < 10:
        return _DIGITS_ZH[number]
    if number < 100:
        tens = "" if number < 20 else _DIGITS_ZH[number // 10]
        return f"{tens}十{_DIGITS_ZH[number % 10] if number % 10 else ''}"
    for base, name in ((1000, "千"), (100, "百")):
        if number >= base:
            rest = number % base
            gap = "零" if rest and rest < base // 10 else ""
            tail = (f"一{words_zh(rest)}" if 10 <= rest < 20 else words_zh(rest)) if rest else ""
            head = "两" if number // base == 2 else _DIGITS_ZH[number // base]
            return f"{head}{name}{gap}{tail}"
    raise ValueError(number)


@cache
def size(value: str, lang: str) -> tuple[Wording, ...]:
    """Wordings of a SIZE."""
    number, unit = int(value[:-1]), value[-1]
    found: list[Wording] = []
    amounts = [str(number)]
    if unit == "M" and number % 512 == 0 and number % 1024:
        amounts.append(f"{number / 1024:g}")
        found += _gigs(number / 1024, lang)
    short = {
        "K": ("K", "KB", "kb"),
        "M": ("M", "MB", "mb", "MiB"),
        "G": ("G", "GB", "gb", "GiB"),
        "T": ("T", "TB", "tb"),
    }
    for amount in amounts:
        letter = unit if amount == str(number) else "G"
        for name in short[letter]:
            found += [(f"{amount}{name}", "tight"), (f"{amount} {name}", "num")]
        if lang == "en":
            found += _spelled_sizes(amount, letter)
    if lang == "en":
        return tuple(found)
    if unit == "M":
        found += [(f"{number} 兆", "num"), (f"{number}兆", "num")]
        if number % 50 == 0 and number < 2000:
            found.append((f"{words_zh(number, True)}兆", "num"))
    if unit == "G":
        found += [(f"{number} 个 G", "num"), (f"{number}个G", "num"), (f"{number} 个G", "num")]
        if number <= 99:
            found += [(f"{words_zh(number, True)}个{g}", "num") for g in ("G", " G")] + [
                (f"{words_zh(number, True)}G", "num")
            ]
    return tuple(found)


def _spelled_sizes(amount: str, unit: str) -> list[Wording]:
    names = {
        "K": ["kilobytes"],
        "M": ["megs", "megabytes", "meg"],
        "G": ["gigs", "gigabytes", "gig"],
        "T": ["terabytes"],
    }
    found: list[Wording] = []
    for name in names[unit]:
        singular = name.rstrip("s") if amount == "1" else name
        found.append((f"{amount} {singular}", "num"))
        if amount.isdigit() and (int(amount) <= 20 or int(amount) % 10 == 0):
            found.append((f"{words_en(int(amount))} {singular}", "num"))
            if amount == "100":
                found.append((f"a hundred {name}", "art"))
    if unit in "MG" and amount.isdigit():
        stem = "gig" if unit == "G" else "meg"
        found += [(f"{amount}-{stem}", "adj"), (f"{amount}-{stem}abyte", "adj")]
        if int(amount) <= 20:
            found.append((f"{words_en(int(amount))}-{stem}", "adj"))
    return found


def _gigs(gigs: float, lang: str) -> list[Wording]:
    whole = int(gigs)
    if lang == "zh":
        if whole == 0:
            return [("半个G", "num"), ("半个 G", "num"), ("半G", "num"), ("0.5G", "tight")]
        return [(f"{words_zh(whole, True)}个半G", "num"), (f"{words_zh(whole, True)}点五G", "num") if whole != 2 else
                ("二点五G", "num"), (f"{gigs:g}个G", "num")]  # fmt: skip
    if whole == 0:
        return [("half a gig", "art"), ("half a gigabyte", "art"), ("half a GB", "art")]
    found = [(f"{words_en(whole)} and a half gigs", "num"), (f"{words_en(whole)} and a half gigabytes", "num")]
    return found + [("a gig and a half", "art")] * (whole == 1)


_UNITS_EN = {
    "s": ("second", ["seconds", "secs", "sec"], ["s", "sec"]),
    "m": ("minute", ["minutes", "mins", "min"], ["m", "min"]),
    "h": ("hour", ["hours", "hrs"], ["h", "hr"]),
    "d": ("day", ["days"], ["d"]),
}
_ARTICLED_EN = {
    "30m": ["half an hour"], "90m": ["an hour and a half"], "15m": ["a quarter of an hour"],
    "45m": ["three quarters of an hour"], "1h": ["an hour"], "1m": ["a minute"], "1d": ["a day"], "30s": ["half a minute"],
    "90s": ["a minute and a half"], "7d": ["a week"], "14d": ["a fortnight"], "12h": ["half a day"],
}  # fmt: skip
_SPOKEN_EN = {"90m": ["one and a half hours", "1.5 hours", "1.5h"], "150m": ["two and a half hours", "2.5 hours"],
              "90s": ["one and a half minutes"], "36h": ["one and a half days"], "14d": ["two weeks"],
              "80m": ["an hour and twenty minutes"], "75m": ["an hour and a quarter"]}  # fmt: skip
_SPOKEN_ZH = {
    "30m": ["半小时", "半个小时", "半个钟头"], "90m": ["一个半小时", "1.5 小时", "1.5小时", "一小时半"], "15m": ["一刻钟"],
    "45m": ["三刻钟"], "150m": ["两个半小时", "2.5 小时"], "90s": ["一分半", "一分半钟", "一分钟半"], "30s": ["半分钟"],
    "7d": ["一周", "一个星期"], "14d": ["两周", "两个星期"], "12h": ["半天"], "36h": ["一天半"], "210m": ["三个半小时"],
}  # fmt: skip
_UNITS_ZH = {"s": ["秒", "秒钟"], "m": ["分钟"], "h": ["小时", "个小时", "个钟头"], "d": ["天"]}


@cache
def duration(value: str, lang: str) -> tuple[Wording, ...]:
    """Wordings of a DUR."""
    number, unit = int(value[:-1]), value[-1]
    singular, plurals, tights = _UNITS_EN[unit]
    if lang == "zh":
        tights = [] if unit == "d" else tights[:1]
    found: list[Wording] = [(f"{number}{tight}", "tight") for tight in tights]
    if lang == "zh":
        for name in _UNITS_ZH[unit]:
            spaced = "" if name.startswith("个") else " "
            found += [(f"{number}{spaced}{name}", "num"), (f"{number}{name}", "num")]
            if number <= 99:
                found.append((f"{words_zh(number, True)}{name}", "num"))
        return tuple(found + [(phrase, "num") for phrase in _SPOKEN_ZH.get(value, [])])
    names = [singular] if number == 1 else plurals
    found += [(f"{number} {name}", "num") for name in names]
    if number <= 20 or number % 5 == 0:
        found += [(f"{words_en(number)} {name}", "num") for name in names[:1]]
        found += [(f"{words_en(number)}-{singular}", "adj"), (f"{number}-{singular}", "adj")]
    found += [(phrase, "num") for phrase in _SPOKEN_EN.get(value, [])]
    return tuple(found + [(phrase, "art") for phrase in _ARTICLED_EN.get(value, [])])


@cache
def percent(value: str, lang: str) -> tuple[Wording, ...]:
    """Wordings of a whole NUM in percent."""
    number = int(value)
    found: list[Wording] = [(f"{number}%", "num"), (f"{number} %", "num")]
    if lang == "zh":
        found += [(f"百分之{words_zh(number)}", "num"), (f"百分之{number}", "num")]
        if number % 10 == 0:
            found.append((f"{_DIGITS_ZH[number // 10]}成", "num"))
        elif number % 5 == 0 and number > 10:
            found.append((f"{_DIGITS_ZH[number // 10]}成五", "num"))
        return tuple(found)
    return (*found, (f"{number} percent", "num"), (f"{words_en(number)} percent", "num"), (f"{number} per cent", "num"))


@cache
def number(value: str, lang: str) -> tuple[Wording, ...]:
    """Wordings of a whole number without a unit."""
    found: list[Wording] = [(value, "tight")]
    if int(value) <= 1000 and (int(value) <= 100 or int(value) % 50 == 0):
        if lang == "en":
            found.append((words_en(int(value)), "num"))
        else:
            found += [(words_zh(int(value), True), "num"), (words_zh(int(value)), "plain")]
    return tuple(found)


@cache
def cores(value: str, lang: str) -> tuple[Wording, ...]:
    """Wordings of a number of cores, with their noun."""
    found: list[Wording] = []
    amount = float(value)
    whole, half = int(amount), amount % 1 == 0.5
    if lang == "zh":
        for noun in ("核", "个核", "个 CPU 核", "核 CPU"):
            spaced = "" if noun.startswith("个") else " "
            found.append((f"{value}{spaced}{noun}", "num"))
            if amount.is_integer() and not noun.startswith("核"):
                found.append((f"{words_zh(whole, True)}{noun}", "num"))
        if half:
            found += [("半个核", "num")] if whole == 0 else [(f"{words_zh(whole, True)}个半核", "num")]
        return tuple(found)
    nouns = (
        ("core", "cpu core", "CPU core", "CPU", "cpu") if amount == 1 else ("cores", "cpu cores", "CPUs", "CPU cores")
    )
    found += [(f"{value} {noun}", "num") for noun in nouns]
    if amount.is_integer():
        found += [(f"{words_en(whole)} {noun}", "num") for noun in nouns]
    elif half:
        found += [("half a core", "art"), ("half a CPU", "art")] if whole == 0 else (
            [(f"{words_en(whole)} and a half cores", "num")] + [("a core and a half", "art")] * (whole == 1))  # fmt: skip
    return tuple(found)


def part_of_day(hour: int) -> str:
    """The part of the day that speakers put an hour in."""
    return next(name for end, name in ((5, "small"), (12, "morning"), (13, "noon"), (18, "afternoon"), (22, "evening"),
                                       (24, "night")) if hour < end)  # fmt: skip


_PARTS_EN = {"small": ["in the morning", "at night"], "morning": ["in the morning"], "noon": ["in the afternoon"],
             "afternoon": ["in the afternoon"], "evening": ["in the evening"], "night": ["at night"]}  # fmt: skip
_PARTS_ZH = {"small": ["凌晨"], "morning": ["早上", "上午", "早晨"], "noon": ["中午"], "afternoon": ["下午"],
             "evening": ["晚上", "傍晚"], "night": ["晚上", "夜里"]}  # fmt: skip


@cache
def time(value: str, lang: str) -> tuple[Wording, ...]:
    """Wordings of a TIME."""
    hour, minute = int(value[:2]), int(value[3:])
    twelve, half, part = hour % 12 or 12, "am" if hour < 12 else "pm", part_of_day(hour)
    found: list[Wording] = [(value, "clock")] + [(f"{hour}:{minute:02d}", "clock")] * (hour < 10)
    if lang == "zh":
        clocks = _clock_zh(twelve if hour else 12, minute)
        found += [(day + clock, "num") for day in _PARTS_ZH[part] for clock in clocks if hour or day != "凌晨"]
        found += [(clock, f"bare {part}") for clock in clocks]
        if hour == 0:
            found += [(f"{word}", "num") for word in (["午夜", "零点", "半夜十二点"] if not minute else [])]
        if minute == 0:
            found += [(f"{hour} 点", "num"), (f"{hour}点", "num")] if hour > 12 else []
        return tuple(found)
    digits = f"{twelve}" if minute == 0 else f"{twelve}:{minute:02d}"
    found += [(f"{digits}{half}", "num"), (f"{digits} {half}", "num"), (f"{digits} {half[0]}.m.", "num")]
    spoken = _clock_en(twelve, minute)
    if (hour, minute) < (11, 31) or hour >= 12:  # "ten to twelve in the morning" is said by nobody
        found += [(f"{clock} {day}", "num") for clock in (*spoken, digits) for day in _PARTS_EN[part]]
    found += [(clock, f"bare {part}") for clock in (*spoken, digits)]
    if minute == 0:
        found += [("noon", "num"), ("midday", "num")] if hour == 12 else []
        found += [("midnight", "num")] if hour == 0 else []
        found += [(f"{words_en(twelve)} {half}", "num")]
    return tuple(found)


def _clock_en(hour: int, minute: int) -> list[str]:
    this, after = words_en(hour), words_en(hour % 12 + 1)
    match minute:
        case 0:
            return [f"{this} o'clock", this]
        case 15:
            return [f"quarter past {this}", f"a quarter past {this}"]
        case 30:
            return [f"half past {this}", f"{this} thirty", f"half {this}"][:2]
        case 45:
            return [f"quarter to {after}", f"a quarter to {after}"]
        case _ if minute % 5 == 0:
            past = [f"{words_en(minute)} past {this}"] if minute < 30 else [f"{words_en(60 - minute)} to {after}"]
            return past + ([f"{this} {words_en(minute)}"] if minute >= 10 else [])
    return []


def _clock_zh(hour: int, minute: int) -> list[str]:
    this = words_zh(hour, True)
    match minute:
        case 0:
            return [f"{this}点", f"{this}点钟", f"{hour}点", f"{hour} 点"]
        case 15:
            return [f"{this}点一刻", f"{this}点十五", f"{hour}点15"]
        case 30:
            return [f"{this}点半", f"{hour}点半", f"{hour} 点半", f"{this}点三十"]
        case 45:
            return [f"{this}点三刻", f"{this}点四十五"]
    return [f"{this}点{words_zh(minute) if minute >= 10 else '零' + words_zh(minute)}", f"{hour}点{minute:02d}分"]
