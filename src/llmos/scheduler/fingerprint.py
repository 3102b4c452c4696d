"""The fingerprint of a command: its words with what differs from run to run made neutral.

Numbers, dates, paths, addresses and the like become their kind; the program, its options and the script that an
interpreter runs stay, for those tell how long it takes. Runs of one fingerprint are each other's best prediction.
"""

import re
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import PurePath

MAX_CHARACTERS = 200
_MOST_WORDS = 256
_MAX_WORD = 1000
"""Characters of one word that are looked at."""
_INTERPRETERS = frozenset(
    ["python", "node", "ruby", "perl", "bash", "sh", "zsh", "java", "php", "deno", "bun", "rscript", "julia", "lua"]
)
_KINDS = (
    (re.compile(r"[a-z][a-z0-9+.-]*://\S+", re.I), "URL"),
    (re.compile(r"\b[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}\b", re.I), "HEX"),
    (
        re.compile(r"\d{4}-\d{2}-\d{2}(?:[T_ -]?\d{2}[:-]?\d{2}(?:[:-]?\d{2})?(?:\.\d+)?(?:Z|[+-]\d{2}:?\d{2})?)?"),
        "DATE",
    ),
    (re.compile(r"\b\d{1,2}:\d{2}(?::\d{2})?\b"), "TIME"),
    (re.compile(r"\b(?=[0-9a-f]*\d)(?=[0-9a-f]*[a-f])[0-9a-f]{8,}\b", re.I), "HEX"),
    (re.compile(r"[-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?(?![a-z]*\w)", re.I), "N"),
    (re.compile(r"\d+"), "N"),
)


def fingerprint(argv: Sequence[str]) -> str:
    """The fingerprint, of 200 characters at most; a digest ends it where it was cut."""
    words: list[str] = []
    script_wanted = False
    for word in argv[:_MOST_WORDS]:
        program = _program(word)
        if not words or program in _INTERPRETERS:  # which something like `env` may stand before
            words.append(program)
            script_wanted = program in _INTERPRETERS
        elif script_wanted and not word.startswith("-") and not _is_text(word):
            words.append(_numbers(PurePath(word).name or word))
            script_wanted = False
        else:
            words.append(_neutral(word))
    text = " ".join(words).encode(errors="backslashreplace").decode()
    return text if len(text) <= MAX_CHARACTERS else f"{text[: MAX_CHARACTERS - 9]}~{_digest(text)}"


def _program(word: str) -> str:
    """A program by its name; an interpreter whatever its version."""
    name = PurePath(word).name or word
    bare = name.rstrip("0123456789.-").lower()
    return bare if bare in _INTERPRETERS else _numbers(name)


def _neutral(word: str) -> str:
    if _is_text(word):
        return f"TEXT~{_digest(_numbers(word))}"
    option, equals, value = word.partition("=")
    if equals and option.startswith("-"):
        return f"{_numbers(option)}={_neutral(value)}"
    if "://" not in word and ("/" in word or word.startswith("~")):
        return "PATH"
    return _numbers(word)


def _is_text(word: str) -> bool:
    """Code or prose, as of `sh -c`."""
    return any(character.isspace() for character in word) or len(word) > _MAX_WORD


def _numbers(word: str) -> str:
    word = word[:_MAX_WORD]
    for kind, name in _KINDS:
        word = kind.sub(name, word)
    return word


def _digest(text: str) -> str:
    return blake2b(text.encode(errors="surrogateescape"), digest_size=4).hexdigest()
