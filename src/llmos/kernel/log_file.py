"""One log file of a job: its marks, its bound, and what can be read of it. Runs in threads, one at a time.

A mark (when, end) says that at that time the output was seen to reach to that offset, so what lies beyond the last mark
before an instant is not older than it. Its time is that since boot, which nobody can set. Marks of long ago are thinned
out, never those of now. The file is bounded by punching a hole into its head; where its file system cannot do that, its
older part is moved to a file of its own (`log_older.py`), and offsets go on as if it were still there. Its owner is the
job's user, so it is never opened through a symbolic link.
"""

import ctypes
import errno
import heapq
import os
import struct
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from llmos.kernel import log_older
from llmos.kernel.log_lines import BLOCK_BYTES, MAX_LINE_BYTES, as_text, lines_backwards
from llmos.kernel.log_older import Older
from llmos.machine.clocks import BOOT, WALL
from llmos.machine.identity import boot_id

MAX_MARKS = 4096
MAX_ANSWER_BYTES = 4 * 1024**2
LARGEST_BYTES = 1024**4
"""A file with a hole in its head is cut off when it reaches to here: file systems end, many at 2 or 16 TiB."""
_MARK = struct.Struct("dQ")
"""The first of a file holds how far the wall clock is ahead of the time since boot, and which boot that was."""
_PUNCH_HOLE_KEEP_SIZE = 0x02 | 0x01
_libc = ctypes.CDLL(None, use_errno=True)
_libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]


