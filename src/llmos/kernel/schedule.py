"""When a schedule comes next. Pure functions of wall-clock time; the supervisor owns the timers.

Times of day are local. What daylight saving skips comes when the clock has jumped over it; what it repeats comes the
first time alone, except what cron repeats within the hour or hourly, which goes on (as in Debian's cron).
"""

from datetime import UTC, date, datetime, timedelta, tzinfo

from cronsim import CronSim

from llmos.plan import values


class _Local(tzinfo):
    """The time zone of this machine, whatever form TZ has."""

    def utcoffset(self, moment: datetime | None) -> timedelta | None:
        return None if moment is None else moment.replace(tzinfo=None).astimezone().utcoffset()

    def dst(self, moment: datetime | None) -> timedelta | None:
        return None

    def tzname(self, moment: datetime | None) -> str | None:
        return None

    def fromutc(self, moment: datetime) -> datetime:
        return datetime.fromtimestamp(moment.replace(tzinfo=UTC).timestamp()).replace(tzinfo=self)


_LOCAL = _Local()


def first(schedule: dict[str, str], now: float) -> float:
    """When a schedule that is set at `now` (epoch seconds) first comes."""
    if "once" in schedule:
        moment = schedule["once"]
        return _clock(moment, now) if ":" in moment else now + values.seconds_of(moment)
    if "at" in schedule:  # with `every` too: the days between are counted from the first time
        return _clock(schedule["at"], now)
    return following(schedule, now)


def following(schedule: dict[str, str], last: float) -> float:
    """When a recurring schedule comes next after `last` (epoch seconds), when it came or its run ended."""
    if "cron" in schedule:
        return _cron(schedule["cron"], last)
    if "at" in schedule:
        days = values.seconds_of(schedule.get("every", "1d")) // 86400
        came = datetime.fromtimestamp(last).date()
        if _at(schedule["at"], came) > last:  # it came the day before and its run went past midnight
            came -= timedelta(days=1)
        return _at(schedule["at"], came + timedelta(days=days))
    return last + values.seconds_of(schedule["every"])


def in_words(schedule: dict[str, str]) -> str:
    """The schedule as a person reads it."""
    return " ".join(f"{name} {value}" for name, value in schedule.items())


def _cron(text: str, after: float) -> float:
    expression = values.CRON_NICKNAMES.get(text, text)
    return next(CronSim(expression, datetime.fromtimestamp(after, _LOCAL))).timestamp()


def _clock(time: str, after: float) -> float:
    """The next local HH:MM after an instant."""
    day = datetime.fromtimestamp(after).date()
    while (moment := _at(time, day)) <= after:
        day += timedelta(days=1)
    return moment


def _at(time: str, day: date) -> float:
    hour, minute = map(int, time.split(":"))
    return datetime(day.year, day.month, day.day, hour, minute).timestamp()
