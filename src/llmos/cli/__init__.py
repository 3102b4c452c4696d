"""The command line, `llmos`: run at once where it only reads, else parsed by the whole application.

Every error becomes a message and an exit code here.
"""

import sys
from typing import NoReturn

from llmos.cli.reads import run_read
from llmos.cli.session import INTERRUPTED, Session
from llmos.errors import LlmosError


def main() -> NoReturn:
    """Run the command line and end the process with its exit code."""
    sys.exit(run(sys.argv[1:]))


def run(words: list[str]) -> int:
    """Run the command line; returns the exit code."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        if (code := run_read(words)) is not None:
            return code
        from llmos.cli.app import run_app

        return run_app(words)
    except LlmosError as error:
        return Session(json="--json" in _before_argv(words)).fail(error)
    except KeyboardInterrupt:
        return INTERRUPTED


def _before_argv(words: list[str]) -> list[str]:
    return words[: words.index("--")] if "--" in words else words
