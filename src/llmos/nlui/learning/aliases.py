"""Finds the phrases of a person's own that stand for values: in "start the usual", meant as `start nightly-etl`, it is
"the usual".

It is the stretch of the request in whose place a value makes it the likeliest request. What is likely a model of three
words tells, of the generator's requests with their values taken out. Each word of a phrase has its price, and a phrase
must pay in all lessons with the value together (a minimum description length, https://doi.org/10.1016/0005-1098(78)90005-5).
"""

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from llmos.nlui.dataset.authored import take_apart
from llmos.nlui.dataset.pair import MARKS, Pair
from llmos.nlui.learning.lessons import Lesson
from llmos.nlui.learning.taught import Value
from llmos.syscalls import Kind

Phrase = tuple[str, ...]
"""Words, single Chinese characters and punctuation marks, in small letters."""
MAX_PIECES = 12
_PIECE = re.compile(rf"[\u4e00-\u9fff{MARKS}]|[A-Za-z0-9_]+(?:[.'’_/-][A-Za-z0-9_]+)*|[^\s\w]")
_WORD = re.compile(r"[\w'’./-]+")
DETERMINER = "(?:the|a|an|my|our|your|that|this|its|his|her)"
_DETERMINED = re.compile(rf"^{DETERMINER} (?=.)", re.IGNORECASE)
_VALUE = MARKS[0]
_CONTEXT = 2
_SMOOTHING = 2.0
_PRICE = 5.0
"""What a word of a phrase costs, in nats: a known word costs less where it stands in a request, an unknown one more."""


@dataclass(frozen=True, slots=True)
class Alias:
    """A phrase and the printed value that it stands for."""

    phrase: str
    value: str
    kind: Kind

    @property
    def core(self) -> str:
        """The phrase without the word before it that says which: "usual" of "the usual"."""
        return _DETERMINED.sub("", self.phrase)


class RequestModel:
    """How likely requests are, a value being a word like any other: an interpolated model of three words."""

    def __init__(self, pairs: Iterable[Pair]) -> None:
        self._seen: Counter[Phrase] = Counter()
        self._contexts: Counter[Phrase] = Counter()
        for pair in pairs:
            padded = _padded(_pieces(pair))
            for at in range(_CONTEXT, len(padded)):
                for length in range(_CONTEXT + 1):
                    context = padded[at - length : at]
                    self._contexts[context] += 1
                    self._seen[(*context, padded[at])] += 1
        self._rarest = 0.2 / max(1, sum(len(phrase) == 1 for phrase in self._seen))

    def gain(self, pieces: Sequence[str], start: int, end: int) -> float:
        """How much likelier a request becomes with a value from `start` to `end`, in nats, less the phrase's price."""
        before, after = _padded(pieces), _padded([*pieces[:start], _VALUE, *pieces[end:]])
        first = start + _CONTEXT
        likelier = self._log(after, first, start + 2 * _CONTEXT + 1) - self._log(before, first, end + 2 * _CONTEXT)
        return likelier - _PRICE * (end - start)

    def _log(self, padded: Phrase, start: int, end: int) -> float:
        """The logarithm of the probability of some of the pieces, each after those before it."""
        total = 0.0
        for at in range(start, min(end, len(padded))):
            share = self._rarest
            for length in range(_CONTEXT + 1):
                context = padded[at - length : at]
                share = (self._seen[(*context, padded[at])] + _SMOOTHING * share) / (
                    self._contexts[context] + _SMOOTHING
                )
            total += math.log(share)
        return total


def find_aliases(
    lessons: Sequence[Lesson], taught: Mapping[Lesson, Sequence[Value]], requests: RequestModel
) -> dict[Lesson, Alias]:
    """The alias of each lesson that has one; a lesson with several taught values has none, for its words may stand for
    all of them together. A phrase that stands in lessons without the value does not stand for it."""
    sayers: dict[Phrase, list[Lesson]] = {}
    by_value: dict[Value, list[Lesson]] = {}
    for lesson in lessons:
        for phrase in _gains(lesson, None):
            sayers.setdefault(phrase, []).append(lesson)
        if len(taught[lesson]) == 1:
            by_value.setdefault(taught[lesson][0], []).append(lesson)
    found: dict[Lesson, Alias] = {}
    for (kind, value), those in by_value.items():
        gains: dict[Phrase, dict[Lesson, float]] = {}
        for lesson in those:
            for phrase, gain in _gains(lesson, requests).items():
                if all((kind, value) in taught[sayer] for sayer in sayers.get(phrase, ())):
                    gains.setdefault(phrase, {})[lesson] = gain
        while gains:
            best = max(gains, key=lambda phrase: sum(gains[phrase].values()))
            covered = gains[best]
            found |= dict.fromkeys(covered, Alias(_written(best, next(iter(covered)).request), value, kind))
            gains = {phrase: left for phrase, gain in gains.items() if (left := _without(gain, covered))}
    return found


def _gains(lesson: Lesson, requests: RequestModel | None) -> dict[Phrase, float]:
    """What each phrase of a request gains: of words that hold neither a value of the plan nor punctuation."""
    pieces = _pieces(Pair(lesson.request, lesson.plan, lesson.lang, "feedback"))
    gains: dict[Phrase, float] = {}
    for start, end in _stretches(pieces):
        gain = requests.gain(pieces, start, end) if requests else 0.0
        phrase = tuple(pieces[start:end])
        gains[phrase] = max(gain, gains.get(phrase, -math.inf))
    return gains


def _without(gains: Mapping[Lesson, float], gone: Mapping[Lesson, float]) -> dict[Lesson, float]:
    return {lesson: gain for lesson, gain in gains.items() if lesson not in gone}


def _pieces(pair: Pair) -> list[str]:
    """The pieces of a request, with one mark for each value of its plan."""
    found = _PIECE.findall(take_apart(pair).request)
    return [_VALUE if MARKS[0] <= piece[0] <= MARKS[-1] else piece.lower() for piece in found]


def _padded(pieces: Sequence[str]) -> Phrase:
    return (*[""] * _CONTEXT, *pieces, "")


def _stretches(pieces: Sequence[str]) -> Iterator[tuple[int, int]]:
    for start in range(len(pieces)):
        for end in range(start + 1, min(len(pieces), start + MAX_PIECES) + 1):
            if pieces[end - 1] == _VALUE or not _WORD.fullmatch(pieces[end - 1]):
                break
            yield start, end


def _written(phrase: Phrase, request: str) -> str:
    """The phrase as it stands in the request, with the word before it that says which."""
    found = re.search(rf"(?:\b{DETERMINER} )?" + r"\s*".join(map(re.escape, phrase)), request, re.IGNORECASE)
    return found.group() if found else " ".join(phrase)
