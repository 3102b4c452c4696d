"""What an importer is given, and where it puts what it found."""

import math
import re
import reprlib
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llmos.errors import BadInput
from llmos.jobfile import Table

OWN_LOG = "output goes to the log of the job: llmos logs NAME"
NO_GROUPS = "jobs are not grouped; name each"
NOT_BY_ITSELF = "a job is run when it is applied, so it is left out; `llmos run` runs it by hand"
MAX_BYTES = 1024**2
"""Of a file to import."""
SHOWN_OF_VALUE = 60
"""Characters of a value that has no equivalent which are shown."""

_BUILTINS = frozenset(
    ". : alias bg cd command eval exec exit export fg hash jobs local read readonly set shift shopt source times trap type "
    "ulimit umask unalias unset wait if for while until case select function time".split()
)
"""First words that a shell alone understands."""
_SHELL_SYNTAX = re.compile(r"[|&;<>()$`*?\[\]#~%{}!\n]|^\s*\w+=|\\")


@dataclass(slots=True)
class Source:
    """A file to import, and what came of it: `jobs`, and `no_equivalent`, where something stands and why it is lost."""

    path: Path
    text: str
    environ: Mapping[str, str]
    jobs: dict[str, Table] = field(default_factory=dict)
    no_equivalent: list[tuple[str, str]] = field(default_factory=list)

    def add(self, name: str, table: Table) -> None:
        """Take a job down; what is None or empty is no field of it.

        :raises BadInput: there is one of that name already.
        """
        if name in self.jobs:
            raise self.bad(f"two jobs would be called {name!r}; rename one")
        self.jobs[name] = {key: value for key, value in table.items() if value not in (None, [], {}, "")}

    def lost(self, where: str, why: str, value: Any = None) -> None:
        """Take down what has no equivalent; `value` is shown behind where it stands."""
        shown = "" if value is None else f"={value if isinstance(value, str) else reprlib.repr(value)}"
        if len(shown) > SHOWN_OF_VALUE:
            shown = shown[: SHOWN_OF_VALUE - 1] + "…"
        self.no_equivalent.append((where + shown, why))

    def bad(self, problem: str, line: int | None = None) -> BadInput:
        """The error that this file has a problem, at a line where one is known."""
        where = f"{self.path}:{line}" if line is not None else str(self.path)
        return BadInput(f"{where}: {problem}", field="file")

    def dotenv(self) -> list[str]:
        """The `.env` file beside this one, as a list of one where it is there."""
        return [".env"] if (self.path.parent / ".env").is_file() else []


def text_of(path: Path) -> str:
    """The text of a file to import.

    :raises BadInput: it cannot be read, is too large, or is no text.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise BadInput(f"{path} is larger than {MAX_BYTES} bytes; split it", field="file")
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise BadInput(f"cannot read {path}: {error.strerror}", field="file") from None
    except UnicodeDecodeError:
        raise BadInput(f"{path} is no text in UTF-8", field="file") from None


def shell_argv(command: str, shell: tuple[str, ...] = ("sh", "-c")) -> list[str]:
    """What runs a command line as that shell does: its words where they mean themselves, else the shell."""
    if not _SHELL_SYNTAX.search(command):
        try:
            words = shlex.split(command)
        except ValueError:
            words = []  # let the shell say so
        if words[:1] == ["exec"] and words[1:] and not words[1].startswith("-"):
            del words[0]  # a job is its command's own process anyway
        if words and words[0] not in _BUILTINS:
            return words
    return [*shell, command]


def size_text(size: float) -> str:
    """Bytes as SIZE, rounded up to whole K."""
    kilobytes = math.ceil(size / 1024)
    for unit, factor in (("T", 1024**3), ("G", 1024**2), ("M", 1024)):
        if kilobytes and kilobytes % factor == 0:
            return f"{kilobytes // factor}{unit}"
    return f"{kilobytes}K"


def duration_text(seconds: float) -> str:
    """Seconds as DUR, rounded up to whole ones."""
    whole = math.ceil(seconds)
    for unit, factor in (("d", 86400), ("h", 3600), ("m", 60)):
        if whole and whole % factor == 0:
            return f"{whole // factor}{unit}"
    return f"{whole}s"
