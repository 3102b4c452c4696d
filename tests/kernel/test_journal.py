"""The journal on real SQLite: what was acknowledged stays, and what was tampered with or spoilt is noticed."""

import asyncio
import os
import signal
import sqlite3
import stat
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from llmos.errors import Unavailable
from llmos.kernel import journal as module
from llmos.kernel import journal_file
from llmos.kernel.journal import Journal

STEP = {"call": "stop", "args": {"target": "web"}}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


@pytest.fixture
async def journal(path: Path) -> AsyncIterator[Journal]:
    opened = await Journal.open(path)
    yield opened
    await opened.close()


async def filled(path: Path, events: int = 5) -> None:
    journal = await Journal.open(path)
    for number in range(events):
        journal.note("job.started", "web", 1000, {"number": number, "text": "x" * 100})
    journal.save_job("web", {"name": "web", "argv": ["x" * 200]})
    await journal.flush()
    await journal.close()


def edit(path: Path, sql: str) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute(sql)
    connection.close()


async def reopened(path: Path) -> Journal:
    journal = await Journal.open(path)
    await journal.close()
    return journal


async def test_what_was_written_is_there_after_reopening(path: Path) -> None:
    journal = await Journal.open(path)
    journal.save_job("web", {"state": "running"})
    journal.save_job("web", {"state": "stopped"})
    journal.save_job("新 \"'", {"name": "新"})
    journal.remember("paused", [1, {"a": None}])
    watch = await journal.save_watch(None, {"line": "watch cpu above=90"})
    step = await journal.intend(1000, "stop the web", "stop web", STEP)
    await journal.settle(step, ok=True, result={"targets": []}, undo={"jobs": ["web"]})
    open_step = await journal.intend(0, "", "kill 5", {"call": "kill", "args": {"target": "5"}})
    journal.note("asked", "llmosd", 1000, {"request": "hi"})
    await journal.close()

    journal = await Journal.open(path)
    assert journal.set_aside is None
    assert await journal.jobs() == {"web": {"state": "stopped"}, "新 \"'": {"name": "新"}}
    assert await journal.fact("paused") == [1, {"a": None}]
    assert await journal.fact("unknown") is None
    assert await journal.watches() == {watch: {"line": "watch cpu above=90"}}
    [event] = await journal.events()
    assert (event["kind"], event["uid"], event["body"]) == ("asked", 1000, {"request": "hi"})
    [reversible] = await journal.reversible(limit=5)
    assert (reversible["id"], reversible["call"], reversible["undo"]) == (step, STEP, {"jobs": ["web"]})
    assert [each["id"] for each in await journal.unsettled()] == [open_step]
    assert [each["id"] for each in await journal.steps(limit=5)] == [open_step, step]
    assert [each["id"] for each in await journal.steps(limit=5, uid=1000)] == [step]
    await journal.mark_undone(step)
    assert await journal.reversible(limit=5) == []
    await journal.drop_job("web")
    await journal.drop_watch(watch)
    assert set(await journal.jobs()) == {"新 \"'"}
    assert await journal.watches() == {}
    await journal.close()


async def test_the_number_of_a_dropped_watch_is_not_given_again(journal: Journal) -> None:
    first = await journal.save_watch(None, {"line": "a"})
    await journal.drop_watch(first)
    second = await journal.save_watch(None, {"line": "b"})
    await journal.save_watch(first, {"line": "a"})
    assert await journal.watches() == {first: {"line": "a"}, second: {"line": "b"}}


async def test_nobody_else_can_read_it(journal: Journal, path: Path) -> None:
    journal.note("asked", "llmosd", 0, {})
    await journal.flush()
    for file in path.parent.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file


async def test_events_are_found_by_subject_and_number_and_told_once_committed(journal: Journal) -> None:
    told: list[dict[str, Any]] = []
    journal.on_event = told.append
    for number in range(5):
        journal.note("x", "web" if number % 2 else "db", None, {"number": number})
    await journal.flush()
    assert [event["body"]["number"] for event in told] == [0, 1, 2, 3, 4]
    assert [event["id"] for event in told] == [1, 2, 3, 4, 5]
    assert [event["body"]["number"] for event in await journal.events(subject="web")] == [1, 3]
    assert [event["id"] for event in await journal.events(since=3)] == [4, 5]
    assert [event["id"] for event in await journal.events(limit=2)] == [4, 5]