@dataclass(slots=True)
class LogFile:
    """The file and what is known of it.

    `size` is what the output reached to when last looked at, and `base` where in it the file begins; `beginnings`
    counts how often the output was seen to begin anew.
    """

    path: Path
    size: int = 0
    base: int = 0
    marks: list[tuple[float, int]] = field(default_factory=list)
    beginnings: int = 0
    _older: Older | None = None
    _kept_from: int = 0
    _read_to: int = 0
    _loaded: bool = False
    _unsaved: bool = True

    @property
    def marks_path(self) -> Path:
        """Where the marks are kept."""
        return self.path.with_name(f"{self.path.name}-marks")

    @property
    def older_path(self) -> Path:
        """Where the older part is, if any."""
        return self.path.with_name(f"{self.path.name}.1")

    def make(self, uid: int, gid: int) -> None:
        """Make sure of the file, owned by that user, and take up its marks.

        :raises OSError: it cannot be made, or is something else.
        """
        try:
            descriptor = self._open(os.O_CREAT | os.O_EXCL | os.O_WRONLY)
            self._forget()
        except FileExistsError:
            descriptor = self._open(os.O_WRONLY | os.O_NONBLOCK)  # a pipe in its place must not hang
        try:
            if os.geteuid() == 0 and os.fstat(descriptor).st_uid != uid:
                os.fchown(descriptor, uid, gid)
        finally:
            os.close(descriptor)
        self._load()

    def remove(self) -> None:
        """Delete it, its older part and its marks."""
        self.path.unlink(missing_ok=True)
        self._forget()

    def length(self) -> int:
        """How far the output reaches now; 0 where there is none."""
        self._load()
        try:
            return self.base + os.lstat(self.path).st_size
        except FileNotFoundError:
            return 0

    def take_in(self, max_bytes: int) -> None:
        """Mark what has come since the last look, and bound the file.

        :raises OSError: it cannot be marked or bounded.
        """
        self._load()
        try:
            size = os.lstat(self.path).st_size
        except FileNotFoundError:  # not written yet, or deleted by somebody
            self._forget()
            return
        if self.base + size < max(self.size, self._read_to):
            self._forget()
        end = self.base + size
        try:
            if end > self.size:
                self.size = end
                self._mark()
        finally:  # a disk that is too full for a mark needs the bound all the more
            if end - self._kept_from > _most(max_bytes) or size > LARGEST_BYTES:
                self._bound(max_bytes)

    def read_from(self, offset: int) -> tuple[int, bytes]:
        """A block from an offset on, and where it ends; what is no longer kept is passed over, to a whole line.

        Where the output does not reach that far, it has begun anew: nothing is read then but that.
        """
        self._load()
        try:
            view = View(self)
        except FileNotFoundError:
            return offset, b""
        with view:
            if view.end < max(offset, self._read_to):
                self._forget()
                return 0, b""
            if offset < self._kept_from:
                offset = max(offset, view.begin)
            chunk = view.read(offset, BLOCK_BYTES)
            self._read_to = max(self._read_to, offset + len(chunk))
            return offset + len(chunk), chunk

    def view(self) -> "View | None":
        """What it holds now, open; None where it is not there.

        :raises OSError: it cannot be opened.
        """
        self._load()
        try:
            return View(self)
        except FileNotFoundError:
            return None

    def backwards(self, view: "View", wanted: bytes, since: float | None) -> Iterator[tuple[float, bytes]]:
        """Lines from the last to the first that hold `wanted` and are not older than a time since boot.

        Each is told with the time by which it was there.
        """
        begin = view.begin if since is None else max(view.begin, self._offset_at(since))
        for offset, line in lines_backwards(view.read, begin, view.end, wanted):
            seen = bisect_right(self.marks, offset, key=lambda mark: mark[1])
            yield self.marks[seen][0] if seen < len(self.marks) else float("inf"), line

    def _open(self, flags: int) -> int:
        return os.open(self.path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)

    def _offset_at(self, when: float) -> int:
        """From where on output is not older than a time since boot."""
        later = bisect_left(self.marks, when, key=lambda mark: mark[0])
        return self.marks[later - 1][1] if later else 0

    def _mark(self) -> None:
        self.marks.append((BOOT.now(), self.size))
        if len(self.marks) > MAX_MARKS:
            del self.marks[0 : MAX_MARKS // 2 : 2]
            self._unsaved = True
        if self._unsaved:
            self._save()
            return
        self._unsaved = True  # until it is there as a whole
        with self.marks_path.open("ab") as file:
            file.write(_MARK.pack(*self.marks[-1]))
        self._unsaved = False

    def _save(self) -> None:
        self._unsaved = True
        self.marks_path.write_bytes(b"".join(_MARK.pack(*mark) for mark in ((_ahead(), _boot()), *self.marks)))
        self._unsaved = False

    def _load(self) -> None:
        if self._loaded:
            return
        self._older, self.base = Older.load(self.older_path, self.path)
        with suppress(FileNotFoundError):
            self._load_marks(self.marks_path.read_bytes())
        self.size = max(self.base, self.marks[-1][1] if self.marks else 0)
        with suppress(OSError), View(self) as view:
            self._kept_from = view.begin
        self._loaded = True

    def _load_marks(self, data: bytes) -> None:
        whole = len(data) // _MARK.size * _MARK.size
        kept = list(_MARK.iter_unpack(data[:whole]))
        if not kept:
            return
        ahead, boot = kept.pop(0)
        # Of an earlier boot the wall clock alone tells how long ago that was.
        later = 0.0 if boot == _boot() else ahead - _ahead()
        now = BOOT.now()
        self.marks = [(min(when + later, now), end) for when, end in kept]
        self._unsaved = whole != len(data) or boot != _boot()

    def _forget(self) -> None:
        self.marks.clear()
        self.beginnings += 1
        self.size = self.base = self._kept_from = self._read_to = 0
        self._older = None
        self._unsaved = self._loaded = True
        self.marks_path.unlink(missing_ok=True)
        log_older.remove(self.older_path)

    def _bound(self, max_bytes: int) -> None:
        """Keep about the last `max_bytes`, and give the rest back to the file system."""
        descriptor = self._open(os.O_RDWR)
        try:
            with View(self) as view:
                self._kept_from = view.begin
            status = os.fstat(descriptor)
            if self.base + status.st_size - self._kept_from <= _most(max_bytes) and status.st_size <= LARGEST_BYTES:
                return
            block = max(4096, status.st_blksize)
            head = max(status.st_size - max_bytes, block) // block * block
            if status.st_size - head < max_bytes // 2:
                return  # whole blocks alone can be given back
            error = punch_hole(descriptor, head) if status.st_size <= LARGEST_BYTES else errno.EFBIG
            if error == 0:
                self._older = None
                log_older.remove(self.older_path)
                self._kept_from = self.base + head
            elif error in (errno.EOPNOTSUPP, errno.ENOSYS, errno.EFBIG):
                self._cut_off(descriptor, max_bytes // 2)
            else:
                raise OSError(error, os.strerror(error))
        finally:
            os.close(descriptor)

    def _cut_off(self, descriptor: int, keep: int) -> None:
        try:
            self._older = log_older.cut_off(descriptor, self.older_path, self.base, keep)
            self.base = self._older.end
        except OSError:
            self._older, self.base = Older.load(self.older_path, self.path)
            raise
        finally:
            self._kept_from = self._older.begin if self._older else self.base


class View:
    """What a log holds at one moment, both its parts as one: the output from `begin`, a whole line, to `end`."""

    def __init__(self, log: LogFile) -> None:
        """Raises OSError: it cannot be opened."""
        self._base, self._part = log.base, log._older
        with ExitStack() as stack:
            self._file = log._open(os.O_RDONLY)
            stack.callback(os.close, self._file)
            if self._part is not None:
                self._older = self._part.open()
                stack.callback(os.close, self._older)
            self.end = self._base + os.fstat(self._file).st_size
            self.begin = self._first_line()
            self._closing = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.close()

    def read(self, at: int, size: int) -> bytes:
        """That many bytes from an offset on, less at the end."""
        if self._part is None or at >= self._base:
            return os.pread(self._file, size, max(0, at - self._base))
        part = os.pread(self._older, min(size, self._base - at), self._part.heading + at - self._part.begin)
        return part if len(part) == size or not part else part + self.read(at + len(part), size - len(part))

    def end_of_lines(self) -> int:
        """Where its last whole line ends; its very end where that lies in a line that is too long to be given whole."""
        at = max(self.begin, self.end - MAX_LINE_BYTES)
        newline = self.read(at, self.end - at).rfind(b"\n")
        return at + newline + 1 if newline >= 0 or at == self.begin else self.end

    def _first_line(self) -> int:
        if self._part is not None:
            start = self._part.begin
        else:
            start = self._base
            with suppress(OSError):  # it is empty, or the file system knows no holes
                start += os.lseek(self._file, 0, os.SEEK_DATA)
        return start if start == 0 else start + self.read(start, MAX_LINE_BYTES).find(b"\n") + 1


@dataclass(frozen=True, slots=True)
class LastLines:
    """Lines that were asked for, whether there were more, and where in each log they end, for who goes on from there."""

    lines: list[str]
    truncated: bool
    ends: list[int]


def last_lines(
    logs: Sequence[LogFile], count: int, grep: str | None = None, since: float | None = None, *, whole: bool = False
) -> LastLines:
    """The last `count` lines that hold `grep` and are not older than a time since boot, of logs that grew side by side.

    By their marks they are put in one order, which is as exact as these. `whole`: without a line that has no end yet.

    :raises OSError: a log cannot be read.
    """
    with ExitStack() as stack:
        views = [(log, stack.enter_context(view)) for log in logs if (view := log.view()) is not None]
        if whole:
            for _, view in views:
                view.end = view.end_of_lines()
        ends = {log.path: view.end for log, view in views}
        wanted = grep.encode() if grep else b""
        found: list[str] = []
        total, truncated = 0, False
        # The logs in reverse: of two lines that may be of the same moment, the first log's is to come first.
        each = [log.backwards(view, wanted, since) for log, view in reversed(views)]
        for _, line in heapq.merge(*each, key=lambda told: told[0], reverse=True):
            if len(found) == count or total > MAX_ANSWER_BYTES:
                truncated = True
                break
            found.append(as_text(line))
            total += len(line)
    return LastLines(found[::-1], truncated, [ends.get(log.path, 0) for log in logs])


def punch_hole(descriptor: int, length: int) -> int:
    """Free the first `length` bytes of a file, whose size stays (fallocate(2)); returns the errno, or 0."""
    done: int = _libc.fallocate(descriptor, _PUNCH_HOLE_KEEP_SIZE, 0, length)
    return 0 if done == 0 else ctypes.get_errno()


def _most(max_bytes: int) -> int:
    """From how much on a log of that bound is bounded."""
    return max_bytes + max_bytes // 4


def _boot() -> int:
    """This boot, as a number that a mark can hold."""
    return int(boot_id().replace("-", "")[:16], 16)


def _ahead() -> float:
    """How far the wall clock is ahead of the time since boot, in seconds."""
    return WALL.now() - BOOT.now()
