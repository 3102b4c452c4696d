"""The Python client of llmosd for asyncio: many calls at a time on one connection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, cast

from llmos.client_verbs import AsyncVerbs
from llmos.client_wire import (
    MAX_ANSWER_BYTES,
    ended,
    feedback_params,
    message_of,
    plan_params,
    request_line,
    result_of,
    socket_path,
    too_slow,
    unreachable,
)
from llmos.errors import LlmosError, Unavailable

if TYPE_CHECKING:
    from llmos.client_types import Allow, Answer, Check, Doctor, Event, JsonObject, Verdict
    from llmos.client_wire import Plan


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
        request = request_line(number, method, params)
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
                    raise ended(self.socket) from None
                return await answer
        except TimeoutError:
            raise too_slow(method, self.timeout) from None
        finally:
            self._waiting.pop(number, None)

    async def ask(self, request: str, allow: Allow = "read", dry_run: bool = False) -> Answer:
        """As `Client.ask`."""
        return cast("Answer", await self.call("ask", request=request, allow=allow, dry_run=dry_run))

    async def plan_check(self, plan: Plan) -> Check:
        """As `Client.plan_check`."""
        return cast("Check", await self.call("plan.check", plan=plan_params(plan)))

    async def plan_run(self, plan: Plan, allow: Allow = "read", confirm: str | None = None) -> Answer:
        """As `Client.plan_run`."""
        return cast("Answer", await self.call("plan.run", plan=plan_params(plan), allow=allow, confirm=confirm))

    async def feedback(
        self, request: str, given: Sequence[str], verdict: Verdict, wanted: Sequence[str] | None = None
    ) -> JsonObject:
        """As `Client.feedback`."""
        return cast("JsonObject", await self.call("learn.feedback", **feedback_params(request, given, verdict, wanted)))

    async def status(self) -> JsonObject:
        """As `Client.status`."""
        return cast("JsonObject", await self.call("daemon.status"))

    async def shutdown(self, jobs: bool = False) -> JsonObject:
        """As `Client.shutdown`."""
        return cast("JsonObject", await self.call("shutdown", jobs=jobs))

    async def doctor(self) -> list[Doctor]:
        """As `Client.doctor`."""
        return cast("list[Doctor]", await self.call("doctor"))

    async def discover(self) -> JsonObject:
        """As `Client.discover`."""
        return cast("JsonObject", await self.call("rpc.discover"))

    async def events(self, kinds: Sequence[str] | None = None, since: int | None = None) -> AsyncIterator[Event]:
        """As `Client.events`."""
        params = {"kinds": None if kinds is None else list(kinds), "since": since}
        async for message in self._notifications("events.subscribe", params):
            if message["method"] == "event":
                yield cast("Event", message["params"])

    async def follow_logs(
        self,
        target: str,
        lines: int | None = None,
        *,
        grep: str | None = None,
        since: str | None = None,
        stream: Literal["stdout", "stderr"] | None = None,
    ) -> AsyncIterator[str]:
        """As `Client.follow_logs`."""
        asked = {"target": target, "lines": lines, "grep": grep, "since": since, "stream": stream}
        given = {name: value for name, value in asked.items() if value is not None}
        async for message in self._notifications("logs.follow", given):
            if message["method"] != "log":
                continue
            if message["params"].get("ended"):
                return
            yield str(message["params"]["line"])

    async def _receive(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Give each answer to the call that waits for it, until the connection ends."""
        failure: LlmosError = ended(self.socket)
        try:
            while message := await _read(reader, self.socket):
                waiting = self._waiting.get(cast(int, message.get("id")))
                if waiting is None or waiting.done():
                    continue
                try:
                    waiting.set_result(result_of(message))
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
            raise too_slow(method, self.timeout) from None
        try:
            writer.write(request_line(1, method, params))
            early: list[JsonObject] = []
            try:
                async with asyncio.timeout(self.timeout):
                    while (message := await _read(reader, self.socket)) and "method" in message:
                        early.append(message)
            except TimeoutError:
                raise too_slow(method, self.timeout) from None
            if message is None:
                raise ended(self.socket)
            result_of(message)
            for message in early:
                yield message
            while message := await _read(reader, self.socket):
                yield message
            raise ended(self.socket)
        finally:
            writer.close()


async def _open(path: Path) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    try:
        return await asyncio.open_unix_connection(path, limit=MAX_ANSWER_BYTES)
    except OSError as error:
        raise unreachable(path, error) from None


async def _read(reader: asyncio.StreamReader, path: Path) -> JsonObject | None:
    """The next message, or None at the end of the connection."""
    try:
        line = await reader.readline()
    except ValueError:
        raise Unavailable(f"an answer on {path} is longer than {MAX_ANSWER_BYTES} bytes") from None
    except OSError:
        return None
    return message_of(line, path) if line.endswith(b"\n") else None
