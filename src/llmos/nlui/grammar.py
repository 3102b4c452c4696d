"""The grammar that bounds what the model can write for one request, in llguidance's Lark dialect.

Verbs, keys and choices come from the registry. Free values come from the request's own words and from the names given:
a plan cannot name what nobody mentioned; what the user has taught (`llmos learn`) is offered besides. Sizes, durations,
times, schedules and numbers come from `quantities`, so the model chooses and never calculates; a key that has no
candidate is not in the grammar. `$N` reaches only lines above, through a rule parameter that counts the lines. `ask` and
`refuse`, with bounded free text, are always there.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache

from llguidance import LLMatcher, LLTokenizer

from llmos.nlui.quantities import Candidates, candidates
from llmos.nlui.spans import RequestSpans, encoded, nested, sanitised
from llmos.plan.values import LIFT
from llmos.syscalls import SYSCALLS, Argument, Kind, Risk, Syscall

MAX_LINES = 8
MAX_NAMES = 300
MAX_SENTENCE_CHARS = 160
_BARE_SENTENCE = rf"/[^\s\"'=\\\x00-\x1f\x7f$-][^\s\"'=\\\x00-\x1f\x7f]{{0,{MAX_SENTENCE_CHARS - 1}}}/"
_QUOTED_SENTENCE = rf'/"[^\s"\\\x00-\x1f\x7f][^"\\\x00-\x1f\x7f]{{0,{MAX_SENTENCE_CHARS - 1}}}"/'

_TIMING = ("at", "once", "every", "cron", "after")
_SENTENCES = (_BARE_SENTENCE, _QUOTED_SENTENCE)


Taught = Mapping[str, Sequence[str]]
"""Values that a request need not say, as plans print them, by the name of their kind."""


def build_grammar(request: str, names: Sequence[str] = (), taught: Taught | None = None) -> str:
    """The grammar of all plans that `request` can mean; `names` are known jobs and live process names."""
    known = [sanitised(name).strip() for name in names[:MAX_NAMES]]
    return _Builder(sanitised(request), known, taught or {}).text()


def reachable(plan_lines: Sequence[str], request: str, names: Sequence[str] = ()) -> bool:
    """Whether the request's grammar accepts exactly this text; used to validate pairs of request and plan."""
    matcher = LLMatcher(_byte_tokenizer(), build_grammar(request, names))
    return accepts(matcher, "\n".join(plan_lines))


def accepts(matcher: LLMatcher, text: str) -> bool:
    """Whether a matcher over bytes takes the whole text and may stop there."""
    tokens = list(text.encode())
    return not matcher.is_error() and matcher.try_consume_tokens(tokens) == len(tokens) and matcher.is_accepting()


@cache
def _byte_tokenizer() -> LLTokenizer:
    return LLTokenizer("byte")


