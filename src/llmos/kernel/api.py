"""The socket: JSON-RPC 2.0, one message a line, over a Unix stream socket.

Every connection is bounded: the length of a line, the time half a message may wait for its other half, the requests in
flight, and the bytes that wait for a reader that does not read. What passes a bound gets an error or is dropped with a
line in the log; other connections notice nothing.
"""

import asyncio
import json
import logging
import math
import os
import socket
from collections import deque
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, cast

from pydantic_core import PydanticSerializationError, from_json, to_json

from llmos.errors import BadInput, Forbidden, LlmosError, Unavailable, UnknownMethod, want
from llmos.kernel.caller import Caller
from llmos.kernel.job import JobList
from llmos.kernel.listening import bind
from llmos.kernel.methods import METHODS, READS, Method

log = logging.getLogger("llmos.api")

MAX_LINE_BYTES = 1024**2
MAX_CONNECTIONS = 1000
MAX_IN_FLIGHT = 64
"""Requests of one connection that run at once; further ones wait unread."""
MAX_REQUESTS = 8192
"""Requests of all connections together that run at once."""
MAX_BATCH = 100
LINES_A_TURN = 50
"""Lines of one connection that are served before others get their turn."""
MAX_UNREAD_BYTES = 8 * 1024**2
"""Answers and events that wait for a reader before it is dropped."""
HALF_MESSAGE_SECONDS = 30.0
UNREAD_SECONDS = 30.0
"""How long a reader may read nothing while answers wait for it."""

PARSE_ERROR = -32700
INVALID_REQUEST = -32600
INTERNAL_ERROR = -32603


class Server:
    """The listening socket and its connections."""

    def __init__(self, kernel: Any) -> None:
        self.kernel = kernel
        self.connections: set[Connection] = set()
        self.requests = 0
        self.stopping = asyncio.Event()
        self.end_jobs = False
        self._server: asyncio.Server | None = None
        self._path: Path | None = None
        self._inode = 0

    async def listen(self, path: Path, group: str, inherited: socket.socket | None = None) -> None:
        """Listen on `path`: mode 0600; as root 0660 and the group, where it exists. An inherited socket stays as it is.

        :raises Unavailable: another llmosd answers there, or the socket cannot be made.
        """
        listening = inherited
        if listening is None:
            listening = await asyncio.to_thread(bind, path, group)
            self._path, self._inode = path, await asyncio.to_thread(lambda: path.lstat().st_ino)
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Connection(self), sock=listening, backlog=512)

    async def close(self) -> None:
        """Stop listening, let running requests finish for a moment, and close the connections."""
        if self._server is not None:
            self._server.close()
        busy = [task for connection in self.connections for task in connection.tasks]
        if busy:
            await asyncio.wait(busy, timeout=2)
        for connection in list(self.connections):
            connection.end()
        await asyncio.sleep(0)
        await asyncio.to_thread(self._unlink)

    def require_owner(self, caller: Caller) -> None:
        """Raise `Forbidden` where a caller is neither root nor the user whose daemon this is."""
        if not caller.may_touch(os.geteuid()):
            raise Forbidden("only root and the user who runs this llmosd may shut it down")

    def _unlink(self) -> None:
        try:
            if self._path is not None and self._path.lstat().st_ino == self._inode:
                self._path.unlink()
        except FileNotFoundError:
            pass


