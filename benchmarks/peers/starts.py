"""When programs start, seen from outside: inotify tells that the file of a program was opened, which exec does.

So every supervisor is measured by the same event, whatever it answers, and nothing polls beside it.
"""

import os
import queue
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import psutil
from asyncinotify import Inotify, Mask


class Starts:
    """A folder of programs, each a hard link to one copy of sleep(1), and the moments at which they are started."""

    def __init__(self, folder: Path, count: int) -> None:
        folder.mkdir()
        self.folder = folder
        self.programs = [folder / f"program-{number:03}" for number in range(count)]
        for number, program in enumerate(self.programs):
            if number == 0:
                shutil.copy("/bin/sleep", program)
            else:
                os.link(self.programs[0], program)
        self._seen: queue.SimpleQueue[tuple[str, float]] = queue.SimpleQueue()
        self._inotify = Inotify(cache_size=4096, sync_timeout=0.5)
        self._inotify.add_watch(folder, Mask.OPEN)
        self._ended = False
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill_all()
        self._ended = True
        self._thread.join()
        self._inotify.close()

    def running(self) -> Iterator[psutil.Process]:
        """The programs that run, whoever started them."""
        for process in psutil.process_iter(["exe", "status"]):
            if Path(process.info["exe"] or "").parent == self.folder and process.info["status"] != psutil.STATUS_ZOMBIE:
                yield process

    def kill_all(self) -> None:
        """End what a supervisor left behind."""
        for process in self.running():
            process.kill()

    def forget(self) -> None:
        """Forget the starts so far."""
        while not self._seen.empty():
            self._seen.get()

    def all(self, count: int, seconds: float = 120) -> float:
        """When the last of `count` programs was started; none of them is counted twice.

        :raises TimeoutError: they were not, within `seconds`.
        """
        names: set[str] = set()
        deadline = time.monotonic() + seconds
        at = 0.0
        while len(names) < count:
            name, at = self._next(deadline, f"{len(names)} of {count} programs were started")
            names.add(name)
        return at

    def of(self, name: str, seconds: float = 30) -> float:
        """When the program was started next.

        :raises TimeoutError: it was not, within `seconds`.
        """
        deadline = time.monotonic() + seconds
        while True:
            started, at = self._next(deadline, f"{name} was not started")
            if started == name:
                return at

    def _next(self, deadline: float, failure: str) -> tuple[str, float]:
        try:
            return self._seen.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            raise TimeoutError(f"{failure} in time") from None

    def _watch(self) -> None:
        while not self._ended:
            event = self._inotify.sync_get()
            if event is not None and event.name is not None:
                self._seen.put((str(event.name), time.monotonic()))
