"""One log file of a job: its marks, its bound, and reading it forwards and backwards. Runs in threads.

A mark (when, end) says that at that time the file was seen to reach to that offset, so what lies beyond the last mark
before an instant is not older than it. Marks of long ago are thinned out, never those of now. The file is bounded by
punching a hole into its head, or by emptying it where the file system cannot do that. Its owner is the job's user, so
it is never opened through a symbolic link.
"""

import ctypes
import errno
import os
import struct
import time
from bisect import bisect_left
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

MAX_MARKS = 4096
MAX_ANSWER_BYTES = 4 * 1024**2
MAX_LINE_BYTES = 64 * 1024
"""A longer line is given in pieces of this size."""
BLOCK_BYTES = 256 * 1024
_MARK = struct.Struct("dQ")
_PUNCH_HOLE_KEEP_SIZE = 0x02 | 0x01
_libc = ctypes.CDLL(None, use_errno=True)
_libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]


@dataclass(slots=True)
class LogFile:
    """The file and what is known of it: `size` is what it reached to when last looked at; `beginnings` counts how often
    it was seen to begin anew."""

    path: Path
    size: int = 0
    marks: list[tuple[float, int]] = field(default_factory=list)
    beginnings: int = 0
    _loaded: bool = False

    @property
    def marks_path(self) -> Path:
        """Where the marks are kept."""
        return self.path.with_suffix(".marks")

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
        """Delete it and its marks."""
        for path in (self.path, self.marks_path):
            path.unlink(missing_ok=True)
        self._forget()

    def length(self) -> int:
        """How far it reaches now; 0 where it is not there."""
        try:
            return os.lstat(self.path).st_size
        except FileNotFoundError:
            return 0

    def take_in(self, max_bytes: int) -> None:
        """Mark what has come since the last look, and bound the file.

        :raises OSError: it cannot be marked or bounded.
        """
        self._load()
        try:
            status = os.lstat(self.path)
        except FileNotFoundError:  # not written yet, or deleted by somebody
            self._forget()
            return
        if status.st_size < self.size:
            self._forget()
        if status.st_size > self.size:
            self.size = status.st_size
            self._mark()
        if status.st_blocks * 512 > max_bytes + max_bytes // 4 and status.st_size > max_bytes:
            self._bound(status.st_size - max_bytes)

    def read(self, lines: int, grep: str | None, since: float | None) -> dict[str, Any]:
        """The last `lines` lines that hold `grep`, not older than `since`: `{"lines": […], "truncated": bool}`."""
        try:
            descriptor = self._open(os.O_RDONLY)
        except FileNotFoundError:
            return {"lines": [], "truncated": False}
        try:
            end = os.fstat(descriptor).st_size
            begin = _behind_hole(descriptor, 0)
            if since is not None:
                begin = max(begin, self._offset_at(since))
            found: list[str] = []
            total, truncated = 0, False
            wanted = grep.encode() if grep else None
            for line in _lines_backwards(descriptor, begin, end):
                if wanted is not None and wanted not in line:
                    continue
                if len(found) == lines or total > MAX_ANSWER_BYTES:
                    truncated = True
                    break
                found.append(as_text(line))
                total += len(line)
            return {"lines": found[::-1], "truncated": truncated}
        finally:
            os.close(descriptor)

    def read_from(self, offset: int) -> tuple[int, bytes]:
        """A block from an offset on, and where it ends; what has been given back is passed over."""
        try:
            descriptor = self._open(os.O_RDONLY)
        except FileNotFoundError:
            return offset, b""
        try:
            offset = _behind_hole(descriptor, offset)
            chunk = os.pread(descriptor, BLOCK_BYTES, offset)
            return offset + len(chunk), chunk
        finally:
            os.close(descriptor)

    def _open(self, flags: int) -> int:
        return os.open(self.path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)

    def _offset_at(self, since: float) -> int:
        """From where on output is not older than an epoch time."""
        later = bisect_left(self.marks, since, key=lambda mark: mark[0])
        return self.marks[later - 1][1] if later else 0

    def _mark(self) -> None:
        self.marks.append((time.time(), self.size))
        if len(self.marks) <= MAX_MARKS:
            with self.marks_path.open("ab") as file:
                file.write(_MARK.pack(*self.marks[-1]))
        else:
            del self.marks[0 : MAX_MARKS // 2 : 2]
            self.marks_path.write_bytes(b"".join(_MARK.pack(*mark) for mark in self.marks))

    def _load(self) -> None:
        if self._loaded:
            return
        self._loaded = True
        with suppress(FileNotFoundError):
            data = self.marks_path.read_bytes()
            self.marks = list(_MARK.iter_unpack(data[: len(data) // _MARK.size * _MARK.size]))
        self.size = self.marks[-1][1] if self.marks else 0

    def _forget(self) -> None:
        self.marks.clear()
        self.beginnings += 1
        self.marks_path.unlink(missing_ok=True)
        self.size = 0

    def _bound(self, head: int) -> None:
        """Give the first `head` bytes back to the file system."""
        descriptor = self._open(os.O_RDWR)
        try:
            if (error := punch_hole(descriptor, head // 4096 * 4096)) == 0:
                return
            if error not in (errno.EOPNOTSUPP, errno.ENOSYS):
                raise OSError(error, os.strerror(error))
            os.truncate(descriptor, 0)  # the writer appends, so it goes on at the new end
            self._forget()
        finally:
            os.close(descriptor)


def punch_hole(descriptor: int, length: int) -> int:
    """Free the first `length` bytes of a file, whose size stays (fallocate(2)); returns the errno, or 0."""
    done: int = _libc.fallocate(descriptor, _PUNCH_HOLE_KEEP_SIZE, 0, length)
    return 0 if done == 0 else ctypes.get_errno()


def pieces(line: bytes) -> list[bytes]:
    """A line as it is given: whole, or in pieces where it is longer than a line may be."""
    return [line[at : at + MAX_LINE_BYTES] for at in range(0, len(line), MAX_LINE_BYTES)] or [line]


def as_text(line: bytes) -> str:
    """A line as text: what is no UTF-8 is replaced, the CR of a CRLF is dropped."""
    return line.decode(errors="replace").removesuffix("\r")


def _lines_backwards(descriptor: int, begin: int, end: int) -> Iterator[bytes]:
    """Lines from the last to the first, the long ones in pieces."""
    rest, at = b"", end
    while at > begin:
        size = min(BLOCK_BYTES, at - begin)
        at -= size
        block = os.pread(descriptor, size, at) + rest
        if at + size == end:
            block = block.removesuffix(b"\n")
        rest, *complete = block.split(b"\n")
        for line in reversed(complete):
            yield from reversed(pieces(line))
        while len(rest) > BLOCK_BYTES:
            rest, piece = rest[:-MAX_LINE_BYTES], rest[-MAX_LINE_BYTES:]
            yield piece
    if end > begin:
        yield from reversed(pieces(rest))


def _behind_hole(descriptor: int, offset: int) -> int:
    """The offset, or where it lies in a hole, the start of the first whole line behind that."""
    try:
        start = os.lseek(descriptor, offset, os.SEEK_DATA)
    except OSError:  # at the end, or the file system knows no holes
        return offset
    if start == offset:
        return offset
    return start + os.pread(descriptor, MAX_LINE_BYTES, start).find(b"\n") + 1