class _Builder:
    """Collects terminals and rules for one request.

    Rules exist twice: plain, and as they stand inside the JSON string of `then`. Terminals whose text differs there
    carry the suffix `_THEN`; the others are shared.
    """

    def __init__(self, request: str, names: Sequence[str], taught: Taught) -> None:
        self.found: Candidates = candidates(request)
        self.taught = taught
        self.spans = RequestSpans(request, names)
        self.terminals: dict[str, str] = {}

    def text(self) -> str:
        """The whole grammar."""
        plain, nested = list(self._lines(inside=False)), list(self._lines(inside=True))
        rules = [
            "start: plan::0",
            f'plan::_ : line::_ | line::_ "\\n" plan::incr([0:4]) %if lt([0:4], {MAX_LINES - 1})',
            "line::_ : " + " | ".join(plain),
            "line_then::_ : " + " | ".join(nested),
            "ref::_ : " + " | ".join(f'"${line}" %if ge([0:4], {line})' for line in range(1, MAX_LINES)),
        ]
        terminals = [f"{name}: {body}" for name, body in self.terminals.items() if body]
        return "\n".join([*rules, *terminals]) + "\n"

    def _lines(self, inside: bool) -> Iterator[str]:
        for syscall in SYSCALLS.values():
            if syscall.risk is Risk.TALK:
                if not inside:
                    yield f'"{syscall.verb} " {self._terminal("SENTENCE", lambda: _SENTENCES)}'
            elif (line := self._line(syscall, inside)) is not None:
                yield line

    def _line(self, syscall: type[Syscall], inside: bool) -> str | None:
        """A line of one verb, or None when the request lacks what it needs.

        What goes together is what the syscalls themselves check: one timing, some limit, a watch's metric and its keys.
        """
        parts = {name: self._part(argument, inside) for name, argument in syscall.arguments.items()}
        verb = encoded(syscall.verb)
        match syscall.verb:
            case "watch":
                return _any(*(_sequence(verb, form) for form in self._watch_forms(syscall, parts)))
            case "limit":
                return _sequence(verb, parts.pop("target"), _at_least_one(list(parts.values())))
            case "schedule":
                return _sequence(verb, parts.pop("job"), self._timing(parts))
            case "run":
                parts["at"] = self._timing(parts)
                parts = {name: part for name, part in parts.items() if name == "at" or name not in _TIMING}
        required = {name for name, argument in syscall.arguments.items() if argument.required}
        return _sequence(verb, *(part if name in required else _optional(part) for name, part in parts.items()))

    def _timing(self, parts: dict[str, str | None]) -> str | None:
        """When a job runs: one key of `_TIMING`; only `at` goes with another, an `every` of whole days."""
        days = self._strings("DAYS", [span for span in self.found.durations if span.endswith("d")])
        daily = _sequence(parts["at"], _optional(_sequence('" every="', days)))
        return _any(daily, *(parts.get(name) for name in _TIMING[1:]))

    def _watch_forms(self, watch: type[Syscall], parts: dict[str, str | None]) -> Iterator[str | None]:
        """Each metric with the keys that it takes, in the order of the table."""
        target, duration, then = (_optional(parts[name]) for name in ("target", "for", "then"))
        number = self._strings("LEVEL", self.found.numbers)
        level = _at_least_one([_sequence('" above="', number), _sequence('" below="', number)])
        for metric in watch.arguments["metric"].choices:
            match metric:
                case "exit":
                    keys = [parts["target"]]
                case "log":
                    keys = [parts["match"], parts["target"]]
                case "load" | "temperature":
                    keys = [level]
                case "memory":
                    keys = [_at_least_one([parts["above"], parts["below"]]), target]
                case _:
                    keys = [level, target]
            yield _sequence(encoded(f" {metric}"), *keys, duration, then)

    def _part(self, argument: Argument, inside: bool) -> str | None:
        """One argument with the space and the key before it, or None when the request offers no value."""
        value = self._value(argument, inside)
        if argument.kind is Kind.ARGV:
            return value
        return _sequence(encoded(" " if argument.positional else f" {argument.name}="), value)

    def _value(self, argument: Argument, inside: bool) -> str | None:
        """The expression for one argument's value, or None when neither the request nor a lesson offers one."""
        kind = argument.kind
        taught = [f" -- {value}" if kind is Kind.ARGV else value for value in self.taught.get(kind.name, ())]
        return _any(self._said(argument, inside), self._strings(f"TAUGHT_{kind.name}", taught, inside))

    def _said(self, argument: Argument, inside: bool) -> str | None:
        """The expression for the values that the request offers."""
        kind, spans = argument.kind, self.spans
        match kind:
            case Kind.CHOICE:
                return _either(choice for choice in argument.choices if choice != argument.default)
            case Kind.LINE:
                return None if inside else f'("\\"" line_then::_ "\\"" | {_either(_argument_free_verbs())})'
            case Kind.ARGV:
                return self._terminal(_suffixed("ARGV", inside and spans.argv_needs_escape), lambda: spans.argv(inside))
            case Kind.NEW_NAME:
                return _any(
                    self._strings("NEW_NAME", spans.new_names, inside), self._terminal("CJK_NAME", spans.cjk_names)
                )
            case Kind.TEXT:
                phrases = self._terminal(_suffixed("PHRASE", inside), lambda: spans.phrases(inside))
                return _any(self._words(inside), phrases)
            case Kind.TARGET | Kind.JOB | Kind.WATCH:
                number = self._strings("PID", [*spans.digits, *self._whole_numbers()], inside)
                metric = self._strings("METRIC", _metrics(), inside) if kind is Kind.WATCH else None
                return _any(self._words(inside), self._strings("KNOWN", spans.names, inside), number, metric, "ref::_")
            case Kind.PATH:
                return self._words(inside)
            case Kind.PROCESS_NAME | Kind.USER | Kind.NODE:
                return _any(self._words(inside), self._strings("KNOWN", spans.names, inside))
            case Kind.CRON:
                quoted = [cron if cron.startswith("@") else encoded(cron) for cron in self.found.crons]
                return self._strings("CRON", quoted, inside)
        offered = list(self._quantities(kind))
        return self._strings(
            f"{kind.name}_LIMIT" if argument.liftable else kind.name, offered + [LIFT] * argument.liftable
        )

    def _quantities(self, kind: Kind) -> Iterable[str]:
        found = self.found
        whole = {int(number) for number in (*self._whole_numbers(), *self.spans.digits)}
        match kind:
            case Kind.SIZE:
                return found.sizes
            case Kind.DURATION:
                return found.durations
            case Kind.TIME:
                return found.times
            case Kind.MOMENT:
                return (*found.times, *found.durations)
            case Kind.CORES:
                return [number for number in found.numbers if float(number) > 0]
            case Kind.THRESHOLD:
                return (*found.numbers, *found.sizes)
            case Kind.COUNT:
                return [str(number) for number in sorted(whole | {1}) if 1 <= number <= 1_000_000]
            case Kind.PORT:
                return [str(number) for number in sorted(whole) if 1 <= number <= 65535]
        raise AssertionError(f"{kind} is no quantity")

    def _whole_numbers(self) -> list[str]:
        return [number for number in self.found.numbers if number.isdigit()]

    def _words(self, inside: bool) -> str | None:
        return _any(self._strings("WORD", self.spans.words, inside), self._terminal("CJK_WORD", self.spans.cjk_words))

    def _strings(self, name: str, printed: Sequence[str], inside: bool = False) -> str | None:
        """A terminal of printed values; inside `then` those with quotes in them are escaped."""
        escaped = inside and any('"' in value for value in printed)
        return self._terminal(
            _suffixed(name, escaped), lambda: [encoded(nested(value, escaped)) for value in dict.fromkeys(printed)]
        )

    def _terminal(self, name: str, alternatives: Callable[[], Sequence[str]]) -> str | None:
        """Define a terminal once; its name, or None when there is nothing that it could match."""
        if name not in self.terminals:
            self.terminals[name] = " | ".join(alternatives())
        return name if self.terminals[name] else None


