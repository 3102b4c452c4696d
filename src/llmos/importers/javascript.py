"""JavaScript that is data: one object or array of literals, as a `.config.js` exports it. JSON is read too.

Read are comments, keys without quotes, both quotes, templates without `${`, trailing commas and signs. What would have
to be run (a name, a call, an operator) is refused.
"""

import json
import re
from typing import Any

_SPACE = re.compile(r"(?:\s|//[^\n]*|/\*.*?\*/)+", re.DOTALL)
_STRICT = re.compile(r"['\"]use strict['\"];?")
_EXPORT = re.compile(r"(?:module\.exports\s*=|exports\.default\s*=|export\s+default\b)")
_NUMBER = re.compile(r"[+-]?(?:0[xX][0-9a-fA-F]+|(?:\d[\d_]*\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)")
_NAME = re.compile(r"[A-Za-z_$][\w$]*(?:\.[\w$]+)*")
_STRING = re.compile(r"'(?:[^'\\\n]|\\.)*'|\"(?:[^\"\\\n]|\\.)*\"|`(?:[^`\\]|\\.)*`", re.DOTALL)
_ESCAPE = re.compile(r"\\(u\{[0-9a-fA-F]+\}|u[0-9a-fA-F]{4}|x[0-9a-fA-F]{2}|.)", re.DOTALL)
_CONSTANTS = {"true": True, "false": False, "null": None, "undefined": None}
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "v": "\v", "0": "\0", "\n": ""}
MAX_DEPTH = 50


class NotData(ValueError):
    """Raised when the text is no literal; `line` says where, from 1."""

    def __init__(self, problem: str, line: int) -> None:
        super().__init__(problem)
        self.line = line


def parse(text: str) -> Any:
    """The value that the text is, or exports.

    :raises NotData: it is something else.
    """
    return _Parser(text).whole()


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
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
        if name is None or name.group() not in _CONSTANTS:
            raise self._problem("is no literal" if name is None else f"({name.group()}) is code")
        self._at = name.end()
        return _CONSTANTS[name.group()]

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
        if found.group()[0] == "`" and "${" in body:
            raise self._problem("is a template that has to be run")
        self._at = found.end()
        return _ESCAPE.sub(_unescaped, body)

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


def _unescaped(match: re.Match[str]) -> str:
    code = match[1]
    if code[0] in "ux" and len(code) > 1:
        return chr(int(code[1:].strip("{}"), 16))
    return _ESCAPES.get(code, code)
