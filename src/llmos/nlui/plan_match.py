"""Whether a plan is one of the accepted plans: exact, up to what makes no difference.

Defaults may be left out or written, 60s is 1m and 1024M is 1G, keys may stand in any order. Reads may stand anywhere
above the lines that name them, references renumbered; lines that act keep their order. In an accepted line `*` as a
value stands for anything, absent included: `ps sort=memory limit=*`, `ask *`.
"""

import itertools
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from llmos.errors import BadInput
from llmos.plan import values
from llmos.plan.language import parse_plan, print_plan
from llmos.plan.risk import Risk
from llmos.syscalls import SYSCALLS
from llmos.syscalls.registry import Argument, Kind

ANYTHING = "*"
_REFERENCE = re.compile(r"\$\d+")


@dataclass(frozen=True, slots=True)
class _Line:
    """A line taken apart: its arguments by name, in base units, defaults left out."""

    verb: str
    arguments: Mapping[str, str]
    argv: tuple[str, ...]

    @property
    def movable(self) -> bool:
        """Whether it may change places with lines that don't name it; `wait` reads, but its place has a meaning."""
        return SYSCALLS[self.verb].risk is Risk.READ and self.verb != "wait"


def plan_matches(plan: str | Sequence[str], accepted: Sequence[Sequence[str]]) -> bool:
    """Whether a plan, as text or lines, equals one of the accepted ones; what is no plan equals none."""
    try:
        lines = [_take_apart(line) for line in print_plan(parse_plan(plan))]
    except BadInput:
        return False
    return any(_same_plan([_take_apart(line) for line in want], lines) for want in accepted)


def _take_apart(text: str) -> _Line:
    verb, *words = shlex.split(text)
    arguments = SYSCALLS[verb].arguments
    argv: tuple[str, ...] = ()
    if "--" in words and any(argument.kind is Kind.ARGV for argument in arguments.values()):
        cut = words.index("--")
        words, argv = words[:cut], tuple(words[cut + 1 :])
    places = [name for name, argument in arguments.items() if argument.positional]
    found = {}
    for word in words:
        name, mark, value = word.partition("=")
        if not mark or name not in arguments:
            name, value = places.pop(0), word
        if value != str(arguments[name].default):
            found[name] = _in_base_units(arguments[name], value)
    return _Line(verb, found, argv)


def _in_base_units(argument: Argument, value: str) -> str:
    """Seconds or bytes for what is a duration or size, so that 60s is 1m and 1024M is 1G."""
    try:
        if argument.kind in (Kind.DURATION, Kind.MOMENT):
            return f"{values.seconds_of(values.duration(value))} s"
        if argument.kind in (Kind.SIZE, Kind.THRESHOLD):
            return f"{values.bytes_of(values.size(value))} B"
    except ValueError:
        pass  # A time of day, a percentage, or `*`.
    return value


def _same_plan(want: Sequence[_Line], got: Sequence[_Line]) -> bool:
    if len(want) != len(got):
        return False
    acting = [index for index, line in enumerate(got) if not line.movable]
    for order in itertools.permutations(range(len(got))):
        if [index for index in order if index in acting] != acting:
            continue
        moved = {f"${old + 1}": f"${new + 1}" for new, old in enumerate(order)}
        if all(_same_line(want[new], got[old], moved) for new, old in enumerate(order)):
            return True
    return False


def _same_line(want: _Line, got: _Line, moved: Mapping[str, str]) -> bool:
    return (want.verb, want.argv) == (got.verb, got.argv) and all(
        _same_value(name, want.arguments.get(name), got.arguments.get(name), moved)
        for name in want.arguments.keys() | got.arguments.keys()
    )


def _same_value(name: str, want: str | None, got: str | None, moved: Mapping[str, str]) -> bool:
    if want == ANYTHING:
        return True
    if want is None or got is None:
        return False
    if name == "then":
        return _same_line(_take_apart(want), _take_apart(got), moved)
    return want.lower() == (moved.get(got, got) if _REFERENCE.fullmatch(got) else got).lower()
