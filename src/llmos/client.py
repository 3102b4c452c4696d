"""The Python clients of llmosd: `Client` blocks, `AsyncClient` runs many calls at a time on one connection.

Both speak JSON-RPC 2.0, one message a line, over the daemon's Unix socket, connect when first used, and raise the
errors of `llmos.errors` that the daemon sent.
"""

import asyncio
import json
import os
import socket as sockets
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any, Self, cast

from llmos.client_types import Allow, Answer, Check, Doctor, Event, JsonObject, Verdict
from llmos.client_verbs import AsyncVerbs, Verbs
from llmos.errors import BadInput, Forbidden, LlmosError, TimedOut, Unavailable, from_json

MAX_REQUEST_BYTES = 1024 * 1024
MAX_ANSWER_BYTES = 64 * 1024 * 1024  # a bound on what a broken peer can make us hold
_LONGEST_PATH = 107  # bytes of sun_path, less the NUL: unix(7)

Plan = str | Sequence[str | JsonObject]
"""A plan on the wire: text, or lines and `{"call": verb, "args": {…}}` objects."""


def socket_path(given: str | Path | None = None) -> Path:
    """The socket to use: the given one, else `LLMOS_SOCKET`, else the default of this user."""
    from llmos.settings import default_socket

    return Path(given) if given else default_socket()


class Client(Verbs):
    """A blocking client; threads may share it and take turns.

    Args:
        socket: path of the daemon's socket; without it, `LLMOS_SOCKET`, else the default of this user.
        timeout: seconds to wait for each answer; None waits as long as it takes.
    """

    def __init__(self, socket: str | Path | None = None, timeout: float | None = None) -> None:
        self.socket = socket_path(socket)
        self.timeout = timeout
        self._wire: _Wire | None = None
        self._turn = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; the next call opens another."""
        if self._wire:
            self._wire.close()
            self._wire = None

    def connect(self) -> None:
        """Connect now, not at the first call.

        Raises:
            Unavailable: nothing listens on the socket.
            Forbidden: this user may not open it.
            BadInput: the path is too long for a socket.
        """
        with self._turn:
            self._wire = self._wire or _Wire(self.socket, self.timeout)

    def call(self, method: str, /, **params: Any) -> Any:
        """Call a method of the socket and return its result.

        Raises:
            LlmosError: what the daemon answered, as the class of that error.
            Unavailable: nothing answers on the socket, or the connection ended before the answer.
            TimedOut: no answer within `timeout`.
            BadInput: the request is larger than 1 MiB.
        """
        with self._turn:
            wire = self._wire = self._wire or _Wire(self.socket, self.timeout)
            try:
                return wire.call(method, params)
            except (Unavailable, TimedOut, KeyboardInterrupt):
                # Unavailable and TimedOut may be the daemon's own answer, but then a fresh connection costs little.
                self.close()
                raise

    def ask(self, request: str, allow: Allow = "read", dry_run: bool = False) -> Answer:
        """Turn words into a plan and run it, if its risk is at most `allow`.

        Raises:
            NeedsConfirmation: the risk is higher; the data hold the plan and the hash for `plan_run`.
        """
        return cast(Answer, self.call("ask", request=request, allow=allow, dry_run=dry_run))

    def plan_check(self, plan: Plan) -> Check:
        """Resolve a plan, and say its risk and what it would touch."""
        return cast(Check, self.call("plan.check", plan=_plan(plan)))

    def plan_run(self, plan: Plan, allow: Allow = "read", confirm: str | None = None) -> Answer:
        """Run a plan whose risk is at most `allow`, or exactly the one that `confirm` is the hash of.

        Raises:
            NeedsConfirmation: the risk is higher.
            PlanChanged: the plan no longer resolves to what the hash stands for.
        """
        return cast(Answer, self.call("plan.run", plan=_plan(plan), allow=allow, confirm=confirm))

    def feedback(
        self, request: str, given: Sequence[str], verdict: Verdict, wanted: Sequence[str] | None = None
    ) -> JsonObject:
        """Say what a person made of the plan of a request, for `learn.start`; says whether it was kept."""
        return cast(JsonObject, self.call("learn.feedback", **_feedback(request, given, verdict, wanted)))

    def status(self) -> JsonObject:
        """The state of the daemon, its reaper and its model."""
        return cast(JsonObject, self.call("daemon.status"))

    def shutdown(self, jobs: bool = False) -> JsonObject:
        """Stop the daemon; with `jobs`, end the managed jobs too."""
        return cast(JsonObject, self.call("shutdown", jobs=jobs))

    def doctor(self) -> list[Doctor]:
        """What this machine offers."""
        return cast(list[Doctor], self.call("doctor"))

    def discover(self) -> JsonObject:
        """The OpenRPC document of the socket."""
        return cast(JsonObject, self.call("rpc.discover"))

    def events(self, kinds: Sequence[str] | None = None, since: int | None = None) -> Iterator[Event]:
        """Events as they happen, on a connection of their own; `since` first replays those after that id."""
        with _Wire(self.socket, self.timeout) as wire:
            wire.call("events.subscribe", {"kinds": None if kinds is None else list(kinds), "since": since})
            wire.wait_without_limit()
            for message in wire.notifications():
                if message["method"] == "event":
                    yield cast(Event, message["params"])

    def follow_logs(self, target: str, lines: int = 10) -> Iterator[str]:
        """The last lines of a job's output, then those that come, until the job ends."""
        with _Wire(self.socket, self.timeout) as wire:
            wire.call("logs.follow", {"target": target, "lines": lines})
            wire.wait_without_limit()
            for message in wire.notifications():
                if message["method"] != "log":
                    continue
                if message["params"].get("ended"):
                    return
                yield str(message["params"]["line"])


