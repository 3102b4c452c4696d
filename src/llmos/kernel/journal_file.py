"""The file of the journal: its schema, what is checked when it is opened, and the chain of its events.

Each event holds the SHA-256 of its content and its predecessor's hash; the hash of the last one that was pruned is
kept, so the chain has an anchor. Synchronous: called in the journal's thread.
"""

import hashlib
import json
import os
import sqlite3
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from llmos.errors import Unavailable
from llmos.kernel.journal_copy import Change

CHECKED_AT_START = 2_000
"""How many of the newest events have their chain verified before the daemon answers."""

MIGRATIONS = (
    """
    CREATE TABLE events (id INTEGER PRIMARY KEY, at REAL NOT NULL, kind TEXT NOT NULL, subject TEXT NOT NULL,
                         uid INTEGER, body TEXT NOT NULL, hash TEXT NOT NULL);
    CREATE INDEX events_by_subject ON events (subject, id);
    CREATE TABLE jobs (name TEXT PRIMARY KEY, record TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE watches (id INTEGER PRIMARY KEY AUTOINCREMENT, record TEXT NOT NULL);
    CREATE TABLE steps (id INTEGER PRIMARY KEY, at REAL NOT NULL, uid INTEGER NOT NULL, request TEXT NOT NULL,
                        line TEXT NOT NULL, call TEXT NOT NULL, done_at REAL, ok INTEGER, result TEXT,
                        undo TEXT, undone_at REAL);
    CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
    """,
)
"""SQL, numbered from 1; `PRAGMA user_version` is the ledger of what has been applied."""
PRUNED = "last pruned event"
COPIED = {"jobs": ("name", "record"), "watches": ("id", "record"), "facts": ("name", "value")}
"""Tables of what the daemon starts from, which are copied, with the columns of their keys and values."""
_CORRUPT = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


class Corrupt(Exception):
    """Raised inside when a journal fails its check; the message says how."""


def open_file(path: Path, least_event: int = 0) -> sqlite3.Connection:
    """Open or create the journal, bring its schema up to date, and check it.

    :raises Corrupt: it is not what was written, or its events do not reach to `least_event`.
    :raises Unavailable: a newer llmos has written it.
    :raises OSError, sqlite3.Error: it cannot be opened.
    """
    # It holds the environments of jobs, so nobody else may read it; SQLite gives its companions the same rights.
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        least_event = 0
    except FileExistsError:
        if path.stat().st_size == 0:
            raise Corrupt("it is empty") from None
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=2)
    connection.row_factory = sqlite3.Row
    try:
        connection.execute("PRAGMA journal_mode=WAL")
        problem = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        if problem != "ok":
            raise Corrupt(problem)
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version > len(MIGRATIONS):
            raise Unavailable(
                f"the journal {path} was written by a newer llmos (schema {version}, this one knows "
                f"{len(MIGRATIONS)}); install that version again, or move the file away to begin without its jobs "
                "and its history"
            )
        for number, script in enumerate(MIGRATIONS[version:], version + 1):
            connection.executescript(f"BEGIN IMMEDIATE; {script}; PRAGMA user_version={number}; COMMIT;")
        _verify_records(connection)
        verify_chain(connection, CHECKED_AT_START)
        newest = connection.execute("SELECT max(id) FROM events").fetchone()[0] or 0
        if newest < least_event:
            # SQLite ends quietly at a spoilt frame of its WAL, however much of what was committed comes after it.
            raise Corrupt(f"events {newest + 1} to {least_event} are missing at its end")
    except BaseException:
        connection.close()
        raise
    return connection


def says_corrupt(error: sqlite3.Error) -> bool:
    """Whether SQLite says that the file is spoilt, rather than that it cannot be used now."""
    # What sqlite3 raises of itself has no code: text that is no UTF-8 any more.
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF in _CORRUPT


