"""What a journal that fails its check costs: nothing that was acknowledged, for its copy has it."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import needs_root
from llmos.kernel import journal_copy
from llmos.kernel.journal import Journal, copy_path
from llmos.kernel.journal_copy import read_copy

WEB = {"name": "web", "state": "running"}
KILLED = """
import asyncio, os, signal, sys
from pathlib import Path
from llmos.kernel.journal import Journal
async def main():
    journal = await Journal.open(Path(sys.argv[1]))
    for number in range(60):
        journal.note("x", f"job-{number}", None, {"text": "x" * 3000})
        journal.save_job(f"job-{number}", {"number": number})
        await journal.flush()
    os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(main())
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


async def written(path: Path) -> None:
    journal = await Journal.open(path)
    journal.save_job("web", {"name": "web", "state": "starting"})
    journal.save_job("gone", {"name": "gone"})
    await journal.save_watch(None, {"metric": "load"})
    dropped = await journal.save_watch(None, {"metric": "cpu"})
    journal.remember("paused processes", [1, 2])
    journal.save_job("web", WEB)
    await journal.drop_job("gone")
    await journal.drop_watch(dropped)
    await journal.close()


def spoil(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def filled_and_killed(path: Path) -> None:
    """A writer that is killed, and whose WAL is then spoilt in the middle."""
    subprocess.run([sys.executable, "-c", KILLED, path], check=False)
    wal = path.with_name("journal.db-wal")
    with wal.open("r+b") as file:
        file.seek(wal.stat().st_size // 2)
        file.write(os.urandom(512))


async def test_a_fresh_journal_begins_with_the_copy(path: Path) -> None:
    await written(path)
    spoil(path, b"spoilt" * 2000)
    journal = await Journal.open(path)
    assert journal.set_aside is not None
    assert await journal.jobs() == {"web": WEB}
    assert await journal.watches() == {1: {"metric": "load"}}
    assert await journal.fact("paused processes") == [1, 2]
    assert await journal.verify() == ""
    await journal.close()
    spoil(path, b"")  # and again
    journal = await Journal.open(path)
    assert await journal.jobs() == {"web": WEB}
    await journal.close()


async def test_one_that_was_moved_away_is_not_brought_back(path: Path) -> None:
    await written(path)
    await asyncio.to_thread(path.unlink)
    journal = await Journal.open(path)
    assert await journal.jobs() == {} and journal.set_aside is None
    await journal.close()
    assert read_copy(copy_path(path))[0] == {}


async def test_a_hole_in_what_was_committed_is_found(path: Path) -> None:
    """SQLite takes a WAL up to its first spoilt frame, and says nothing of what was committed behind it."""
    filled_and_killed(path)
    journal = await Journal.open(path)
    assert "are missing at its end" in journal.problem
    assert await journal.jobs() == {f"job-{number}": {"number": number} for number in range(60)}
    await journal.close()


async def test_what_a_power_loss_takes_from_the_end_is_no_corruption(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await written(path)
    copy = copy_path(path)
    ahead = journal_copy.JournalCopy(copy)
    monkeypatch.setattr(journal_copy, "boot_id", lambda: "an earlier boot")
    ahead.rewrite([], 1_000_000)
    ahead.close()
    monkeypatch.undo()
    journal = await Journal.open(path)
    assert journal.set_aside is None and await journal.jobs() == {"web": WEB}
    await journal.close()


async def test_a_torn_copy_is_read_up_to_the_tear(path: Path) -> None:
    await written(path)
    copy = copy_path(path)
    whole = copy.read_bytes()
    lines = whole.splitlines(keepends=True)
    copy.write_bytes(b"".join(lines[:-1]) + lines[-1][:5])
    assert read_copy(copy)[0]["jobs", "web"]
    copy.write_bytes(b"00000000 [1]\n" + whole)
    assert read_copy(copy) == ({}, 0)
    assert read_copy(path.with_name("none")) == ({}, 0)


async def test_it_stays_short_and_nobody_else_reads_it(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_copy, "REWRITE_BYTES", 10_000)
    journal = await Journal.open(path)
    for number in range(300):
        journal.save_job("web", {"number": number, "text": "x" * 1000})
        await journal.flush()
        assert copy_path(path).stat().st_size < 14_000
    await journal.close()
    assert copy_path(path).stat().st_mode & 0o777 == 0o600
    assert read_copy(copy_path(path))[0]["jobs", "web"].startswith('{"number": 299')


async def test_what_is_rolled_back_is_not_copied(path: Path) -> None:
    journal = await Journal.open(path)
    journal.save_job("web", WEB)
    with pytest.raises(ZeroDivisionError):
        await journal._submit(lambda connection: 1 // 0, durable=True)
    await journal.flush()
    await journal.close()
    assert list(read_copy(copy_path(path))[0]) == [("jobs", "web")]


@needs_root
def test_a_full_disk_leaves_no_copy_that_lacks_something(tmp_path: Path) -> None:
    """In a mount namespace of its own, so that nothing can be left mounted."""
    script = f"""
import asyncio, os, subprocess
from pathlib import Path
from llmos.errors import Unavailable
from llmos.kernel.journal import Journal, copy_path
from llmos.kernel.journal_copy import read_copy
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "small", {str(tmp_path)!r}], check=True)
path = Path({str(tmp_path)!r}) / "journal.db"
filler = path.with_name("filler")
async def main():
    journal = await Journal.open(path)
    journal.save_job("before", {{}})
    await journal.flush()
    with filler.open("wb", buffering=0) as file:
        try:
            while True: file.write(bytes(4096))
        except OSError: pass
    kept = {{"before"}}
    for number in range(40):
        journal.save_job(f"job-{{number}}", {{"text": "x" * 5000}})
        try:
            await journal.flush()
            kept.add(f"job-{{number}}")
        except Unavailable: pass
        rows = {{key for _, key in read_copy(copy_path(path))[0]}}
        assert not rows or kept <= rows, (kept - rows)
    filler.unlink()
    journal.save_job("after", {{}})
    await journal.flush()
    rows = {{key for _, key in read_copy(copy_path(path))[0]}}
    assert rows == set(await journal.jobs()) and "after" in rows and "job-39" in rows
    await journal.close()
asyncio.run(main())
"""
    done = subprocess.run(
        ["unshare", "--mount", sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