class Connection(asyncio.Protocol):
    """One caller."""

    caller: Caller

    def __init__(self, server: Server) -> None:
        self.server = server
        self.kernel: Any = server.kernel
        self.tasks: set[asyncio.Task[None]] = set()
        self.on_close: list[Callable[[], object]] = []
        self._reads: set[asyncio.Task[None]] = set()
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._waiting: deque[bytes] = deque()
        self._ended = False
        self._half: asyncio.TimerHandle | None = None
        self._unread: asyncio.TimerHandle | None = None

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A caller has connected."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one without the base class
        self._transport.set_write_buffer_limits(high=256 * 1024)
        self.caller = Caller.of(transport.get_extra_info("socket"))
        if len(self.server.connections) >= MAX_CONNECTIONS:
            self._refuse(Unavailable(f"there are {MAX_CONNECTIONS} connections already; close some"))
            return
        self.server.connections.add(self)

    def connection_lost(self, error: Exception | None) -> None:
        """The caller is gone; what they asked and does not change anything is given up."""
        self.server.connections.discard(self)
        self._transport = None
        self._waiting.clear()
        for task in self._reads:
            task.cancel()
        for timer in (self._half, self._unread):
            if timer is not None:
                timer.cancel()
        for done in self.on_close:
            done()

    def data_received(self, data: bytes) -> None:
        """Bytes have come: whole lines are requests."""
        self._buffer += data
        if b"\n" not in data:
            if len(self._buffer) > MAX_LINE_BYTES:
                self._too_long()
            elif self._half is None:
                self._expect_rest()
            return
        if self._half is not None:
            self._half.cancel()
            self._half = None
        long = len(self._buffer) > MAX_LINE_BYTES
        *lines, rest = self._buffer.split(b"\n")
        self._buffer = rest
        if long and max(map(len, (*lines, rest))) > MAX_LINE_BYTES:
            self._too_long()
            return
        self._waiting += map(bytes, lines)
        if rest:
            self._expect_rest()
        self._serve_waiting()

    def eof_received(self) -> bool:
        """The caller will send no more, but still reads what it asked for."""
        if self._half is not None:
            self._half.cancel()
        if self._buffer:
            self._waiting.append(bytes(self._buffer))
            self._buffer.clear()
        self._ended = True
        self._serve_waiting()
        return self._busy()

    def pause_writing(self) -> None:
        """The caller reads slower than it is written to: take no more requests from it meanwhile."""
        if self._transport is not None:
            self._transport.pause_reading()
            self._unread = asyncio.get_running_loop().call_later(UNREAD_SECONDS, self._never_reads)

    def resume_writing(self) -> None:
        """The caller has caught up."""
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None
        if self._transport is not None:
            self._serve_waiting()

    # Requests

    def _serve_waiting(self) -> None:
        for _ in range(LINES_A_TURN):
            if not self._waiting or self._full():
                break
            if line := self._waiting.popleft().strip():
                self._serve(line)
        if self._waiting and not self._full():
            asyncio.get_running_loop().call_soon(self._serve_waiting)
        if self._transport is None or self._transport.is_closing():
            return
        if self._ended:
            if not self._busy():
                self.end()
        elif self._waiting or self._full():
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    def _full(self) -> bool:
        """Whether it has to wait until its requests are answered, or its answers read."""
        return len(self.tasks) >= MAX_IN_FLIGHT or self._unread is not None

    def _busy(self) -> bool:
        return bool(self._waiting or self.tasks or self.on_close)

    def _serve(self, line: bytes) -> None:
        try:
            message = from_json(line, allow_inf_nan=False)
        except ValueError as error:
            self.send(
                _error(None, PARSE_ERROR, f"this line is no JSON ({error}); send one JSON object a line", "parse")
            )
            return
        if isinstance(message, list):
            self._serve_batch(message)
            return
        number, answer = self._begin(message)
        if not isinstance(answer, dict):
            self._later(number, answer, message["method"] in READS)
        elif number is not _NO_ID:
            self.send(answer)

    def _serve_batch(self, messages: list[Any]) -> None:
        if not messages or len(messages) > MAX_BATCH:
            self.send(_error(None, INVALID_REQUEST, f"a batch holds 1 to {MAX_BATCH} requests", "batch"))
            return

        async def serve() -> None:
            answers = []
            for message in messages:
                number, answer = self._begin(message)
                if not isinstance(answer, dict):
                    answer = await _settled(number, answer)
                if number is not _NO_ID:
                    answers.append(answer)
            if answers:
                self.send(answers)

        self._task(serve())

    def _begin(self, message: Any) -> tuple[Any, dict[str, Any] | Awaitable[Any]]:
        """Begin a request: its id, and its answer or what will become the result."""
        if not isinstance(message, dict):
            return None, _error(None, INVALID_REQUEST, "a request is a JSON object with method and params", "request")
        number = message.get("id", _NO_ID)
        if isinstance(number, bool) or not isinstance(number, str | int | float | _NoId | None):
            return None, _error(None, INVALID_REQUEST, "id is a string, a number or null", "id")
        if isinstance(number, float) and not math.isfinite(number):
            return None, _error(None, PARSE_ERROR, "id is too large a number", "id")
        try:
            result = self._method(message)(self, message.get("params") or {})
        except LlmosError as error:
            return number, _failure(number, error)
        except Exception as error:
            return number, _broken(number, error)
        if isinstance(result, Awaitable):
            return number, result
        return number, {"jsonrpc": "2.0", "id": number, "result": result}

    def _method(self, message: dict[str, Any]) -> Method:
        if message.get("jsonrpc", "2.0") != "2.0":
            raise _InvalidRequest('jsonrpc must be "2.0"', field="jsonrpc")
        if unknown := message.keys() - {"jsonrpc", "id", "method", "params"}:
            raise _InvalidRequest(f"a request has no field {sorted(unknown)[0]!r}", field=sorted(unknown)[0])
        name = message.get("method")
        if not isinstance(name, str):
            raise _InvalidRequest("method must be the name of a method, as a string", field="method")
        if not isinstance(message.get("params", {}), dict | None):
            raise BadInput('params must be an object of named parameters, such as {"target": "web"}', field="params")
        if self.server.requests >= MAX_REQUESTS:
            raise Unavailable(f"{MAX_REQUESTS} requests are being answered already; try again in a moment")
        try:
            return METHODS[name]
        except KeyError:
            raise UnknownMethod(f"there is no method {name[:100]!r}; rpc.discover lists them", field="method") from None

    def _later(self, number: Any, result: Awaitable[Any], reads: bool) -> None:
        async def finish() -> None:
            answer = await _settled(number, result)
            if number is not _NO_ID:
                self.send(answer)

        task = self._task(finish())
        if reads:
            self._reads.add(task)

    def _task(self, work: Any) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work)
        self.tasks.add(task)
        self.server.requests += 1
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self.tasks.discard(task)
        self._reads.discard(task)
        self.server.requests -= 1
        was_full = len(self.tasks) == MAX_IN_FLIGHT - 1  # then reading waits for this
        if self._waiting or self._ended or was_full:
            self._serve_waiting()

    # Answers

    def send(self, message: Any) -> None:
        """Send one message; a reader that lets too much wait is dropped."""
        if self._transport is None or self._transport.is_closing():
            return
        self._transport.write(_as_line(message))
        if self._transport.get_write_buffer_size() > MAX_UNREAD_BYTES:
            self._never_reads()

    def notify(self, method: str, params: dict[str, Any]) -> None:
        """Push a notification."""
        self.send({"jsonrpc": "2.0", "method": method, "params": params})

    def end(self) -> None:
        """Close, once what was written has gone out."""
        if self._transport is not None:
            self._transport.close()

    def keep(self, work: Any) -> None:
        """Run a piece of work for as long as the connection lasts."""
        task = asyncio.get_running_loop().create_task(work)
        self.on_close.append(task.cancel)

    def _refuse(self, error: LlmosError) -> None:
        self.send({"jsonrpc": "2.0", "id": None, "error": error.as_json()})
        self.end()

    def _too_long(self) -> None:
        log.warning("uid %d sent a line of more than %d bytes and was dropped", self.caller.uid, MAX_LINE_BYTES)
        self._buffer.clear()
        self._waiting.clear()
        self._refuse(BadInput(f"a line has at most {MAX_LINE_BYTES} bytes; send less at once", field="line"))

    def _expect_rest(self) -> None:
        self._half = asyncio.get_running_loop().call_later(HALF_MESSAGE_SECONDS, self._half_message)

    def _half_message(self) -> None:
        if self._waiting or self._full():  # it is we who do not read on
            self._expect_rest()
            return
        log.warning("uid %d sent half a message and fell silent; it was dropped", self.caller.uid)
        self._refuse(BadInput("half a message came and no more; end each message with a newline", field="line"))

    def _never_reads(self) -> None:
        log.warning("uid %d does not read its answers and was dropped", self.caller.uid)
        if self._transport is not None:
            self._transport.abort()


