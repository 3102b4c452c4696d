"""llmosd's side of the reaper: start it, ask it, hear of every exit, and bring it back when it dies.

Asyncio; what touches files or waits runs in a thread.
"""

import asyncio
import contextlib
import itertools
import json
import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, Self

import tenacity
from pydantic import JsonValue

import llmos
from llmos.errors import Forbidden, TimedOut, Unavailable
from llmos.kernel.reaper import LOG, SOCKET
from llmos.kernel.reaper_errors import ForkRefused, ReaperError

ROOT = Path(llmos.__file__).resolve().parent.parent
BOOTSTRAP = "import sys; sys.path.insert(0, sys.argv[2]); from llmos.kernel.reaper import main; main()"
START_SECONDS = 10.0
"""A reaper that does not listen by then is given up."""
ANSWER_SECONDS = 30.0
"""Longest wait for an answer; only a spawn into a frozen cgroup comes near."""
PATIENCE_SECONDS = 5.0
"""How long a call waits for the reaper to come back before it fails."""
ATTEMPTS = 8
"""Tries to bring the reaper back, from 0.05 s apart to 5 s; after the last, the next call tries again."""
FIRST_ATTEMPTS = 3
"""Tries of `connect`, which may meet a reaper that is just ending."""
PENDING_CALLS = 1024
ANSWER_BYTES = 64 << 20
"""Longest line from the reaper: a list of some hundred thousand runs."""

__all__ = [
    "Exit",
    "ForkRefused",
    "JournalStream",
    "KnownRun",
    "Reaper",
    "SpawnRequest",
    "Spawned",
    "User",
    "reach",
    "start_reaper",
]
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """Whom a process runs as."""

    uid: int
    gid: int
    groups: Sequence[int] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalStream:
    """What the lines of a process are called in systemd's journal, and the socket that takes them."""

    identifier: str
    socket: str = "/run/systemd/journal/stdout"


@dataclass(frozen=True, slots=True, kw_only=True)
class SpawnRequest:
    """What to start.

    `run` names this one start for ever: asking again with it starts nothing. Paths are absolute. `nice` is absolute,
    `ioclass` is class (1 realtime, 2 best effort, 3 idle) and level (0 highest to 7), `rlimits` map RLIMIT_* to soft
    and hard, -1 for none. The process joins every cgroup of `cgroups` (their folders) before it executes. Log files are
    opened with the reaper's rights; `stderr` goes where `stdout` goes when None. A `journal` takes both in their
    stead, stderr apart and as errors where `stderr` is given. Nice value, rlimits and `env_files`,
    whose variables replace those of `env`, are taken up with the rights of `user`. With `notify` the
    reaper listens to `@llmos/RUN` for READY=1 of sd_notify(3). `label` comes back in `list`.
    """

    run: str
    argv: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: str = "/"
    stdout: str = "/dev/null"
    stderr: str | None = None
    journal: JournalStream | None = None
    umask: int | None = None
    nice: int | None = None
    ioclass: tuple[int, int] | None = None
    rlimits: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    cgroups: Sequence[str] = ()
    user: User | None = None
    env_files: Sequence[str] = ()
    notify: Literal[True] | None = None
    label: JsonValue = None


@dataclass(frozen=True, slots=True)
class Spawned:
    """A started process; `start_ticks` are clock ticks since boot (field 22 of /proc/PID/stat)."""

    pid: int
    start_ticks: int


@dataclass(frozen=True, slots=True)
class Exit:
    """How a run ended.

    Of `code` and `signal` one is given, unless the end was not seen (`unknown`), perhaps for a `reboot`. `at` is in
    seconds since the epoch; `max_rss_bytes` counts the moment before the exec too, so it is never below some 10 MB.
    """

    code: int | None
    signal: int | None
    core: bool
    at: float
    cpu_seconds: float | None = None
    max_rss_bytes: int | None = None
    unknown: bool = False
    reboot: bool = False


@dataclass(frozen=True, slots=True)
class KnownRun:
    """A run that the reaper knows: it runs while `exit` is None."""

    run: str
    pid: int
    start_ticks: int
    started_at: float
    cgroups: list[str]
    label: JsonValue
    exit: Exit | None
    notify: bool = False
    ready: bool = False
    """It has said so with sd_notify(3), to a reaper that listened to it since `notify`."""


_REQUEST_FIELDS = tuple(item.name for item in fields(SpawnRequest))
_NOTHING: tuple[object, ...] = (None, (), [], {})
OnExit = Callable[[str, Exit], None]


