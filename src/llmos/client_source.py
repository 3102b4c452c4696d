"""Writes the source of `client_verbs.py`: every verb of the registry as a typed method of the clients."""

import textwrap
from keyword import iskeyword

from llmos.syscalls import SYSCALLS, Argument, Kind, Risk, Syscall

_INTEGERS = {Kind.PORT, Kind.COUNT}
_NUMBERS_OR_TEXT = {Kind.CORES, Kind.THRESHOLD}
_IDS_OR_NAMES = {Kind.TARGET, Kind.WATCH}
_OTHERS = {
    Kind.ARGV: "Sequence[str]",
    Kind.OBJECT: "JsonObject",
    Kind.LIST: "Sequence[int | str]",
}
RESULTS = {
    "jobs": "list[JobInfo]",
    "run": "JobInfo",
    "show": "JsonObject | list[JsonObject]",
    "system": "JsonObject | list[JsonObject]",
    "logs": "JobLogs",
    "why": "Explanation",
    "wait": "WaitResult",
}
"""What a verb returns where it is not a list of objects."""

_HEAD = '''"""Generated from the registry of syscalls by `python -m llmos.docs --write`; edits are overwritten.

Each verb as a typed method. `allow` is the risk that may run without asking back, by default what the daemon's settings
say; `confirm` is the hash of a checked plan.
"""

# ruff: noqa: ASYNC109 - a verb's timeout is the daemon's to keep

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Literal

    from llmos.client_types import Allow, Explanation, JobInfo, JobLogs, JsonObject, WaitResult


def _given(arguments: JsonObject) -> JsonObject:
    return {name: value for name, value in arguments.items() if value is not None}
'''

_WIDTH = 120


def source() -> str:
    """The whole module, in the formatter's form."""
    return _HEAD + _class("Verbs", "") + _class("AsyncVerbs", "async ")


def callable_verbs() -> list[type[Syscall]]:
    """The verbs that are methods of the socket: all but the answers of the model."""
    return [syscall for syscall in SYSCALLS.values() if syscall.risk is not Risk.TALK]


def python_name(argument: Argument) -> str:
    """The argument as a Python name: `for` becomes `for_`."""
    return f"{argument.name}_" if iskeyword(argument.name) else argument.name


def _class(name: str, prefix: str) -> str:
    lines = [
        "",
        "",
        f"class {name}(ABC):",
        f'    """The verbs, each one {"asynchronous " if prefix else ""}call."""',
        "",
        "    @abstractmethod",
        f"    {prefix}def call(self, method: str, /, **params: Any) -> Any:",
        '        """Call a method of the socket and return its result."""',
    ]
    for syscall in callable_verbs():
        lines += ["", *_method(syscall, prefix)]
    return "\n".join(lines) + "\n"


def _method(syscall: type[Syscall], prefix: str) -> list[str]:
    arguments = [*syscall.arguments.values(), *syscall.api_arguments.values()]
    leading = [_parameter(argument) for argument in arguments if argument.positional]
    keys = [_parameter(argument) for argument in arguments if not argument.positional]
    sent = [f'"{argument.name}": {_sent(argument)}' for argument in arguments]
    if syscall.risk > Risk.READ:
        keys += ["allow: Allow | None = None", "confirm: str | None = None"]
        sent += ['"allow": allow', '"confirm": confirm']
    result = RESULTS.get(syscall.verb, "list[JsonObject]")
    parameters = ["self", *leading, *(["*", *keys] if keys else [])]
    call = ("await " if prefix else "") + f'self.call("{syscall.verb}"'
    head = f"    {prefix}def {syscall.verb}({', '.join(parameters)}) -> {result}:"
    if len(head) > _WIDTH:
        listed = "".join(f"        {parameter},\n" for parameter in parameters)
        head = f"    {prefix}def {syscall.verb}(\n{listed}    ) -> {result}:"
    docstring = textwrap.wrap(f'"""{syscall.meaning()}."""', _WIDTH - 8)
    lines = [head, *(f"        {line}" for line in docstring)]
    if not sent:
        return [*lines, f'        return cast("{result}", {call}))']
    return [
        *lines,
        "        arguments: JsonObject = {",
        *(f"            {pair}," for pair in sent),
        "        }",
        f'        return cast("{result}", {call}, **_given(arguments)))',
    ]


def _parameter(argument: Argument) -> str:
    form = _form(argument)
    if argument.required:
        return f"{python_name(argument)}: {form}"
    return f"{python_name(argument)}: {form} | None = None"


def _form(argument: Argument) -> str:
    if argument.choices:
        return "Literal[" + ", ".join(f'"{choice}"' for choice in argument.choices) + "]"
    if argument.kind in _OTHERS:
        return _OTHERS[argument.kind]
    return "str | Sequence[str]" if argument.many else _one(argument)


def _one(argument: Argument) -> str:
    if argument.kind in _INTEGERS:
        return "int"
    if argument.kind in _NUMBERS_OR_TEXT:
        return "float | str"
    return "int | str" if argument.kind in _IDS_OR_NAMES else "str"


def _sent(argument: Argument) -> str:
    return f"list({python_name(argument)})" if argument.kind is Kind.ARGV else python_name(argument)
