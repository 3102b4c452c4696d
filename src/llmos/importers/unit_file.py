"""The syntax of systemd's unit files: sections, continued lines, quoting, specifiers, sizes and time spans.

systemd.syntax(7), systemd.unit(5) "Specifiers", systemd.time(7).
"""

import os
import platform
import pwd
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from llmos.importers.source import Source

_ESCAPES = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "s": " "}
_NUMERIC_ESCAPE = re.compile(r"x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-7]{3})")
_SPECIFIER = re.compile(r"%(.)")
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([KMGT]?)")
_SPAN = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([a-z]*)")
_SECONDS = {
    **dict.fromkeys(["", "s", "sec", "second", "seconds"], 1.0),
    **dict.fromkeys(["ms", "msec"], 1e-3),
    **dict.fromkeys(["us", "usec"], 1e-6),
    **dict.fromkeys(["m", "min", "minute", "minutes"], 60.0),
    **dict.fromkeys(["h", "hr", "hour", "hours"], 3600.0),
    **dict.fromkeys(["d", "day", "days"], 86400.0),
    **dict.fromkeys(["w", "week", "weeks"], 604800.0),
}


@dataclass(frozen=True, slots=True)
class Setting:
    """One `KEY=VALUE` of a section, and its line from 1."""

    line: int
    section: str
    key: str
    value: str


def settings(source: Source) -> list[Setting]:
    """Every setting of the file in order; an empty value takes those of its key before it away.

    :raises BadInput: a line is none, or stands outside a section.
    """
    found: list[Setting] = []
    section = ""
    for number, line in _logical_lines(source.text):
        if line.startswith("[") and line.endswith("]"):
            section = line[1:-1]
            continue
        key, equals, value = (part.strip() for part in line.partition("="))
        if not equals or not key or not section:
            problem = "stands outside a [Section]" if equals and key else "is neither a [Section] nor a KEY=VALUE"
            raise source.bad(f"{line!r} {problem}", number)
        if not value:
            found = [before for before in found if (before.section, before.key) != (section, key)]
        elif not section.startswith("X-"):
            found.append(Setting(number, section, key, value))
    return found


def _logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """The lines, those that end in a backslash joined with the next, comments and blank ones left out."""
    held, began = "", 0
    for number, line in enumerate(text.splitlines(), 1):
        if line.lstrip().startswith(("#", ";")):
            continue
        began = began or number
        if line.endswith("\\"):
            held += line[:-1] + " "
            continue
        if whole := (held + line).strip():
            yield began, whole
        held, began = "", 0
    if held.strip():
        yield began, held.strip()


def words(source: Source, setting: Setting, text: str) -> list[str]:
    """The words of a value: quotes taken off, C escapes put in."""
    found: list[str] = []
    word, quote, begun, at = "", "", False, 0
    while at < len(text):
        char = text[at]
        at += 1
        if char == "\\" and at < len(text):
            piece, at = _escaped(text, at)
            word, begun = word + piece, True
        elif quote:
            quote, word = ("", word) if char == quote else (quote, word + char)
        elif char in "'\"":
            quote, begun = char, True
        elif char.isspace():
            found += [word] if begun else []
            word, begun = "", False
        else:
            word, begun = word + char, True
    if quote:
        raise source.bad(f"{setting.key}: a quote {quote} does not end", setting.line)
    return [*found, word] if begun else found


def _escaped(text: str, at: int) -> tuple[str, int]:
    """What the escape stands for whose letter is at `at`, and where it ends; one that is unknown stays as it is."""
    if numeric := _NUMERIC_ESCAPE.match(text, at):
        number = int(numeric[4], 8) if numeric[4] else int(numeric[1] or numeric[2] or numeric[3], 16)
        return chr(number), numeric.end()
    letter = text[at]
    known = letter if letter in "\\'\"" else _ESCAPES.get(letter, f"\\{letter}")
    return known, at + 1


class Specifiers:
    """What `%i` and its like stand for in one unit, as far as that is known before it runs."""

    def __init__(self, source: Source) -> None:
        self._source = source
        name = source.path.stem
        self.prefix, at, instance = name.partition("@")
        self.name = self.prefix if at and not instance else name
        self._template = bool(at) and not instance
        of_user = "systemd/user/" in source.path.absolute().as_posix()
        unescaped = re.sub(r"\\x([0-9a-f]{2})", lambda match: chr(int(match[1], 16)), instance.replace("-", "/"))
        node = platform.node()
        self._known = {
            "%": "%", "n": source.path.name, "N": name, "p": self.prefix, "i": instance, "I": unescaped,
            "j": self.prefix.rpartition("-")[2], "H": node, "l": node.partition(".")[0], "v": platform.release(),
            "T": "/tmp", "V": "/var/tmp", "y": str(source.path.absolute()), "Y": str(source.path.absolute().parent),
            **(_of_user(source.environ) if of_user else _OF_SYSTEM),
        }  # fmt: skip
        self.home = self._known["h"] if of_user else "/"

    def put_in(self, setting: Setting, text: str) -> str:
        """The text with every specifier put in.

        :raises BadInput: one is not known before the unit runs.
        """

        def known(match: re.Match[str]) -> str:
            letter = match[1]
            if letter in "iI" and self._template:
                copy = f"{self.prefix}@NAME.service"
                raise self._bad(setting, f"{match[0]} is the name of an instance; copy the file to {copy}, import that")
            if letter not in self._known:
                raise self._bad(setting, f"{match[0]} is known only when the unit runs; write what it stands for")
            return self._known[letter]

        return _SPECIFIER.sub(known, text)

    def _bad(self, setting: Setting, problem: str) -> Exception:
        return self._source.bad(f"{setting.key}: {problem}", setting.line)


_OF_SYSTEM = {
    "h": "/root", "u": "root", "U": "0", "g": "root", "G": "0", "s": "/bin/sh",
    "t": "/run", "S": "/var/lib", "C": "/var/cache", "L": "/var/log", "E": "/etc",
}  # fmt: skip


def _of_user(environ: Mapping[str, str]) -> dict[str, str]:
    user = pwd.getpwuid(os.getuid())
    home = Path(environ.get("HOME") or user.pw_dir)
    state = environ.get("XDG_STATE_HOME") or str(home / ".local/state")
    return {
        "h": str(home), "u": user.pw_name, "U": str(user.pw_uid), "G": str(user.pw_gid), "s": user.pw_shell,
        "t": environ.get("XDG_RUNTIME_DIR") or f"/run/user/{user.pw_uid}",
        "S": state, "L": f"{state}/log",
        "C": environ.get("XDG_CACHE_HOME") or str(home / ".cache"),
        "E": environ.get("XDG_CONFIG_HOME") or str(home / ".config"),
    }  # fmt: skip


def size_bytes(text: str) -> float | None:
    """A size in bytes; None where it is `infinity`, a share of the machine, or none at all."""
    match = _SIZE.fullmatch(text.upper())
    return float(match[1]) * 1024 ** " KMGT".index(match[2] or " ") if match else None


def span_seconds(text: str) -> float | None:
    """A time span such as `1min 30s` in seconds; None where it is `infinity` or none at all."""
    total, at = 0.0, 0
    while at < len(text):
        match = _SPAN.match(text, at)
        if match is None or match[2] not in _SECONDS:
            return None
        total += float(match[1]) * _SECONDS[match[2]]
        at = match.end()
    return total