async def test_many_at_once_are_committed_in_groups_and_each_is_answered(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    commit = journal._commit

    def counted(batch: list[Any]) -> None:
        sizes.append(len(batch))
        commit(batch)

    monkeypatch.setattr(journal, "_commit", counted)
    steps = await asyncio.gather(*(journal.intend(0, "", f"kill {number}", STEP) for number in range(2000)))
    assert sorted(steps) == list(range(1, 2001))
    assert sum(sizes) == 2000
    assert len(sizes) < 200


async def test_one_bad_piece_of_work_does_not_undo_the_others(journal: Journal) -> None:
    async def bad() -> None:
        await journal._submit(lambda connection: connection.execute("SELECT * FROM nothing"), durable=True)

    journal.note("x", "a", None, {})
    first, failed, second = await asyncio.gather(
        journal.intend(0, "", "a", STEP), bad(), journal.intend(0, "", "b", STEP), return_exceptions=True
    )
    journal.note("x", "b", None, {})
    assert isinstance(failed, Unavailable)
    assert {first, second} == {1, 2}
    assert await journal.verify() == ""
    assert len(await journal.events()) == 2


async def test_a_caller_that_goes_away_does_not_undo_what_it_asked(journal: Journal) -> None:
    asking = asyncio.ensure_future(journal.intend(0, "", "a", STEP))
    await asyncio.sleep(0)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    await journal.flush()
    assert len(await journal.steps(limit=5)) == 1


async def test_a_queue_that_is_full_says_so(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_QUEUED", 0)
    with pytest.raises(Unavailable, match="cannot keep up"):
        await journal.intend(0, "", "a", STEP)
    journal.note("x", "left out", None, {})
    journal.save_job("web", {"state": "running"})
    monkeypatch.undo()
    await journal.flush()
    assert await journal.events() == []
    assert await journal.jobs() == {"web": {"state": "running"}}


@pytest.mark.parametrize(
    ("sql", "problem"),
    [
        ("UPDATE events SET body = '{}' WHERE id = 3", "event 3 is not what was written"),
        ("UPDATE events SET uid = 0 WHERE id = 1", "event 1 is not what was written"),
        ("UPDATE events SET at = at + 1 WHERE id = 5", "event 5 is not what was written"),
        ("DELETE FROM events WHERE id = 2", "event 2 is missing"),
        ("DELETE FROM events WHERE id < 3", "event 1 is missing"),
        ("UPDATE jobs SET record = '{'", "a record in jobs"),
        ("UPDATE jobs SET record = CAST(x'ff22' AS TEXT)", "decode"),
        ("DROP TABLE facts", "no such table"),
    ],
)
async def test_what_was_tampered_with_is_set_aside(path: Path, sql: str, problem: str) -> None:
    await filled(path)
    edit(path, sql)
    if "no such table" in problem:
        with pytest.raises(Unavailable, match=problem):
            await Journal.open(path)
        return
    journal = await reopened(path)
    assert problem in journal.problem.lower()
    assert journal.set_aside is not None
    assert journal.set_aside.exists()
    assert (await reopened(path)).set_aside is None


async def test_a_change_while_it_is_open_is_found_by_verify(journal: Journal, path: Path) -> None:
    for number in range(3):
        journal.note("x", "web", None, {"number": number})
    await journal.flush()
    assert await journal.verify() == ""
    edit(path, "UPDATE events SET kind = 'y' WHERE id = 2")
    assert await journal.verify() == "event 2 is not what was written"


def spoil(path: Path, damage: str) -> bytes:
    data = bytearray(path.read_bytes())
    match damage:
        case "zero length":
            data = bytearray()
        case "no database":
            data[:16] = b"something else!!"
        case "truncated":
            del data[len(data) // 2 :]
        case "flipped":
            for at in range(4096, len(data), 1024):
                data[at] ^= 0xFF
    path.write_bytes(data)
    return bytes(data)


@pytest.mark.parametrize("damage", ["zero length", "no database", "truncated", "flipped"])
async def test_a_file_that_is_spoilt_is_set_aside(path: Path, damage: str) -> None:
    await filled(path, events=200)
    data = spoil(path, damage)
    journal = await Journal.open(path)
    assert journal.set_aside is not None
    assert journal.set_aside.read_bytes()[:16] == data[:16]
    assert journal.problem
    assert await journal.jobs() == {"web": {"name": "web", "argv": ["x" * 200]}}  # from its copy
    assert await journal.events() == []
    journal.note("x", "web", None, {})
    await journal.flush()
    await journal.close()
    assert (await reopened(path)).set_aside is None


async def test_one_of_a_newer_llmos_stays_and_nothing_starts(path: Path) -> None:
    await filled(path)
    edit(path, "PRAGMA user_version=99")
    with pytest.raises(Unavailable, match=r"newer llmos .*schema 99.*install that version"):
        await Journal.open(path)
    assert [name for name in os.listdir(path.parent) if "corrupt" in name] == []
    edit(path, f"PRAGMA user_version={len(journal_file.MIGRATIONS)}")
    assert (await reopened(path)).set_aside is None


async def test_a_migration_that_fails_leaves_nothing_half_done(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    await filled(path)
    good = journal_file.MIGRATIONS
    monkeypatch.setattr(journal_file, "MIGRATIONS", (*good, "CREATE TABLE more (x); INSERT INTO missing VALUES (1);"))
    with pytest.raises(Unavailable, match="no such table: missing"):
        await Journal.open(path)
    monkeypatch.setattr(journal_file, "MIGRATIONS", (*good, "CREATE TABLE more (x);"))
    journal = await Journal.open(path)
    assert set(await journal.jobs()) == {"web"}
    await journal.close()


async def test_a_directory_in_its_place_is_left_alone(path: Path) -> None:
    os.mkdir(path)
    with pytest.raises(Unavailable, match=r"journal\.db cannot be used"):
        await Journal.open(path)
    assert stat.S_ISDIR(os.stat(path).st_mode)


async def test_a_folder_that_is_missing_is_said(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="No such file or directory"):
        await Journal.open(tmp_path / "missing" / "journal.db")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
async def test_one_that_may_not_be_read_is_left_alone(path: Path) -> None:
    await filled(path)
    os.chmod(path, 0)
    with pytest.raises(Unavailable, match="mend its permissions"):
        await Journal.open(path)
    os.chmod(path, 0o600)
    assert (await reopened(path)).set_aside is None


async def test_pruning_bounds_events_and_steps_and_keeps_the_chain(
    path: Path, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"MAX_EVENTS": 20, "MAX_STEPS": 20, "PRUNE_EVERY": 10}.items():
        monkeypatch.setattr(module, name, value)
    for number in range(95):
        journal.note("x", "web", None, {"number": number})
        await journal.intend(0, "", f"kill {number}", STEP)
    assert [event["id"] for event in await journal.events(limit=1000)] == list(range(71, 96))
    assert len(await journal.steps(limit=1000)) == 25
    assert await journal.verify() == ""
    await journal.close()
    again = await Journal.open(path)
    assert again.set_aside is None
    await again.close()
    edit(path, "DELETE FROM events WHERE id = 71")
    assert (await reopened(path)).problem == "event 71 is missing"


async def test_only_the_newest_are_verified_at_the_start(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    await filled(path, events=50)
    edit(path, "UPDATE events SET kind = 'y' WHERE id = 10")
    monkeypatch.setattr(journal_file, "CHECKED_AT_START", 10)
    journal = await Journal.open(path)
    assert journal.set_aside is None
    assert await journal.verify() == "event 10 is not what was written"
    await journal.close()
    monkeypatch.setattr(journal_file, "CHECKED_AT_START", 40)
    assert (await reopened(path)).set_aside is None
    monkeypatch.setattr(journal_file, "CHECKED_AT_START", 41)
    assert (await reopened(path)).problem == "event 10 is not what was written"


async def test_a_long_request_is_cut(journal: Journal) -> None:
    await journal.intend(0, "x" * 100_000, "stop web", STEP)
    assert len((await journal.steps(limit=1))[0]["request"]) == 2000


def run(script: str, path: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), path], capture_output=True, text=True, timeout=60
    )


def test_a_full_disk_is_said_and_written_to_again_once_there_is_space(path: Path) -> None:
    """A limit on the size of files stands for the full disk: the same write fails, in the same place."""
    done = run(
        """
        import asyncio, resource, sys
        from pathlib import Path
        from llmos.errors import Unavailable
        from llmos.kernel.journal import Journal

        def full(yes):
            resource.setrlimit(resource.RLIMIT_FSIZE, (4096 if yes else resource.RLIM_INFINITY, resource.RLIM_INFINITY))

        async def fails(work):
            try:
                await work
            except Unavailable as error:
                assert "free space on its disk" in error.message, error.message
            else:
                raise AssertionError("it did not fail")

        async def main():
            journal = await Journal.open(Path(sys.argv[1]))
            journal.save_job("web", {"state": "running"})
            journal.save_job("old", {"state": "running"})
            journal.note("x", "web", None, {"number": 1})
            await journal.flush()
            full(True)
            await fails(journal.intend(0, "", "stop web", {}))
            journal.save_job("web", {"state": "stopping"})
            journal.save_job("web", {"state": "stopped"})
            journal.save_job("gone", {})
            journal.note("x", "web", None, {"number": 2})
            await fails(journal.flush())
            await fails(journal.flush())
            journal.save_job("old", {"state": "stopped"})
            await fails(journal.drop_job("old"))
            full(False)
            await journal.drop_job("gone")
            await journal.flush()
            assert await journal.jobs() == {"web": {"state": "stopped"}}
            journal.note("x", "web", None, {"number": 3})
            assert await journal.verify() == ""
            assert [event["body"]["number"] for event in await journal.events()] == [1, 3]
            await journal.close()
            again = await Journal.open(Path(sys.argv[1]))
            assert again.set_aside is None
            assert await again.jobs() == {"web": {"state": "stopped"}}
            await again.close()
            print("well")

        asyncio.run(main())
        """,
        path,
    )
    assert done.stdout == "well\n", done.stderr


def killed_writer(path: Path) -> int:
    """Let a writer work for a while and kill it; returns how many rounds it had seen acknowledged."""
    script = """
        import asyncio, sys
        from pathlib import Path
        from llmos.kernel.journal import Journal

        async def main():
            journal = await Journal.open(Path(sys.argv[1]))
            number = 0
            while True:
                number += 1
                journal.note("x", "web", None, {"number": number})
                journal.save_job("web", {"number": number})
                step = await journal.intend(0, "", "stop web", {})
                await journal.settle(step, ok=True, result={}, undo=None)
                print(number, flush=True)

        asyncio.run(main())
        """
    writer = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script), path], stdout=subprocess.PIPE, text=True, bufsize=1
    )
    assert writer.stdout is not None
    for _ in range(50):
        writer.stdout.readline()
    writer.send_signal(signal.SIGKILL)
    acknowledged = 50 + len(writer.stdout.read().splitlines())
    writer.wait()
    writer.stdout.close()
    return acknowledged


async def test_a_writer_that_is_killed_loses_nothing_acknowledged(path: Path) -> None:
    acknowledged = await asyncio.to_thread(killed_writer, path)
    journal = await Journal.open(path)
    assert journal.set_aside is None
    assert (await journal.jobs())["web"]["number"] >= acknowledged
    assert len([step for step in await journal.steps(limit=10**6) if step["ok"]]) >= acknowledged
    assert (await journal.events(limit=1))[0]["body"]["number"] >= acknowledged
    assert await journal.verify() == ""
    await journal.close()
