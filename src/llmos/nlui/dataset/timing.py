"""When a job runs, in words and as the key of the plan: daily, once, repeatedly, or on days of the week or month."""

from random import Random

from llmos.nlui.dataset import quantity_phrases as quantity

_DAYS_EN = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"]
_SHORT_EN = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"]
_DAYS_ZH = "日一二三四五六"
_MINUTES = (0, 0, 0, 0, 30, 30, 15, 45, 5, 10, 20, 40, 50, 55, 35)
_PERIODS = [
    "5m",
    "10m",
    "15m",
    "20m",
    "30m",
    "45m",
    "90m",
    "90s",
    "30s",
    "2h",
    "3h",
    "4h",
    "6h",
    "8h",
    "12h",
    "2d",
    "3d",
    "2m",
    "3m",
    "25m",
    "40m",
    "50m",
    "36h",
    "75m",
]
_DELAYS = [
    "5m",
    "10m",
    "15m",
    "20m",
    "30m",
    "45m",
    "90m",
    "1h",
    "2h",
    "3h",
    "4h",
    "30s",
    "90s",
    "2d",
    "6h",
    "12h",
    "25m",
    "8h",
    "50m",
    "1m",
    "40s",
]


def draw(form: str, lang: str, rng: Random) -> tuple[str, str]:
    """A phrase and its `key=value`; `form`: daily, once, every, cron, or a choice of them joined by +, all when empty."""
    kind = rng.choice((form or "daily+once+every+cron").split("+"))
    return _DRAWS[kind](lang, rng)


def _time(rng: Random, *parts: str) -> str:
    hours = [hour for hour in range(24) if not parts or quantity.part_of_day(hour) in parts]
    return f"{rng.choice(hours):02d}:{rng.choice(_MINUTES):02d}"


def _said(value: str, lang: str, rng: Random, bare: bool = False) -> str:
    found = [phrase for phrase, form in quantity.time(value, lang) if form.startswith("bare") == bare]
    return rng.choice(found)


def _daily(lang: str, rng: Random) -> tuple[str, str]:
    part, words = rng.choice(
        (("morning", "every morning"), ("evening", "every evening"), ("night", "every night"), ("small", "every night"))
    )
    if lang == "zh":
        part, words = rng.choice((("morning", "每天早上"), ("evening", "每天晚上"), ("night", "每晚"), ("small", "每天凌晨"),
                                  ("afternoon", "每天下午"), ("morning", "每早")))  # fmt: skip
    if rng.random() < 0.3:
        value = _time(rng, part)
        while lang == "zh" and value.startswith("00"):
            value = _time(rng, part)
        said = _said(value, lang, rng, bare=True)
        phrase = f"{words}{said}" if lang == "zh" else f"{words} at {said}"
        return phrase, f"at={value}"
    value = _time(rng)
    said = _said(value, lang, rng)
    if lang == "zh":
        frame = rng.choice(("每天{}", "每日{}", "每天{}", "天天{}", "每天 {} ", "每天定在{}"))
    else:
        frame = rng.choice(("every day at {}", "daily at {}", "each day at {}", "at {} every day", "at {} daily",
                            "every single day at {}", "once a day, at {}", "day in, day out at {}"))  # fmt: skip
    return frame.format(said), f"at={value}"


def _once(lang: str, rng: Random) -> tuple[str, str]:
    if rng.random() < 0.45:
        value = rng.choice(_DELAYS)
        allowed = ("num", "art") if lang == "en" else ("num",)
        said = rng.choice([phrase for phrase, form in quantity.duration(value, lang) if form in allowed])
        frames = ("in {}", "{} from now", "in {} from now", "once, in {}") if lang == "en" else (
            "{}后", "{}以后", "{}之后", "过{}", "再过{}")  # fmt: skip
        return rng.choice(frames).format(said), f"once={value}"
    if rng.random() < 0.35:
        part = rng.choice(("evening", "night"))
        value = _time(rng, part)
        frame = rng.choice(("tonight at {}", "at {} tonight", "tonight, {}")) if lang == "en" else "今晚{}"
        return frame.format(_said(value, lang, rng, bare=True)), f"once={value}"
    value = _time(rng)
    frames = ("at {}", "once at {}", "just once, at {}", "at {} today", "one time only at {}", "at {}, only this once") if (
        lang == "en") else ("{}", "今天{}", "就{}跑一次", "今天{}只一次", "等到{}")  # fmt: skip
    return rng.choice(frames[:5]).format(_said(value, lang, rng)).replace("跑一次", ""), f"once={value}"


