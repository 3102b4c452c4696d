"""When a job runs, in words and as the key of the plan: daily, once, repeatedly, or on days of the week or month."""

from random import Random

from llmos.nlui.dataset import quantity_phrases as quantity
from llmos.nlui.dataset.wordlists import phrases, words

_DAYS_EN = ("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")
_DAYS_ZH = "日一二三四五六"
_MINUTES = (0, 0, 0, 0, 30, 30, 15, 45, 5, 10, 20, 40, 50, 55, 35)

_PARTS = {
    "en": ("morning:every morning at {}", "evening:every evening at {}", "night:every night at {}", "small:every night at {}",
           "morning:each morning at {}", "afternoon:every afternoon at {}", "night:each night at {}",
           "evening:at {} every evening"),
    "zh": ("morning:每天早上{}", "evening:每天晚上{}", "night:每晚{}", "small:每天凌晨{}", "afternoon:每天下午{}",
           "morning:每早{}", "morning:天天早上{}", "night:每天夜里{}"),
}  # fmt: skip
_DAILY = {
    "en": ("every day at {}", "daily at {}", "each day at {}", "at {} every day", "at {} daily", "every single day at {}",
           "once a day, at {}", "day in, day out at {}", "{} every day", "each day, {}", "daily, {}"),
    "zh": ("每天{}", "每日{}", "每天{}", "天天{}", "每天的{}", "每天定在{}", "每天一到{}"),
}  # fmt: skip
_IN = {
    "en": ("in {}", "{} from now", "in {} from now", "once, in {}", "{} later", "in another {}"),
    "zh": ("{}后", "{}以后", "{}之后", "过{}", "再过{}", "等{}"),
}  # fmt: skip
_TONIGHT = {
    "en": ("evening:tonight at {}", "night:at {} tonight", "night:tonight, {}", "evening:this evening at {}",
           "morning:tomorrow morning at {}", "afternoon:this afternoon at {}", "afternoon:tomorrow afternoon at {}"),
    "zh": ("evening:今晚{}", "night:今晚{}", "morning:明早{}", "morning:明天早上{}", "afternoon:今天下午{}", "afternoon:下午{}",
           "evening:今天晚上{}"),
}  # fmt: skip
_ONCE = {
    "en": ("at {}", "at {}", "once at {}", "just once, at {}", "at {} today", "one time only at {}", "at {}, only this once",
           "tomorrow at {}", "a single time, at {}"),
    "zh": ("{}", "{}", "今天{}", "就在{}", "今天{}只一次", "等到{}", "明天{}"),
}  # fmt: skip
_EVERY = {
    "en": ("every {}", "every {}", "every {}", "once every {}", "each {}", "at intervals of {}"),
    "zh": ("每{}", "每隔{}", "每过{}", "隔{}", "每{}", "每{}一次"),
}  # fmt: skip
_DAYS_AND_TIME = ("{days} at {time}", "{days} at {time}", "at {time} {days}", "{days}, {time}", "{days} {time}")


def draw(form: str, lang: str, rng: Random) -> tuple[str, str]:
    """A phrase and its `key=value`; `form`: daily, once, every, cron, or a choice of them joined by +, all when empty."""
    kind = rng.choice((form or "daily+once+every+cron").split("+"))
    return _DRAWS[kind](lang, rng)


def _time(rng: Random, *parts: str) -> str:
    hours = [hour for hour in range(24) if not parts or quantity.part_of_day(hour) in parts]
    return f"{rng.choice(hours):02d}:{rng.choice(_MINUTES):02d}"


def _said(value: str, lang: str, rng: Random, bare: bool = False) -> str:
    return rng.choice([phrase for phrase, form in quantity.time(value, lang) if form.startswith("bare") == bare])


def _in_part(frames: tuple[str, ...], lang: str, rng: Random) -> tuple[str, str]:
    """A phrase that names the part of the day, with a bare clock time, and the time."""
    part, _, frame = rng.choice(frames).partition(":")
    value = _time(rng, part)
    while lang == "zh" and value.startswith("00"):  # 十二点 there reads as noon
        value = _time(rng, part)
    return frame.format(_said(value, lang, rng, bare=True)), value


def _daily(lang: str, rng: Random) -> tuple[str, str]:
    if rng.random() < 0.35:
        phrase, value = _in_part(_PARTS[lang], lang, rng)
        return phrase, f"at={value}"
    value = _time(rng)
    return rng.choice(_DAILY[lang]).format(_said(value, lang, rng)), f"at={value}"


