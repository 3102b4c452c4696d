"""The logs of jobs, with real inotify and real writers: growth is marked, bounded and told, every line once."""

import asyncio
import logging
import os
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from pathlib import Path

import asyncinotify
import pytest

from llmos.errors import Unavailable
from llmos.kernel import job_log
from llmos.kernel.job import Job
from llmos.kernel.job_log import JobLogs

Condition = Callable[[], object]


def job(name: str = "web") -> Job:
    return Job(name, ["x"], "/", {}, os.getuid(), os.getgid())


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_log, "LOOK_INTERVAL_SECONDS", 0.02)
    monkeypatch.setattr(job_log, "FOLLOW_INTERVAL_SECONDS", 0.01)


@pytest.fixture
async def logs(tmp_path: Path) -> AsyncIterator[JobLogs]:
    started = JobLogs(tmp_path / "logs", 256 * 1024)
    await started.start()
    yield started
    await started.close()


async def comes_true(condition: Condition) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "it did not come true"
        await asyncio.sleep(0.01)


def append(path: str | Path, data: bytes) -> None:
    with Path(path).open("ab") as file:
        file.write(data)


async def collect(logs: JobLogs, name: str, into: list[str], until: asyncio.Future[None] | None = None) -> None:
    async with aclosing(logs.follow(name, until)) as following:
        async for lines in following:
            into += lines


async def following(logs: JobLogs, name: str, into: list[str]) -> asyncio.Task[None]:
    """A follower that is known to listen."""
    before = len(logs._known(name).followers)
    task = asyncio.ensure_future(collect(logs, name, into))
    await comes_true(lambda: len(logs._known(name).followers) > before)
    return task


async def ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_growth_is_marked_without_anybody_asking(logs: JobLogs) -> None:
    path = await logs.open(job())
    for number in range(3):
        append(path, b"x\n")
        await comes_true(lambda: logs._known("web").file.size == 2 * (number + 1))  # noqa: B023
    assert [end for _, end in logs._known("web").file.marks] == [2, 4, 6]
    assert (await logs.read("web", since=time.time() - 3600))["lines"] == ["x"] * 3
    assert (await logs.read("web", since=time.time() + 5))["lines"] == []


async def test_a_follower_gets_every_line_once_from_a_writer_that_never_rests(logs: JobLogs) -> None:
    path = await logs.open(job())
    append(path, b"before\n")
    got: list[str] = []
    task = await following(logs, "web", got)
    script = f"""
import os, time
out = os.open({path!r}, os.O_APPEND | os.O_WRONLY)
for number in range(5000):
    os.write(out, b"%d\\n" % number)
    if number % 50 == 0: time.sleep(0.002)
    if number % 7 == 0: os.write(out, b"part"); os.write(out, b"ed\\n")
"""
    writer = await asyncio.create_subprocess_exec(sys.executable, "-c", script)
    await writer.wait()
    await comes_true(lambda: "4999" in got)
    await comes_true(lambda: len(got) == 5000 + 715)
    assert [line for line in got if line != "parted"] == [str(number) for number in range(5000)]
    await ended(task)
    assert not logs._known("web").followers


