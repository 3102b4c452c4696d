"""The logs of jobs, with real inotify and real writers: growth is marked, bounded and told, every line once."""

import asyncio
import errno
import logging
import os
import random
import shutil
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any

import asyncinotify
import pytest

from llmos.errors import Unavailable, Unsupported
from llmos.kernel import job_log, log_file
from llmos.kernel.job import Job
from llmos.kernel.job_log import STREAMS, JobLogs, require_files
from llmos.kernel.log_file import LogFile

Condition = Callable[[], object]


def job(name: str = "web", **more: Any) -> Job:
    return Job(name, ["x"], "/", {}, os.getuid(), os.getgid(), **more)


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


async def collect(
    logs: JobLogs, name: str, into: list[str], until: asyncio.Future[None] | None = None, **asked: Any
) -> None:
    async with aclosing(logs.follow(name, until, **asked)) as following:
        async for lines in following:
            into += lines


async def following(logs: JobLogs, name: str, into: list[str], **asked: Any) -> asyncio.Task[None]:
    """A follower that is known to listen."""
    known = logs._of(name, asked.get("stream"))[0]
    before = len(known.followers)
    task = asyncio.ensure_future(collect(logs, name, into, **asked))
    await comes_true(lambda: len(known.followers) > before)
    return task


async def opened(logs: JobLogs, name: str = "web") -> str:
    return (await logs.open(job(name)))["stdout"]


async def ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_growth_is_marked_without_anybody_asking(logs: JobLogs) -> None:
    path = await opened(logs)
    for number in range(3):
        append(path, b"x\n")
        await comes_true(lambda: logs._known("web").file.size == 2 * (number + 1))  # noqa: B023
    assert [end for _, end in logs._known("web").file.marks] == [2, 4, 6]
    assert (await logs.read("web", age=3600))["lines"] == ["x"] * 3
    assert (await logs.read("web", age=0))["lines"] == []


async def test_a_follower_gets_every_line_once_from_a_writer_that_never_rests(logs: JobLogs) -> None:
    path = await opened(logs)
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
    path = await opened(logs)
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
    path = await opened(logs)
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
    path = await opened(logs)
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
    path = await opened(logs, "later")
    append(path, b"hello\n")
    await comes_true(lambda: got == ["hello"])
    await ended(task)


async def test_a_log_that_is_deleted_comes_back_with_the_next_run(logs: JobLogs) -> None:
    path = await opened(logs)
    got: list[str] = []
    task = await following(logs, "web", got)
    append(path, b"old\n")
    await comes_true(lambda: got == ["old"])
    os.unlink(path)
    assert (await logs.read("web"))["lines"] == []
    assert await opened(logs) == path
    append(path, b"new\n")
    await comes_true(lambda: got == ["old", "new"])
    await ended(task)