class Reaper:
    """A connection that lasts: calls fail with Unavailable while there is no reaper, and one is started again."""

    def __init__(self, state_dir: Path, on_exit: OnExit) -> None:
        self._state_dir = state_dir
        self._on_exit = on_exit
        self.on_ready: Callable[[str], None] = lambda run: None
        """Called in the loop with each run that says that it is ready, and perhaps again."""
        self._ids = itertools.count(1)
        self._pending: dict[int, asyncio.Future[Any]] = {}
        self._told: set[str] = set()
        self.pid: int | None = None
        """The process that answers now, or answered last."""
        self._writer: asyncio.StreamWriter | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._ready = asyncio.Event()
        self._closed = ""
        self._trouble = "the reaper is just being started; try again"

    @classmethod
    async def connect(cls, state_dir: Path, on_exit: OnExit) -> Self:
        """Reach the reaper of a state directory, started if there is none.

        Args:
            on_exit: called in the loop, once for each exit that is not taken, those before the connection included.

        Raises:
            Unavailable: it does not start; the message says why.
        """
        reaper = cls(state_dir, on_exit)
        reader = await reaper._open_again_and_again(FIRST_ATTEMPTS)
        reaper._keeper = asyncio.create_task(reaper._keep(reader), name="reaper")
        return reaper

    async def close(self) -> None:
        """Leave; the reaper and its processes stay."""
        self._closed = self._closed or "the connection to the reaper was closed"
        if self._keeper:
            self._keeper.cancel()
            await asyncio.wait([self._keeper])
        await self._disconnect()

    async def spawn(self, request: SpawnRequest) -> Spawned:
        """Start a process, or learn which one this run id has started already.

        Raises:
            ForkRefused: there is no room for one more process; try again.
            NotFound: the command, its interpreter, the folder or a cgroup is not there.
            Forbidden: the command may not be executed, or a setting needs rights that the reaper lacks.
            BadInput: the request is malformed.
            Unavailable: the reaper or room on the disk is missing.
        """
        try:
            answer = await self._call("spawn", **_said(request))
        except ReaperError as failed:
            raise failed.of_spawn(request.argv[0] if request.argv else "", request.cwd) from None
        return Spawned(answer["pid"], answer["start_ticks"])

    async def signal(self, run: str, number: int, scope: Literal["main", "tree"] = "main") -> list[int]:
        """Signal the main process of a run or all of its processes, and return the pids that got it.

        Raises:
            NotFound: the run is unknown or, for `main`, has ended.
            Forbidden: a process changed to a user whom the reaper may not signal.
        """
        answer = await self._ask("signal", run=run, signal=number, scope=scope)
        if answer["denied"]:
            denied = ", ".join(map(str, answer["denied"]))
            name = signal.Signals(number).name if number in set(signal.Signals) else str(number)
            raise Forbidden(
                f"{name} may not be sent to process {denied}, which runs as another user", pids=answer["denied"]
            )
        pids: list[int] = answer["pids"]
        return pids

    async def members(self, run: str) -> list[Spawned]:
        """Every living process of a run, also after its main process ended. Raises NotFound."""
        answer = await self._ask("members", run=run)
        return [Spawned(**process) for process in answer["members"]]

    async def take(self, runs: Sequence[str]) -> list[str]:
        """Let the reaper forget exits; returns the runs that it forgot, without those that still run or are unknown."""
        taken: list[str] = (await self._ask("take", runs=list(runs)))["taken"]
        self._told.difference_update(taken)
        return taken

    async def ping(self) -> tuple[int, str]:
        """The pid and version of the reaper."""
        answer = await self._ask("ping")
        return answer["pid"], answer["version"]

    async def shutdown(self, *, force: bool = False) -> None:
        """End the reaper and this connection; `force` also when exits are not taken.

        Raises:
            Conflict: a run has not ended, or an exit is not taken.
        """
        await self._ask("shutdown", force=force)
        await self.close()

    async def _ask(self, operation: str, **fields: Any) -> Any:
        try:
            return await self._call(operation, **fields)
        except ReaperError as failed:
            raise failed.of_call() from None

    async def _call(self, operation: str, **fields: Any) -> Any:
        if len(self._pending) >= PENDING_CALLS:
            raise Unavailable("the reaper is busy: too many requests wait for it; try again")
        writer = await self._connected()
        number = next(self._ids)
        future = self._pending[number] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                # Then the reader fails the future, with a better message; RuntimeError is uvloop's for a dead connection.
                with contextlib.suppress(ConnectionError, RuntimeError):
                    writer.write(_line(number, operation, fields))
                    await writer.drain()
                return await future
        except TimeoutError:
            raise TimedOut(f"the reaper did not answer within {ANSWER_SECONDS:.0f} s") from None
        finally:
            del self._pending[number]

    async def _connected(self) -> asyncio.StreamWriter:
        if self._keeper and self._keeper.done() and not self._closed:
            self._keeper = asyncio.create_task(self._keep(None), name="reaper")
        if not self._closed:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PATIENCE_SECONDS):
                    await self._ready.wait()
        if self._closed or not self._writer:
            raise Unavailable(self._closed or self._trouble)
        return self._writer

    async def _keep(self, reader: asyncio.StreamReader | None) -> None:
        """Read until the connection ends, get a new one, and so on; ends when that fails for long."""
        while not self._closed:
            if reader:
                with contextlib.suppress(OSError, ValueError):
                    while line := await reader.readline():
                        self._heard(json.loads(line))
                await self._disconnect()
            if self._closed:
                return
            try:
                reader = await self._open_again_and_again(ATTEMPTS)
            except Unavailable as unavailable:
                _log.error("the reaper does not come back: %s", unavailable)
                self._trouble = unavailable.message
                return

    async def _open_again_and_again(self, attempts: int) -> asyncio.StreamReader:
        retrying = tenacity.AsyncRetrying(
            stop=tenacity.stop_after_attempt(attempts),
            wait=tenacity.wait_exponential(multiplier=0.05, max=5),
            retry=tenacity.retry_if_exception_type(Unavailable),
            reraise=True,
        )
        return await retrying(self._open)

    async def _open(self) -> asyncio.StreamReader:
        """Connect, and tell of every exit that has not been told."""
        try:
            async with asyncio.timeout(2 * START_SECONDS):
                connection = await asyncio.to_thread(reach, self._state_dir)
                reader, writer = await asyncio.open_unix_connection(sock=connection, limit=ANSWER_BYTES)
                writer.write(_line(0, "list", {}))
                while line := await reader.readline():
                    message = json.loads(line)
                    if message.get("id") == 0:
                        break
                    self._heard(message)
                else:
                    raise ConnectionResetError("it ended the connection")
        except (OSError, ValueError) as error:
            raise Unavailable(f"the reaper does not answer ({error}); {self._state_dir / LOG} may say why") from error
        self._writer = writer
        self.pid = message["ok"]["pid"]
        self._ready.set()
        for run in message["ok"]["runs"]:
            if run.get("ready"):  # a reaper of before an upgrade does not say
                self.on_ready(run["run"])
            if run["exit"]:
                self._tell(run["run"], run["exit"])
        return reader

    def _heard(self, message: dict[str, Any]) -> None:
        match message.get("event"):
            case "exit":
                self._tell(message["run"], message["exit"])
            case "ready":
                self.on_ready(message["run"])
            case "replaced":
                self._closed = "another llmosd took the reaper over; end one of them"
            case _:
                future = self._pending.get(message["id"])
                if future and not future.done():
                    if "error" in message:
                        future.set_exception(ReaperError(**message["error"]))
                    else:
                        future.set_result(message["ok"])

    def _tell(self, run: str, outcome: dict[str, Any]) -> None:
        if run in self._told:
            return
        self._told.add(run)
        try:
            self._on_exit(run, Exit(**outcome))
        except Exception:
            _log.exception("the exit of run %s was not handled", run)

    async def _disconnect(self) -> None:
        self._ready.clear()
        writer, self._writer = self._writer, None
        for future in self._pending.values():
            if not future.done():
                future.set_exception(Unavailable(self._closed or "the reaper ended before it answered; try again"))
        if writer:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def list(self) -> list[KnownRun]:
        """All runs that run or whose exit is not taken."""
        return [_known(run) for run in (await self._ask("list"))["runs"]]