class AsyncClient(AsyncVerbs):
    """An asyncio client: calls run side by side on one connection. The arguments are those of `Client`."""

    def __init__(self, socket: str | Path | None = None, timeout: float | None = None) -> None:
        self.socket = socket_path(socket)
        self.timeout = timeout
        self._writer: asyncio.StreamWriter | None = None
        self._receiver: asyncio.Task[None] | None = None
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._last_id = 0
        self._connecting = asyncio.Lock()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection; calls that wait on it fail, the next one opens another."""
        receiver, self._receiver = self._receiver, None
        if receiver:
            receiver.cancel()
            await asyncio.gather(receiver, return_exceptions=True)

    async def call(self, method: str, /, **params: Any) -> Any:
        """Call a method of the socket and return its result; raises as `Client.call` does."""
        self._last_id += 1
        number = self._last_id
        request = _request(number, method, params)
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(self.timeout):
                async with self._connecting:
                    if self._receiver is None or self._receiver.done():
                        reader, self._writer = await _open(self.socket)
                        self._receiver = asyncio.create_task(self._receive(reader, self._writer))
                    writer = cast(asyncio.StreamWriter, self._writer)
                    self._waiting[number] = answer
                try:
                    writer.write(request)
                    await writer.drain()
                except OSError:
                    raise _ended(self.socket) from None
                return await answer
        except TimeoutError:
            raise _too_slow(method, self.timeout) from None
        finally:
            self._waiting.pop(number, None)

    async def ask(self, request: str, allow: Allow = "read", dry_run: bool = False) -> Answer:
        """As `Client.ask`."""
        return cast(Answer, await self.call("ask", request=request, allow=allow, dry_run=dry_run))

    async def plan_check(self, plan: Plan) -> Check:
        """As `Client.plan_check`."""
        return cast(Check, await self.call("plan.check", plan=_plan(plan)))

    async def plan_run(self, plan: Plan, allow: Allow = "read", confirm: str | None = None) -> Answer:
        """As `Client.plan_run`."""
        return cast(Answer, await self.call("plan.run", plan=_plan(plan), allow=allow, confirm=confirm))

    async def feedback(
        self, request: str, given: Sequence[str], verdict: Verdict, wanted: Sequence[str] | None = None
    ) -> JsonObject:
        """As `Client.feedback`."""
        return cast(JsonObject, await self.call("learn.feedback", **_feedback(request, given, verdict, wanted)))

    async def status(self) -> JsonObject:
        """As `Client.status`."""
        return cast(JsonObject, await self.call("daemon.status"))

    async def shutdown(self, jobs: bool = False) -> JsonObject:
        """As `Client.shutdown`."""
        return cast(JsonObject, await self.call("shutdown", jobs=jobs))

    async def doctor(self) -> list[Doctor]:
        """As `Client.doctor`."""
        return cast(list[Doctor], await self.call("doctor"))

    async def discover(self) -> JsonObject:
        """As `Client.discover`."""
        return cast(JsonObject, await self.call("rpc.discover"))

    async def events(self, kinds: Sequence[str] | None = None, since: int | None = None) -> AsyncIterator[Event]:
        """As `Client.events`."""
        params = {"kinds": None if kinds is None else list(kinds), "since": since}
        async for message in self._notifications("events.subscribe", params):
            if message["method"] == "event":
                yield cast(Event, message["params"])

    async def follow_logs(self, target: str, lines: int = 10) -> AsyncIterator[str]:
        """As `Client.follow_logs`."""
        async for message in self._notifications("logs.follow", {"target": target, "lines": lines}):
            if message["method"] != "log":
                continue
            if message["params"].get("ended"):
                return
            yield str(message["params"]["line"])

    async def _receive(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Give each answer to the call that waits for it, until the connection ends."""
        failure: LlmosError = _ended(self.socket)
        try:
            while message := await _read(reader, self.socket):
                waiting = self._waiting.get(cast(int, message.get("id")))
                if waiting is None or waiting.done():
                    continue
                try:
                    waiting.set_result(_result(message))
                except LlmosError as error:
                    waiting.set_exception(error)
        except LlmosError as error:
            failure = error
        finally:
            for waiting in self._waiting.values():
                if not waiting.done():
                    waiting.set_exception(failure)
            writer.close()

    async def _notifications(self, method: str, params: JsonObject) -> AsyncIterator[JsonObject]:
        """Subscribe on a connection of its own and yield what is pushed; only the subscription has a time limit."""
        try:
            async with asyncio.timeout(self.timeout):
                reader, writer = await _open(self.socket)
        except TimeoutError:
            raise _too_slow(method, self.timeout) from None
        try:
            writer.write(_request(1, method, params))
            early: list[JsonObject] = []
            try:
                async with asyncio.timeout(self.timeout):
                    while (message := await _read(reader, self.socket)) and "method" in message:
                        early.append(message)
            except TimeoutError:
                raise _too_slow(method, self.timeout) from None
            if message is None:
                raise _ended(self.socket)
            _result(message)
            for message in early:
                yield message
            while message := await _read(reader, self.socket):
                yield message
            raise _ended(self.socket)
        finally:
            writer.close()


