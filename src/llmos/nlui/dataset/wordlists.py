"""The lists of words and phrases beside the code, read once: `words/NAME.txt`."""

from functools import cache
from importlib import resources


@cache
def words(name: str) -> tuple[str, ...]:
    """A list of words, which white space parts."""
    return tuple(_text(name).split())


@cache
def phrases(name: str) -> tuple[str, ...]:
    """A list of phrases, one a line; `\\n` in a phrase is a line break, a space at its head belongs to it."""
    return tuple(line.replace("\\n", "\n") for line in _text(name).splitlines())


def _text(name: str) -> str:
    return resources.files(__package__).joinpath("words", f"{name}.txt").read_text(encoding="utf-8")
