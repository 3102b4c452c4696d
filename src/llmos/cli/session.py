"""One run of the command line: where the socket is, how to print, and the client that is opened when first needed."""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

from llmos.cli.render import console, shown
from llmos.cli.terminal_text import plain
from llmos.client import Client, socket_path
from llmos.errors import Unavailable

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

_T = TypeVar("_T")


@dataclass(frozen=True)
class Session:
    """The options that every command takes, and what follows from them."""

    socket: Path | None = None
    json: bool = False
    dry_run: bool = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if "client" in vars(self):
            self.client.close()

    @cached_property
    def client(self) -> Client:
        """The connected client; llmosd is started when nothing listens on the socket."""
        client = Client(self.socket_path)
        try:
            client.connect()
        except Unavailable:
            from llmos.cli.launch import ensure_running

            ensure_running(self)
        return client

    @property
    def socket_path(self) -> Path:
        """The socket that this run talks to."""
        return socket_path(self.socket)

    @cached_property
    def out(self) -> "Console":
        """Where results go."""
        return console()

    @cached_property
    def err(self) -> "Console":
        """Where questions, progress and errors go."""
        return console(stderr=True)

    @property
    def may_ask(self) -> bool:
        """Whether there is a person to ask: a terminal on both sides, and no program that wants JSON."""
        return not self.json and sys.stdin.isatty() and sys.stderr.isatty()

    def show(self, value: Any, subject: str = "") -> None:
        """Print a result: as one JSON document, or as a person reads it."""
        if self.json:
            self.show_json(value)
        elif subject == "logs":
            for log in value if isinstance(value, list) else [value]:
                for line in log["lines"]:
                    self.show_line(line)
        else:
            self.print(shown(value, subject))

    def print(self, *drawn: "RenderableType") -> None:
        """Print what was drawn; off a terminal without the blanks that pad its lines."""
        if self.out.is_terminal:
            return self.out.print(*drawn)
        with self.out.capture() as capture:
            self.out.print(*drawn)
        return print(*(line.rstrip() for line in capture.get().splitlines()), sep="\n", flush=True)

    def show_json(self, value: Any) -> None:
        """Print one JSON document on one line."""
        # Escaped, so that it can be printed in any locale and holds nothing that a terminal acts upon.
        print(json.dumps(value), flush=True)

    def show_line(self, line: str) -> None:
        """Print a line of a job's output: harmless on a terminal, as it is elsewhere."""
        print(plain(line) if self.out.is_terminal else line, flush=True)

    def say(self, text: str, style: str = "") -> None:
        """Print a sentence for a person, on stderr."""
        from rich.text import Text

        self.err.print(Text(plain(text), style=style))

    def would(self, what: str) -> bool:
        """With --dry-run: say what would be done, and answer True."""
        if self.dry_run:
            self.show({"dry_run": True, "would": what})
        return self.dry_run

    def waiting(self, what: str, work: Callable[[], _T], *, after_seconds: float = 0) -> _T:
        """Do the work; on a terminal a spinner shows what is waited for and the seconds since."""
        if self.json or not self.err.is_terminal:
            return work()
        from llmos.cli.spinner import spinning

        with spinning(self.err, what, after_seconds):
            return work()