async def test_however_threads_are_delayed_a_log_that_comes_back_is_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    to_thread, chance = asyncio.to_thread, random.Random(1)

    async def late(work: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        def delayed() -> Any:
            time.sleep(chance.choice([0, 0, 0.002, 0.01]))
            done = work(*arguments, **options)
            time.sleep(chance.choice([0, 0, 0.002, 0.01]))
            return done

        return await to_thread(delayed)

    monkeypatch.setattr(asyncio, "to_thread", late)

    async def comes_back(number: int) -> None:
        logs = JobLogs(tmp_path / str(number), 256 * 1024)
        await logs.start()
        path = await opened(logs)
        got: list[str] = []
        task = await following(logs, "web", got)
        append(path, b"old\n")
        await comes_true(lambda: got == ["old"])
        await asyncio.sleep(chance.random() * 0.05)
        os.unlink(path)
        await asyncio.sleep(chance.choice([0, chance.random() * 0.03]))
        await opened(logs)
        append(path, b"new\n")
        await comes_true(lambda: len(got) > 1)
        append(path, b"newer\n")
        await comes_true(lambda: got[-1] == "newer")
        assert got == ["old", "new", "newer"]
        await ended(task)
        await logs.close()

    for _ in range(4):
        await asyncio.gather(*map(comes_back, range(10)))
        shutil.rmtree(tmp_path)


async def test_a_log_that_is_emptied_goes_on(logs: JobLogs) -> None:
    path = await opened(logs)
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


async def test_a_log_that_is_emptied_before_it_is_looked_at_goes_on(
    logs: JobLogs, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = await opened(logs)
    got: list[str] = []
    task = await following(logs, "web", got)
    known = logs._known("web")
    monkeypatch.setattr(LogFile, "take_in", lambda *_: None)
    for text in (b"a long old line\nand a part", b"short\n"):
        os.truncate(path, 0)
        append(path, text)
        lines = len(got)
        await comes_true(lambda: len(got) == lines + 1)  # noqa: B023
    assert got == ["a long old line", "short"]
    monkeypatch.undo()
    await logs._grown(known, rearm=True)
    assert known.file.size == 6
    await ended(task)


async def test_what_was_written_while_the_daemon_was_away_is_taken_up(tmp_path: Path) -> None:
    logs = JobLogs(tmp_path, 256 * 1024)
    await logs.start()
    path = await opened(logs)
    append(path, b"a\n")
    await comes_true(lambda: logs._known("web").file.size == 2)
    await logs.close()
    append(path, b"b\n")
    away = time.monotonic()
    logs = JobLogs(tmp_path, 256 * 1024)
    await logs.start()
    logs.adopt(job())
    await comes_true(lambda: logs._known("web").file.size == 4)
    assert (await logs.read("web"))["lines"] == ["a", "b"]
    assert (await logs.read("web", age=time.monotonic() - away))["lines"] == ["b"]
    append(path, b"c\n")
    await comes_true(lambda: logs._known("web").file.size == 6)
    await logs.close()


async def test_removing_leaves_nothing_and_the_next_of_that_name_begins_anew(logs: JobLogs, tmp_path: Path) -> None:
    path = await opened(logs)
    append(path, b"a\n")
    await comes_true(lambda: logs._known("web").file.size == 2)
    await logs.remove(job())
    assert list((tmp_path / "logs").iterdir()) == []
    append(await opened(logs), b"b\n")
    assert (await logs.read("web", age=3600))["lines"] == ["b"]


async def test_what_is_looked_at_late_of_a_removed_job_is_left_alone(logs: JobLogs) -> None:
    await opened(logs)
    old = logs._known("web")
    async with old.looking:
        removing = asyncio.ensure_future(logs.remove(job()))
        logs.ended(job())  # of the job that is being removed
        await asyncio.sleep(0.05)
    await removing
    path = await opened(logs)
    append(path, b"a\n")
    await comes_true(lambda: logs._known("web").file.size == 2)
    assert logs._known("web") is not old
    await logs._grown(old, rearm=True)
    assert (old.watch, old.rearming, old.file.size) == (None, None, 0)
    assert logs._known("web").file.marks_path.exists()


async def test_who_follows_a_job_that_is_removed_goes_on_with_its_successor(logs: JobLogs) -> None:
    got: list[str] = []
    append(await opened(logs), b"a\n")
    task = await following(logs, "web", got)
    append(logs.path("web"), b"b\n")
    await comes_true(lambda: got == ["b"])
    await logs.remove(job())
    append(await opened(logs), b"c\n")
    await comes_true(lambda: got == ["b", "c"])
    await ended(task)


async def test_the_last_lines_and_what_comes_after_them_join(logs: JobLogs) -> None:
    path = await opened(logs)
    script = f"""
import os, time
out = os.open({path!r}, os.O_APPEND | os.O_WRONLY)
for number in range(6000):
    os.write(out, b"%d " % number); os.write(out, b"whole\\n")
    if number % 20 == 0: time.sleep(0.001)
"""
    writer = await asyncio.create_subprocess_exec(sys.executable, "-c", script)
    await comes_true(lambda: Path(path).stat().st_size > 1000)
    gots: list[list[str]] = []
    tasks = []
    while writer.returncode is None:
        gots.append([])
        tasks.append(await following(logs, "web", gots[-1], lines=10))
        await asyncio.sleep(0.05)
    await writer.wait()
    for got in gots:
        await comes_true(lambda: got and got[-1] == "5999 whole")  # noqa: B023
        first = int(got[0].split()[0])
        assert got == [f"{number} whole" for number in range(first, 6000)]
    for task in tasks:
        await ended(task)


async def test_following_with_grep_and_what_is_not_too_old(logs: JobLogs) -> None:
    path = await opened(logs)
    append(path, b"old error\n")
    await comes_true(lambda: logs._known("web").file.size == 10)
    await asyncio.sleep(0.2)
    append(path, b"first error\nfine\n")
    got: list[str] = []
    task = await following(logs, "web", got, grep="error", age=0.15, lines=100)
    await comes_true(lambda: got == ["first error"])
    append(path, b"fine\nsecond err")
    append(path, b"or\nfine\n" + b"x" * 200_000 + b"\n")
    edge = 64 * 1024 - 3
    append(path, b"y" * edge + b"error" + b"y" * 100 + b"\nerr\nor\n\xff error \xfe\n")
    await comes_true(lambda: got[-1:] == ["\ufffd error \ufffd"])
    assert got[:2] == ["first error", "second error"]
    assert got[2] == "or" + "y" * 100  # the piece in which it is complete
    assert len(got) == 4
    await ended(task)


async def test_stderr_apart(logs: JobLogs, tmp_path: Path) -> None:
    apart = job(stderr="separate")
    outputs = await logs.open(apart)
    out, errors = outputs["stdout"], outputs["stderr"]
    assert errors is not None and errors != out
    both: list[str] = []
    wrong: list[str] = []
    tasks = [await following(logs, "web", both), await following(logs, "web", wrong, stream="stderr")]
    written = []
    for number in range(4):
        for path, word in ((out, "out"), (errors, "error")):
            written.append(f"{word} {number}")
            append(path, written[-1].encode() + b"\n")
            await comes_true(lambda: both == written)
            known = logs._known("web", "stdout" if word == "out" else "stderr")
            await comes_true(lambda: known.file.size == Path(path).stat().st_size)  # noqa: B023
    await comes_true(lambda: wrong == [line for line in written if "error" in line])
    assert (await logs.read("web"))["lines"] == written
    assert (await logs.read("web", lines=3))["lines"] == written[-3:]
    assert (await logs.read("web", grep="2"))["lines"] == ["out 2", "error 2"]
    assert (await logs.read("web", stream="stderr", lines=2)) == {"lines": ["error 2", "error 3"], "truncated": True}
    assert (await logs.read("web", stream="stdout", grep="error"))["lines"] == []
    assert (await logs.read("web", age=60))["lines"] == written
    assert await logs.ends("web") == [24, 32]

    await logs.open(job())  # it is kept apart no more, and what was is still read
    append(out, b"together\n")
    assert (await logs.read("web"))["lines"] == [*written, "together"]
    logs.adopt(apart)
    append(errors, b"adopted\n")
    await comes_true(lambda: wrong[-1] == "adopted")
    logs.ended(apart)
    for task in tasks:
        await ended(task)
    await logs.remove(apart)
    assert list((tmp_path / "logs").iterdir()) == []


async def test_each_of_two_files_is_bounded_and_its_failure_said_once(
    logs: JobLogs, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    outputs = await logs.open(job(stderr="separate"))
    for path in (outputs["stdout"], outputs["stderr"]):
        assert path is not None
        append(path, b"x\n" * 400_000)
        await comes_true(lambda: os.stat(path).st_blocks * 512 < 300_000)  # noqa: B023
    monkeypatch.setattr(log_file, "punch_hole", lambda *_: errno.EIO)
    for turn in range(3):
        append(outputs["stdout"], b"x\n" * 400_000)
        await comes_true(lambda: logs._known("web").file.size == 800_000 * (turn + 2))  # noqa: B023
    await comes_true(lambda: caplog.text.count("Input/output error") == 1)
    monkeypatch.undo()


async def test_a_job_whose_output_goes_to_the_journal_has_no_file(logs: JobLogs, tmp_path: Path) -> None:
    told = job("a b", output="journald")
    outputs = await logs.open(told)
    assert outputs["journal"] is not None and outputs["journal"].identifier == "a b"
    assert outputs["stderr"] is None
    assert (await logs.open(job(output="journald", stderr="separate")))["stderr"] is not None
    logs.adopt(told)
    logs.ended(told)
    assert list((tmp_path / "logs").iterdir()) == []
    assert logs.where(told) == "journalctl '--identifier=a b'"
    with pytest.raises(Unsupported, match="goes to the journal of the machine: journalctl '--identifier=a b'"):
        require_files([job(), told])
    await logs.remove(told)


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
    path = Path(await opened(logs, name))
    assert path.parent == tmp_path / "logs"
    append(path, b"x\n")
    assert (await logs.read(name))["lines"] == ["x"]
    await comes_true(lambda: logs._known(name).file.size == 2)
    await logs.remove(job(name))


def test_no_two_names_share_a_log(tmp_path: Path) -> None:
    logs = JobLogs(tmp_path, 65536)
    names = [*NAMES, "新" * 127, "x" * 127]
    names += [logs.path(name).stem for name in names]
    names += [f"{name}{ending}" for name in names for ending in (".log", ".stderr", ".log-marks", ".log.1")]
    files = [LogFile(logs.path(name, stream)) for name in set(names) for stream in STREAMS]
    paths = {path for file in files for path in (file.path, file.marks_path, file.older_path)}
    assert len(paths) == 6 * len(set(names))


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
    path = await opened(logs)
    got: list[str] = []
    task = await following(logs, "web", got)
    for number in range(3):
        append(path, b"%d\n" % number)
        await comes_true(lambda: len(got) == number + 1)  # noqa: B023
    assert caplog.text.count("raise fs.inotify.max_user_watches") == 1
    await ended(task)


async def test_a_writer_without_a_pause_costs_few_looks(logs: JobLogs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_log, "LOOK_INTERVAL_SECONDS", 0.2)
    path = await opened(logs)
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
