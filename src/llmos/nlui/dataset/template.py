"""Phrase grammars: alternations such as `(please |)(kill|end) {target}` under the plan that they all mean.

A grammar is text. A line at the margin is a plan (lines joined by ` ¦ `, `=>` before what stands in `then`); the indented
lines below it are its phrasings. `(a|b|)` picks one, `{kind}` or `{kind:form}` is a slot of `draws`, `{kind#2}` a second
slot of the kind. A plan line that begins with `!` has phrasings that are commands: they may also stand inside other
sentences ("when X, …").
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from random import Random

from llmos.nlui.dataset.pair import Line, Skeleton, Slot, mark, stable_unit

HELD_OUT_SHARE = 0.06
"""Of the phrasings, kept for measuring."""

_SLOT = re.compile(r"\{(\w+)(?::([^}#]+))?(#\d)?\}")
_CHOICE = re.compile(r"\(([^()]*)\)")


@dataclass(frozen=True, slots=True)
class Phrasing:
    """One phrasing and the plan it means; `held_out` when it is for measuring."""

    request: str
    plan: str
    command: bool
    lang: str
    held_out: bool

    @property
    def verb(self) -> str:
        """The verb that the plan is there for: that of its last line."""
        return self.plan.split(" ¦ ")[-1].split(" ", 1)[0]


@cache
def read_grammar(text: str, lang: str) -> tuple[Phrasing, ...]:
    """The phrasings of a grammar, in order."""
    return tuple(_phrasings(text, lang))


def _phrasings(text: str, lang: str) -> Iterator[Phrasing]:
    plan, command = "", False
    for line in text.splitlines():
        if not line.strip():
            continue
        if line[0] != " ":
            plan, command = line.removeprefix("!").strip(), line.startswith("!")
            continue
        request = line.strip()
        yield Phrasing(request, plan, command, lang, stable_unit(request) < HELD_OUT_SHARE)


def expanded(text: str, rng: Random) -> str:
    """The text with one choice made of each alternation."""
    while found := _CHOICE.search(text):
        text = text[: found.start()] + rng.choice(found[1].split("|")) + text[found.end() :]
    return re.sub(r" {2,}", " ", text).strip()


def skeleton(phrasing: Phrasing, rng: Random) -> Skeleton:
    """One expansion of a phrasing; slots of the same kind and number are one."""
    return built(expanded(phrasing.request, rng), phrasing.plan, phrasing.lang, f"grammar_{phrasing.lang}")


def built(request: str, plan: str, lang: str, source: str) -> Skeleton:
    """A skeleton from a request and a plan with slots in braces."""
    slots: list[Slot] = []
    marks: dict[tuple[str, str], str] = {}

    def put(match: re.Match[str]) -> str:
        kind, form, which = match[1], match[2] or "", match[3] or ""
        if (kind, which) not in marks:
            marks[kind, which] = mark(len(slots))
            slots.append(Slot(kind, form))
        return marks[kind, which]

    request = _SLOT.sub(put, request)
    lines: list[Line] = []
    for line in plan.split(" ¦ "):
        text, _, then = _SLOT.sub(put, line).partition(" => ")
        lines.append((text, then))
    return Skeleton(request, tuple(lines), tuple(slots), lang, source)
