"""The plan language: text and JSON to typed calls and back.

    plan  = line *( NEWLINE line )
    line  = verb *( SP arg ) [ SP "--" SP argv ]        argv only for run
    arg   = value | key "=" value                       positional first, then keys in the order of the table
    value = bare | quoted                               bare: no space, quote or "="; quoted: a JSON string

Printing a parsed plan and parsing a printed one give back the same, exactly; what cannot be read raises
`PlanSyntaxError` naming the line and what to write instead. Verbs, keys and choices are written as the table has them;
spaces may be any white space, and a quoted argument of argv may hold line breaks.
"""

import json
import re
import shlex
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import Any

from llmos.errors import BadInput, PlanSyntaxError
from llmos.plan import values
from llmos.syscalls import SYSCALLS
from llmos.syscalls.registry import Argument, Kind, Syscall

MAX_PLAN_LINES = 64
MAX_CHARACTERS = 128 * 1024
"""Of a plan as it is written and as it prints."""
_BARE = re.compile(r'[^\s"\'=]+')
_KEY = re.compile(r"([a-z]+)=")
_WORD = re.compile(r"\S+")
_JSON_STRING = re.compile(r'"(?:[^"\\\x00-\x1f]|\\.)*"')
_VALUES_STOP = re.compile(r'["\n]|(?<=[^\S\n])--(?=[^\S\n])')
_ARGV_STOP = re.compile(r"""["'\\\n]""")
_ARGV_QUOTED = re.compile(r"""'[^']*'|"(?:[^"\\]|\\.)*"|\\.""", re.DOTALL)
_SHELL_PLAIN = re.compile(r"[^\s\"'\\$`#]+")

Plan = list[Syscall]


def parse_plan(text: str | Iterable[str]) -> Plan:
    """Read a plan from text, or from one string a line; blank lines are skipped."""
    return _read(_split_lines(text) if isinstance(text, str) else list(text))


def plan_from_wire(plan: object) -> Plan:
    """Read a plan as programs send it: text, or a list of lines and JSON calls."""
    if isinstance(plan, str):
        return parse_plan(plan)
    if not isinstance(plan, list):
        raise PlanSyntaxError("a plan is text or a list of lines", field="plan")
    return _read(plan)


def _read(items: list[Any]) -> Plan:
    lines = [item for item in items if not isinstance(item, str) or item.strip()]
    if not lines:
        raise PlanSyntaxError("the plan is empty; write one call a line, such as: port 3000", field="plan")
    if len(lines) > MAX_PLAN_LINES:
        raise PlanSyntaxError(f"the plan has {len(lines)} lines, more than {MAX_PLAN_LINES}; split it", field="plan")
    calls: Plan = []
    for number, item in enumerate(lines, 1):
        try:
            calls.append(parse_line(item) if isinstance(item, str) else from_json(item))
        except BadInput as error:
            raise PlanSyntaxError(f"line {number}: {error.message}", line=number, **error.data) from None
    _check_length(sum(len(line) + 1 for line in print_plan(calls)))
    check_references(calls)
    return calls


def _check_length(characters: int) -> None:
    if characters > MAX_CHARACTERS:
        raise PlanSyntaxError(f"the plan is longer than {MAX_CHARACTERS} characters; split it", field="plan")


def parse_line(text: str) -> Syscall:
    """Read one line."""
    _check_length(len(text))
    word = _WORD.search(text)
    if word is None:
        raise PlanSyntaxError("the line is empty")
    if len(_split_lines(text)) > 1:
        raise PlanSyntaxError("it is more than one line")
    syscall = _syscall(word.group())
    arguments: dict[str, Any] = {}
    places = [
        argument.name
        for argument in syscall.arguments.values()
        if argument.positional and argument.kind is not Kind.ARGV
    ]
    at = word.end()
    while (start := _skip_spaces(text, at)) < len(text):
        if text[start : start + 2] == "--" and not text[start + 2 : start + 3].strip():
            arguments["argv"] = _shell_words(text[start + 2 :])
            break
        key = _KEY.match(text, start)
        if key:
            if key[1] not in syscall.arguments or syscall.arguments[key[1]].positional:
                known = ", ".join(f"{name}=" for name, found in syscall.arguments.items() if not found.positional)
                raise PlanSyntaxError(f"{syscall.verb} has no key {key[1]}=; it has {known or 'none'}", field=key[1])
            name, start = key[1], key.end()
        elif places:
            name = places.pop(0)
        else:
            value, _ = _value(text, start)
            raise PlanSyntaxError(f"{syscall.verb} has no place for {values.shown(value)}; usage: {usage(syscall)}")
        if name in arguments:
            raise PlanSyntaxError(f"{name}= stands twice", field=name)
        arguments[name], at = _value(text, start)
        if at < len(text) and not text[at].isspace():
            raise PlanSyntaxError(f"put {values.shown(text[start:].split()[0])} in double quotes", field=name)
    return syscall.build(arguments)


