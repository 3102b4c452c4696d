"""What the data are made of: skeletons with slots, and the pairs of request and plan that filling them gives.

A skeleton is a request and a plan in which what may change (names, numbers, paths, commands) is a mark, one private-use
character a slot, the same in both. Authored pairs are taken apart into skeletons and phrase grammars expand into them,
so that every later step (other values, compounds, corrections, register, typos) is written once, for skeletons.
"""

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from llmos.plan.language import parse_plan, print_plan, quote_value

FIRST_MARK = 0xE000
MARKS = "\ue000-\uf8ff"
_MARK = re.compile(f"[{MARKS}]")
_REFERENCE = re.compile(r"\$([1-9])(?![\w$])")
_WORD = re.compile(r"[A-Za-z]+")
_IGNORED = re.compile(r"[\W_]+")

Line = tuple[str, str]
"""A line of a plan up to `then`, and the line inside `then` or nothing; marks stand for printed values."""


@dataclass(frozen=True, slots=True)
class Slot:
    """What fills a mark: a kind of `draws`, the form that the words around it ask for, and what stood there first."""

    kind: str
    form: str = ""
    phrase: str = ""
    value: str = ""


@dataclass(frozen=True, slots=True)
class Skeleton:
    """A request and its plan with marks for what may change."""

    request: str
    plan: tuple[Line, ...]
    slots: tuple[Slot, ...]
    lang: str
    source: str

    @property
    def verbs(self) -> tuple[str, ...]:
        """The verbs of the lines, without those inside `then`."""
        return tuple(text.split(" ", 1)[0] for text, _ in self.plan)

    @property
    def copied(self) -> frozenset[str]:
        """The words that the plan's values have, those in slots aside: in the request they must stay as they are."""
        if self.verbs[0] in ("ask", "refuse"):
            return frozenset()
        arguments = [line.partition(" ")[2] for lines in self.plan for line in lines]
        values = [word.partition("=")[2] or word for text in arguments for word in text.split()]
        return frozenset(word for value in values for word in _WORD.findall(value))

    def shifted(self, slots: int, lines: int) -> "Skeleton":
        """The same with marks moved up by so many slots and references by so many lines, to stand after others."""

        def mark(text: str) -> str:
            return _MARK.sub(lambda match: chr(ord(match.group()) + slots), text)

        def moved(text: str) -> str:
            head, dashes, argv = mark(text).partition(" -- ")
            return _REFERENCE.sub(lambda match: f"${int(match[1]) + lines}", head) + dashes + argv

        plan = tuple((moved(text), moved(then)) for text, then in self.plan)
        return replace(self, request=mark(self.request), plan=plan)


@dataclass(frozen=True, slots=True)
class Pair:
    """A request and the lines of its canonical plan; `source` names the author file or the grammar it comes from."""

    request: str
    plan: tuple[str, ...]
    lang: str
    source: str

    @property
    def verbs(self) -> list[str]:
        """The verbs of the plan, line by line."""
        return [line.split(" ", 1)[0] for line in self.plan]

    def as_json(self) -> dict[str, Any]:
        """The form in the data file."""
        row = {"request": self.request, "plan": list(self.plan), "lang": self.lang}
        return {**row, "source": self.source, "verbs": self.verbs}


def mark(slot: int) -> str:
    """The character that stands for a slot."""
    return chr(FIRST_MARK + slot)


def marks_of(text: str) -> list[int]:
    """The slots whose marks stand in a text, in order, repeats kept."""
    return [ord(found) - FIRST_MARK for found in _MARK.findall(text)]


def filled(skeleton: Skeleton, fillings: Sequence[tuple[str, str]]) -> Pair:
    """The pair with a (phrase, printed value) for each slot; raises `BadInput` when that is no plan."""

    def value(text: str) -> str:
        return _MARK.sub(lambda match: fillings[ord(match.group()) - FIRST_MARK][1], text)

    request = _MARK.sub(lambda match: fillings[ord(match.group()) - FIRST_MARK][0], skeleton.request)
    lines = [value(text) + (f" then={quote_value(value(then))}" if then else "") for text, then in skeleton.plan]
    return Pair(request, tuple(print_plan(parse_plan(lines))), skeleton.lang, skeleton.source)


def normalised(request: str) -> str:
    """A request with case, spaces and punctuation set aside, as overlap between data sets is judged."""
    return _IGNORED.sub("", request.casefold())


def fingerprint(request: str) -> str:
    """SHA-256 of a normalised request, in hexadecimal."""
    return hashlib.sha256(normalised(request).encode()).hexdigest()


def stable_unit(text: str) -> float:
    """A number in [0, 1) that depends on the text alone: which group it belongs to."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big") / 2**48


def without_repeats(pairs: Iterator[Pair]) -> Iterator[Pair]:
    """The pairs whose normalised request has not come before."""
    seen: set[str] = set()
    for pair in pairs:
        if (key := normalised(pair.request)) not in seen:
            seen.add(key)
            yield pair
