"""What earlier runs took, on disk: runtime, processor time, memory, I/O and exit of each, by fingerprint, user and job.

A file of its own beside the journal, for it is only ever a help: one that is damaged is begun anew. It holds the newest
50 runs of a kind, 20,000 in all and 16 MiB. Synchronous, one caller at a time; llmosd calls it in threads.
"""

import logging
import sqlite3
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import astuple, dataclass
from pathlib import Path

from llmos.errors import Unavailable

log = logging.getLogger("llmos.scheduler")

MAX_OF_A_KIND = 50
MAX_RUNS = 20_000
MAX_BYTES = 16 * 1024**2
_PRUNE_EVERY = 200
_PAGE = 4096
_SCHEMA = """
CREATE TABLE IF NOT EXISTS runs (
    id INTEGER PRIMARY KEY, fingerprint TEXT NOT NULL, uid INTEGER NOT NULL, job TEXT NOT NULL, ended_at REAL NOT NULL,
    runtime REAL NOT NULL, cpu_seconds REAL, peak_bytes INTEGER, io_bytes INTEGER, exit INTEGER,
    gpus INTEGER, gpu_peak_bytes INTEGER);
CREATE INDEX IF NOT EXISTS by_kind ON runs (fingerprint, uid, job);
"""


@dataclass(frozen=True, slots=True)
class PastRun:
    """One run that ended: seconds and bytes; None is what nobody saw. `exit` is its code, or minus its signal."""

    fingerprint: str
    uid: int
    job: str
    ended_at: float
    runtime: float
    cpu_seconds: float | None
    peak_bytes: int | None
    io_bytes: int | None
    exit: int | None
    gpus: int | None = None
    """GPUs that it held."""
    gpu_peak_bytes: int | None = None
    """The most that it used of the memory of one of them."""

    @property
    def size(self) -> float | None:
        """Processor seconds that it takes; None where nobody saw that, or a signal ended it before."""
        return None if self.exit is not None and self.exit < 0 else self.cpu_seconds


_COLUMNS = "fingerprint, uid, job, ended_at, runtime, cpu_seconds, peak_bytes, io_bytes, exit, gpus, gpu_peak_bytes"
_ADDED = ("gpus", "gpu_peak_bytes")
"""Columns that files of before do not have."""
_MARKS = ", ".join("?" * len(_COLUMNS.split(", ")))


class RunHistory:
    """The file, open."""

    def __init__(self, path: Path) -> None:
        """Open or make it.

        :raises Unavailable: there is no room or no right to.
        """
        self.path = path
        self._turn = threading.Lock()
        self._written = 0
        try:
            self._connection = self._open()
        except sqlite3.DatabaseError as damaged:
            log.warning("the history of runs was damaged (%s) and is begun anew", damaged)
            for ending in ("", "-wal", "-shm"):
                with suppress(FileNotFoundError):
                    path.with_name(path.name + ending).unlink()
            try:
                self._connection = self._open()
            except sqlite3.DatabaseError as error:
                raise Unavailable(f"the history of runs {path} cannot be opened: {error}") from None

    def close(self) -> None:
        """Close it."""
        with self._turn:
            self._connection.close()

    def add(self, runs: Iterable[PastRun]) -> None:
        """Keep these, and forget what is too much.

        :raises Unavailable: they cannot be written.
        """
        rows = [astuple(run) for run in runs]
        try:
            self._write(lambda: self._insert(rows))
        except sqlite3.DatabaseError as full:
            if "full" not in str(full):
                raise Unavailable(f"the history of runs {self.path} cannot be written: {full}") from None
            try:
                self._write(self._forget_quarter)
                self._write(lambda: self._insert(rows))
            except sqlite3.DatabaseError as error:
                raise Unavailable(f"the history of runs {self.path} cannot be written: {error}") from None

    def newest(self, limit: int = MAX_RUNS) -> list[PastRun]:
        """The newest runs, the oldest of them first.

        :raises Unavailable: they cannot be read.
        """
        return self._select("TRUE", limit)

    def of_gpus(self, limit: int = MAX_RUNS) -> list[PastRun]:
        """The newest runs that held GPUs, the oldest of them first.

        :raises Unavailable: they cannot be read.
        """
        return self._select("gpus > 0", limit)

    def _select(self, which: str, limit: int) -> list[PastRun]:
        sql = f"SELECT {_COLUMNS} FROM runs WHERE {which} ORDER BY id DESC LIMIT ?"
        try:
            with self._turn:
                rows = self._connection.execute(sql, (limit,)).fetchall()
        except sqlite3.DatabaseError as error:
            raise Unavailable(f"the history of runs {self.path} cannot be read: {error}") from None
        return [PastRun(*row) for row in reversed(rows)]

    def _open(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, timeout=2, check_same_thread=False, isolation_level=None)
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=OFF")  # it may be lost, and must not cost a wait
            connection.execute(f"PRAGMA page_size={_PAGE}")
            connection.execute(f"PRAGMA max_page_count={MAX_BYTES // _PAGE}")
            connection.executescript(_SCHEMA)
            there = {row[1] for row in connection.execute("PRAGMA table_info(runs)")}
            for column in _ADDED:
                if column not in there:
                    connection.execute(f"ALTER TABLE runs ADD COLUMN {column} INTEGER")
            if (found := connection.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
                raise sqlite3.DatabaseError(found)
        except sqlite3.DatabaseError:
            connection.close()
            raise
        self.path.chmod(0o600)
        return connection

    def _write(self, work: Callable[[], None]) -> None:
        with self._turn:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                work()
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    def _insert(self, rows: list[tuple[object, ...]]) -> None:
        self._connection.executemany(f"INSERT INTO runs ({_COLUMNS}) VALUES ({_MARKS})", rows)
        self._connection.executemany(
            "DELETE FROM runs WHERE id IN (SELECT id FROM runs WHERE fingerprint = ? AND uid = ? AND job = ? "
            "ORDER BY id DESC LIMIT -1 OFFSET ?)",
            [(*kind, MAX_OF_A_KIND) for kind in {row[:3] for row in rows}],
        )
        self._written += len(rows)
        if self._written >= _PRUNE_EVERY:
            self._written = 0
            self._connection.execute("DELETE FROM runs WHERE id <= (SELECT max(id) FROM runs) - ?", (MAX_RUNS,))

    def _forget_quarter(self) -> None:
        self._connection.execute(
            "DELETE FROM runs WHERE id IN (SELECT id FROM runs ORDER BY id LIMIT (SELECT count(*) / 4 + 1 FROM runs))"
        )
