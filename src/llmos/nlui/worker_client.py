"""The daemon's side of the model worker: start it when needed, ask it, notice when it hangs, unload it when idle.

    unloaded ──need──▶ loading ──▶ ready ──idle──▶ unloaded
                          │          │
                          └──died────┴──▶ failed ──need, after the back-off──▶ loading
    missing: the model is not on this machine

Nothing here blocks the event loop, and no model code is imported. One request is computed at a time; the others wait in
a bounded queue. A request whose time is up is given up in the worker as well; a worker that does not even answer that
is killed and started again.
"""

import asyncio
import json
import logging
import sys
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import IO, Any

from llmos.errors import LlmosError, ModelError, TimedOut, Unavailable
from llmos.nlui.calibration import Calibration
from llmos.nlui.serving import Served, served

log = logging.getLogger(__name__)

BACKOFF_FIRST, BACKOFF_LARGEST = 0.2, 60.0
"""Seconds between a failure and the next start: doubled with each failure in a row."""
BACKOFF_WAITED = 2.0
"""A back-off up to this many seconds is waited for; above it the request is told to come again."""
GRACE_SECONDS = 3.0
"""How long a worker may take to give a request up, to answer a ping, or to leave when told to."""
LOAD_SECONDS = 300.0
"""How long a model may take to load before its worker counts as hung."""
MAX_LOG_BYTES = 1 << 20
MAX_LINE_BYTES = 1 << 20


class WorkerState(StrEnum):
    """Where the worker stands."""

    UNLOADED = "unloaded"
    LOADING = "loading"
    READY = "ready"
    FAILED = "failed"
    MISSING = "missing"


@dataclass(frozen=True, slots=True)
class PlanText:
    """The model's answer: plan lines as text, and how it came about.

    Attributes:
        seconds: the time the model computed.
        load_seconds: the time its load took, whenever that was.
        tokens: prompt, reused (of the prompt, from the KV cache), generated, forced (by the grammar).
        confidence: probability of the whole plan among all that the grammar allows, 0 to 1.
        least_confidence: probability of the least likely choice in it.
        other: the next best reading of the request, where this one is not sure enough.
    """

    text: str
    seconds: float
    load_seconds: float
    tokens: dict[str, int]
    confidence: float
    least_confidence: float
    other: str | None = None


class _WorkerLost(Exception):
    """Raised when the worker ended or stopped answering while a request was with it."""


@dataclass(frozen=True, slots=True)
class _Pending:
    """The request that is with the worker."""

    process: asyncio.subprocess.Process
    number: int
    answer: asyncio.Future[dict[str, Any]]


