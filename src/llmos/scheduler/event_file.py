"""TensorBoard event files of what the scheduler learns and decides; the writer comes with the extra `train`."""

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from llmos.errors import Unsupported

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_BYTES = 64 * 1024**2
"""Of one file; what comes after is left out."""


class EventFile:
    """One file in a folder; the numbers of one moment are written together."""

    def __init__(self, folder: Path) -> None:
        """Begin it.

        :raises Unsupported: the writer is not installed.
        """
        try:
            from tensorboard.compat.proto.event_pb2 import Event
            from tensorboard.compat.proto.summary_pb2 import Summary
            from tensorboard.summary.writer.event_file_writer import EventFileWriter
        except ImportError:
            raise Unsupported(
                f"event files need tensorboard; install it with: {sys.executable} -m pip install 'llmos[train]'"
            ) from None
        folder.mkdir(parents=True, exist_ok=True)
        self._event, self._summary = Event, Summary
        self._writer: Any = EventFileWriter(str(folder))
        self._bytes = 0

    @classmethod
    def of_training(cls, folder: Path) -> "EventFile | _NoEventFile":
        """One for a training, which goes on without where the writer is not installed."""
        try:
            return cls(folder)
        except Unsupported as error:
            print(f"no TensorBoard events: {error.message}")
            return _NoEventFile()

    @property
    def full(self) -> bool:
        """Whether it takes no more."""
        return self._bytes >= MAX_BYTES

    def scalars(self, values: "Mapping[str, float]", step: int, at: float | None = None) -> None:
        """Write numbers by their tags. `at` in seconds of the epoch, now where it is left out."""
        summary = self._summary(
            value=[self._summary.Value(tag=tag, simple_value=value) for tag, value in values.items()]
        )
        event = self._event(wall_time=time.time() if at is None else at, step=step, summary=summary)
        if not self.full:
            self._bytes += int(event.ByteSize())
            self._writer.add_event(event)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.close()


class _NoEventFile:
    def scalars(self, values: "Mapping[str, float]", step: int, at: float | None = None) -> None:
        """Nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing."""
