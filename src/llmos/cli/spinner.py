"""A spinner with the seconds since it began, for what takes a while."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner
from rich.text import Text


class _Waiting:
    """What is waited for, drawn with the seconds since it was made."""

    def __init__(self, what: str) -> None:
        self._what, self._began = what, time.monotonic()
        self._spinner = Spinner("dots")

    def __rich__(self) -> Spinner:
        self._spinner.update(text=Text(f"{self._what} {time.monotonic() - self._began:.0f} s"))
        return self._spinner


@contextmanager
def spinning(console: Console, what: str, after_seconds: float = 0) -> Iterator[None]:
    """Show the spinner once the body has run for so many seconds; it leaves no trace."""
    live = Live(_Waiting(what), console=console, transient=True, refresh_per_second=10)
    over, turn = threading.Event(), threading.Lock()

    def begin() -> None:
        with turn:
            if not over.is_set():
                live.start()

    timer = threading.Timer(after_seconds, begin)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        over.set()
        with turn:
            live.stop()
        timer.join()
