"""The output of jobs: following its growth, so that it is marked, bounded, and told to who follows it.

Output goes from the job straight to its file, or its two files where its stderr is kept apart; no byte passes through
llmos. inotify tells that a file has grown: once, and then not until it is listened to anew, so a job that writes
without a pause costs one look a second. Output that goes to the machine's journal is not seen here at all.
"""

import asyncio
import errno
import hashlib
import logging
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypedDict, TypeVar, get_args
from urllib.parse import quote

from asyncinotify import Inotify, Mask, Watch

from llmos.errors import Unavailable, Unsupported
from llmos.kernel.job import Job, command_line
from llmos.kernel.log_file import LastLines, LogFile, last_lines
from llmos.kernel.log_lines import Splitter
from llmos.kernel.reaper_client import JournalStream
from llmos.machine.clocks import BOOT

log = logging.getLogger("llmos.job_log")

LOOK_INTERVAL_SECONDS = 1.0
FOLLOW_INTERVAL_SECONDS = 0.05
MAX_LINES = 10_000

Stream = Literal["stdout", "stderr"]
STREAMS: tuple[Stream, ...] = get_args(Stream)
_T = TypeVar("_T")


class Outputs(TypedDict):
    """Where the output of a run goes, as the fields of a `SpawnRequest`."""

    stdout: str
    stderr: str | None
    journal: JournalStream | None


