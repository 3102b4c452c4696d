"""JavaScript that is data: one object or array of literals, as a `.config.js` exports it. JSON is read too.

Read are comments, keys without quotes, both quotes, templates, trailing commas and signs, and of code what is known
without running it: `__dirname`, `process.env.NAME`, what `||` or `??` give in its place, and `+` and `${…}` of texts.
What would have to be run (any other name, a call, an operator) is refused.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

_SPACE = re.compile(r"(?:\s|//[^\n]*|/\*.*?\*/)+", re.DOTALL)
_STRICT = re.compile(r"['\"]use strict['\"];?")
_EXPORT = re.compile(r"(?:module\.exports\s*=|exports\.default\s*=|export\s+default\b)")
_NUMBER = re.compile(r"[+-]?(?:0[xX][0-9a-fA-F]+|(?:\d[\d_]*\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)")
_NAME = re.compile(r"[A-Za-z_$][\w$]*(?:\.[\w$]+)*")
_STRING = re.compile(r"'(?:[^'\\\n]|\\.)*'|\"(?:[^\"\\\n]|\\.)*\"|`(?:[^`\\]|\\.)*`", re.DOTALL)
_ESCAPE = re.compile(r"\\(u\{[0-9a-fA-F]+\}|u[0-9a-fA-F]{4}|x[0-9a-fA-F]{2}|.)", re.DOTALL)
_HOLE = re.compile(r"\$\{\s*([A-Za-z_$][\w$.]*)\s*\}")
_CONSTANTS = {"true": True, "false": False, "null": None, "undefined": None}
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "v": "\v", "0": "\0", "\n": ""}
MAX_DEPTH = 50


class NotData(ValueError):
    """Raised when the text is no literal; `line` says where, from 1."""

    def __init__(self, problem: str, line: int) -> None:
        super().__init__(problem)
        self.line = line


def parse(text: str, folder: str = ".", environ: Mapping[str, str] | None = None) -> tuple[Any, list[str]]:
    """The value that the text of a file in `folder` is, or exports, with what `environ` has in `process.env`.

    Returns the names of variables, too, that are not set and for which nothing is given in their place.

    :raises NotData: it is something else.
    """
    parser = _Parser(text, {"__dirname": folder, **_CONSTANTS}, environ or {})
    return parser.whole(), parser.unset


class _Parser:
    def __init__(self, text: str, names: Mapping[str, Any], environ: Mapping[str, str]) -> None:
        self._text = text
        self._names = names
        self._environ = environ
        self.unset: list[str] = []
        self._at = 0

    def whole(self) -> Any:
        for preamble in (_STRICT, _EXPORT):
            self._skip()
            if found := preamble.match(self._text, self._at):
                self._at = found.end()
        value = self._value(0)
        self._take(";")
        self._skip()
        if self._at < len(self._text):
            raise self._problem("is more than one value")
        return value

    def _value(self, depth: int) -> Any:
        unset = len(self.unset)
        value = self._sum(depth)
        while operator := next((mark for mark in ("||", "??") if self._take(mark)), ""):
            del self.unset[unset:]
            other = self._sum(depth)
            value = other if value is None or (operator == "||" and not value) else value
        return value

    def _sum(self, depth: int) -> Any:
        value = self._operand(depth)
        while self._take("+"):
            self._at -= 1
            if not isinstance(value, str):
                raise self._problem("has no text before it")
            self._at += 1
            value += _text(self._operand(depth))
        return value

    def _operand(self, depth: int) -> Any:
        self._skip()
        if depth > MAX_DEPTH:
            raise self._problem(f"is nested more than {MAX_DEPTH} deep")
        if self._take("{"):
            return self._object(depth)
        if self._take("["):
            return self._array(depth)
        if self._text[self._at : self._at + 1] in ("'", '"', "`"):
            return self._string()
        if found := _NUMBER.match(self._text, self._at):
            self._at = found.end()
            number = found.group().replace("_", "")
            if "x" in number.lower():
                return int(number, 16)
            return float(number) if re.search(r"[.eE]", number) else int(number)
        name = _NAME.match(self._text, self._at)
        if name is None:
            raise self._problem("is no literal")
        known = self._known(name.group())
        self._at = name.end()
        return known

    def _known(self, name: str) -> Any:
        """What a name stands for: one of the constants, or a variable of the environment, None where that is unset."""
        if name in self._names:
            return self._names[name]
        if name.startswith("process.env.") and name.count(".") == 2:
            variable = name.rpartition(".")[2]
            if variable not in self._environ:
                self.unset.append(variable)
            return self._environ.get(variable)
        raise self._problem(f"({name}) is code")

    def _object(self, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        while not self._take("}"):
            key = self._key()
            if not self._take(":"):
                raise self._problem(f"stands where a colon after {key} belongs")
            found[key] = self._value(depth + 1)
            if not self._take(","):
                if not self._take("}"):
                    raise self._problem("stands where a comma or } belongs")
                break
        return found

    def _array(self, depth: int) -> list[Any]:
        found: list[Any] = []
        while not self._take("]"):
            found.append(self._value(depth + 1))
            if not self._take(","):
                if not self._take("]"):
                    raise self._problem("stands where a comma or ] belongs")
                break
        return found

    def _key(self) -> str:
        self._skip()
        if self._text[self._at : self._at + 1] in ("'", '"'):
            return self._string()
        name = re.compile(r"[\w$]+").match(self._text, self._at)
        if name is None:
            raise self._problem("stands where a key belongs")
        self._at = name.end()
        return name.group()

    def _string(self) -> str:
        found = _STRING.match(self._text, self._at)
        if found is None:
            raise self._problem("is a string that does not end")
        body = found.group()[1:-1]
        if found.group()[0] != "`":
            self._at = found.end()
            return _ESCAPE.sub(_unescaped, body)
        pieces = _HOLE.split(body)
        pieces[1::2] = [_text(self._known(name)) for name in pieces[1::2]]
        if any("${" in piece for piece in pieces[::2]):
            raise self._problem("is a template that has to be run")
        self._at = found.end()
        return "".join(piece if at % 2 else _ESCAPE.sub(_unescaped, piece) for at, piece in enumerate(pieces))

    def _take(self, mark: str) -> bool:
        self._skip()
        if taken := self._text.startswith(mark, self._at):
            self._at += len(mark)
        return taken

    def _skip(self) -> None:
        if found := _SPACE.match(self._text, self._at):
            self._at = found.end()

    def _problem(self, what: str) -> NotData:
        line = self._text.count("\n", 0, self._at) + 1
        there = self._text[self._at : self._at + 40].partition("\n")[0].strip()
        return NotData(f"{json.dumps(there)} {what}" if there else f"the end of the file {what}", line)


def _text(value: Any) -> str:
    """A value within a template, as JavaScript writes it."""
    return "undefined" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _unescaped(match: re.Match[str]) -> str:
    code = match[1]
    if code[0] in "ux" and len(code) > 1:
        return chr(int(code[1:].strip("{}"), 16))
    return _ESCAPES.get(code, code)
