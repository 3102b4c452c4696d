"""What a benchmark asks of a supervisor: one class a supervisor, each driving it through the interface it documents."""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self

import psutil

ANSWER_SECONDS = 60.0
"""How long a daemon may take until it answers."""


class Missing(Exception):
    """Raised when a supervisor cannot be had here; the message says why."""


class Peer(ABC):
    """One supervisor with its daemon, in a folder of its own. Times are `time.monotonic` seconds."""

    name: str

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(Exception):
            self.end()
        for process in psutil.process_iter(["cmdline"]):
            if any(str(self.folder) in word for word in process.info["cmdline"] or ()):  # it would not end
                process.kill()

    @classmethod
    def prepare(cls) -> None:
        """Install it, where it is not here yet.

        :raises Missing: it cannot be had here.
        """
        return

    @abstractmethod
    def start(self, programs: Sequence[Path]) -> float:
        """Start a daemon that runs these, restarts them at once whenever they end, and keeps their output.

        Each has the name of its file and one argument, 100000. Returns when the daemon was started; it may return
        before they run.
        """

    @abstractmethod
    def processes(self) -> list[int]:
        """The pids of the daemon: of all processes that are it, and of none that it supervises."""

    @abstractmethod
    def pids(self) -> dict[str, int]:
        """The pid of each program that it says is running."""

    @abstractmethod
    def stop(self, name: str) -> None:
        """Stop a program; it has ended when this returns."""

    @abstractmethod
    def begin(self, name: str) -> float:
        """Have it start a program that was stopped; returns when it was asked to."""

    def full_state(self) -> float | None:
        """Seconds from asking for the state of all programs until they are Python or JavaScript values."""
        return None

    def calls_a_second(self, clients: int, seconds: float) -> float | None:
        """Calls for the state of one program that are answered in a second, each client having one under way."""
        return None

    def status_command(self) -> tuple[list[str], dict[str, str]] | None:
        """The command that prints the state of all programs, and its environment."""
        return None

    def restart_killed(self) -> None:
        """Start the daemon again after it was killed, as before; it answers when this returns."""
        raise NotImplementedError

    @abstractmethod
    def end(self) -> None:
        """End the daemon and its programs."""


def wait_until(what: str, reached: Callable[[], bool], *, every: float = 0.003) -> None:
    """Return once `reached()` is true; it is asked `every` so many seconds.

    :raises TimeoutError: it is not, within `ANSWER_SECONDS`.
    """
    deadline = time.monotonic() + ANSWER_SECONDS
    while not reached():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {ANSWER_SECONDS:g} s")
        time.sleep(every)