class _InvalidRequest(BadInput):
    """Raised when a message is JSON but no request."""

    code = "invalid-request"
    number = INVALID_REQUEST


class _NoId:
    """Stands for the id of a notification, which gets no answer."""


_NO_ID = _NoId()


def _as_line(message: Any) -> bytes:
    try:
        if isinstance(message, dict) and isinstance(result := message.get("result"), JobList):
            return b'{"jsonrpc":"2.0","id":%b,"result":%b}\n' % (to_json(message["id"]), result.json)
        return to_json(message) + b"\n"
    except PydanticSerializationError:  # a name or a path from the machine that is no UTF-8
        return json.dumps(message, ensure_ascii=False).encode("utf-8", "replace") + b"\n"


async def _settled(number: Any, result: Awaitable[Any]) -> dict[str, Any]:
    try:
        return {"jsonrpc": "2.0", "id": number, "result": await result}
    except LlmosError as error:
        return _failure(number, error)
    except Exception as error:
        return _broken(number, error)


def _failure(number: Any, error: LlmosError) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": None if number is _NO_ID else number, "error": error.as_json()}


def _broken(number: Any, error: Exception) -> dict[str, Any]:
    if (lacking := want(error)) is not None:
        return _failure(number, lacking)
    log.error("a request failed inside llmosd", exc_info=error)
    return _error(
        number, INTERNAL_ERROR, f"llmosd failed inside ({type(error).__name__}); its log has more", "internal"
    )


def _error(number: Any, code: int, message: str, word: str) -> dict[str, Any]:
    shown = None if number is _NO_ID else number
    return {"jsonrpc": "2.0", "id": shown, "error": {"code": code, "message": message, "data": {"code": word}}}
