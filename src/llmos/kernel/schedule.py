"""When a schedule comes next. Pure functions of an instant; `scheduled_jobs` owns the timers.

Times of day are those of the zone that llmosd runs in. What daylight saving skips comes as the clock jumps over it; what
it repeats comes the first time alone, except what cron repeats within the hour or hourly, which goes on (as in Debian's
cron). A clock that is set is taken as cron(8) takes it: less than three hours are a correction in passing, more means
that it was wrong before.
"""

from datetime import UTC, date, datetime, timedelta, tzinfo
from time import localtime

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


CORRECTION_SECONDS = 3 * 3600.0
"""A clock that is set by this much or more was wrong before (as in cron)."""


def counted(schedule: dict[str, str]) -> bool:
    """Whether it counts time from an instant on, whatever the clock shows: `every` alone, `once` in a while."""
    return ("every" in schedule and "at" not in schedule) or ":" not in schedule.get("once", ":")


def first(schedule: dict[str, str], now: float) -> float:
    """When a schedule that is set at `now` (epoch seconds) first comes."""
    if "once" in schedule:
        moment = schedule["once"]
        return _clock(moment, now) if ":" in moment else now + values.seconds_of(moment)
    if "at" in schedule:  # with `every` too: the days between are counted from the first time
        return _clock(schedule["at"], now)
    return following(schedule, now, now)


def following(schedule: dict[str, str], came: float, now: float) -> float:
    """When a recurring schedule that came at `came` comes next after `now`, which is not before (epoch seconds)."""
    if "cron" in schedule:
        return _cron(schedule["cron"], now)
    seconds = values.seconds_of(schedule.get("every", "1d"))
    if "at" not in schedule:
        return came + ((now - came) // seconds + 1) * seconds
    day = datetime.fromtimestamp(came).date()
    if _at(schedule["at"], day) > came:  # it came as the clock jumped over it, into the next day
        day -= timedelta(days=1)
    while (moment := _at(schedule["at"], day := day + timedelta(seconds=seconds))) <= now:
        pass
    return moment


def after_set(schedule: dict[str, str], at: float, now: float, jumped: float) -> float:
    """When a schedule that was to come at `at` comes once the clock was set, by `jumped` seconds, to `now`.

    A clock that was corrected forwards in passing has jumped over `at`: that stays, and has come. One that was corrected
    backwards repeats nothing but what cron repeats within the hour or hourly, which goes on. After anything larger, what
    recurs begins anew.
    """
    if jumped >= CORRECTION_SECONDS and "once" not in schedule:
        return first(schedule, now)
    if jumped <= -CORRECTION_SECONDS or (jumped < 0 and _goes_on(schedule)):
        return min(at, first(schedule, now))
    return at


def in_words(schedule: dict[str, str]) -> str:
    """The schedule as a person reads it."""
    return " ".join(f"{name} {value}" for name, value in schedule.items())


def _goes_on(schedule: dict[str, str]) -> bool:
    return any(field.startswith("*") for field in _fields(schedule.get("cron", "0 0")).split()[:2])


def _fields(cron: str) -> str:
    return values.CRON_NICKNAMES.get(cron, cron)


def _cron(text: str, after: float) -> float:
    times = CronSim(_fields(text), datetime.fromtimestamp(after, _LOCAL))
    # Within an hour that comes again, what it finds may have been in the first.
    return next(at for moment in times if (at := moment.timestamp()) > after)


def _clock(time: str, after: float) -> float:
    """The next local HH:MM after an instant."""
    day = datetime.fromtimestamp(after).date()
    while (moment := _at(time, day)) <= after:
        day += timedelta(days=1)
    return moment


def _at(time: str, day: date) -> float:
    """That time of that day, the first where it comes twice; when the clock jumps over it, where it does not come."""
    hour, minute = map(int, time.split(":"))
    wanted = datetime(day.year, day.month, day.day, hour, minute)
    found = wanted.timestamp()
    if datetime.fromtimestamp(found) == wanted:
        return found
    before, after = int(wanted.replace(fold=1).timestamp()), int(found)  # by the offsets of after and before the jump
    offset = _offset(after)
    while after - before > 1:
        middle = (before + after) // 2
        before, after = (before, middle) if _offset(middle) == offset else (middle, after)
    return float(after)


def _offset(moment: int) -> int:
    return localtime(moment).tm_gmtoff
