"""The value forms of the plan language: what each looks like, and what it means in base units.

Values stay text, as they were written and brought to one form, so that a plan prints as it was read; the functions at
the end turn them into bytes, seconds and cores. Units, `none` and cron's nicknames may be in either case and are
brought to the one that the table shows; `%`, `B` and `iB` at the end of a number or a size are dropped. Everything else
is taken as it stands.
"""

import re
from collections.abc import Callable
from datetime import UTC, datetime

from cronsim import CronSim, CronSimError

SIZE_UNITS = {"K": 1024, "M": 1024**2, "G": 1024**3, "T": 1024**4}
DURATION_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
CRON_NICKNAMES = {"@hourly": "0 * * * *", "@daily": "0 0 * * *", "@weekly": "0 0 * * 0", "@monthly": "0 0 1 * *"}
LIFT = "none"

REFERENCE = re.compile(r"\$([1-9][0-9]{0,3})")
_SIZE = re.compile(r"([0-9]{1,12})([KMGT])(?:I?B)?")
_DURATION = re.compile(r"([0-9]{1,9})([smhd])")
_TIME = re.compile(r"([0-9]{1,2}):([0-9]{2})")
_NUMBER = re.compile(r"([0-9]{1,12})(\.[0-9]{1,6})?")


def shown(value: str) -> str:
    """A value as a message quotes it: at most 80 characters of it."""
    return repr(value if len(value) <= 80 else f"{value[:79]}…")


def text(value: str) -> str:
    """Any text that a file name or an argument can hold: no NUL byte, nothing that UTF-8 cannot write."""
    if "\0" in value:
        raise ValueError("holds a NUL byte, which no path, name or argument may")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError("holds a lone surrogate, which UTF-8 cannot write") from None
    return value


def filled(value: str) -> str:
    """Text that is not empty."""
    if not value.strip():
        raise ValueError("is empty")
    return text(value)


def name(value: str) -> str:
    """A name a job can have: 1 to 128 characters that print, not a number (that is a PID), no reference, no slash."""
    filled(value)
    if len(value) > 128 or not value.isprintable():
        raise ValueError("a name has at most 128 characters, and only such as print")
    if value.isascii() and value.isdigit():
        raise ValueError(f"{value} is a number, and numbers are process ids; put a letter in the name")
    if value.startswith("$"):
        raise ValueError(f"{shown(value)} begins with $, which marks a reference to a line above")
    if "/" in value:
        raise ValueError(f"{shown(value)} holds a slash")
    return value


def target(value: str) -> str:
    """PID, NAME or $N."""
    filled(value)
    if value.startswith("$") and not REFERENCE.fullmatch(value):
        raise ValueError(f"{value} is no reference; write $1 for what line 1 returned")
    return value


def path(value: str) -> str:
    """A file, folder or device."""
    return filled(value)


def size(value: str) -> str:
    """SIZE: whole digits and K, M, G or T, 1024-based."""
    match = _SIZE.fullmatch(value.upper())
    if not match:
        raise ValueError(f"{shown(value)} is no size; write digits and K, M, G or T, such as 512M or 2G")
    return f"{int(match[1])}{match[2]}"


def duration(value: str) -> str:
    """DUR: whole digits and s, m, h or d."""
    match = _DURATION.fullmatch(value.lower())
    if not match:
        raise ValueError(f"{shown(value)} is no duration; write digits and s, m, h or d, such as 30s or 2h")
    return f"{int(match[1])}{match[2]}"


def time(value: str) -> str:
    """TIME: HH:MM on a 24-hour clock."""
    match = _TIME.fullmatch(value)
    if not match or int(match[1]) > 23 or int(match[2]) > 59:
        raise ValueError(f"{shown(value)} is no time of day; write HH:MM on a 24-hour clock, such as 02:00")
    return f"{int(match[1]):02d}:{match[2]}"


def moment(value: str) -> str:
    """TIME or DUR."""
    return time(value) if ":" in value else duration(value)


def cron(value: str) -> str:
    """CRON: five fields, or @hourly, @daily, @weekly, @monthly."""
    words = " ".join(value.split())
    if words.startswith("@"):
        words = words.lower()
    fields = CRON_NICKNAMES.get(words, words)
    try:
        if len(fields) > 1000 or fields.count(" ") != 4:
            raise CronSimError("Wrong number of fields")
        comes = next(CronSim(fields, datetime.now(UTC)), None)
    except (CronSimError, ValueError, AssertionError) as error:  # the last two from digits and steps it does not expect
        why = f" ({error})" if isinstance(error, CronSimError) else ""
        raise ValueError(f"{shown(value)} is no cron schedule{why}; write five fields, such as 0 9 * * 1") from None
    if comes is None:
        raise ValueError(f"{shown(value)} never comes; write a day that exists, such as 0 9 1 * *")
    return words


def number(value: str) -> str:
    """NUM: digits with at most one point; a percent sign is dropped."""
    match = _NUMBER.fullmatch(value.removesuffix("%"))
    if not match:
        raise ValueError(f"{shown(value)} is no number; write digits, such as 2 or 0.5")
    return f"{int(match[1])}{(match[2] or '').rstrip('0').rstrip('.')}"


def threshold(value: str) -> str:
    """NUM or SIZE."""
    return size(value) if value[-1:].upper() in {*SIZE_UNITS, "B"} else number(value)


def above_zero(form: Callable[[str], str]) -> Callable[[str], str]:
    """The form, zero excepted: what nothing can run within."""

    def check(value: str) -> str:
        if not (checked := form(value)).strip("0.KMGT"):
            raise ValueError(f"{shown(value)} leaves nothing to run with; write more than zero")
        return checked

    return check


def liftable(form: Callable[[str], str]) -> Callable[[str], str]:
    """The form, or `none`, which lifts a limit."""

    def check(value: str) -> str:
        return LIFT if value.lower() == LIFT else form(value)

    return check


def bytes_of(value: str) -> int:
    """SIZE in bytes."""
    return int(value[:-1]) * SIZE_UNITS[value[-1]]


def seconds_of(value: str) -> int:
    """DUR in seconds."""
    return int(value[:-1]) * DURATION_UNITS[value[-1]]


def reference(value: object) -> int | None:
    """The N of `$N`, or None when the value is something else."""
    match = REFERENCE.fullmatch(value) if isinstance(value, str) else None
    return int(match[1]) if match else None
