"""The output of jobs: where it lies, how it is kept bounded, read, and followed.

Output goes from the job straight to its file; no byte passes through llmos. What is written when is known from marks:
inotify tells that a file has grown, at most once a second for each, and a mark of time and offset is taken then. The
file is bounded by punching holes at its head, or by cutting its head off where the file system cannot do that.
"""

import asyncio
import ctypes
import errno
import hashlib
import logging
import os
import struct
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from asyncinotify import Inotify, Mask

from llmos.errors import Unavailable
from llmos.kernel.job import Job

log = logging.getLogger("llmos.job_log")

MARK_INTERVAL_SECONDS = 1.0
FOLLOW_INTERVAL_SECONDS = 0.05
MAX_MARKS = 4096
MAX_LINES = 10_000
MAX_ANSWER_BYTES = 4 * 1024**2
MAX_LINE_BYTES = 64 * 1024
BLOCK_BYTES = 256 * 1024
_MARK = struct.Struct("dQ")
_PUNCH_HOLE_KEEP_SIZE = 0x02 | 0x01
_SEEK_DATA = 3
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(slots=True, eq=False)
class _Log:
    """One job's file: `size` bytes seen so far; a mark (when, offset) says that from offset on it is not older."""

    path: Path
    size: int = 0
    marks: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=MAX_MARKS))
    followers: set[asyncio.Event] = field(default_factory=set)
    watch: Any = None
    rearming: asyncio.TimerHandle | None = None


