"""What fills a disk: the biggest files and folders below a path.

Synchronous and possibly long: the daemon calls it in a thread; it stops at a deadline and at a number of entries, and says
so. It stays on one file system, follows no symbolic link, and counts a file with several names once, as du(1) does.
"""

import heapq
import os
import stat as modes
import time
from dataclasses import dataclass, field

from llmos.errors import Forbidden
from llmos.machine.paths import locate, printable
from llmos.machine.row import Row

DEADLINE = 30.0  # seconds
MAX_ENTRIES = 5_000_000

_BLOCK = 512  # the unit of st_blocks, whatever the file system's own: stat(2)


@dataclass(frozen=True, slots=True)
class Size(Row):
    """Bytes that a file, or a folder with all below it, takes on the disk (not its length: files may have holes)."""

    path: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Usage(Row):
    """What lies below a path. When `truncated`, time or entries ran out and every size is a lower bound.

    `folders` does not hold the path itself; `unreadable` counts the folders that the caller may not read.
    """

    path: str
    bytes: int
    folders: tuple[Size, ...]
    files: tuple[Size, ...]
    entries: int
    unreadable: int
    truncated: bool


def largest(path: str, limit: int = 10, *, deadline: float = DEADLINE, max_entries: int = MAX_ENTRIES) -> Usage:
    """The `limit` biggest files and the `limit` biggest folders below a path, the biggest first.

    Raises:
        NotFound: there is nothing at that path.
        Forbidden: the caller may not read the folder, or one on the way.
    """
    root, status = locate(path)
    if not modes.S_ISDIR(status.st_mode):
        size = Size(printable(root), status.st_blocks * _BLOCK)
        return Usage(size.path, size.bytes, (), (size,), entries=1, unreadable=0, truncated=False)
    if not os.access(root, os.R_OK | os.X_OK):
        raise Forbidden(f"{path} may not be read by this user: ask as root", path=path)
    return _Walk(limit, status.st_dev, time.monotonic() + deadline, max_entries).over(root, status.st_blocks * _BLOCK)


@dataclass(slots=True)
class _Folder:
    path: str
    bytes: int
    waiting: list["_Folder"] = field(default_factory=list)


class _Walk:
    """A depth-first walk with its own stack, one folder open at a time, so that no depth exhausts stack or descriptors."""

    def __init__(self, limit: int, device: int, deadline: float, max_entries: int) -> None:
        self._limit = limit
        self._device = device
        self._deadline = deadline
        self._max_entries = max_entries
        self._files: list[tuple[int, str]] = []
        self._folders: list[tuple[int, str]] = []
        self._linked: set[int] = set()
        self._entries = 0
        self._unreadable = 0
        self._truncated = False

    def over(self, path: str, own_bytes: int) -> Usage:
        root = _Folder(path, own_bytes)
        self._read(root)
        stack = [root]
        while stack:
            folder = stack[-1]
            if folder.waiting and not self._truncated:
                below = folder.waiting.pop()
                self._read(below)
                stack.append(below)
                continue
            stack.pop()
            if stack:
                stack[-1].bytes += folder.bytes
                self._keep(self._folders, folder.bytes, folder.path)
        return Usage(
            printable(path),
            root.bytes,
            _biggest_first(self._folders),
            _biggest_first(self._files),
            self._entries,
            self._unreadable,
            self._truncated,
        )

    def _read(self, folder: _Folder) -> None:
        """Add up the files of a folder, and note the folders in it."""
        try:
            with os.scandir(folder.path) as entries:
                for entry in entries:
                    if self._entries >= self._max_entries or time.monotonic() > self._deadline:
                        self._truncated = True
                        return
                    self._entries += 1
                    self._add(folder, entry)
        except FileNotFoundError:
            return  # removed meanwhile
        except OSError:  # no permission, a path longer than the kernel takes, a failing disk
            self._unreadable += 1

    def _add(self, folder: _Folder, entry: os.DirEntry[str]) -> None:
        try:
            status = entry.stat(follow_symlinks=False)
        except FileNotFoundError:
            return
        if status.st_dev != self._device:
            return
        size = status.st_blocks * _BLOCK
        if modes.S_ISDIR(status.st_mode):
            folder.waiting.append(_Folder(entry.path, size))
            return
        if status.st_nlink > 1:
            if status.st_ino in self._linked:
                return
            self._linked.add(status.st_ino)
        folder.bytes += size
        self._keep(self._files, size, entry.path)

    def _keep(self, heap: list[tuple[int, str]], size: int, path: str) -> None:
        if len(heap) < self._limit:
            heapq.heappush(heap, (size, path))
        elif heap and size > heap[0][0]:
            heapq.heapreplace(heap, (size, path))


def _biggest_first(heap: list[tuple[int, str]]) -> tuple[Size, ...]:
    return tuple(Size(printable(path), size) for size, path in sorted(heap, reverse=True))
