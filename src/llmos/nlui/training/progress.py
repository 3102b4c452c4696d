"""What a person sees of a run: a bar with the time left, on a terminal; elsewhere a line now and then."""

import sys
import time
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

LINE_SECONDS = 30.0
"""How often a line is written where there is no terminal."""


class Display:
    """Shows a run on standard error."""

    def __init__(self) -> None:
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            console=Console(stderr=True),
            disable=not sys.stderr.isatty(),
        )
        self._task = self._bar.add_task("training", total=1.0)
        self._written = 0.0

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def show(self, progress: float, seconds: float, step: int, loss: float, best: float) -> None:
        """Say how far a run is: `progress` from 0 to 1 after `seconds`; `best` accuracy, negative while unknown."""
        left = seconds * (1 - progress) / progress if progress else 0.0
        text = (
            f"step {step}, loss {loss:.3f}" + (f", exact {best:.1%}" if best >= 0 else "") + f", {_minutes(left)} left"
        )
        self._bar.update(self._task, completed=progress, description=text)
        if self._bar.disable and time.monotonic() - self._written >= LINE_SECONDS:
            self._written = time.monotonic()
            print(f"{progress:4.0%}  {text}", file=sys.stderr, flush=True)


def _minutes(seconds: float) -> str:
    return f"{max(0, round(seconds)) // 60}:{max(0, round(seconds)) % 60:02d}"