def rows_of(connection: sqlite3.Connection) -> Iterator[Change]:
    """All rows that are copied."""
    for table, (key, value) in COPIED.items():
        for row in connection.execute(f"SELECT {key}, {value} FROM {table}"):
            yield table, row[0], row[1]


def take_over(connection: sqlite3.Connection, rows: Mapping[tuple[str, str | int], str]) -> None:
    """Begin a fresh journal with the rows of a copy."""
    connection.execute("BEGIN IMMEDIATE")
    for (table, key), value in rows.items():
        if table in COPIED and key != PRUNED:  # its chain of events begins anew
            connection.execute(f"INSERT INTO {table} VALUES (?, ?)", (key, value))
    connection.execute("COMMIT")


def report_changes(connection: sqlite3.Connection, changes: list[Change]) -> None:
    """From now on, have every row that is inserted, changed or deleted of what is copied appended to `changes`."""
    connection.create_function("changed", 3, lambda *change: changes.append(change))
    for table, (key, value) in COPIED.items():
        now = f"NEW.{key}, NEW.{value}"
        for event, row in (("INSERT", now), ("UPDATE", now), ("DELETE", f"OLD.{key}, NULL")):
            connection.execute(
                f"CREATE TEMP TRIGGER {table}_{event} AFTER {event} ON main.{table} "
                f"BEGIN SELECT changed('{table}', {row}); END"
            )


def _verify_records(connection: sqlite3.Connection) -> None:
    """Raise `Corrupt` where a record that the daemon starts from is no JSON any more."""
    for table, column in (("jobs", "record"), ("watches", "record"), ("facts", "value")):
        for (record,) in connection.execute(f"SELECT {column} FROM {table}"):
            try:
                json.loads(record)
            except (TypeError, ValueError):
                raise Corrupt(f"a record in {table} is not what was written") from None


def verify_chain(connection: sqlite3.Connection, newest: int) -> None:
    """Raise `Corrupt` where one of the newest events does not follow from its content and the event before it."""
    rows = connection.execute(
        "SELECT * FROM (SELECT id, at, kind, subject, uid, body, hash FROM events ORDER BY id DESC LIMIT ?) "
        "ORDER BY id",
        (newest + 1,),
    ).fetchall()
    if len(rows) > newest:  # the one before them is taken as it is
        last, previous = rows[0]["id"], rows[0]["hash"]
        rows = rows[1:]
    else:
        pruned = connection.execute("SELECT value FROM facts WHERE name = ?", (PRUNED,)).fetchone()
        last, previous = json.loads(pruned["value"]) if pruned is not None else (0, "")
    for number, at, kind, subject, uid, body, digest in rows:
        if number != last + 1:
            raise Corrupt(f"event {last + 1} is missing")
        if digest_of(previous, number, at, kind, subject, uid, body) != digest:
            raise Corrupt(f"event {number} is not what was written")
        last, previous = number, digest


def digest_of(previous: str, number: int, at: float, kind: str, subject: str, uid: int | None, body: str) -> str:
    """The hash of an event that follows one with the hash `previous`."""
    content = json.dumps([previous, number, at, kind, subject, uid, body])
    return hashlib.sha256(content.encode()).hexdigest()


def set_aside(path: Path) -> Path:
    """Give a journal that failed its check another name, which is returned."""
    aside = path.with_name(f"{path.name}.corrupt-{time.strftime('%Y%m%dT%H%M%S')}-{time.monotonic_ns() % 10**6:06d}")
    path.rename(aside)
    for suffix in ("-wal", "-shm"):
        companion = path.with_name(path.name + suffix)
        if companion.exists():
            companion.rename(aside.with_name(aside.name + suffix))
    return aside


def remedy(error: Exception, path: Path) -> str:
    """What is shown of a journal that cannot be used."""
    why = error.strerror if isinstance(error, OSError) else error
    return f"the journal {path} cannot be used ({why}); free space on its disk, or mend its permissions"
