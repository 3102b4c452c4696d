"""The journal: what was asked, intended and done, and the jobs and watches as they stand, in SQLite (WAL).

One thread owns the connection and commits whatever has gathered since its last commit as one transaction. An
acknowledged change is on disk before its answer: its commit syncs (`synchronous=FULL`). Intents and notes only have to
outlive the daemon, not the power (after a power loss no process is left that they could be about), so a batch of those
alone is committed without a sync (`NORMAL`).

Events are append-only and hash-chained. A journal that fails its check is set aside under another name and reported,
never trusted, and a fresh one begins with the jobs, watches and facts of its copy (`journal_copy.py`). One that merely
cannot be opened (rights, a newer schema, a full disk) stays where it is, and the daemon does not start without it.
"""

import asyncio
import json
import logging
import queue
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from tenacity import retry, retry_if_exception_message, stop_after_attempt, wait_random_exponential

from llmos.errors import Unavailable
from llmos.kernel.journal_copy import Change, JournalCopy, read_copy
from llmos.kernel.journal_file import (
    PRUNED,
    Corrupt,
    digest_of,
    open_file,
    remedy,
    report_changes,
    rows_of,
    says_corrupt,
    set_aside,
    take_over,
    verify_chain,
)

MAX_EVENTS = 50_000
MAX_STEPS = 10_000
PRUNE_EVERY = 1_000
MAX_QUEUED = 20_000
MAX_BATCH = 500

log = logging.getLogger("llmos.journal")
Result = TypeVar("Result")
Row = dict[str, Any]


_JOBS, _FACTS = "jobs (name, record)", "facts (name, value)"


