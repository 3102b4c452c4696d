"""What both languages share in reading quantities: canonical forms, clock arithmetic, and schedules built from parts.

A language finds the parts (hours, days of the week, days of the month); `Schedule.crons` combines them.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import product

SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
KIBIBYTES = {"K": 1, "M": 1024, "G": 1024**2, "T": 1024**3}
MIDNIGHT = (0, 0)
_MAX_TIMES = 8
_MAX_DAYS = 6

Clock = tuple[int, int]
"""Hour and minute."""


@dataclass(slots=True)
class Reading:
    """Canonical values that one language found in a request, in text order, repeats and all."""

    sizes: list[str] = field(default_factory=list)
    durations: list[str] = field(default_factory=list)
    times: list[str] = field(default_factory=list)
    crons: list[str] = field(default_factory=list)
    numbers: list[str] = field(default_factory=list)

    @staticmethod
    def plain(number: float | Fraction) -> str:
        """A number as the plan language prints it, with six decimals at most."""
        return f"{float(number):.6f}".rstrip("0").rstrip(".")

    def add_duration(self, amount: Fraction, unit: str) -> None:
        """Add `amount` of a unit of `SECONDS`, in the largest unit not above it that needs no fraction."""
        if text := _whole(amount, unit, SECONDS):
            self.durations.append(text)

    def add_compound(self, amount: Fraction, unit: str, more: Fraction, smaller: str) -> None:
        """Add "2 hours and 15 minutes" as one duration; nothing when the second unit is not the smaller one."""
        if SECONDS[smaller] < SECONDS[unit]:
            self.add_duration(amount * SECONDS[unit] / SECONDS[smaller] + more, smaller)

    def add_size(self, amount: Fraction, unit: str) -> None:
        """Add `amount` of a unit of `KIBIBYTES`, in the largest unit not above it that needs no fraction."""
        if text := _whole(amount, unit, KIBIBYTES):
            self.sizes.append(text)

    def add_times(self, clocks: Iterable[Clock]) -> None:
        """Add times of day."""
        self.times += [f"{hour:02d}:{minute:02d}" for hour, minute in clocks]


def _whole(amount: Fraction, unit: str, scale: dict[str, int]) -> str:
    """`1.5, "h"` to `90m`; empty when nothing whole is left."""
    base = amount * scale[unit]
    for smaller in sorted((name for name in scale if scale[name] <= scale[unit]), key=scale.__getitem__, reverse=True):
        if base % scale[smaller] == 0:
            return f"{int(base // scale[smaller])}{smaller}" if 0 < base // scale[smaller] < 10**9 else ""
    return f"{round(base)}{min(scale, key=scale.__getitem__)}" if 1 <= base < 10**9 else ""


@dataclass(slots=True)
class Schedule:
    """The parts of a repeated moment that a request names; each list holds alternatives, not one set."""

    clocks: list[tuple[Clock, ...]] = field(default_factory=list)
    """One entry a mention: the clock times it can mean (06:00 or 18:00)."""
    minutes: list[int] = field(default_factory=list)
    """Minutes of every hour."""
    steps: list[str] = field(default_factory=list)
    """Minute and hour fields that repeat within a day, such as `*/10 *`."""
    hour_ranges: list[str] = field(default_factory=list)
    """Hour fields, such as `8-15`."""
    weekdays: list[str] = field(default_factory=list)
    """Day-of-week fields."""
    month_days: list[str] = field(default_factory=list)
    """Day-of-month fields."""
    months: list[str] = field(default_factory=list)
    """Month fields."""

    def crons(self) -> Iterator[str]:
        """Every combination that says more than a plain daily time or interval does."""
        dates = product(self.month_days[:_MAX_DAYS], [*self.months[:4], "*"])
        dated = [f"{day} {month} *" for day, month in dates if _comes(day, month)]
        dated += [f"{day} {month} *" for month in self.months[:4] for day in ("1", "*")]
        dated += [f"* * {days}" for days in self.weekdays[:_MAX_DAYS]]
        dated += [f"* {month} {days}" for month in self.months[:3] for days in self.weekdays[:3]]
        singles = [f"{minute} {hour}" for hour, minute in self._singles()]
        joint = list(self._joint())
        within = [*self.steps[:4], *(f"{minutes} *" for minutes in self._minute_fields())]
        for hours in self.hour_ranges[:4]:
            within += [f"0 {hours}", *(f"{step.split()[0]} {hours}" for step in self.steps[:2])]
            within += [f"{minutes} {hours}" for minutes in self._minute_fields()]
        for moment, day in product([*singles, *joint, *within, "0 0"], dated):
            yield f"{moment} {day}"
        for moment in [*joint, *within]:
            yield f"{moment} * * *"

    def _singles(self) -> list[Clock]:
        return list(dict.fromkeys(clock for mention in self.clocks for clock in mention))[: 2 * _MAX_TIMES]

    def _joint(self) -> Iterator[str]:
        """Several clock times in one schedule, which cron can only say when they share their minute."""
        mentions = list(dict.fromkeys(self.clocks))[:_MAX_TIMES]
        for start, stop in _runs(len(mentions)):
            for choice in _consistent(mentions[start:stop]):
                if len({minute for _, minute in choice}) == 1 and len({hour for hour, _ in choice}) > 1:
                    hours = ",".join(map(str, sorted({hour for hour, _ in choice})))
                    yield f"{choice[0][1]} {hours}"

    def _minute_fields(self) -> list[str]:
        distinct = sorted(set(self.minutes))[:6]
        sets = [tuple(distinct), tuple(minute for minute in distinct if minute), *((minute,) for minute in distinct)]
        return list(dict.fromkeys(",".join(map(str, minutes)) for minutes in sets if minutes))


def _comes(days: str, months: str) -> bool:
    """Whether one of these days stands in one of these months; ranges of months always hold a long one."""
    if not months.replace(",", "").isdigit():
        return True
    longest = max(29 if month == 2 else 30 if month in {4, 6, 9, 11} else 31 for month in map(int, months.split(",")))
    return min(map(int, days.split(","))) <= longest


def _runs(count: int) -> Iterator[tuple[int, int]]:
    """Every run of two or more neighbours, the longest first."""
    for length in range(count, 1, -1):
        for start in range(count - length + 1):
            yield start, start + length


def _consistent(mentions: Sequence[tuple[Clock, ...]]) -> Iterator[tuple[Clock, ...]]:
    """First readings together, last readings together, and for two or three mentions every mixture."""
    if len(mentions) <= 3:
        yield from product(*mentions)
    else:
        yield tuple(mention[0] for mention in mentions)
        yield tuple(mention[-1] for mention in mentions)


def day_fields(days: Sequence[int]) -> list[str]:
    """Cron fields for days named one by one: all together, and each alone when there are several."""
    distinct = sorted(set(days))
    return [",".join(map(str, distinct))] * bool(distinct) + [*(map(str, distinct) if len(distinct) > 1 else ())]


def day_range(first: int, last: int) -> str:
    """The cron field for a range of weekdays; one that runs over Sunday is written out."""
    if first < last:
        return f"{first}-{last}"
    return ",".join(map(str, sorted({*range(first, 7), *range(last + 1)})))


def either_half(hour: int, minute: int) -> tuple[Clock, ...]:
    """A clock time said without morning or evening: both, the literal one first; nothing when it is no time."""
    if not (0 <= hour <= 24 and 0 <= minute < 60):
        return ()
    hour %= 24
    return ((hour, minute), ((hour + 12) % 24, minute)) if hour <= 12 else ((hour, minute),)


def before(clocks: Iterable[Clock], minutes: int) -> tuple[Clock, ...]:
    """The clock times so many minutes earlier."""
    totals = [(hour * 60 + minute - minutes) % 1440 for hour, minute in clocks]
    return tuple((total // 60, total % 60) for total in totals)
