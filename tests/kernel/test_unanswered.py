"""What becomes of jobs while the reaper does not answer: nothing is taken for done, or for not done, before it is known."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from llmos.errors import TimedOut, Unavailable
from llmos.kernel import reaper_client
from llmos.kernel.job import Job
from llmos.kernel.kernel import Kernel
from llmos.kernel.states import State
from llmos.settings import ModelSettings, Settings


@pytest.fixture
async def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Kernel]:
    """A kernel with a real reaper that is waited for only shortly."""
    monkeypatch.setattr(reaper_client, "ANSWER_SECONDS", 0.5)
    monkeypatch.setattr(reaper_client, "PATIENCE_SECONDS", 0.5)
    no_model = ModelSettings(name=str(tmp_path / "no-such-model.gguf"))
    running = Kernel(Settings(socket=tmp_path / "llmosd.sock", state_dir=tmp_path / "state", model=no_model))
    await running.start()
    yield running
    monkeypatch.undo()
    await running.close(end_jobs=True)


def job(name: str, script: str) -> Job:
    return Job(name, ["sh", "-c", script], "/", {"PATH": os.environ["PATH"]}, os.getuid(), os.getgid())


def signal_reaper(kernel: Kernel, number: int) -> None:
    assert kernel.reaper.pid is not None
    os.kill(kernel.reaper.pid, number)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def test_a_start_without_an_answer_may_have_begun_and_begins_once(kernel: Kernel, tmp_path: Path) -> None:
    starts = tmp_path / "starts"
    begun = job("begun", f"echo x >> {starts}; sleep 600")
    signal_reaper(kernel, signal.SIGSTOP)
    try:
        with pytest.raises(TimedOut):
            await kernel.supervisor.define(begun)
        assert kernel.supervisor.get("begun") is begun and begun.state is State.STARTING
    finally:
        signal_reaper(kernel, signal.SIGCONT)
    await until(lambda: begun.state is State.RUNNING)
    assert begun.pid is not None
    await until(starts.exists)
    await kernel.supervisor.stop(begun)
    assert await asyncio.to_thread(starts.read_text) == "x\n"


async def test_a_start_that_did_not_begin_is_said_to_have_failed(kernel: Kernel, tmp_path: Path) -> None:
    unborn = job("unborn", f"echo x >> {tmp_path}/starts")
    signal_reaper(kernel, signal.SIGSTOP)
    with pytest.raises(TimedOut):
        await kernel.supervisor.define(unborn)
    signal_reaper(kernel, signal.SIGKILL)  # the request dies with it, unread
    await until(lambda: unborn.state is State.FAILED)
    assert unborn.reason == "the reaper ended before it was started"
    assert unborn.recent[-1]["unknown"]
    assert not await asyncio.to_thread((tmp_path / "starts").exists)


async def test_one_that_is_told_to_stop_before_that_is_known_stops(kernel: Kernel) -> None:
    begun = job("begun", "sleep 600")
    signal_reaper(kernel, signal.SIGSTOP)
    with pytest.raises(TimedOut):
        await kernel.supervisor.define(begun)
    stopping = asyncio.create_task(kernel.supervisor.stop(begun))
    await asyncio.sleep(0.1)
    signal_reaper(kernel, signal.SIGCONT)
    await stopping
    assert begun.state is State.STOPPED


async def test_what_is_removed_is_not_told_of_again(kernel: Kernel) -> None:
    """A job that the reaper still told of came back at the next start."""
    jobs = [job(f"brief-{number}", "exit 3") for number in range(20)]
    for each in jobs:
        await kernel.supervisor.define(each)
    await until(lambda: all(each.state is State.FAILED for each in jobs))
    for each in jobs:  # while other ends are being written
        await kernel.supervisor.forget(each)
    assert await kernel.reaper.list() == []


async def test_a_job_stays_where_its_removal_cannot_be_made_sure_of(kernel: Kernel) -> None:
    brief = job("brief", "exit 3")
    await kernel.supervisor.define(brief)
    signal_reaper(kernel, signal.SIGSTOP)
    try:
        kernel.supervisor._taken.add("of some run")
        with pytest.raises((TimedOut, Unavailable)):
            await kernel.supervisor.forget(brief)
        assert kernel.supervisor.get("brief") is brief
        assert "brief" in await kernel.journal.jobs()
    finally:
        signal_reaper(kernel, signal.SIGCONT)
    await until(lambda: brief.state is State.FAILED)
    await kernel.supervisor.forget(brief)
    assert "brief" not in kernel.supervisor.jobs and await kernel.journal.jobs() == {}