class Journal:
    """The daemon's end: methods queue work for the journal's thread and await its commit."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.set_aside: Path | None = None
        """Where a journal that failed its check was put, this time."""
        self.problem = ""
        self.on_event: Callable[[Row], None] = lambda event: None
        self._queue: queue.SimpleQueue[_Work | None] = queue.SimpleQueue()
        self._queued = 0
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._serve, name="journal", daemon=True)
        self._connection: sqlite3.Connection
        self._last_hash = ""
        self._last_id = 0
        self._copy = JournalCopy(copy_path(path))
        self._changes: list[Change] = []
        """What the transaction has changed of what is copied."""
        self._unsaved: dict[tuple[str, str] | None, _Work] = {}
        """What could not be written of jobs and facts, by table and name; it goes with the next batch."""

    @classmethod
    async def open(cls, path: Path) -> "Journal":
        """Open or create the journal; one that fails its check is set aside and a fresh one begun.

        :raises Unavailable: it cannot be opened, or a newer llmos has written it.
        """
        journal = cls(path)
        await asyncio.to_thread(journal._open_checked)
        journal._thread.start()
        return journal

    async def close(self) -> None:
        """Commit what is queued and close."""
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join)

    # What the daemon writes

    def note(self, kind: str, subject: str, uid: int | None, body: Row) -> None:
        """Append an event; `on_event` gets it once it is committed."""
        self._post(lambda connection: self._append(connection, kind, subject, uid, body), then=self.on_event)

    async def intend(self, uid: int, request: str, line: str, call: Row) -> int:
        """Record that a line is about to be carried out; returns the number of the step."""

        def write(connection: sqlite3.Connection) -> int:
            row = connection.execute(
                "INSERT INTO steps (at, uid, request, line, call) VALUES (?, ?, ?, ?, ?) RETURNING id",
                (time.time(), uid, request[:2000], line, json.dumps(call)),
            ).fetchone()
            if row[0] % PRUNE_EVERY == 0:
                connection.execute("DELETE FROM steps WHERE id <= ?", (row[0] - MAX_STEPS,))
            return int(row[0])

        return await self._submit(write, durable=False)

    async def settle(self, step: int, *, ok: bool, result: Row, undo: Row | None) -> None:
        """Record what came of a step, and how to take it back."""

        def write(connection: sqlite3.Connection) -> None:
            connection.execute(
                "UPDATE steps SET done_at = ?, ok = ?, result = ?, undo = ? WHERE id = ?",
                (time.time(), ok, json.dumps(result), json.dumps(undo) if undo is not None else None, step),
            )

        await self._submit(write, durable=True)

    async def mark_undone(self, step: int) -> None:
        """Record that a step has been taken back."""
        await self._execute("UPDATE steps SET undone_at = ? WHERE id = ?", (time.time(), step), durable=True)

    def save_job(self, name: str, record: Row) -> None:
        """Write a job as it stands; `flush` makes sure of it."""
        self._keep(_JOBS, name, record)

    async def drop_job(self, name: str) -> None:
        """Forget a job."""
        sql = "DELETE FROM jobs WHERE name = ?"
        await self._submit(
            lambda connection: connection.execute(sql, (name,)) and None, durable=True, key=(_JOBS, name)
        )

    async def save_watch(self, number: int | None, record: Row) -> int:
        """Write a watch; returns its number."""

        def write(connection: sqlite3.Connection) -> int:
            row = connection.execute(
                "INSERT INTO watches VALUES (?, ?) ON CONFLICT DO UPDATE SET record = excluded.record RETURNING id",
                (number, json.dumps(record)),
            ).fetchone()
            return int(row[0])

        return await self._submit(write, durable=True)

    async def drop_watch(self, number: int) -> None:
        """Forget a watch."""
        await self._execute("DELETE FROM watches WHERE id = ?", (number,), durable=True)

    def remember(self, name: str, value: Any) -> None:
        """Keep a fact of the daemon's own, such as what has been reprioritised; `flush` makes sure of it."""
        self._keep(_FACTS, name, value)

    # What the daemon reads

    async def fact(self, name: str) -> Any:
        """A remembered fact, or None."""
        rows = await self._query("SELECT value FROM facts WHERE name = ?", (name,))
        return json.loads(rows[0]["value"]) if rows else None

    async def jobs(self) -> dict[str, Row]:
        """Every job's record by name."""
        return {row["name"]: json.loads(row["record"]) for row in await self._query("SELECT * FROM jobs")}

    async def watches(self) -> dict[int, Row]:
        """Every watch's record by number."""
        return {row["id"]: json.loads(row["record"]) for row in await self._query("SELECT * FROM watches ORDER BY id")}

    async def events(self, *, subject: str | None = None, since: int = 0, limit: int = 100) -> list[Row]:
        """The newest events after number `since`, at most `limit`, oldest first."""
        rows = await self._query(
            "SELECT id, at, kind, subject, uid, body FROM events WHERE id > ? AND (? IS NULL OR subject = ?) "
            "ORDER BY id DESC LIMIT ?",
            (since, subject, subject, limit),
        )
        return [{**row, "body": json.loads(row["body"])} for row in reversed(rows)]

    async def steps(self, *, limit: int, uid: int | None = None) -> list[Row]:
        """The newest steps, newest first; of one user, or of all."""
        return [
            _step(row)
            for row in await self._query(
                "SELECT * FROM steps WHERE ? IS NULL OR uid = ? ORDER BY id DESC LIMIT ?", (uid, uid, limit)
            )
        ]

    async def reversible(self, *, limit: int, uid: int | None = None) -> list[Row]:
        """The newest steps that can be taken back and have not been, newest first."""
        return [
            _step(row)
            for row in await self._query(
                "SELECT * FROM steps WHERE undo IS NOT NULL AND undone_at IS NULL AND (? IS NULL OR uid = ?) "
                "ORDER BY id DESC LIMIT ?",
                (uid, uid, limit),
            )
        ]

    async def unsettled(self) -> list[Row]:
        """Steps whose outcome was never recorded, oldest first: the daemon died between act and outcome."""
        return [_step(row) for row in await self._query("SELECT * FROM steps WHERE done_at IS NULL ORDER BY id")]

    async def flush(self) -> None:
        """Return once everything queued so far is on disk.

        :raises Unavailable: a state of a job or a fact cannot be written.
        """

        def check(_: sqlite3.Connection) -> None:
            for work in self._unsaved.values():
                raise work.error or Unavailable(f"the journal {self.path} cannot be written")

        await self._submit(check, durable=True)

    async def verify(self) -> str:
        """Verify the whole chain of events; returns what is wrong with it, or the empty string."""

        def check(connection: sqlite3.Connection) -> str:
            try:
                verify_chain(connection, MAX_EVENTS + PRUNE_EVERY)
            except Corrupt as problem:
                return str(problem)
            return ""

        return await self._submit(check, durable=False)

    # The journal's thread

    async def _execute(self, sql: str, values: tuple[Any, ...], durable: bool) -> None:
        await self._submit(lambda connection: connection.execute(sql, values) and None, durable)

    async def _query(self, sql: str, values: tuple[Any, ...] = ()) -> list[Row]:
        return await self._submit(
            lambda connection: [dict(row) for row in connection.execute(sql, values).fetchall()], durable=False
        )

    def _keep(self, table: str, name: str, value: Any) -> None:
        """Post the newest state of something, in `table (key, value)`."""
        text = json.dumps(value)
        sql = f"INSERT OR REPLACE INTO {table} VALUES (?, ?)"
        self._post(lambda connection: connection.execute(sql, (name, text)) and None, key=(table, name))

    def _post(
        self,
        action: Callable[[sqlite3.Connection], Result],
        *,
        key: tuple[str, str] | None = None,
        then: Callable[[Result], None] = lambda result: None,
    ) -> None:
        """Queue work that nobody waits for; what goes wrong with it is logged."""
        if key is None and self._queued >= MAX_QUEUED:
            log.error("the journal cannot keep up; an event is left out")
            return

        def done(future: asyncio.Future[Result]) -> None:
            if error := future.exception():
                log.error("%s", error)
            else:
                then(future.result())

        self._put(_Work(action, False, self._loop.create_future(), key)).add_done_callback(done)

    async def _submit(
        self, action: Callable[[sqlite3.Connection], Result], durable: bool, key: tuple[str, str] | None = None
    ) -> Result:
        if self._queued >= MAX_QUEUED:
            raise Unavailable("the journal cannot keep up with what is asked; try again in a moment")
        future: asyncio.Future[Result] = self._put(_Work(action, durable, self._loop.create_future(), key))
        return await asyncio.shield(future)

    def _put(self, work: "_Work") -> asyncio.Future[Any]:
        self._queued += 1
        self._queue.put(work)
        return work.future

    def _serve(self) -> None:
        work = self._queue.get()
        while work is not None:
            batch = [work]
            while len(batch) < MAX_BATCH and not self._queue.empty() and (work := self._queue.get()) is not None:
                batch.append(work)
            self._commit(batch)
            work = self._queue.get() if work is not None else None
        if self._unsaved:
            self._commit([])
        self._connection.close()
        self._copy.close()

    def _commit(self, batch: list["_Work"]) -> None:
        """Write a batch as one transaction, and before it what could not be written earlier."""
        unsaved, self._unsaved = self._unsaved, {}
        try:
            self._write([*unsaved.values(), *batch])
        except Exception:
            # One bad piece of work must not undo the others'.
            for work in [*unsaved.values(), *batch]:
                try:
                    self._write([work])
                    self._unsaved.pop(work.key, None)
                except sqlite3.Error as error:
                    work.error = Unavailable(remedy(error, self.path))
                    if work.key is not None:
                        self._unsaved[work.key] = work
                except Exception as error:
                    work.error = error
        self._loop.call_soon_threadsafe(self._resolve, batch)

    def _write(self, batch: list["_Work"]) -> None:
        connection = self._connection
        before = self._last_id, self._last_hash
        connection.execute(f"PRAGMA synchronous={'FULL' if any(work.durable for work in batch) else 'NORMAL'}")
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            _begin(connection)
        try:
            for work in batch:
                work.result, work.error = work.action(connection), None
            connection.execute("COMMIT")
        except BaseException:
            self._changes.clear()
            self._last_id, self._last_hash = before
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        if self._last_id != before[0] or self._changes:
            if not self._copy.stale:
                self._copy.append(self._changes, self._last_id)
            self._changes.clear()
        if self._copy.stale:
            self._copy.rewrite(rows_of(connection), self._last_id)

    def _resolve(self, batch: list["_Work"]) -> None:
        self._queued -= len(batch)
        for work in batch:
            if work.future.done():
                continue
            if work.error is not None:
                work.future.set_exception(work.error)
            else:
                work.future.set_result(work.result)

    def _append(self, connection: sqlite3.Connection, kind: str, subject: str, uid: int | None, body: Row) -> Row:
        number, at, text = self._last_id + 1, time.time(), json.dumps(body)
        digest = digest_of(self._last_hash, number, at, kind, subject, uid, text)
        connection.execute(
            "INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?)", (number, at, kind, subject, uid, text, digest)
        )
        self._last_id, self._last_hash = number, digest
        if number % PRUNE_EVERY == 0:
            self._prune_events(connection, number - MAX_EVENTS)
        return {"id": number, "at": at, "kind": kind, "subject": subject, "uid": uid, "body": body}

    def _prune_events(self, connection: sqlite3.Connection, last: int) -> None:
        row = connection.execute("SELECT id, hash FROM events WHERE id = ?", (last,)).fetchone()
        if row is not None:
            connection.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (PRUNED, json.dumps(list(row))))
            connection.execute("DELETE FROM events WHERE id <= ?", (last,))

    def _open_checked(self) -> None:
        rows, copied_event = read_copy(copy_path(self.path))
        try:
            try:
                self._connection = open_file(self.path, copied_event)
            except (Corrupt, sqlite3.DatabaseError) as problem:
                if isinstance(problem, sqlite3.Error) and not says_corrupt(problem):
                    raise
                self.problem = str(problem)
                self.set_aside = set_aside(self.path)
                self._connection = open_file(self.path)
                take_over(self._connection, rows)
        except (OSError, sqlite3.Error) as error:
            raise Unavailable(remedy(error, self.path)) from None
        newest = self._connection.execute("SELECT id, hash FROM events ORDER BY id DESC LIMIT 1").fetchone()
        if newest:
            self._last_id, self._last_hash = newest
        self._copy.rewrite(rows_of(self._connection), self._last_id)
        report_changes(self._connection, self._changes)


class _Work:
    __slots__ = ("action", "durable", "error", "future", "key", "result")

    def __init__(
        self,
        action: Callable[[sqlite3.Connection], Any],
        durable: bool,
        future: asyncio.Future[Any],
        key: tuple[str, str] | None = None,
    ) -> None:
        self.action, self.durable, self.future, self.key = action, durable, future, key
        self.result: Any = None
        self.error: Exception | None = None


def copy_path(path: Path) -> Path:
    """Where the copy of a journal lies."""
    return path.with_name(f"{path.stem}.copy")


@retry(
    retry=retry_if_exception_message(match=".*(locked|busy).*"),
    stop=stop_after_attempt(5),
    wait=wait_random_exponential(multiplier=0.01, max=0.5),
    reraise=True,
)
def _begin(connection: sqlite3.Connection) -> None:
    """Take the lock to write, which somebody who looks into the file may hold."""
    connection.execute("BEGIN IMMEDIATE")


def _step(row: Row) -> Row:
    return {
        **row,
        "call": json.loads(row["call"]),
        "result": json.loads(row["result"]) if row["result"] else None,
        "undo": json.loads(row["undo"]) if row["undo"] else None,
    }