class _Wire:
    """One blocking connection."""

    def __init__(self, path: Path, timeout: float | None) -> None:
        self._path, self._timeout, self._last_id = path, timeout, 0
        self._early: list[JsonObject] = []
        self._socket = sockets.socket(sockets.AF_UNIX, sockets.SOCK_STREAM)
        self._socket.settimeout(timeout)
        try:
            self._socket.connect(str(path))
        except OSError as error:
            self._socket.close()
            raise _unreachable(path, error) from None
        self._reader = self._socket.makefile("rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._reader.close()
        self._socket.close()

    def call(self, method: str, params: JsonObject) -> Any:
        self._last_id += 1
        try:
            self._socket.sendall(_request(self._last_id, method, params))
            while message := self._read():
                if "method" in message:
                    self._early.append(message)
                elif message.get("id") in (self._last_id, None):
                    return _result(message)
        except TimeoutError:
            raise _too_slow(method, self._timeout) from None
        except OSError:
            pass
        raise _ended(self._path)

    def wait_without_limit(self) -> None:
        """From here on silence is no failure."""
        self._socket.settimeout(None)

    def notifications(self) -> Iterator[JsonObject]:
        """What is pushed, those first that came before the answer to the subscription."""
        yield from self._early
        while message := self._read():
            yield message
        raise _ended(self._path)

    def _read(self) -> JsonObject | None:
        """The next message, or None at the end of the connection."""
        line = self._reader.readline(MAX_ANSWER_BYTES)
        return _message(line, self._path) if line.endswith(b"\n") or len(line) == MAX_ANSWER_BYTES else None


async def _open(path: Path) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    try:
        return await asyncio.open_unix_connection(path, limit=MAX_ANSWER_BYTES)
    except OSError as error:
        raise _unreachable(path, error) from None


async def _read(reader: asyncio.StreamReader, path: Path) -> JsonObject | None:
    """The next message, or None at the end of the connection."""
    try:
        line = await reader.readline()
    except ValueError:
        raise Unavailable(f"an answer on {path} is longer than {MAX_ANSWER_BYTES} bytes") from None
    except OSError:
        return None
    return _message(line, path) if line.endswith(b"\n") else None


def _request(number: int, method: str, params: JsonObject) -> bytes:
    message = {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
    try:
        line = json.dumps(message, ensure_ascii=False).encode() + b"\n"
    except (TypeError, ValueError) as error:
        raise BadInput(f"{method}: the arguments are no JSON: {error}", field="params") from None
    if len(line) > MAX_REQUEST_BYTES:
        raise BadInput(
            f"{method}: the request has {len(line)} bytes, more than {MAX_REQUEST_BYTES}; send less at once",
            field="params",
        )
    return line


def _message(line: bytes, path: Path) -> JsonObject:
    try:
        message = json.loads(line)
    except ValueError:
        message = None
    if not isinstance(message, dict):
        raise Unavailable(f"what answers on {path} is not llmosd: {line[:80]!r} is no JSON-RPC message")
    return message


def _result(message: JsonObject) -> Any:
    if "error" in message:
        raise from_json(message["error"])
    return message.get("result")


def _feedback(request: str, given: Sequence[str], verdict: Verdict, wanted: Sequence[str] | None) -> JsonObject:
    return {
        "request": request,
        "given": list(given),
        "verdict": verdict,
        "wanted": None if wanted is None else list(wanted),
    }


def _plan(plan: Plan) -> str | list[str | JsonObject]:
    return plan if isinstance(plan, str) else list(plan)


def _unreachable(path: Path, error: OSError) -> LlmosError:
    if isinstance(error, PermissionError):
        return Forbidden(f"this user may not open the socket {path}; ask for access to it", socket=str(path))
    if len(os.fsencode(path)) > _LONGEST_PATH:
        return BadInput(
            f"the path {path} is too long for a socket, which may have {_LONGEST_PATH} bytes", field="socket"
        )
    why = "there is no socket" if isinstance(error, FileNotFoundError) else error.strerror or str(error)
    return Unavailable(f"llmosd does not answer on {path} ({why}); start it with: llmos up", socket=str(path))


def _ended(path: Path) -> Unavailable:
    return Unavailable(
        f"llmosd closed the connection on {path} before it answered; see whether it runs with: llmos status",
        socket=str(path),
    )


def _too_slow(method: str, timeout: float | None) -> TimedOut:
    return TimedOut(f"{method} got no answer within {timeout:g} seconds", method=method)
