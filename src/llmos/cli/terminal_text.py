"""Text that is safe and readable on a terminal: foreign characters made harmless, sizes and times made human.

Names, command lines and log lines come from anywhere. A control character among them could move the cursor, forge a
line or set the terminal's state, and a bidirectional override could make a command read as another; both are written
out as escapes instead.
"""

import time
import unicodedata

_HARMFUL = {"Cc", "Cf", "Cs", "Zl", "Zp"}  # control, format (bidi, zero width), lone surrogates, line separators
_JOINERS = {"\u200c", "\u200d"}  # part of how some scripts and emoji are written


def plain(text: str) -> str:
    """One line, with nothing in it that a terminal acts upon."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(_harmless(char) for char in text)


def size(count: float) -> str:
    """Bytes as `512`, `1.5K`, `20M`, 1024-based."""
    for unit in ("", "K", "M", "G", "T"):
        if abs(count) < 1024 or unit == "T":
            break
        count /= 1024
    return f"{count:.1f}{unit}" if unit and abs(count) < 10 else f"{count:.0f}{unit}"


def duration(seconds: float) -> str:
    """Seconds as `0.2s`, `45s`, `3m 20s`, `2h 5m`, `4d 3h`."""
    if abs(seconds) < 10:
        return f"{seconds:.1f}s" if seconds % 1 else f"{seconds:.0f}s"
    whole = round(seconds)
    for unit, length, below, smaller in (("d", 86400, "h", 3600), ("h", 3600, "m", 60), ("m", 60, "s", 1)):
        if abs(whole) >= length:
            rest = whole % length // smaller
            return f"{whole // length}{unit} {rest}{below}" if rest else f"{whole // length}{unit}"
    return f"{whole}s"


def moment(epoch_seconds: float) -> str:
    """Local time, with the date unless it is today; the bare number where the calendar does not reach."""
    try:
        then = time.localtime(epoch_seconds)
    except (OverflowError, ValueError, OSError):
        return f"{epoch_seconds:g}"
    today = time.localtime()[:3] == then[:3]
    return time.strftime("%H:%M:%S" if today else "%Y-%m-%d %H:%M:%S", then)


def _harmless(char: str) -> str:
    if unicodedata.category(char) not in _HARMFUL or char in _JOINERS:
        return char
    return char.encode("unicode_escape", "surrogatepass").decode("ascii")
