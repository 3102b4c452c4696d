"""Command lines as people type them: real programs with their flags, and scripts with made-up ones.

In a template `{s}` is a stem of a file name, `{n}` a number, `{d}` a folder, `{h}` a host, `{p}` a port, `{w}` a word;
every draw fills them anew. Lists of commands from outside can be added when the data are generated.
"""

import re
import shlex
from random import Random

from llmos.nlui.dataset import pools
from llmos.nlui.dataset.wordlists import phrases, words

_SLOT = re.compile(r"\{(\w)\}")
_HOSTS = (
    "example.com",
    "10.0.0.9",
    "backup@nas.local",
    "db1.internal",
    "mirror.example.org",
    "192.168.1.20",
    "pi@cam2",
)


class Commands:
    """The pool: what is drawn is a command line as typed; `extra` are whole command lines from outside."""

    def __init__(self, extra: tuple[str, ...] = ()) -> None:
        self._templates = phrases("commands")
        self._extra = [line for line in extra if _plain(line)]

    def draw(self, rng: Random) -> str:
        """A command line."""
        if self._extra and rng.random() < 0.25:
            return rng.choice(self._extra)
        return _SLOT.sub(lambda match: _part(match[1], rng), rng.choice(self._templates))


def words_of(command: str) -> list[str]:
    """The argv of a command line as typed; raises `ValueError` when its quotes do not pair."""
    return shlex.split(command)


def _plain(line: str) -> bool:
    """Whether a line from outside is one plain command, no shell syntax and no prompt for the reader."""
    if len(line) > 90 or re.search(r"[|;&<>$`{}\\*?\[\]()#~!]", line) or " " not in line:
        return False
    try:
        return not words_of(line)[0].startswith(("sudo", "-")) and "=" not in words_of(line)[0]
    except ValueError:
        return False


def _part(letter: str, rng: Random) -> str:
    match letter:
        case "s":
            return pools.stem(rng)
        case "n":
            return str(rng.choice((rng.randint(2, 16), rng.randint(10, 100), rng.randint(100, 5000))))
        case "d":
            return pools.folder(rng)
        case "h":
            return rng.choice(_HOSTS)
        case "p":
            return str(rng.randint(1024, 19999))
        case "x":
            return pools.script(rng)
    return rng.choice(words("command_words")) if rng.random() < 0.8 else pools.random_id(rng)
