"""Sizes, durations, times, schedules and numbers that a request's words can mean, in the plan language's own forms.

The model never calculates: code reads every plausible value off the words, English and Chinese alike, and the model
chooses among these candidates. Recall comes first, so a bare "at 6" yields both 06:00 and 18:00.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from llmos.nlui import quantities_en, quantities_zh
from llmos.nlui.calendar_words import Reading
from llmos.plan import values

MAX_CANDIDATES = 120
"""Per kind; a request that says more than this is not a sentence."""

MAX_READ_CHARS = 4000
"""How much of a request is read for quantities."""

_DIGIT = re.compile(r"\d")
"""Digits of any script, such as the full-width ones of Chinese text."""
_CRON_FIELD = r"(?:[\d*][\d*/,-]*|(?:[a-z]{3})(?:[-,][a-z]{3})*)"
_CRON = re.compile(
    rf"(?<![\w*/])[\d*][\d*/,-]*(?: +{_CRON_FIELD}){{4}}(?![\w*/,-])|@(?:hourly|daily|weekly|monthly)\b", re.IGNORECASE
)
_FREE = re.compile(
    r"\b(?:free|left|available|remain\w*|spare|empty|headroom|idle|last|down to)\b|剩|空|可用|余", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Candidates:
    """What the words can mean, canonical, without repeats, English readings first, then Chinese, each in text order."""

    sizes: tuple[str, ...] = ()
    durations: tuple[str, ...] = ()
    times: tuple[str, ...] = ()
    crons: tuple[str, ...] = ()
    numbers: tuple[str, ...] = ()


def candidates(request: str) -> Candidates:
    """Every plausible value in a request; pure, and without any model."""
    text = _DIGIT.sub(lambda digit: str(int(digit.group())), request[:MAX_READ_CHARS])
    readings = [quantities_en.read(text), quantities_zh.read(text)]
    crons = [*_spelled_crons(text), *(cron for reading in readings for cron in reading.crons)]
    numbers = [number for reading in readings for number in reading.numbers]
    if _FREE.search(text):
        numbers += [_minus_from_hundred(number) for number in numbers if 0 < float(number) < 100]
    return Candidates(
        sizes=_distinct(_with_bare([size for reading in readings for size in reading.sizes], numbers)),
        durations=_distinct(_with_bare([span for reading in readings for span in reading.durations], numbers)),
        times=_distinct(time for reading in readings for time in reading.times),
        crons=_distinct(crons),
        numbers=_distinct(numbers),
    )


def _with_bare(measures: list[str], numbers: list[str]) -> list[str]:
    """The measures, and bare whole numbers in the units of the measures: "4G … make that 6" means 6G."""
    units = dict.fromkeys(measure[-1] for measure in measures)
    bare = [number for number in dict.fromkeys(numbers) if number.isdigit() and 0 < int(number) < 10_000]
    return measures + [number + unit for unit in units for number in bare[:8]]


def _distinct(found: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(found))[:MAX_CANDIDATES]


def _minus_from_hundred(number: str) -> str:
    return Reading.plain(100 - float(number))


def _spelled_crons(text: str) -> Iterator[str]:
    """Schedules that stand in the request as such."""
    for match in _CRON.finditer(text):
        try:
            yield values.cron(match.group())
        except ValueError:
            continue
