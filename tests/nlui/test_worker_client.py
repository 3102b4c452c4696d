"""The daemon's side of the worker: a real model, killed, stopped, missing, corrupt, idle and overrun."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import psutil
import pytest

from llmos.errors import ModelError, TimedOut, Unavailable
from llmos.nlui import merged, models, worker_client
from llmos.nlui.worker_client import ModelWorker, WorkerState
from nlui.learning.learned import learn
from nlui.shipped import ship
from nlui.training_model import write_random_model

REQUEST = "stop the web job"
LONG = "write a story about every process"


@pytest.fixture
async def worker(model_path: Path, prompt_state: Path) -> AsyncIterator[ModelWorker]:
    worker = ModelWorker(str(model_path), prompt_state, adapted=False)
    yield worker
    await worker.close()
    assert worker.status()["pid"] is None


def alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


async def until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - what is waited for happens in another process
            await asyncio.sleep(0.01)


def long_request(worker: ModelWorker, timeout: float = 60.0) -> asyncio.Task[object]:
    """A request that is computed for long: no grammar, many tokens."""
    return asyncio.create_task(worker.plan(LONG, [], timeout=timeout, max_tokens=2000, constrained=False))


async def test_loads_when_needed_and_answers(worker: ModelWorker) -> None:
    assert worker.status()["state"] == "unloaded"
    answer = await worker.plan(REQUEST, ["web"])
    assert answer.text
    assert answer.tokens["reused"] > 500
    assert answer.seconds > 0
    assert worker.status()["state"] == "ready"
    assert worker.status()["load_seconds"] > 0


async def test_worker_is_in_a_session_of_its_own(worker: ModelWorker) -> None:
    await worker.load()
    pid = worker.status()["pid"]
    assert os.getsid(pid) == pid


async def test_close_leaves_no_process(worker: ModelWorker) -> None:
    await worker.load()
    pid = worker.status()["pid"]
    await worker.close()
    assert not alive(pid)
    with pytest.raises(Unavailable, match="closed"):
        await worker.plan(REQUEST, [])


async def test_close_while_it_loads(worker: ModelWorker) -> None:
    load = asyncio.create_task(worker.plan(REQUEST, []))
    await until(lambda: worker.status()["pid"] is not None)
    pid = worker.status()["pid"]
    await worker.close()
    assert not alive(pid)
    with pytest.raises((Unavailable, asyncio.CancelledError)):
        await load


async def test_killed_in_a_request_is_asked_again(worker: ModelWorker) -> None:
    await worker.load()
    pid = worker.status()["pid"]
    request = asyncio.create_task(worker.plan(REQUEST, ["web"]))
    await asyncio.sleep(0)
    os.kill(pid, signal.SIGKILL)
    assert (await request).text
    assert worker.status()["pid"] != pid
    assert worker.status()["failures"] == 1


async def test_killed_twice_is_unavailable(worker: ModelWorker) -> None:
    await worker.load()
    request = long_request(worker)
    for _ in range(2):
        await until(lambda: worker._pending is not None and worker.status()["state"] == "ready")
        pid = worker.status()["pid"]
        os.kill(pid, signal.SIGKILL)
        await until(lambda pid=pid: worker.status()["pid"] != pid)  # type: ignore[misc]
    with pytest.raises(Unavailable, match=r"ended \(signal 9\), twice"):
        await request
    assert (await worker.plan(REQUEST, [])).text


async def test_killed_when_idle_is_started_again(worker: ModelWorker) -> None:
    await worker.load()
    os.kill(worker.status()["pid"], signal.SIGKILL)
    await until(lambda: worker.status()["state"] == WorkerState.FAILED)
    assert "signal 9" in worker.status()["error"]
    assert (await worker.plan(REQUEST, [])).text
    assert worker.status()["error"] is None


async def test_stopped_worker_is_killed_and_started_again(worker: ModelWorker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_client, "GRACE_SECONDS", 0.3)
    await worker.load()
    pid = worker.status()["pid"]
    os.kill(pid, signal.SIGSTOP)
    with pytest.raises(TimedOut, match="no plan within"):
        await worker.plan(REQUEST, [], timeout=0.2)
    assert worker.status()["state"] == WorkerState.FAILED
    assert "does not answer and was killed" in worker.status()["error"]
    assert not alive(pid)
    assert (await worker.plan(REQUEST, [])).text


async def test_slow_request_is_given_up_and_the_worker_kept(worker: ModelWorker) -> None:
    await worker.load()
    pid = worker.status()["pid"]
    with pytest.raises(TimedOut):
        await long_request(worker, timeout=0.3)
    assert (await worker.plan(REQUEST, [])).text
    assert worker.status()["pid"] == pid
    assert worker.status()["failures"] == 0


async def test_asker_that_leaves_frees_the_worker(worker: ModelWorker) -> None:
    await worker.load()
    request = long_request(worker)
    await until(lambda: worker._pending is not None)
    request.cancel()
    with pytest.raises(asyncio.CancelledError):
        await request
    assert (await worker.plan(REQUEST, [])).text


async def test_loop_turns_while_it_loads_and_load_outlives_its_asker(worker: ModelWorker) -> None:
    with pytest.raises(TimedOut):
        await worker.plan(REQUEST, [], timeout=0.05)
    assert worker.status()["state"] == WorkerState.LOADING
    await until(lambda: worker.status()["state"] == WorkerState.READY)
    assert worker.status()["failures"] == 0


async def test_queue_is_bounded(model_path: Path, prompt_state: Path) -> None:
    worker = ModelWorker(str(model_path), prompt_state, adapted=False, max_waiting=2)
    try:
        await worker.load()
        requests = [long_request(worker)] + [asyncio.create_task(worker.plan(REQUEST, [])) for _ in range(2)]
        await until(lambda: worker.status()["waiting"] == 2)
        with pytest.raises(Unavailable, match="2 requests wait"):
            await worker.plan(REQUEST, [])
        for request in requests:
            request.cancel()
        await asyncio.gather(*requests, return_exceptions=True)
        assert worker.status()["waiting"] == 0
    finally:
        await worker.close()


async def test_idle_worker_is_unloaded(model_path: Path, prompt_state: Path) -> None:
    worker = ModelWorker(str(model_path), prompt_state, adapted=False, idle_seconds=0.05)
    try:
        assert (await worker.plan(REQUEST, [])).text
        await until(lambda: worker.status()["state"] == WorkerState.UNLOADED)
        assert worker.status()["pid"] is None
        assert worker.status()["failures"] == 0
        assert (await worker.plan(REQUEST, [])).text
    finally:
        await worker.close()


async def test_missing_model_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMOS_MODELS", str(tmp_path))
    worker = ModelWorker("default", tmp_path)
    with pytest.raises(ModelError, match="llmos model pull default"):
        await worker.plan(REQUEST, [])
    assert worker.status()["state"] == WorkerState.MISSING
    assert "llmos model pull default" in worker.status()["error"]
    await worker.close()


async def test_corrupt_model_fails_with_words_and_backs_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMOS_MODELS", str(tmp_path))
    monkeypatch.setattr(worker_client, "BACKOFF_FIRST", 30.0)
    (tmp_path / "bad.gguf").write_bytes(b"GGUF" + b"\0" * 1000)
    worker = ModelWorker(str(tmp_path / "bad.gguf"), tmp_path)
    with pytest.raises(ModelError, match=r"could not be loaded: .*bad\.gguf"):
        await worker.plan(REQUEST, [])
    assert worker.status()["state"] == WorkerState.FAILED
    with pytest.raises(Unavailable, match=r"bad\.gguf.*not started again for \d+ s"):
        await worker.plan(REQUEST, [])
    await worker.close()


async def test_back_off_doubles_up_to_a_bound(tmp_path: Path) -> None:
    worker = ModelWorker("default", tmp_path)
    delays = []
    for _ in range(12):
        worker._fail("ended")
        delays.append(round(worker._not_before - asyncio.get_running_loop().time(), 1))
    assert delays[:4] == [0.2, 0.4, 0.8, 1.6]
    assert delays[-1] == worker_client.BACKOFF_LARGEST


async def test_the_worker_is_told_what_it_serves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMOS_MODELS", str(tmp_path / "models"))
    base = models.locate(str(write_random_model(tmp_path / "base.gguf", "llama")))
    shipped = ship(base.path, tmp_path / "trained", monkeypatch)
    learned = learn(tmp_path, base.path, shipped)
    own = ["--trained", "--learned", str(learned), "--taught", str(learned.with_name("taught.json"))]
    assert (await _arguments(base.name, tmp_path))[1:] == [str(base.path), "--adapter", str(shipped), *own]
    path = await asyncio.to_thread(merged.make, base, shipped)
    assert (await _arguments(base.name, tmp_path))[1:] == [str(path), *own]


async def _arguments(model: str, state_dir: Path) -> list[str]:
    """What the worker of a model was started with, but for the state folder."""
    worker = ModelWorker(model, state_dir)
    try:
        await worker.load()
        command = psutil.Process(worker.status()["pid"]).cmdline()
    finally:
        await worker.close()
    assert worker.status()["failures"] == 0
    state = command.index("--state")
    return command[3:state] + command[state + 2 :]
