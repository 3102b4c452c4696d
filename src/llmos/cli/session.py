"""One run of the command line: where the socket is, how to print, and the client that is opened when first needed.

What most commands need not is imported where it is needed: rich, where the output is a terminal.
"""

import json
import os
import sys
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

from llmos.cli.layout import layout, text_of
from llmos.cli.terminal_text import plain
from llmos.client import Client
from llmos.client_wire import socket_path
from llmos.errors import LlmosError, Unavailable

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

_T = TypeVar("_T")
INTERRUPTED = 130  # as a shell counts a program that SIGINT ended
BROKEN_PIPE = 141  # as a shell counts a program that SIGPIPE ended


class Session:
    """The options that every command takes, and what follows from them."""

    def __init__(self, socket: Path | None = None, json: bool = False, dry_run: bool = False) -> None:
        self.socket, self.json, self.dry_run = socket, json, dry_run

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if "client" in vars(self):
            self.client.close()

    def carry_out(self, work: Callable[[], object]) -> int:
        """Do what a command does, and close the client; returns the exit code."""
        try:
            with self:
                work()
            sys.stdout.flush()
        except BrokenPipeError:
            # The reader of our output has gone; the flush at exit must not find out again.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return BROKEN_PIPE
        return 0

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
        from llmos.cli.render import console

        return console()

    @cached_property
    def err(self) -> "Console":
        """Where questions, progress and errors go."""
        from llmos.cli.render import console

        return console(stderr=True)

    @property
    def on_terminal(self) -> bool:
        """Whether results are drawn as for a terminal."""
        return (sys.stdout.isatty() or "FORCE_COLOR" in os.environ) and self.out.is_terminal

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
        elif self.on_terminal:
            from llmos.cli.render import drawn

            self.out.print(drawn(layout(value, subject)))
        else:
            print(*text_of(layout(value, subject)), sep="\n", flush=True)

    def print(self, *drawn: "RenderableType") -> None:
        """Print what was drawn; off a terminal without the blanks that pad its lines."""
        if self.on_terminal:
            return self.out.print(*drawn)
        with self.out.capture() as capture:
            self.out.print(*drawn)
        return print(*(line.rstrip() for line in capture.get().splitlines()), sep="\n", flush=True)

    def show_json(self, value: Any) -> None:
        """Print one JSON document on one line."""
        # Escaped, so that it can be printed in any locale and holds nothing that a terminal acts upon.
        print(json.dumps(value), flush=True)

    def follow_job(self, name: str, interrupted: str) -> None:
        """Show what a job prints until it ends; where a person interrupts that, say that the job goes on."""
        try:
            for line in self.client.follow_logs(name):
                if not self.json:
                    self.show_line(line)
        except KeyboardInterrupt:
            self.say(interrupted)
            raise

    def show_line(self, line: str) -> None:
        """Print a line of a job's output: harmless on a terminal, as it is elsewhere."""
        print(plain(line) if self.on_terminal else line, flush=True)

    def say(self, text: str, style: str = "") -> None:
        """Print a sentence for a person, on stderr."""
        if not (sys.stderr.isatty() or "FORCE_COLOR" in os.environ):
            print(plain(text), file=sys.stderr, flush=True)
            return
        from rich.text import Text

        self.err.print(Text(plain(text), style=style))

    def fail(self, error: LlmosError) -> int:
        """Say what went wrong; returns the exit code."""
        if self.json:
            self.show_json({"error": error.as_json()})
        else:
            self.say(f"llmos: {error.message}", "red")
            tail = error.data.get("log_tail")
            for line in tail if isinstance(tail, list) else ():
                self.say(f"  {line}")
        return error.exit_code

    def would(self, what: str) -> bool:
        """With --dry-run: say what would be done, and answer True."""
        if self.dry_run:
            self.show({"dry_run": True, "would": what})
        return self.dry_run

    def waiting(self, what: str, work: Callable[[], _T], *, after_seconds: float = 0) -> _T:
        """Do the work; on a terminal a spinner shows what is waited for and the seconds since."""
        if self.json or not sys.stderr.isatty():
            return work()
        from llmos.cli.spinner import spinning

        with spinning(self.err, what, after_seconds):
            return work()