async def test_two_followers_and_the_bound_do_not_disturb_each_other(logs: JobLogs) -> None:
    path = await logs.open(job())
    first: list[str] = []
    second: list[str] = []
    tasks = [await following(logs, "web", first), await following(logs, "web", second)]
    for number in range(40):
        append(path, b"".join(b"%d %s\n" % (number, b"x" * 90) for _ in range(200)))
        await comes_true(lambda: len(first) == len(second) == 200 * (number + 1))  # noqa: B023
    assert first == second
    status = await asyncio.to_thread(os.stat, path)
    assert status.st_size > 2 * 256 * 1024
    await comes_true(lambda: os.stat(path).st_blocks * 512 <= 256 * 1024 * 5 // 4 + 20_000)
    for task in tasks:
        await ended(task)


async def test_a_follower_ends_with_the_job_and_gets_its_last_words(logs: JobLogs) -> None:
    path = await logs.open(job())
    over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    got: list[str] = []
    task = asyncio.ensure_future(collect(logs, "web", got, over))
    await comes_true(lambda: logs._known("web").followers)
    append(path, b"one\nlast words")
    over.set_result(None)
    await asyncio.wait_for(task, 20)
    assert got == ["one", "last words"]


async def test_a_long_line_reaches_a_follower_whole_in_pieces(logs: JobLogs) -> None:
    logs._max_bytes = 4 * 1024**2
    path = await logs.open(job())
    got: list[str] = []
    task = await following(logs, "web", got)
    append(path, b"0123456789" * 100_000)
    append(path, b"\nnext\r\n\xff\n")
    await comes_true(lambda: got[-1:] == ["\ufffd"])
    assert got[-2] == "next"
    assert "".join(got[:-2]) == "0123456789" * 100_000
    await ended(task)


async def test_a_follower_of_what_has_not_been_written_yet(logs: JobLogs) -> None:
    got: list[str] = []
    task = await following(logs, "later", got)
    path = await logs.open(job("later"))
    append(path, b"hello\n")
    await comes_true(lambda: got == ["hello"])
    await ended(task)


async def test_a_log_that_is_deleted_comes_back_with_the_next_run(logs: JobLogs) -> None:
    path = await logs.open(job())
    got: list[str] = []
    task = await following(logs, "web", got)
    append(path, b"old\n")
    await comes_true(lambda: got == ["old"])
    os.unlink(path)
    assert (await logs.read("web"))["lines"] == []
    assert await logs.open(job()) == path
    append(path, b"new\n")
    await comes_true(lambda: got == ["old", "new"])
    await ended(task)


async def test_a_log_that_is_emptied_goes_on(logs: JobLogs) -> None:
    path = await logs.open(job())
    got: list[str] = []
    task = await following(logs, "web", got)
    append(path, b"a long old line\nand a part")
    await comes_true(lambda: len(got) == 1)
    os.truncate(path, 0)
    await comes_true(lambda: logs._known("web").file.size == 0)
    append(path, b"new\n")
    await comes_true(lambda: len(got) == 2)
    assert got == ["a long old line", "new"]
    await ended(task)


async def test_what_was_written_while_the_daemon_was_away_is_taken_up(tmp_path: Path) -> None:
    logs = JobLogs(tmp_path, 256 * 1024)
    await logs.start()
    path = await logs.open(job())
    append(path, b"a\n")
    await comes_true(lambda: logs._known("web").file.size == 2)
    await logs.close()
    append(path, b"b\n")
    away = time.time()
    logs = JobLogs(tmp_path, 256 * 1024)
    await logs.start()
    logs.adopt(job())
    await comes_true(lambda: logs._known("web").file.size == 4)
    assert (await logs.read("web"))["lines"] == ["a", "b"]
    assert (await logs.read("web", since=away - 0.001))["lines"] == ["b"]
    append(path, b"c\n")
    await comes_true(lambda: logs._known("web").file.size == 6)
    await logs.close()


async def test_removing_leaves_nothing_and_the_next_of_that_name_begins_anew(logs: JobLogs, tmp_path: Path) -> None:
    path = await logs.open(job())
    append(path, b"a\n")
    await comes_true(lambda: logs._known("web").file.size == 2)
    await logs.remove(job())
    assert list((tmp_path / "logs").iterdir()) == []
    append(await logs.open(job()), b"b\n")
    assert (await logs.read("web", since=0.0))["lines"] == ["b"]


NAMES = [
    "web",
    "a b",
    "it's",
    '"',
    "新" * 128,
    "x" * 128,
    "🦀" * 100,
    ".hidden",
    "..",
    "-rf",
    "a~b",
    "%41",
    "A",
    "a.log",
    "\\",
]


@pytest.mark.parametrize("name", NAMES)
async def test_a_job_of_any_name_has_a_log(logs: JobLogs, tmp_path: Path, name: str) -> None:
    path = Path(await logs.open(job(name)))
    assert path.parent == tmp_path / "logs"
    append(path, b"x\n")
    assert (await logs.read(name))["lines"] == ["x"]
    await comes_true(lambda: logs._known(name).file.size == 2)
    await logs.remove(job(name))


def test_no_two_names_share_a_log(tmp_path: Path) -> None:
    logs = JobLogs(tmp_path, 65536)
    names = [*NAMES, "新" * 127, "x" * 127]
    names += [logs.path(name).stem for name in names]
    assert len({logs.path(name) for name in names}) == len(set(names))


async def test_a_log_that_cannot_be_made_is_said(logs: JobLogs, caplog: pytest.LogCaptureFixture) -> None:
    logs.path("web").symlink_to("/etc/passwd")
    with pytest.raises(Unavailable, match=r"web\.log cannot be made: Too many levels"):
        await logs.open(job())
    with caplog.at_level(logging.ERROR):
        logs.adopt(job())
        await comes_true(lambda: "cannot be made" in caplog.text)


async def test_without_a_watch_it_is_looked_at_anyway(
    logs: JobLogs, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(asyncinotify.Inotify, "add_watch", full)
    path = await logs.open(job())
    got: list[str] = []
    task = await following(logs, "web", got)
    for number in range(3):
        append(path, b"%d\n" % number)
        await comes_true(lambda: len(got) == number + 1)  # noqa: B023
    assert caplog.text.count("raise fs.inotify.max_user_watches") == 1
    await ended(task)


async def test_a_writer_without_a_pause_costs_few_looks(logs: JobLogs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_log, "LOOK_INTERVAL_SECONDS", 0.2)
    path = await logs.open(job())
    writer = await asyncio.create_subprocess_exec("sh", "-c", f"exec yes >> '{path}'")
    try:
        await comes_true(lambda: logs._known("web").file.size > 2_000_000)
        before = len(logs._known("web").file.marks)
        await asyncio.sleep(1)
        looks = len(logs._known("web").file.marks) - before
    finally:
        writer.kill()
        await writer.wait()
    assert looks <= 10