def _once(lang: str, rng: Random) -> tuple[str, str]:
    if rng.random() < 0.45:
        value = rng.choice(words("delays"))
        frame = rng.choice(_IN[lang])
        allowed = ("num", "art") if lang == "en" and "another" not in frame else ("num",)
        said = rng.choice([phrase for phrase, form in quantity.duration(value, lang) if form in allowed])
        return frame.format(said), f"once={value}"
    if rng.random() < 0.4:
        phrase, value = _in_part(_TONIGHT[lang], lang, rng)
        return phrase, f"once={value}"
    value = _time(rng)
    return rng.choice(_ONCE[lang]).format(_said(value, lang, rng)), f"once={value}"


def _every(lang: str, rng: Random) -> tuple[str, str]:
    if rng.random() < 0.3:
        value, _, said = rng.choice(phrases(f"{lang}_fixed_periods")).partition(" ")
        return rng.choice(said.split("|")), f"every={value}"
    value = rng.choice(words("periods"))
    said = rng.choice([phrase for phrase, form in quantity.duration(value, lang) if form == "num"])
    return rng.choice(_EVERY[lang]).format(said), f"every={value}"


def _cron(lang: str, rng: Random) -> tuple[str, str]:
    value = _time(rng)
    said = _said(value, lang, rng)
    minute, hour = int(value[3:]), int(value[:2])
    if rng.random() < 0.2:
        day = rng.randint(1, 28)
        phrase, days = _day_of_month(day, lang, rng), f"{day} * *"
    else:
        phrase, days = _days(lang, rng)
    if rng.random() < 0.12:
        return phrase, f'cron="0 0 {days}"'
    if lang == "zh":
        return phrase + said, f'cron="{minute} {hour} {days}"'
    return rng.choice(_DAYS_AND_TIME).format(days=phrase, time=said), f'cron="{minute} {hour} {days}"'


def _day_of_month(day: int, lang: str, rng: Random) -> str:
    if lang == "zh":
        words_of_day = quantity.words_zh(day)
        return rng.choice((f"每月 {day} 号", f"每月{words_of_day}号", f"每个月{day}号", f"每月{words_of_day}日"))
    ordinal = f"{day}{'th' if 10 < day < 20 else {1: 'st', 2: 'nd', 3: 'rd'}.get(day % 10, 'th')}"
    return rng.choice(
        ("on the {} of every month", "on the {} of each month", "every month on the {}", "every {} of the month")
    ).format(ordinal)


def _days(lang: str, rng: Random) -> tuple[str, str]:
    """A set of days of the week, and the last three fields."""
    shape, one = rng.random(), rng.randrange(7)
    some = sorted(rng.sample(range(1, 7), rng.choice((2, 2, 3))))
    numbers = ",".join(map(str, some))
    if lang == "zh":
        if shape < 0.2:
            return rng.choice(("工作日", "每个工作日", "周一到周五", "每周一至周五")), "* * 1-5"
        if shape < 0.3:
            return rng.choice(("周末", "每个周末", "每周六日")), "* * 0,6"
        if shape < 0.5:
            joint = rng.choice(("", "、", "和")) if len(some) == 2 else rng.choice(("", "、"))
            return "每周" + joint.join(_DAYS_ZH[day] for day in some), f"* * {numbers}"
        word = _DAYS_ZH[one] if one else rng.choice("日天")
        return rng.choice(("每周", "每周", "每个星期", "每逢周", "每个周")) + word, f"* * {one}"
    if shape < 0.2:
        return rng.choice(("on weekdays", "every weekday", "weekdays", "Monday to Friday", "Monday through Friday",
                           "on workdays", "Mon-Fri")), "* * 1-5"  # fmt: skip
    if shape < 0.3:
        return rng.choice(("on weekends", "every weekend", "weekends", "on Saturdays and Sundays")), "* * 0,6"
    if shape < 0.5:
        plural = rng.random() < 0.5
        names = [_DAYS_EN[day] + "s" * plural for day in some]
        listed = ", ".join(names[:-1]) + " and " + names[-1]
        return (f"on {listed}" if plural else f"every {listed}"), f"* * {numbers}"
    day = _DAYS_EN[one]
    frames = ("every {0}", "each {0}", "on {0}s", "{0}s", "every {1}", "every {2}", "{2}s", "once a week on {0}")
    return rng.choice(frames).format(day, day[:3], day.lower()), f"* * {one}"


_DRAWS = {"daily": _daily, "once": _once, "every": _every, "cron": _cron}
