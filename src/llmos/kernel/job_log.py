"""The output of jobs: following its growth, so that it is marked, bounded, and told to who follows it.

Output goes from the job straight to its file; no byte passes through llmos. inotify tells that a file has grown: once,
and then not until it is listened to anew, so a job that writes without a pause costs one look a second.
"""

import asyncio
import errno
import hashlib
import logging
import time
from collections.abc import AsyncGenerator, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from asyncinotify import Inotify, Mask, Watch

from llmos.errors import Unavailable
from llmos.kernel.job import Job
from llmos.kernel.log_file import MAX_LINE_BYTES, LogFile, as_text, pieces

log = logging.getLogger("llmos.job_log")

LOOK_INTERVAL_SECONDS = 1.0
FOLLOW_INTERVAL_SECONDS = 0.05
MAX_LINES = 10_000


@dataclass(slots=True, eq=False)
class _Log:
    """One job's file, and who waits for its growth."""

    file: LogFile
    looking: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held by who makes, marks, bounds or removes the file: what one of them saw must not be of before another."""
    followers: set[asyncio.Event] = field(default_factory=set)
    watch: Watch | None = None
    rearming: asyncio.TimerHandle | None = None


class JobLogs:
    """The log files of one daemon."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._logs: dict[str, _Log] = {}
        self._watched: dict[Watch, _Log] = {}
        self._inotify: Inotify | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._complained = -3600.0

    async def start(self) -> None:
        """Begin to listen for growth.

        :raises Unavailable: this user has no inotify instance left.
        """
        await asyncio.to_thread(self._folder.mkdir, mode=0o711, parents=True, exist_ok=True)
        try:
            self._inotify = Inotify()
        except OSError as error:
            raise Unavailable(
                f"the logs cannot be listened to ({error.strerror}); raise fs.inotify.max_user_instances"
            ) from None
        self._task(self._listen(self._inotify))

    async def close(self) -> None:
        """Stop listening; the files stay."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for known in self._logs.values():
            if known.rearming is not None:
                known.rearming.cancel()
        if self._inotify is not None:
            self._inotify.close()

    def path(self, name: str) -> Path:
        """The log file of the job of that name; long or odd names are spelt so that a file can bear them."""
        spelt = quote(name, safe=" +@,=").replace("~", "%7E")  # so that no name is spelt like the short form of another
        if len(spelt) > 200 or spelt.startswith("."):
            spelt = f"{spelt[:120].lstrip('.')}~{hashlib.sha256(name.encode()).hexdigest()[:16]}"
        return self._folder / f"{spelt}.log"

    async def open(self, job: Job) -> str:
        """Make sure of the job's log file, the job's user its owner, and listen; returns its path.

        :raises Unavailable: it cannot be made.
        """
        known = self._known(job.name)
        async with known.looking:
            try:
                await asyncio.to_thread(known.file.make, job.uid, job.gid)
            except OSError as error:
                raise Unavailable(f"the log file {known.file.path} cannot be made: {error.strerror}") from None
        self._disarm(known)  # the file may be another than the one listened to
        self._arm(known)
        return str(known.file.path)

    def adopt(self, job: Job) -> None:
        """Listen to the file of a job that is running already."""
        known = self._known(job.name)

        async def catch_up() -> None:
            try:
                await self.open(job)
            except Unavailable as error:
                log.error("%s", error)
            await self._grown(known, rearm=True)

        self._task(catch_up())

    def ended(self, job: Job) -> None:
        """The job's process has ended: take in its last words."""
        self._task(self._grown(self._known(job.name), rearm=False))

    async def remove(self, job: Job) -> None:
        """Delete the job's file and its marks."""
        known = self._known(job.name)
        self._disarm(known)
        if known.rearming is not None:
            known.rearming.cancel()
        self._logs.pop(job.name, None)
        async with known.looking:
            await asyncio.to_thread(known.file.remove)

    async def read(
        self, name: str, *, lines: int = 100, grep: str | None = None, since: float | None = None
    ) -> dict[str, Any]:
        """The last `lines` lines that hold `grep`, written since an epoch time: `{"lines": […], "truncated": bool}`."""
        known = self._known(name)
        if since is not None:
            await self._look(known)
        return await asyncio.to_thread(known.file.read, min(lines, MAX_LINES), grep, since)

    async def length(self, name: str) -> int:
        """How far the job's output reaches now, in bytes."""
        return await asyncio.to_thread(self._known(name).file.length)

    async def follow(
        self, name: str, until: asyncio.Future[None] | None = None, *, since: int | None = None
    ) -> AsyncGenerator[list[str], None]:
        """New complete lines, as they are written from now on, or from an offset on that `length` gave.

        Ends when `until` is done and all read, else never.
        """
        known = self._known(name)
        offset = await self.length(name) if since is None else since
        beginnings = known.file.beginnings
        grown = asyncio.Event()
        grown.set()  # something may have been written since
        known.followers.add(grown)
        self._arm(known)
        try:
            if until is not None:
                until.add_done_callback(lambda _: grown.set())
            rest = b""
            while True:
                await grown.wait()
                grown.clear()
                over = until is not None and until.done()
                while True:
                    if known.file.beginnings != beginnings:
                        offset, beginnings, rest = 0, known.file.beginnings, b""
                    before = offset
                    offset, chunk = await asyncio.to_thread(known.file.read_from, offset)
                    if offset - len(chunk) != before:  # what it went on with has been given back
                        rest = b""
                    if not chunk:
                        break
                    *lines, rest = (rest + chunk).split(b"\n")
                    complete = [piece for line in lines for piece in pieces(line)]
                    if len(rest) > MAX_LINE_BYTES:
                        *more, rest = pieces(rest)
                        complete += more
                    if complete:
                        yield [as_text(line) for line in complete]
                if over:
                    if rest:
                        yield [as_text(rest)]
                    return
        finally:
            known.followers.discard(grown)

    def _known(self, name: str) -> _Log:
        if name not in self._logs:
            self._logs[name] = _Log(LogFile(self.path(name)))
        return self._logs[name]

    async def _listen(self, inotify: Inotify) -> None:
        async for event in inotify:
            # The end of a watch is told too; what has been told or disarmed is not there any more.
            known = self._watched.pop(event.watch, None) if event.watch is not None else None
            if known is not None:
                known.watch = None
                self._task(self._grown(known, rearm=True))

    async def _look(self, known: _Log) -> None:
        """Mark and bound the file; what is wrong with it is logged."""
        async with known.looking:
            try:
                await asyncio.to_thread(known.file.take_in, self._max_bytes)
            except OSError as error:
                log.warning("%s: %s", known.file.path, error.strerror)

    async def _grown(self, known: _Log, *, rearm: bool) -> None:
        await self._look(known)
        for follower in known.followers:
            follower.set()
        if rearm:
            self._rearm_later(known)

    def _rearm_later(self, known: _Log) -> None:
        if known.rearming is None:
            delay = FOLLOW_INTERVAL_SECONDS if known.followers else LOOK_INTERVAL_SECONDS
            known.rearming = asyncio.get_running_loop().call_later(delay, self._rearm, known)

    def _rearm(self, known: _Log) -> None:
        known.rearming = None
        self._arm(known)
        self._task(self._missed(known))

    async def _missed(self, known: _Log) -> None:
        """What was written between the last look and the new watch, or while there could be no watch."""
        if await asyncio.to_thread(known.file.length) != known.file.size:
            self._disarm(known)
            await self._grown(known, rearm=True)

    def _arm(self, known: _Log) -> None:
        if known.watch is not None or self._inotify is None:
            return
        try:
            known.watch = self._inotify.add_watch(known.file.path, Mask.MODIFY | Mask.ONESHOT | Mask.DONT_FOLLOW)
        except OSError as error:
            if error.errno != errno.ENOENT:
                self._complain(error)
                self._rearm_later(known)
        else:
            self._watched[known.watch] = known

    def _disarm(self, known: _Log) -> None:
        if known.watch is not None and self._inotify is not None:
            self._watched.pop(known.watch, None)
            with suppress(OSError, KeyError):  # it may have been told already
                self._inotify.rm_watch(known.watch)
            known.watch = None

    def _complain(self, error: OSError) -> None:
        if time.monotonic() - self._complained > 3600:
            self._complained = time.monotonic()
            log.warning(
                "a log cannot be listened to and is looked at every second (%s); raise fs.inotify.max_user_watches",
                error.strerror,
            )

    def _task(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
