"""The older part of a log whose file system cannot free its head: `NAME.log.1`, and moving the tail of the log there.

A job holds its log open and appends to it, so the file cannot be replaced, only emptied. What was written is copied
until nothing is left, and in the next moment the log is emptied. What is written between these two system calls is lost:
Linux has none that does both. It is a microsecond or two; as root nothing keeps us from the processor then, and else
that may be milliseconds where the job itself leaves it to nobody. What was copied is never in both files: the older part
says whether the log was emptied after it.
"""

import ctypes
import errno
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

CHUNK_BYTES = 1024**2
"""How much is copied at a time, and all that is kept where the disk is full."""
HURRY_BYTES = 64 * 1024**2
"""How much may be written while it is copied: a writer that is faster than the copying cannot have it go on for ever."""
END_TRIES, END_SECONDS = 20, 0.0001
"""How often and how far apart it is looked whether a line that has no end yet gets one: half a write can be seen, too."""
_HEADING = "llmos: from byte %d of the output, cut off at byte %d, %s\n"
_READ = re.compile(rb"llmos: from byte (\d+) of the output, cut off at byte (\d+), (cutting|cut    )\n")
_CUTTING, _CUT = "cutting", "cut    "
_FULL = (errno.ENOSPC, errno.EDQUOT)

# Called with the interpreter locked, so that no other thread comes between the copying and the emptying.
_libc = ctypes.PyDLL(None, use_errno=True)
_libc.sendfile.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.POINTER(ctypes.c_int64), ctypes.c_size_t]
_libc.sendfile.restype = ctypes.c_ssize_t
_libc.pread.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_int64]
_libc.ftruncate.argtypes = [ctypes.c_int, ctypes.c_int64]


@dataclass(frozen=True, slots=True)
class Older:
    """The older part: the bytes of the output from `begin` to `end`, behind a heading of `heading` bytes."""

    path: Path
    begin: int
    end: int
    heading: int

    @classmethod
    def load(cls, path: Path, log: Path) -> tuple[Self | None, int]:
        """The older part, where there is one, and where in the output the log begins.

        :raises OSError: one of them cannot be read.
        """
        try:
            descriptor = _open(path, os.O_RDONLY)
        except FileNotFoundError:
            return None, 0
        try:
            size = os.fstat(descriptor).st_size
            heading = _READ.match(os.pread(descriptor, 200, 0))
            if heading is None:
                return None, 0
            begin, cut_from = int(heading[1]), int(heading[2])
            found = cls(path, begin, begin + size - heading.end(), heading.end())
            if heading[3] == _CUTTING.encode() and _still_in(log, descriptor, found, cut_from):
                return None, begin - cut_from
            return found, found.end
        finally:
            os.close(descriptor)

    def open(self) -> int:
        """A descriptor of the file.

        :raises OSError: it cannot be opened.
        """
        return _open(self.path, os.O_RDONLY)


def remove(path: Path) -> None:
    """Delete an older part, and one whose making was cut short."""
    for each in (path, _unfinished(path)):
        each.unlink(missing_ok=True)


def cut_off(log: int, path: Path, base: int, keep: int) -> Older:
    """Move the last `keep` bytes of an open log, and what is written meanwhile, to `path`, and empty the log.

    `base` is where in the output the log begins. Of a log on a full disk less is kept.

    :raises OSError: it cannot be done; the log is as it was.
    """
    try:
        return _cut_off(log, path, base, keep)
    except OSError as error:
        if error.errno not in _FULL:
            raise
    path.unlink(missing_ok=True)
    with suppress(OSError):
        return _cut_off(log, path, base, keep)
    size = os.fstat(log).st_size
    tail = os.pread(log, CHUNK_BYTES, max(0, size - CHUNK_BYTES))
    os.ftruncate(log, 0)
    begin = base + size - len(tail)
    heading = (_HEADING % (begin, 0, _CUT)).encode()
    descriptor = _open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    try:
        _own(descriptor, log)
        os.write(descriptor, heading + tail)
    finally:
        os.close(descriptor)
    return Older(path, begin, begin + len(tail), len(heading))


def _cut_off(log: int, path: Path, base: int, keep: int) -> Older:
    size = os.fstat(log).st_size
    start = max(0, size - keep)
    most = size + max(keep, HURRY_BYTES)
    heading = (_HEADING % (base + start, start, _CUTTING)).encode()
    unfinished = _unfinished(path)
    descriptor = _open(unfinished, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    try:
        _own(descriptor, log)
        os.write(descriptor, heading)
        at = start
        while at < most and (sent := os.sendfile(descriptor, log, at, CHUNK_BYTES)):
            at += sent
        unfinished.rename(path)
        with _ahead_of_all():
            at = _copy_and_empty(log, descriptor, at, most)
        os.pwrite(descriptor, (_HEADING % (base + start, start, _CUT)).encode(), 0)
    except OSError:
        unfinished.unlink(missing_ok=True)
        raise
    finally:
        os.close(descriptor)
    return Older(path, base + start, base + at, len(heading))


def _unfinished(path: Path) -> Path:
    return path.with_name(f"{path.name}-new")


def _copy_and_empty(log: int, copy: int, at: int, most: int) -> int:
    """Copy all that there is from an offset on, and empty the log; returns where it ended."""
    offset, last = ctypes.c_int64(at), ctypes.create_string_buffer(1)
    _libc.pread(log, last, 1, at - 1)
    done, tries = 0, 0
    while offset.value < most:
        done = _libc.sendfile(copy, log, offset, CHUNK_BYTES)
        if done > 0:
            _libc.pread(log, last, 1, offset.value - 1)
        elif done < 0 or last.raw == b"\n" or tries == END_TRIES:
            break
        else:
            tries += 1
            time.sleep(END_SECONDS)
    if done < 0 or _libc.ftruncate(log, 0) < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return offset.value


@contextmanager
def _ahead_of_all() -> Iterator[None]:
    """Have this thread go before all others for a moment, where that is allowed: the log's lock is the writer's, else."""
    before = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    except OSError:
        yield
        return
    try:
        yield
    finally:
        os.sched_setscheduler(0, *before)


def _still_in(log: Path, older: int, found: Older, cut_from: int) -> bool:
    """Whether a log still holds what was copied from it: whoever copied ended before emptying it."""
    size = found.end - found.begin
    tail = min(size, 64 * 1024)
    try:
        descriptor = _open(log, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        there = os.pread(descriptor, tail, cut_from + size - tail)
    finally:
        os.close(descriptor)
    return there == os.pread(older, tail, found.heading + size - tail)


def _open(path: Path, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def _own(descriptor: int, log: int) -> None:
    """Give it to the owner of the log."""
    status = os.fstat(log)
    if os.geteuid() == 0:
        os.fchown(descriptor, status.st_uid, status.st_gid)
