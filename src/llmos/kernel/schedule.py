"""When a schedule comes next. Pure functions of wall-clock time; the supervisor owns the timers."""

from datetime import datetime, timedelta

from cronsim import CronSim

from llmos.plan import values


def first(schedule: dict[str, str], now: float) -> float:
    """When a schedule that is set at `now` (epoch seconds) first comes."""
    if "once" in schedule:
        moment = schedule["once"]
        return _clock(moment, now) if ":" in moment else now + values.seconds_of(moment)
    return following(schedule, now)


def following(schedule: dict[str, str], last: float) -> float:
    """When a recurring schedule comes next after `last` (epoch seconds)."""
    if "cron" in schedule:
        return _cron(schedule["cron"], last)
    if "at" in schedule:
        # `at` with `every` of whole days skips the days between; the first comes at the next such time of day.
        days = values.seconds_of(schedule.get("every", "1d")) // 86400
        return _clock(schedule["at"], last + max(0, days - 1) * 86400)
    return last + values.seconds_of(schedule["every"])


def in_words(schedule: dict[str, str]) -> str:
    """The schedule as a person reads it."""
    return " ".join(f"{name} {value}" for name, value in schedule.items())


def _cron(text: str, after: float) -> float:
    expression = values.CRON_NICKNAMES.get(text, text)
    return next(CronSim(expression, datetime.fromtimestamp(after).astimezone())).timestamp()


def _clock(time: str, after: float) -> float:
    """The next local HH:MM after an instant. A time that daylight saving skips is taken an hour later."""
    hour, minute = map(int, time.split(":"))
    moment = datetime.fromtimestamp(after).replace(hour=hour, minute=minute, second=0, microsecond=0, fold=0)
    while moment.timestamp() <= after:
        moment += timedelta(days=1)
    return moment.timestamp()