def reach(state_dir: Path) -> socket.socket:
    """Connect to the reaper of a state directory, started if there is none. Blocks.

    Raises:
        Unavailable: it did not start.
        OSError: it cannot be connected to.
    """
    try:
        return _connect(state_dir)
    except (FileNotFoundError, ConnectionRefusedError):
        start_reaper(state_dir)
        return _connect(state_dir)


def start_reaper(state_dir: Path) -> None:
    """Start a reaper in a session of its own, as nobody's child; blocks until it listens or another one does.

    Raises:
        Unavailable: it did not start; the message holds the last line of its log.
    """
    state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    with open(state_dir / LOG, "ab", opener=lambda path, flags: os.open(path, flags, 0o600)) as log:
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", BOOTSTRAP, state_dir.absolute(), ROOT],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            cwd="/",
            start_new_session=True,
        )
    try:
        said, _ = process.communicate(timeout=START_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise Unavailable(f"the reaper did not listen within {START_SECONDS:.0f} s") from None
    if said not in (b"ready\n", b"held\n"):
        lines = (state_dir / LOG).read_text(errors="replace").splitlines() or ["it said nothing"]
        raise Unavailable(f"the reaper does not start: {lines[-1]}")


def _connect(state_dir: Path) -> socket.socket:
    # By a descriptor of the folder, since the path of a Unix socket has at most 107 bytes.
    folder = os.open(state_dir, os.O_PATH | os.O_DIRECTORY)
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(START_SECONDS)
        connection.connect(f"/proc/self/fd/{folder}/{SOCKET}")
        connection.setblocking(False)
    except OSError:
        connection.close()
        raise
    finally:
        os.close(folder)
    return connection


def _line(number: int, operation: str, fields: Mapping[str, Any]) -> bytes:
    return json.dumps({"id": number, "op": operation, **fields}, separators=(",", ":")).encode() + b"\n"


def _said(request: SpawnRequest) -> dict[str, Any]:
    """The fields of a request that say something."""
    given = {name: getattr(request, name) for name in _REQUEST_FIELDS}
    return {
        name: asdict(value) if isinstance(value, User | JournalStream) else value
        for name, value in given.items()
        if value not in _NOTHING
    }


def _known(run: dict[str, Any]) -> KnownRun:
    return KnownRun(**{**run, "exit": Exit(**run["exit"]) if run["exit"] else None})
