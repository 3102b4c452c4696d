"""Values that a person has taught: those of a wanted plan which nothing in the request says.

A plan may name only what its request says or what is known on the machine; what was taught is offered besides, to
requests that say the phrase which stands for it.
"""

from collections.abc import Iterator, Mapping, Sequence

from llmos.nlui.grammar import reachable
from llmos.nlui.learning.lessons import Lesson
from llmos.plan.language import parse_line, print_line, quote_value
from llmos.syscalls import Kind, Syscall

MAX_TAUGHT = 200
Value = tuple[Kind, str]
"""A value as plans print it, and its kind."""

_PROBES: dict[Kind, tuple[str, ...]] = {
    **dict.fromkeys((Kind.TARGET, Kind.JOB, Kind.WATCH, Kind.NEW_NAME, Kind.NODE), ("show {}",)),
    Kind.PROCESS_NAME: ("ps name={}",),
    Kind.USER: ("ps user={}",),
    Kind.PORT: ("port {}",),
    Kind.PATH: ("usage {}",),
    Kind.COUNT: ("ps limit={}",),
    Kind.SIZE: ("ps", "limit $1 memory={}"),
    Kind.CORES: ("ps", "limit $1 cpu={}"),
    Kind.DURATION: ("ps", "wait $1 timeout={}"),
    Kind.TIME: ("ps", "schedule $1 at={}"),
    Kind.MOMENT: ("ps", "schedule $1 once={}"),
    Kind.CRON: ("ps", "schedule $1 cron={}"),
    Kind.TEXT: ("ps", "logs $1 grep={}"),
    Kind.THRESHOLD: ("watch memory above={}",),
    Kind.ARGV: ("run -- {}",),
}
"""The least plan that holds a value of a kind."""
_NAMES = (Kind.TARGET, Kind.JOB, Kind.WATCH, Kind.PROCESS_NAME)
_OFFERED = {Kind.TARGET: _NAMES, Kind.DURATION: (Kind.DURATION, Kind.MOMENT), Kind.TIME: (Kind.TIME, Kind.MOMENT)}
"""The kinds that values of a kind are offered as."""


def taught_in(lesson: Lesson) -> list[Value]:
    """The values of a lesson's plan that its request does not say; what names something is of the kind TARGET, and what
    is a time of the kind of its form. Numbers of processes are none, for they mean nothing tomorrow."""
    if reachable(lesson.plan, lesson.request):
        return []
    found = [value for line in lesson.plan for value in _values(parse_line(line))]
    unsaid = [
        (kind, value)
        for kind, value in found
        if not (kind in _NAMES and value.isdigit())
        and not reachable([line.format(value) for line in _PROBES[kind]], lesson.request)
    ]
    return list(dict.fromkeys((_family(kind, value), value) for kind, value in unsaid))


def taught_values(
    lessons: Sequence[Lesson], taught: Mapping[Lesson, Sequence[Value]], phrases: Mapping[Lesson, str]
) -> dict[str, dict[str, list[str]]]:
    """At most `MAX_TAUGHT` taught values by the name of their kind, those of the newest lessons; a name is offered
    wherever a name may stand, and a time wherever one of its form may. Each has the phrases that stand for it, by
    lesson in `phrases`; none where a lesson teaches it without one."""
    teachers: dict[Value, list[Lesson]] = {}
    for lesson in reversed(lessons):
        for value in taught[lesson]:
            teachers.setdefault(value, []).append(lesson)
    found: dict[str, dict[str, list[str]]] = {}
    for (kind, printed), those in list(teachers.items())[:MAX_TAUGHT]:
        said = [phrases[lesson] for lesson in those if lesson in phrases]
        for offered in _OFFERED.get(kind, (kind,)):
            found.setdefault(offered.name, {})[printed] = list(dict.fromkeys(said)) if len(said) == len(those) else []
    return found


def _family(kind: Kind, value: str) -> Kind:
    if kind is Kind.MOMENT:
        return Kind.TIME if ":" in value else Kind.DURATION
    return Kind.TARGET if kind in _NAMES else kind


def _values(call: Syscall) -> Iterator[Value]:
    """The printed values of a call that a request would have to say, those inside `then` included."""
    for argument in call.given():
        value = call.value(argument)
        if argument.kind is Kind.LINE:
            yield from _values(parse_line(value))
        elif argument.kind is Kind.ARGV:
            yield Kind.ARGV, print_line(call).partition(" -- ")[2]
        elif (
            argument.kind in _PROBES and not str(value).startswith("$") and not (argument.liftable and value == "none")
        ):
            yield argument.kind, quote_value(str(value))