@dataclass(slots=True, eq=False)
class _Log:
    """One file of a job's output, and who waits for its growth."""

    file: LogFile
    looking: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held by whoever does anything with the file: what one of them saw must not be of before another."""
    followers: set[asyncio.Event] = field(default_factory=set)
    watch: Watch | None = None
    rearming: asyncio.TimerHandle | None = None
    complaint: str = ""
    removed: bool = False

    async def do(self, work: Callable[..., _T], *arguments: Any) -> _T:
        """Do something with the file, in a thread, alone."""
        async with self.looking:
            return await asyncio.to_thread(work, *arguments)


class _Tail:
    """How far a follower has read a log, and what it has of a line."""

    def __init__(self, known: _Log, offset: int, wanted: bytes) -> None:
        self._known = known
        self._offset = offset
        self._beginnings = known.file.beginnings
        self._lines = Splitter(wanted)

    async def next(self) -> list[str] | None:
        """The lines of the next block, maybe none; None when there is nothing more for now."""
        file = self._known.file
        async with self._known.looking:
            before = self._offset
            if file.beginnings == self._beginnings:
                self._offset, chunk = await asyncio.to_thread(file.read_from, before)
            if file.beginnings != self._beginnings:  # before, or as it was read
                self._offset, self._beginnings = 0, file.beginnings
                self._lines.forget()
                return []
        if self._offset - len(chunk) != before:  # what it went on with has been given back
            self._lines.forget()
        return self._lines.feed(chunk) if chunk else None

    def finish(self) -> list[str]:
        """What is there of a line that did not end."""
        return self._lines.finish()


class JobLogs:
    """The log files of one daemon."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._logs: dict[tuple[str, Stream], _Log] = {}
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

    def path(self, name: str, stream: Stream = "stdout") -> Path:
        """The log file of the job of that name; long or odd names are spelt so that a file can bear them."""
        spelt = quote(name, safe=" +@,=").replace("~", "%7E")  # so that no name is spelt like the short form of another
        if len(spelt) > 200 or spelt.startswith("."):
            spelt = f"{spelt[:120].lstrip('.')}~{hashlib.sha256(name.encode()).hexdigest()[:16]}"
        return self._folder / f"{spelt}{'.log' if stream == 'stdout' else '.stderr'}"

    def where(self, job: Job) -> str:
        """Where the job's output is: its file, or the command that reads it."""
        return str(self.path(job.name)) if job.output == "file" else journal_command(job)

    async def open(self, job: Job) -> Outputs:
        """Make sure of the job's log files, the job's user their owner, and listen; returns where its output goes.

        :raises Unavailable: they cannot be made.
        """
        if job.output == "journald":
            apart = "/dev/null" if job.stderr == "separate" else None
            return {"stdout": "/dev/null", "stderr": apart, "journal": JournalStream(identifier=job.name)}
        files = [self._known(job.name, stream) for stream in _streams(job)]
        for known in files:
            try:
                await known.do(known.file.make, job.uid, job.gid)
            except OSError as error:
                raise Unavailable(f"the log file {known.file.path} cannot be made: {error.strerror}") from None
            self._disarm(known)  # the file may be another than the one listened to
            self._arm(known)
        stdout, *stderr = (str(known.file.path) for known in files)
        return {"stdout": stdout, "stderr": stderr[0] if stderr else None, "journal": None}

    def adopt(self, job: Job) -> None:
        """Listen to the files of a job that is running already."""

        async def catch_up() -> None:
            try:
                await self.open(job)
            except Unavailable as error:
                log.error("%s", error)
            for stream in _streams(job):
                await self._grown(self._known(job.name, stream), rearm=True)

        self._task(catch_up())

    def ended(self, job: Job) -> None:
        """The job's process has ended: take in its last words."""
        for stream in _streams(job):
            self._task(self._grown(self._known(job.name, stream), rearm=False))

    async def remove(self, job: Job) -> None:
        """Delete the job's files and their marks."""
        for stream in STREAMS:
            known = self._known(job.name, stream)
            self._disarm(known)
            if known.rearming is not None:
                known.rearming.cancel()
            if not known.followers:  # who follows goes on with the next job of that name
                del self._logs[job.name, stream]
                known.removed = True
            await known.do(known.file.remove)

    async def read(
        self,
        name: str,
        *,
        lines: int = 100,
        grep: str | None = None,
        age: float | None = None,
        stream: Stream | None = None,
    ) -> dict[str, Any]:
        """The last `lines` lines that hold `grep` and are at most `age` seconds old, of one stream, or of both as one.

        `{"lines": […], "truncated": bool}`
        """
        _, last = await self._last(name, stream, lines, grep, age)
        return {"lines": last.lines, "truncated": last.truncated}

    async def ends(self, name: str) -> list[int]:
        """How far the job's output reaches now, in bytes: its stdout, or what both share, and its stderr."""
        return [await known.do(known.file.length) for known in self._of(name, None)]

    async def follow(
        self,
        name: str,
        until: asyncio.Future[None] | None = None,
        *,
        lines: int = 0,
        grep: str | None = None,
        age: float | None = None,
        stream: Stream | None = None,
        since: Sequence[int] | None = None,
    ) -> AsyncGenerator[list[str], None]:
        """The last lines, as `read` has them, and then complete lines as they are written, or from `ends` of before on.

        Ends when `until` is done and all read, else never.
        """
        logs, last = await self._last(name, stream, lines, grep, age, whole=True)
        begins = last.ends if since is None else [*since, 0]
        wanted = grep.encode() if grep else b""
        tails = [_Tail(known, begin, wanted) for known, begin in zip(logs, begins, strict=False)]
        grown = asyncio.Event()
        grown.set()  # something may have been written since
        for known in logs:
            known.followers.add(grown)
            self._arm(known)
        try:
            if until is not None:
                until.add_done_callback(lambda _: grown.set())
            if last.lines:
                yield last.lines
            while True:
                await grown.wait()
                grown.clear()
                over = until is not None and until.done()
                unread = list(tails)
                while unread:
                    for tail in list(unread):
                        if (new := await tail.next()) is None:
                            unread.remove(tail)
                        elif new:
                            yield new
                if over:
                    for tail in tails:
                        if rest := tail.finish():
                            yield rest
                    return
        finally:
            for known in logs:
                known.followers.discard(grown)

    async def _last(
        self,
        name: str,
        stream: Stream | None,
        lines: int,
        grep: str | None,
        age: float | None,
        *,
        whole: bool = False,
    ) -> tuple[list[_Log], LastLines]:
        """The logs of a job, and their last lines; where their age matters, what has come is marked first."""
        since = None if age is None else BOOT.now() - age
        logs = self._of(name, stream)
        if since is not None:
            for known in logs:
                await self._look(known)
        files = [known.file for known in logs]
        async with AsyncExitStack() as stack:
            for known in logs:  # always in one order, or two could wait for each other
                await stack.enter_async_context(known.looking)
            last = await asyncio.to_thread(last_lines, files, min(lines, MAX_LINES), grep, since, whole=whole)
        return logs, last

    def _of(self, name: str, stream: Stream | None) -> list[_Log]:
        """The logs of a job, or the one of a stream; a job whose stderr is not kept apart has an empty one for it."""
        return [self._known(name, each) for each in STREAMS if stream in (None, each)]

    def _known(self, name: str, stream: Stream = "stdout") -> _Log:
        if (name, stream) not in self._logs:
            self._logs[name, stream] = _Log(LogFile(self.path(name, stream)))
        return self._logs[name, stream]

    async def _listen(self, inotify: Inotify) -> None:
        async for event in inotify:
            # The end of a watch is told too; what has been told or disarmed is not there any more.
            known = self._watched.pop(event.watch, None) if event.watch is not None else None
            if known is not None:
                known.watch = None
                self._task(self._grown(known, rearm=True))

    async def _look(self, known: _Log) -> None:
        """Mark and bound the file; what is wrong with it is logged, once for as long as it is."""
        async with known.looking:
            if known.removed:  # the file may be another job's by now
                return
            complaint = ""
            try:
                await asyncio.to_thread(known.file.take_in, self._max_bytes)
            except OSError as error:
                complaint = error.strerror or str(error)
        if complaint and complaint != known.complaint:
            log.warning("%s: %s", known.file.path, complaint)
        known.complaint = complaint

    async def _grown(self, known: _Log, *, rearm: bool) -> None:
        await self._look(known)
        for follower in known.followers:
            follower.set()
        if rearm:
            self._rearm_later(known)

    def _rearm_later(self, known: _Log) -> None:
        if known.rearming is None and not known.removed:
            delay = FOLLOW_INTERVAL_SECONDS if known.followers else LOOK_INTERVAL_SECONDS
            known.rearming = asyncio.get_running_loop().call_later(delay, self._rearm, known)

    def _rearm(self, known: _Log) -> None:
        known.rearming = None
        self._arm(known)
        self._task(self._missed(known))

    async def _missed(self, known: _Log) -> None:
        """What was written between the last look and the new watch, or while there could be no watch."""
        if await known.do(known.file.length) != known.file.size:
            self._disarm(known)
            await self._grown(known, rearm=True)

    def _arm(self, known: _Log) -> None:
        if known.watch is not None or self._inotify is None or known.removed:
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


def require_files(jobs: Sequence[Job]) -> None:
    """Raise Unsupported where the output of a job goes to the journal: it is read there."""
    for job in jobs:
        if job.output == "journald":
            raise Unsupported(f"the output of {job.name} goes to the journal of the machine: {journal_command(job)}")


def journal_command(job: Job) -> str:
    """What reads the output of a job whose output goes to the journal."""
    return command_line(["journalctl", f"--identifier={job.name}"])


def _streams(job: Job) -> Sequence[Stream]:
    """The files that a job writes."""
    if job.output == "journald":
        return ()
    return STREAMS if job.stderr == "separate" else STREAMS[:1]