def _every(lang: str, rng: Random) -> tuple[str, str]:
    fixed = ((("hourly", "every hour", "once an hour"), "1h"), (("nightly", "daily", "once a day", "every night"), "1d"),
             (("weekly", "once a week", "every week"), "7d"), (("every half hour",), "30m"),
             (("every quarter of an hour",), "15m"), (("every minute", "once a minute"), "1m"))  # fmt: skip
    if lang == "zh":
        fixed = ((("每小时", "每个小时", "每隔一小时"), "1h"), (("每天", "每晚", "每天晚上"), "1d"), (("每周", "每星期"), "7d"),
                 (("每半小时", "每半个小时"), "30m"), (("每隔一刻钟",), "15m"), (("每分钟",), "1m"))  # fmt: skip
    if rng.random() < 0.3:
        phrases, value = rng.choice(fixed)
        return rng.choice(phrases), f"every={value}"
    value = rng.choice(_PERIODS)
    said = rng.choice([phrase for phrase, form in quantity.duration(value, lang) if form == "num"])
    frames = ("every {}", "every {}", "once every {}", "each {}", "at intervals of {}") if lang == "en" else (
        "每{}", "每隔{}", "每过{}", "隔{}", "每{}")  # fmt: skip
    frame = rng.choice(frames)
    return frame.format(said), f"every={value}"


def _cron(lang: str, rng: Random) -> tuple[str, str]:
    value = _time(rng)
    said = _said(value, lang, rng)
    minute, hour = int(value[3:]), int(value[:2])
    if rng.random() < 0.2:
        day = rng.randint(1, 28)
        days = f"* * {day}"
        if lang == "zh":
            words = quantity.words_zh(day)
            phrase = rng.choice((f"每月 {day} 号", f"每月{words}号", f"每个月{day}号", f"每月{words}日"))
        else:
            ending = "th" if 10 < day < 20 else {1: "st", 2: "nd", 3: "rd"}.get(day % 10, "th")
            phrase = rng.choice((f"on the {day}{ending} of every month", f"on the {day}{ending} of each month",
                                 f"every month on the {day}{ending}"))  # fmt: skip
        if rng.random() < 0.15:
            return phrase, f'cron="0 0 {day} * *"'
        return (f"{phrase}{said}" if lang == "zh" else f"{phrase} at {said}"), f'cron="{minute} {hour} {day} * *"'
    phrase, days = _days(lang, rng)
    if rng.random() < 0.12:
        return phrase, f'cron="0 0 * * {days}"'
    if lang == "zh":
        return phrase + said, f'cron="{minute} {hour} * * {days}"'
    frame = rng.choice(("{days} at {time}", "{days} at {time}", "at {time} {days}", "{days}, {time}"))
    return frame.format(days=phrase, time=said), f'cron="{minute} {hour} * * {days}"'


def _days(lang: str, rng: Random) -> tuple[str, str]:
    """A set of days of the week, and its field."""
    shape, one = rng.random(), rng.randrange(7)
    two = sorted(rng.sample(range(1, 7), rng.choice((2, 2, 3))))
    if lang == "zh":
        if shape < 0.2:
            return rng.choice(("工作日", "每个工作日", "周一到周五", "每周一至周五")), "1-5"
        if shape < 0.3:
            return rng.choice(("周末", "每个周末", "每周六日")), "0,6"
        if shape < 0.5:
            joined = rng.choice(("", "、", "和")) if len(two) == 2 else rng.choice(("", "、"))
            return "每周" + joined.join(_DAYS_ZH[day] for day in two), ",".join(map(str, two))
        word = _DAYS_ZH[one] if one else rng.choice("日天")
        return rng.choice(("每周", "每周", "每个星期", "每逢周", "每个周")) + word, str(one)
    if shape < 0.2:
        return rng.choice(("on weekdays", "every weekday", "weekdays", "Monday to Friday", "Monday through Friday",
                           "on workdays")), "1-5"  # fmt: skip
    if shape < 0.3:
        return rng.choice(("on weekends", "every weekend", "weekends", "on Saturdays and Sundays")), "0,6"
    if shape < 0.5:
        plural = rng.random() < 0.5
        names = [_DAYS_EN[day] + "s" * plural for day in two]
        listed = ", ".join(names[:-1]) + " and " + names[-1]
        return (f"on {listed}" if plural else f"every {listed}"), ",".join(map(str, two))
    day = _DAYS_EN[one]
    return rng.choice((f"every {day}", f"each {day}", f"on {day}s", f"{day}s", f"every {_SHORT_EN[one]}",
                       f"every {day.lower()}", f"{day.lower()}s")), str(one)  # fmt: skip


_DRAWS = {"daily": _daily, "once": _once, "every": _every, "cron": _cron}