def print_line(call: Syscall) -> str:
    """The canonical text of a call: defaults left out, keys in the order of the table."""
    words, argv = [call.verb], ""
    for argument in call.given():
        value = call.value(argument)
        if argument.kind is Kind.ARGV:
            argv = " -- " + " ".join(map(quote_word, value))
        else:
            words.append(argument_text(argument, value))
    return " ".join(words) + argv


def print_plan(plan: Sequence[Syscall]) -> list[str]:
    """The canonical text of a plan, one string a line."""
    return [print_line(call) for call in plan]


def from_json(item: object) -> Syscall:
    """Read a call from its wire form, `{"call": verb, "args": {…}}`."""
    if not isinstance(item, dict) or not isinstance(item.get("call"), str) or item.keys() - {"call", "args"}:
        raise PlanSyntaxError('a call is an object such as {"call": "kill", "args": {"target": "web"}}')
    arguments = item.get("args", {})
    if not isinstance(arguments, dict):
        raise PlanSyntaxError('"args" must be an object', field="args")
    return _syscall(item["call"]).build(arguments)


def check_references(plan: Sequence[Syscall]) -> None:
    """Raise when a `$N` does not point at a line above its own."""
    for number, call in enumerate(plan, 1):
        for reference in call.references():
            if reference >= number:
                raise PlanSyntaxError(f"line {number}: ${reference} must name a line above", line=number)


def usage(syscall: type[Syscall]) -> str:
    """The usage line of a syscall, such as `logs JOB lines=N grep=STR since=DUR`."""
    return " ".join([syscall.verb, *(argument.usage for argument in syscall.arguments.values())])


def _syscall(verb: str) -> type[Syscall]:
    if found := SYSCALLS.get(verb):
        return found
    near = get_close_matches(verb[:32], SYSCALLS, n=1)
    hint = f"did you mean {near[0]}?" if near else f"the verbs are {', '.join(SYSCALLS)}"
    raise PlanSyntaxError(f"there is no verb {values.shown(verb)}; {hint}", field="call")


def _split_lines(text: str) -> list[str]:
    """Cut text at newlines, those inside a quoted argument of argv excepted; blank lines are dropped."""
    _check_length(len(text))
    lines, at = [], 0
    while at < len(text):
        end = _line_end(text, at)
        lines.append(text[at:end])
        at = end + 1
    return [line for line in lines if line.strip()]


def _line_end(text: str, at: int) -> int:
    """Where the line that begins at `at` ends; one with a quote that does not end in argv takes all the rest."""
    stop, quoted = _VALUES_STOP, _JSON_STRING
    while (found := stop.search(text, at)) is not None and found.group() != "\n":
        at = found.end()
        if found.group() == "--":
            stop, quoted = _ARGV_STOP, _ARGV_QUOTED
        elif whole := quoted.match(text, found.start()):
            at = whole.end()
        else:
            rest = text.find("\n", at) if stop is _VALUES_STOP else -1
            return rest if rest >= 0 else len(text)
    return found.start() if found is not None else len(text)


def _skip_spaces(text: str, at: int) -> int:
    while at < len(text) and text[at].isspace():
        at += 1
    return at


def _value(text: str, start: int) -> tuple[str, int]:
    """The value that begins at `start`, and where it ends."""
    if text.startswith('"', start):
        quoted = _JSON_STRING.match(text, start)
        if quoted is None:
            raise PlanSyntaxError(f"the quoted value {values.shown(text[start:])} does not end, or is no JSON string")
        try:
            return str(json.loads(quoted.group())), quoted.end()
        except ValueError as error:
            raise PlanSyntaxError(f"{values.shown(quoted.group())} is no JSON string: {error}") from None
    bare = _BARE.match(text, start)
    if bare is None:
        raise PlanSyntaxError(f"a value is missing before {values.shown(text[start:])}")
    return bare.group(), bare.end()


def _shell_words(text: str) -> list[str]:
    lexer = shlex.shlex(text, posix=True, punctuation_chars="")
    lexer.whitespace_split, lexer.commenters = True, ""
    try:
        return list(lexer)
    except ValueError as error:
        raise PlanSyntaxError(f"the command after -- is not quoted as a shell quotes: {error}", field="argv") from None


def quote_value(value: str) -> str:
    bare = _BARE.fullmatch(value) and "\\" not in value and not value.startswith("--")
    return value if bare else json.dumps(value, ensure_ascii=False)


def quote_word(word: str) -> str:
    """Quote for a shell; double quotes where they read better and mean the same."""
    if _SHELL_PLAIN.fullmatch(word):
        return word
    return shlex.quote(word) if re.search(r'["\\$`!]', word) or not word else f'"{word}"'


def argument_text(argument: Argument, value: Any) -> str:
    """One argument as it stands in a line."""
    text = quote_value(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
    return text if argument.positional else f"{argument.name}={text}"
