"""A stand-in for llmosd: a real Unix socket that speaks the real protocol, with answers that the test writes."""

import json
import socketserver
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self, cast

from llmos.errors import LlmosError, UnknownMethod

Answer = Any | Callable[[dict[str, Any]], Any]


class Pushed:
    """A result after which notifications follow on the same connection."""

    def __init__(self, result: Any, method: str, params: list[dict[str, Any]]) -> None:
        self.result, self.method, self.params = result, method, params


class FakeDaemon:
    """Answers each method with a value, a function of its parameters, an error, or `Pushed`; records every request."""

    def __init__(self, socket: Path, answers: dict[str, Answer] | None = None) -> None:
        self.socket = socket
        self.answers: dict[str, Answer] = {"daemon.status": {"version": "0", "pid": 1}, **(answers or {})}
        self.hang_up = False  # close a connection once what it was to be pushed has been sent
        self.requests: list[tuple[str, dict[str, Any]]] = []
        self._server = _Server(str(socket), _Connection)
        self._server.fake = self
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        self.socket.unlink(missing_ok=True)

    def asked(self, method: str) -> list[dict[str, Any]]:
        """The parameters of every request for this method."""
        return [params for name, params in self.requests if name == method]

    def respond(self, request: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """The messages that answer a request."""
        method, params = request["method"], request["params"]
        self.requests.append((method, params))
        head = {"jsonrpc": "2.0", "id": request["id"]}
        try:
            if method not in self.answers:
                raise UnknownMethod(f"there is no method {method}")
            answer = self.answers[method]
            value = answer(params) if callable(answer) else answer
            if isinstance(value, Exception):
                raise value
        except LlmosError as error:
            yield {**head, "error": error.as_json()}
            return
        if not isinstance(value, Pushed):
            yield {**head, "result": value}
            return
        yield {**head, "result": value.result}
        for pushed in value.params:
            yield {"jsonrpc": "2.0", "method": value.method, "params": pushed}


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64
    fake: FakeDaemon


class _Connection(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        # Each request in a thread of its own, so that a slow one holds back no other on the connection.
        turn = threading.Lock()

        def answer(line: bytes) -> None:
            for message in cast(_Server, self.server).fake.respond(json.loads(line)):
                with turn:
                    try:
                        self.wfile.write(json.dumps(message).encode() + b"\n")
                    except (OSError, ValueError):
                        return

        workers = []
        for line in self.rfile:
            workers.append(threading.Thread(target=answer, args=(line,), daemon=True))
            workers[-1].start()
            if cast(_Server, self.server).fake.hang_up and b"subscribe" in line:
                break
        for worker in workers:
            worker.join(timeout=5)