class ModelWorker:
    """One model worker process and the queue before it.

    Args:
        model: a name of `llmos.nlui.models`, or the path of a GGUF file.
        state_dir: where the worker's log and the evaluated prompt are kept.
        idle_seconds: how long after the last request the model is unloaded.
        max_waiting: requests that may wait behind the one that is computed.
        threads: threads to compute with; every core that may be used when absent.
        sure: confidence below which a plan comes with another reading; what was calibrated for the model when absent.
        adapted: whether to use the model's adapter, where it has one; without it the model is shown examples.
    """

    def __init__(
        self,
        model: str,
        state_dir: Path,
        *,
        idle_seconds: float = 600.0,
        max_waiting: int = 32,
        threads: int | None = None,
        sure: float | None = None,
        adapted: bool = True,
    ) -> None:
        self.model = model
        self.log_file = state_dir / "model-worker.log"
        self._state_dir, self._threads, self._adapted = state_dir, threads, adapted
        self._idle_seconds, self._max_waiting = idle_seconds, max_waiting
        self._sure = sure
        self._calibration: Calibration | None = None
        self._state = WorkerState.UNLOADED
        self._error: LlmosError | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._load_seconds = 0.0
        self._starting: asyncio.Task[asyncio.subprocess.Process] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._pending: _Pending | None = None
        self._pong = asyncio.Event()
        self._turn = asyncio.Lock()
        self._idle_timer: asyncio.TimerHandle | None = None
        self._requests = self._inside = self._failures = self._failures_in_a_row = 0
        self._not_before = 0.0
        self._closed = False

    def status(self) -> dict[str, Any]:
        """State, model, pid, error, requests waiting, failures so far, and seconds the last load took."""
        return {
            "state": str(self._state),
            "model": self.model,
            "pid": self._process.pid if self._process else None,
            "error": self._error.message if self._error else None,
            "waiting": max(0, self._inside - 1),
            "failures": self._failures,
            "load_seconds": self._load_seconds,
        }

    @property
    def _threshold(self) -> float:
        if self._sure is not None:
            return self._sure
        return self._calibration.threshold if self._calibration else 0.0

    def probability(self, plan: PlanText) -> float:
        """The probability, 0 to 1, that a plan is what was meant; its mere confidence where nothing was calibrated."""
        return self._calibration.probability(plan.confidence) if self._calibration else plan.confidence

    async def load(self) -> None:
        """Have the model loaded; returns when it is ready.

        Raises:
            ModelError: it is not on this machine, or cannot be loaded.
            Unavailable: the worker died, or waits before it is started again.
        """
        async with self._turn:
            try:
                await self._ready_process()
            except _WorkerLost as loss:
                raise Unavailable(f"the model worker {loss}; ask again") from None
            self._start_idle_timer()

    async def plan(
        self,
        request: str,
        names: list[str],
        *,
        timeout: float = 60.0,  # noqa: ASYNC109 - a lapsed request must be given up in the worker as well
        max_tokens: int = 256,
        constrained: bool = True,
    ) -> PlanText:
        """Turn a request into the text of a plan.

        Args:
            names: the jobs and processes that exist, which the plan may name.
            timeout: seconds for all of it: waiting, loading, computing.
            constrained: False leaves the model without grammar, for measurements.

        Raises:
            ModelError: the model is missing, cannot be loaded, or could not answer this request.
            Unavailable: too many requests wait, the worker keeps dying, or llmosd is closing.
            TimedOut: no answer within `timeout`.
        """
        if self._closed:
            raise Unavailable("the model worker is closed")
        if self._inside > self._max_waiting:
            raise Unavailable(f"{self._max_waiting} requests wait for the model already; ask again later")
        body = {"request": request, "names": names, "max_tokens": max_tokens, "constrained": constrained}
        self._inside += 1
        try:
            async with asyncio.timeout(timeout), self._turn:
                self._stop_idle_timer()
                try:
                    return await self._plan(body)
                finally:
                    self._start_idle_timer()
        except TimeoutError:
            raise TimedOut(f"the model gave no plan within {timeout:g} seconds; ask again, or type the plan") from None
        finally:
            self._inside -= 1

    async def close(self) -> None:
        """End the worker for good and wait until it is gone."""
        self._closed = True
        await self._stop()
        for task in list(self._tasks):
            with suppress(asyncio.CancelledError):
                await task

    async def _plan(self, body: dict[str, Any]) -> PlanText:
        # Planning changes nothing, so a request that was lost with its worker is asked once more.
        for last in (False, True):
            try:
                answer = await self._ask(await self._ready_process(), body)
                break
            except _WorkerLost as loss:
                if last or self._closed:
                    raise Unavailable(f"the model worker {loss}, twice; see {self.log_file}") from None
        if "error" in answer:
            raise ModelError(str(answer["error"]), model=self.model)
        self._failures_in_a_row = 0
        return PlanText(
            text=answer["plan_text"],
            seconds=answer["seconds"],
            load_seconds=answer["load_seconds"],
            tokens=answer["tokens"],
            confidence=answer["confidence"],
            least_confidence=answer["least_confidence"],
            other=answer["other"],
        )

    async def _ask(self, process: asyncio.subprocess.Process, body: dict[str, Any]) -> dict[str, Any]:
        self._requests += 1
        pending = _Pending(process, self._requests, asyncio.get_running_loop().create_future())
        self._pending = pending
        try:
            await self._send(process, {"id": pending.number, **body})
            return await asyncio.shield(pending.answer)
        except asyncio.CancelledError:
            # The time is up or nobody waits any more: the worker must be free again before the next request's turn.
            await asyncio.shield(self._task(self._give_up(pending)))
            raise
        finally:
            pending.answer.cancel()
            if self._pending is pending:
                self._pending = None

    async def _give_up(self, pending: _Pending) -> None:
        """Have the worker drop a request, and kill it when it does not even answer that."""
        self._pong.clear()
        with suppress(_WorkerLost):
            try:
                async with asyncio.timeout(GRACE_SECONDS):
                    await self._send(pending.process, {"op": "cancel", "id": pending.number})
                    await self._send(pending.process, {"op": "ping"})
                    await asyncio.shield(pending.answer)
            except TimeoutError:
                self._fail(f"{'is stuck in a request' if self._pong.is_set() else 'does not answer'} and was killed")
                pending.process.kill()
                await pending.process.wait()

    async def _send(self, process: asyncio.subprocess.Process, message: dict[str, Any]) -> None:
        assert process.stdin is not None
        try:
            process.stdin.write(json.dumps(message).encode() + b"\n")
            await process.stdin.drain()
        except (BrokenPipeError, ConnectionResetError, RuntimeError):
            raise _WorkerLost("ended") from None

    async def _ready_process(self) -> asyncio.subprocess.Process:
        """The running worker, started if need be; a start goes on even when its first asker leaves."""
        if self._closed:
            raise Unavailable("the model worker is closed")
        if self._state is WorkerState.READY and self._process:
            return self._process
        if self._starting is None:
            if (delay := self._not_before - asyncio.get_running_loop().time()) > 0:
                if delay > BACKOFF_WAITED:
                    why = self._error.message if self._error else "it failed"
                    raise Unavailable(f"{why}; it is not started again for {delay:.0f} s")
                await asyncio.sleep(delay)
            self._starting = asyncio.create_task(self._start())
            self._starting.add_done_callback(self._started)
        return await asyncio.shield(self._starting)

    def _started(self, task: asyncio.Task[asyncio.subprocess.Process]) -> None:
        self._starting = None
        if not task.cancelled():
            task.exception()  # Taken here too, in case its asker has left.

    async def _start(self) -> asyncio.subprocess.Process:
        self._state = WorkerState.LOADING
        try:
            found = await asyncio.to_thread(served, self.model, self._state_dir, adapted=self._adapted)
        except LlmosError as error:
            self._state, self._error = WorkerState.MISSING, error
            raise
        self._calibration = found.calibration
        process = self._process = await self._spawn(found)
        try:
            async with asyncio.timeout(LOAD_SECONDS):
                first = await self._read_line(process)
        except TimeoutError:
            first = {"failed": f"it was not ready after {LOAD_SECONDS:g} seconds"}
        except asyncio.CancelledError:
            process.kill()
            await process.wait()
            raise
        if first and first.get("ready"):
            self._state, self._error = WorkerState.READY, None
            self._load_seconds = first["load_seconds"]
            self._task(self._listen(process))
            return process
        with suppress(ProcessLookupError):
            process.kill()
        status = await process.wait()
        self._process = None
        if first:
            refused = ModelError(f"the model could not be loaded: {first.get('failed', first)}", model=self.model)
            self._fail("", refused)
            raise refused
        self._fail(f"ended while it loaded ({_exit(status)})")
        raise _WorkerLost("ended while it loaded")

    async def _spawn(self, model: Served) -> asyncio.subprocess.Process:
        command = [sys.executable, "-m", "llmos.nlui.worker", "--model", str(model.path)]
        command += ["--state", str(self._state_dir)]
        if model.adapter is not None:
            command += ["--adapter", str(model.adapter)]
        if model.trained:
            command.append("--trained")
        if model.learned is not None:
            command += ["--learned", str(model.learned)]
        if model.taught is not None:
            command += ["--taught", str(model.taught)]
        if sure := self._threshold:
            command += ["--sure", str(sure)]
        if self._threads:
            command += ["--threads", str(self._threads)]
        sink = await asyncio.to_thread(_open_log, self.log_file)
        try:
            # A session of its own keeps the terminal's signals away from it.
            return await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=sink,
                start_new_session=True,
                limit=MAX_LINE_BYTES,
            )
        except OSError as error:
            self._fail(f"could not be started: {error.strerror}")
            raise _WorkerLost(f"could not be started: {error.strerror}") from None
        finally:
            sink.close()

    async def _read_line(self, process: asyncio.subprocess.Process) -> dict[str, Any] | None:
        """The next object the worker says, or None when it has ended."""
        assert process.stdout is not None
        try:
            line = await process.stdout.readline()
            return dict(json.loads(line)) if line else None
        except ValueError as error:
            log.error("the model worker wrote what is not its protocol: %s", error)
            return None

    async def _listen(self, process: asyncio.subprocess.Process) -> None:
        """Hand answers to those who wait for them, until the worker ends."""
        while (message := await self._read_line(process)) is not None:
            if "pong" in message:
                self._pong.set()
            elif (pending := self._pending) and message.get("id") == pending.number and not pending.answer.done():
                pending.answer.set_result(message)
        with suppress(ProcessLookupError):
            process.kill()
        status = await process.wait()
        if self._process is process:
            self._process = None
            if self._state is WorkerState.READY:
                self._fail(f"ended ({_exit(status)})")
        if (pending := self._pending) and pending.process is process and not pending.answer.done():
            pending.answer.set_exception(_WorkerLost(f"ended ({_exit(status)})"))

    def _fail(self, how: str, error: LlmosError | None = None) -> None:
        """Note a failure and hold the next start back."""
        self._state = WorkerState.FAILED
        self._error = error or Unavailable(f"the model worker {how}; see {self.log_file}")
        delay = min(BACKOFF_LARGEST, BACKOFF_FIRST * 2**self._failures_in_a_row)
        self._failures, self._failures_in_a_row = self._failures + 1, self._failures_in_a_row + 1
        self._not_before = asyncio.get_running_loop().time() + delay
        log.warning("%s", self._error.message)

    async def _stop(self) -> None:
        """End the worker: its input ends, and when that does not help, it is killed."""
        self._stop_idle_timer()
        if self._starting:
            self._starting.cancel()
            with suppress(asyncio.CancelledError, LlmosError, _WorkerLost):
                await self._starting
        process, self._process = self._process, None
        self._state = WorkerState.UNLOADED
        if process is None:
            return
        assert process.stdin is not None
        process.stdin.close()
        try:
            async with asyncio.timeout(GRACE_SECONDS):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()

    def _start_idle_timer(self) -> None:
        self._stop_idle_timer()
        if not self._closed:
            self._idle_timer = asyncio.get_running_loop().call_later(
                self._idle_seconds, lambda: self._task(self._unload_if_idle())
            )

    def _stop_idle_timer(self) -> None:
        if self._idle_timer:
            self._idle_timer.cancel()
            self._idle_timer = None

    async def _unload_if_idle(self) -> None:
        async with self._turn:
            if not self._inside:
                await self._stop()

    def _task(self, coroutine: Any) -> asyncio.Task[None]:
        """Run beside the caller, held until it ends."""
        task: asyncio.Task[None] = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _open_log(path: Path) -> IO[bytes]:
    """Open the worker's log to append, or anew when it has grown large."""
    path.parent.mkdir(parents=True, exist_ok=True)
    large = path.exists() and path.stat().st_size > MAX_LOG_BYTES
    return path.open("wb" if large else "ab")


def _exit(status: int) -> str:
    return f"signal {-status}" if status < 0 else f"exit status {status}"
