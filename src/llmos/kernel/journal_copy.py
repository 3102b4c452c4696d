"""A second copy of what the daemon starts from, beside the journal: jobs, watches and facts as lines with checksums.

It is read only where the journal fails its check, so that this costs no acknowledged change. Lines are appended by
single write()s once a batch has been committed, and before it is acknowledged, without a sync: like the reaper's ledger
it has to outlive the daemon, not the power. The file is rewritten whenever it has doubled. Synchronous: called in the
journal's thread.
"""

import json
import os
import zlib
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from llmos.machine.identity import boot_id

REWRITE_BYTES = 1 << 20
"""A copy below this is left to grow."""

Change = tuple[str, str | int, str | None]
"""Table, key and value of a row; no value where the row was deleted."""


class JournalCopy:
    """The copy of one journal, open for appending."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = -1
        self._limit = 0
        self.stale = True
        """The file does not hold all that it should; `rewrite` mends that."""

    def append(self, changes: Iterable[Change], last_event: int) -> None:
        """Add what a batch has changed; `last_event` is the number of the journal's newest event now."""
        data = b"".join(map(_line, changes)) + _mark(last_event)
        try:
            if os.write(self._file, data) != len(data):
                raise OSError("it was written in part")
            self.stale = os.fstat(self._file).st_size > self._limit
        except OSError:  # a full disk, most likely; a copy that lacks something must not be taken for one
            self.stale = True
            with suppress(OSError):
                os.ftruncate(self._file, 0)

    def rewrite(self, rows: Iterable[Change], last_event: int) -> None:
        """Begin anew with these rows; where the disk has no room for that, the copy stays stale."""
        fresh = self._path.with_name(f"{self._path.name}.new")
        data = b"".join(map(_line, rows)) + _mark(last_event)
        try:
            file = os.open(fresh, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        except OSError:
            return
        try:
            if os.write(file, data) != len(data):
                raise OSError("it was written in part")
            os.rename(fresh, self._path)
        except OSError:
            os.close(file)
            with suppress(OSError):
                os.unlink(fresh)
            return
        self.close()
        self._file, self.stale = file, False
        self._limit = max(REWRITE_BYTES, 2 * len(data))

    def close(self) -> None:
        """Close the file."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def read_copy(path: Path) -> tuple[dict[tuple[str, str | int], str], int]:
    """The rows by table and key, and the number of the newest event that their journal held, 0 where nothing says.

    What follows a line that is not what was written is left out, and the number is 0 as well after a reboot.
    """
    rows: dict[tuple[str, str | int], str] = {}
    last_event = 0
    try:
        data = path.read_bytes()
    except OSError:
        return {}, 0
    for line in data.split(b"\n")[:-1]:
        checksum, _, text = line.partition(b" ")
        if checksum != _checksum(text):
            break
        table, key, value = json.loads(text)
        if table == "event":
            last_event = key if value == boot_id() else 0
        elif value is None:
            rows.pop((table, key), None)
        else:
            rows[table, key] = value
    return rows, last_event


def _mark(last_event: int) -> bytes:
    return _line(("event", last_event, boot_id()))


def _line(change: Change) -> bytes:
    text = json.dumps(change, separators=(",", ":")).encode()
    return _checksum(text) + b" " + text + b"\n"


def _checksum(text: bytes) -> bytes:
    return b"%08x" % zlib.crc32(text)