def _suffixed(name: str, escaped: bool) -> str:
    return f"{name}_THEN" if escaped else name


@cache
def _argument_free_verbs() -> tuple[str, ...]:
    """Verbs that make a line alone, which `then` prints without quotes."""
    return tuple(
        verb
        for verb, call in SYSCALLS.items()
        if call.risk is not Risk.TALK and not any(argument.required for argument in call.arguments.values())
    )


@cache
def _metrics() -> tuple[str, ...]:
    """What `unwatch` may name besides a target: the metrics of `watch`."""
    return SYSCALLS["watch"].arguments["metric"].choices


def _sequence(*expressions: str | None) -> str | None:
    """Expressions one after the other; None when one of them cannot be."""
    return None if None in expressions else " ".join(filter(None, expressions))


def _optional(expression: str | None) -> str:
    return f"({expression})?" if expression else ""


def _at_least_one(expressions: Sequence[str | None]) -> str | None:
    """One or more of the expressions that exist, in their order."""
    there = [expression for expression in expressions if expression]
    tails = (_sequence(first, *map(_optional, there[at + 1 :])) for at, first in enumerate(there))
    return _any(*tails)


def _either(choices: Iterable[str]) -> str:
    return "(" + " | ".join(map(encoded, choices)) + ")"


def _any(*expressions: str | None) -> str | None:
    """A choice between those expressions that exist."""
    there = [expression for expression in expressions if expression]
    return f"({' | '.join(there)})" if there else None