class JobLogs:
    """The log files of one daemon."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._logs: dict[str, _Log] = {}
        self._inotify: Inotify | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Begin to listen for growth."""
        await asyncio.to_thread(self._folder.mkdir, mode=0o711, parents=True, exist_ok=True)
        self._inotify = Inotify()
        self._task(self._listen(self._inotify))

    async def close(self) -> None:
        """Stop listening; the files stay."""
        for known in self._logs.values():
            if known.rearming is not None:
                known.rearming.cancel()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._inotify is not None:
            self._inotify.close()

    def path(self, name: str) -> Path:
        """The log file of the job of that name; long or odd names are spelt so that a file can bear them."""
        spelt = quote(name, safe=" +@,=")
        if len(spelt) > 200 or spelt.startswith("."):
            spelt = f"{spelt[:120].lstrip('.')}~{hashlib.sha256(name.encode()).hexdigest()[:16]}"
        return self._folder / f"{spelt}.log"

    async def open(self, job: Job) -> str:
        """Make sure of the job's log file, the job's user its owner, and listen; returns its path.

        :raises Unavailable: it cannot be made.
        """
        known = self._known(job.name)
        try:
            await asyncio.to_thread(_make, known, job)
        except OSError as error:
            raise Unavailable(f"the log file {known.path} cannot be made: {error.strerror}") from None
        self._arm(known)
        return str(known.path)

    def adopt(self, job: Job) -> None:
        """Listen to the file of a job that is running already."""
        known = self._known(job.name)

        async def catch_up() -> None:
            await asyncio.to_thread(_make, known, job)
            self._arm(known)

        self._task(catch_up())

    def ended(self, job: Job) -> None:
        """The job's process has ended: take in its last words."""
        known = self._known(job.name)
        self._task(self._grown(known, rearm=False))

    async def remove(self, job: Job) -> None:
        """Delete the job's file and its marks."""
        known = self._known(job.name)
        self._disarm(known)
        self._logs.pop(job.name, None)

        def delete() -> None:
            for path in (known.path, _marks_path(known)):
                path.unlink(missing_ok=True)

        await asyncio.to_thread(delete)

    async def read(
        self, name: str, *, lines: int = 100, grep: str | None = None, since: float | None = None
    ) -> dict[str, Any]:
        """The last `lines` lines that hold `grep`, written since an epoch time: `{"lines": […], "truncated": bool}`."""
        known = self._known(name)
        return await asyncio.to_thread(_read, known, min(lines, MAX_LINES), grep, since)

    async def follow(self, name: str) -> AsyncIterator[list[str]]:
        """New complete lines, as they are written from now on; ends never."""
        known = self._known(name)
        grown = asyncio.Event()
        known.followers.add(grown)
        offset = await asyncio.to_thread(_size, known.path)
        try:
            self._arm(known)
            rest = b""
            while True:
                await grown.wait()
                grown.clear()
                while True:
                    offset, chunk = await asyncio.to_thread(_read_from, known.path, offset)
                    if not chunk:
                        break
                    *complete, rest = (rest + chunk).split(b"\n")
                    if len(rest) > MAX_LINE_BYTES:
                        complete, rest = [*complete, rest], b""
                    if complete:
                        yield [_decode(line) for line in complete]
        finally:
            known.followers.discard(grown)

    def _known(self, name: str) -> _Log:
        if name not in self._logs:
            self._logs[name] = _Log(self.path(name))
        return self._logs[name]

    async def _listen(self, inotify: Inotify) -> None:
        async for event in inotify:
            if event.mask & Mask.IGNORED or event.watch is None:
                continue
            for known in self._logs.values():
                if known.watch is event.watch:
                    known.watch = None
                    self._task(self._grown(known, rearm=True))
                    break

    async def _grown(self, known: _Log, *, rearm: bool) -> None:
        try:
            await asyncio.to_thread(_take_in, known, self._max_bytes)
        except FileNotFoundError:
            return
        except OSError as error:
            log.warning("%s: %s", known.path, error.strerror)
        for follower in known.followers:
            follower.set()
        if rearm and known.rearming is None:
            delay = FOLLOW_INTERVAL_SECONDS if known.followers else MARK_INTERVAL_SECONDS
            known.rearming = asyncio.get_running_loop().call_later(delay, self._rearm, known)

    def _rearm(self, known: _Log) -> None:
        known.rearming = None
        self._arm(known)
        self._task(self._missed(known))

    async def _missed(self, known: _Log) -> None:
        """What was written between the last look and the new watch."""
        with suppress(FileNotFoundError):
            if await asyncio.to_thread(_size, known.path) != known.size:
                self._disarm(known)
                await self._grown(known, rearm=True)

    def _arm(self, known: _Log) -> None:
        if known.watch is None and self._inotify is not None:
            with suppress(OSError):
                known.watch = self._inotify.add_watch(known.path, Mask.MODIFY | Mask.ONESHOT)

    def _disarm(self, known: _Log) -> None:
        if known.watch is not None and self._inotify is not None:
            with suppress(OSError, KeyError):
                self._inotify.rm_watch(known.watch)
            known.watch = None

    def _task(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


# What follows runs in threads.


def _make(known: _Log, job: Job) -> None:
    descriptor = os.open(known.path, os.O_CREAT | os.O_APPEND | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    try:
        if os.fstat(descriptor).st_uid != job.uid and os.geteuid() == 0:
            os.fchown(descriptor, job.uid, job.gid)
        known.size = os.fstat(descriptor).st_size
    finally:
        os.close(descriptor)
    if not known.marks:
        with suppress(FileNotFoundError):
            data = _marks_path(known).read_bytes()[-MAX_MARKS * _MARK.size :]
            known.marks.extend(_MARK.iter_unpack(data[: len(data) // _MARK.size * _MARK.size]))


def _take_in(known: _Log, max_bytes: int) -> None:
    """Mark what has come since the last look, and bound the file."""
    status = os.stat(known.path)
    if status.st_size < known.size:
        known.marks.clear()
        known.size = 0
    if status.st_size > known.size:
        known.marks.append((time.time(), known.size))
        known.size = status.st_size
        marks = _marks_path(known)
        with open(marks, "ab") as file:
            file.write(_MARK.pack(*known.marks[-1]))
            long = file.tell() > 2 * MAX_MARKS * _MARK.size
        if long:
            marks.write_bytes(b"".join(_MARK.pack(*mark) for mark in known.marks))
    if status.st_blocks * 512 > max_bytes + max_bytes // 4:
        _bound(known, status.st_size - max_bytes)


def _bound(known: _Log, head: int) -> None:
    """Give the first `head` bytes back to the file system."""
    descriptor = os.open(known.path, os.O_RDWR | os.O_CLOEXEC)
    try:
        length = head // 4096 * 4096
        done = _libc.fallocate(descriptor, _PUNCH_HOLE_KEEP_SIZE, ctypes.c_int64(0), ctypes.c_int64(length))
        if done == 0:
            return
        if ctypes.get_errno() not in (errno.EOPNOTSUPP, errno.ENOSYS):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        os.truncate(descriptor, 0)  # the writer appends, so it goes on at the new end
        known.size = 0
        known.marks.clear()
    finally:
        os.close(descriptor)


def _read(known: _Log, lines: int, grep: str | None, since: float | None) -> dict[str, Any]:
    try:
        descriptor = os.open(known.path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return {"lines": [], "truncated": False}
    try:
        end = os.fstat(descriptor).st_size
        begin = _first_data(descriptor, end)
        if since is not None:
            begin = max(begin, _offset_at(known, since, end))
        found, total, truncated = [], 0, False
        wanted = grep.encode() if grep else None
        for line in _lines_backwards(descriptor, begin, end):
            if wanted is not None and wanted not in line:
                continue
            if len(found) == lines or total > MAX_ANSWER_BYTES:
                truncated = True
                break
            found.append(_decode(line))
            total += len(line)
        return {"lines": found[::-1], "truncated": truncated}
    finally:
        os.close(descriptor)


def _lines_backwards(descriptor: int, begin: int, end: int) -> Any:
    """Lines from the last to the first; one that is longer than a line may be comes in pieces."""
    rest, at = b"", end
    fresh = True
    while at > begin:
        size = min(BLOCK_BYTES, at - begin)
        at -= size
        block = os.pread(descriptor, size, at) + rest
        if fresh and block.endswith(b"\n"):
            block = block[:-1]
        fresh = False
        rest, *complete = block.split(b"\n")
        yield from reversed(complete)
        if len(rest) > BLOCK_BYTES:
            yield rest
            rest = b""
    if rest:
        yield rest


def _first_data(descriptor: int, end: int) -> int:
    """Where the hole at the head ends: the start of the first whole line behind it."""
    if end == 0:
        return 0
    try:
        start = os.lseek(descriptor, 0, _SEEK_DATA)
    except OSError:
        return 0
    if start == 0:
        return 0
    block = os.pread(descriptor, MAX_LINE_BYTES, start)
    return start + block.find(b"\n") + 1


def _offset_at(known: _Log, since: float, end: int) -> int:
    """From where on output is not older than an epoch time."""
    return next((offset for at, offset in known.marks if at >= since), end)


def _read_from(path: Path, offset: int) -> tuple[int, bytes]:
    try:
        with open(path, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(offset if offset <= size else 0)
            chunk = file.read(BLOCK_BYTES)
            return file.tell(), chunk
    except FileNotFoundError:
        return offset, b""


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _marks_path(known: _Log) -> Path:
    return known.path.with_suffix(".marks")


def _decode(line: bytes) -> str:
    return line[:MAX_LINE_BYTES].decode(errors="replace").removesuffix("\r")
