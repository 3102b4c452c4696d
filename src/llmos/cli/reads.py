"""Verbs that only read, run without the application: `llmos jobs --state failed` in a third of the time.

Typer and the registry take longer to load than such a verb takes to run. What the verbs take is read off the typed
client, which is generated from the registry. Whatever is not plain and right here (help, completion, a mistake, no
llmosd to ask) is left to the application, which says it better.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from llmos import __version__
from llmos.cli.session import Session
from llmos.client import Client
from llmos.client_verbs import Verbs
from llmos.errors import Unavailable


def run_read(words: list[str]) -> int | None:
    """Run a verb that only reads; returns the exit code, or None where this is for the application.

    Raises:
        LlmosError: what llmosd answered.
    """
    if words == ["--version"]:
        print(f"llmos {__version__}")
        return 0
    if (read := _parsed(words)) is None:
        return None
    session, verb, params = read
    client = Client(session.socket_path)
    try:
        client.connect()
    except Unavailable:
        return None  # the application starts it
    session.client = client
    call = partial(client.call, verb, **params)
    return session.carry_out(lambda: session.show(session.waiting("waiting", call, after_seconds=1), verb))


def _parsed(words: list[str]) -> tuple[Session, str, dict[str, Any]] | None:
    """The session, the verb and its parameters."""
    session = Session()
    method: Callable[..., Any] | None = None
    left: list[str] = []
    params: dict[str, Any] = {}
    options: dict[str, str] = {}
    rest = iter(words)
    for word in rest:
        if word == "--json":
            session.json = True
        elif word.startswith("--"):
            name, given, value = word[2:].partition("=")
            if name != "socket" and name not in options:
                return None
            text = value if given else next(rest, None)
            if text is None:
                return None
            if name == "socket":
                session.socket = Path(text)
            elif (read := _value(text, options[name])) is None:
                return None
            else:
                params[name] = read
        elif word.startswith("-") or not word:
            return None
        elif method is None:
            if (method := _read(word)) is None:
                return None
            verb, code = word, method.__code__
            left = list(code.co_varnames[1 : code.co_argcount])
            needed = left[: len(left) - len(method.__defaults__ or ())]
            keys = code.co_varnames[code.co_argcount : code.co_argcount + code.co_kwonlyargcount]
            options = {name: method.__annotations__[name] for name in keys}
        elif not left or (read := _value(word, method.__annotations__[left[0]])) is None:
            return None
        else:
            params[left.pop(0)] = read
    if method is None or any(name not in params for name in needed):
        return None
    return session, verb, params


def _read(verb: str) -> Callable[..., Any] | None:
    """The method of a verb that changes nothing and means no file of the person's folder."""
    method = vars(Verbs).get(verb)
    known = getattr(method, "__annotations__", {})
    return method if callable(method) and verb != "call" and not {"allow", "path"} & known.keys() else None


def _value(text: str, annotation: str) -> str | int | None:
    """A word as the parameter that it is; None where it is none."""
    form = annotation.removesuffix(" | None")
    if form == "int":
        number = int(text) if text.isascii() and text.isdigit() and len(text) < 6 else 0
        return number if 1 <= number <= 65535 else None  # what every count and port may be; more is not judged here
    if form.startswith("Literal"):
        return text if repr(text) in form else None
    return text if form in ("str", "int | str") and text.isprintable() and not text.startswith("$") else None
