"""Reading and writing the files of a cgroup, with what the kernel answers put into words. Synchronous, as all of cgroups."""

import errno
import hashlib
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

from llmos.errors import Conflict, Forbidden, NotFound, Unsupported

SETTLE_SECONDS = 3.0  # how long the kernel may take to freeze, to empty or to let go of a group
_POLL_SECONDS = 0.005
# The file or its group is gone, not for us, or of a threaded group: but never out of descriptors, which is no answer.
_NO_WORDS = (errno.ENOENT, errno.ENOTDIR, errno.ENODEV, errno.EACCES, errno.EPERM, errno.EOPNOTSUPP)
_NAME_BYTES = 200  # the kernel takes 255


def directory_name(name: str) -> str:
    """A directory for a group of any name: percent-encoded, and cut with a digest where that grows too long.

    The ending keeps it apart from the kernel's own files, such as `tasks` and `memory.max`.
    """
    encoded = quote(name, safe="", errors="surrogateescape")
    if len(encoded) > _NAME_BYTES:
        digest = hashlib.sha256(name.encode(errors="surrogateescape")).hexdigest()[:16]
        encoded = f"{encoded[:_NAME_BYTES]}~{digest}"
    return f"{encoded}.group"


def read(file: Path) -> str:
    """The file without its last line break. Raises NotFound without the group, Unsupported without the file."""
    try:
        return file.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise _failure(error, file, f"read {file}") from None


def read_words(file: Path) -> frozenset[str]:
    """The words in the file, signs dropped; none where it is not there or not to be read."""
    try:
        return frozenset(word.lstrip("+") for word in file.read_text(encoding="utf-8").split())
    except OSError as error:
        if error.errno in _NO_WORDS:
            return frozenset()
        raise _failure(error, file, f"read {file}") from None


def read_table(file: Path) -> dict[str, int]:
    """Lines of `key number`."""
    rows = (line.split() for line in read(file).splitlines())
    return {row[0]: int(row[1]) for row in rows if len(row) == 2}


def write(file: Path, text: str, *, act: str = "") -> None:
    """Write in one call, never making the file. `act` says in a message what was tried.

    Raises NotFound without the group or process, Unsupported without the file, Forbidden, or Conflict when the kernel
    refuses.
    """
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC)
        try:
            os.write(descriptor, text.encode())
        finally:
            os.close(descriptor)
    except OSError as error:
        raise _failure(error, file, act or f"write {text!r} to {file}") from None


def make(directory: Path) -> None:
    """Make a group's directory and its parent. Raises Forbidden."""
    for _ in range(10):  # another runtime may take an empty parent away between the two
        try:
            directory.parent.mkdir(exist_ok=True)
            directory.mkdir(exist_ok=True)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise _failure(error, directory, f"make {directory}") from None
        return
    raise NotFound(f"cannot make {directory}: {directory.parent} does not stay")


def remove(directory: Path) -> bool:
    """Remove a directory, which the kernel keeps for a moment after its last process; False when it stays."""

    def gone() -> bool:
        with suppress(OSError):
            directory.rmdir()
        return not directory.exists()

    return until(gone)


def until(condition: Callable[[], bool]) -> bool:
    """Ask until it is so; False when it is not within SETTLE_SECONDS."""
    deadline = time.monotonic() + SETTLE_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True


def _failure(error: OSError, file: Path, act: str) -> Exception:
    match error.errno:
        case errno.ENOENT | errno.ENODEV if not file.parent.is_dir():
            return NotFound(f"cannot {act}: there is no group {file.parent}")
        case errno.ENOENT:
            return Unsupported(f"cannot {act}: this kernel has no {file.name}")
        case errno.ESRCH:
            return NotFound(f"cannot {act}: the process has ended")
        case errno.EACCES | errno.EPERM | errno.EROFS:
            return Forbidden(
                f"cannot {act}: not allowed to uid {os.geteuid()}; run llmosd as root or delegate the group"
            )
        case _:
            return Conflict(f"cannot {act}: {error.strerror}")
