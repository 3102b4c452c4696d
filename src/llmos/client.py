"""The Python client of llmosd that blocks: JSON-RPC 2.0, one message a line, over the daemon's Unix socket.

It connects when first used, and raises the errors of `llmos.errors` that the daemon sent.
"""

from __future__ import annotations

import socket as sockets
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, cast

from llmos.client_verbs import Verbs
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
from llmos.errors import TimedOut, Unavailable

if TYPE_CHECKING:
    from llmos.client_types import Allow, Answer, Check, Doctor, Event, JsonObject, Verdict
    from llmos.client_wire import Plan


_READ_BYTES = 256 * 1024  # what a socket gives at once: a large answer in a few reads


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
        return cast("Answer", self.call("ask", request=request, allow=allow, dry_run=dry_run))

    def plan_check(self, plan: Plan) -> Check:
        """Resolve a plan, and say its risk and what it would touch."""
        return cast("Check", self.call("plan.check", plan=plan_params(plan)))

    def plan_run(self, plan: Plan, allow: Allow = "read", confirm: str | None = None) -> Answer:
        """Run a plan whose risk is at most `allow`, or exactly the one that `confirm` is the hash of.

        Raises:
            NeedsConfirmation: the risk is higher.
            PlanChanged: the plan no longer resolves to what the hash stands for.
        """
        return cast("Answer", self.call("plan.run", plan=plan_params(plan), allow=allow, confirm=confirm))

    def feedback(
        self, request: str, given: Sequence[str], verdict: Verdict, wanted: Sequence[str] | None = None
    ) -> JsonObject:
        """Say what a person made of the plan of a request, for `learn.start`; says whether it was kept."""
        return cast("JsonObject", self.call("learn.feedback", **feedback_params(request, given, verdict, wanted)))

    def status(self) -> JsonObject:
        """The state of the daemon, its reaper and its model."""
        return cast("JsonObject", self.call("daemon.status"))

    def shutdown(self, jobs: bool = False) -> JsonObject:
        """Stop the daemon; with `jobs`, end the managed jobs too."""
        return cast("JsonObject", self.call("shutdown", jobs=jobs))

    def doctor(self) -> list[Doctor]:
        """What this machine offers."""
        return cast("list[Doctor]", self.call("doctor"))

    def discover(self) -> JsonObject:
        """The OpenRPC document of the socket."""
        return cast("JsonObject", self.call("rpc.discover"))

    def events(self, kinds: Sequence[str] | None = None, since: int | None = None) -> Iterator[Event]:
        """Events as they happen, on a connection of their own; `since` first replays those after that id."""
        with _Wire(self.socket, self.timeout) as wire:
            wire.call("events.subscribe", {"kinds": None if kinds is None else list(kinds), "since": since})
            wire.wait_without_limit()
            for message in wire.notifications():
                if message["method"] == "event":
                    yield cast("Event", message["params"])

    def follow_logs(
        self,
        target: str,
        lines: int | None = None,
        *,
        grep: str | None = None,
        since: str | None = None,
        stream: Literal["stdout", "stderr"] | None = None,
    ) -> Iterator[str]:
        """The last lines of a job's output, then those that come, until the job ends.

        10 lines come first unless `lines` says how many, or `since` (a duration such as 5m) how old they may be.
        """
        asked = {"target": target, "lines": lines, "grep": grep, "since": since, "stream": stream}
        with _Wire(self.socket, self.timeout) as wire:
            wire.call("logs.follow", {name: value for name, value in asked.items() if value is not None})
            wire.wait_without_limit()
            for message in wire.notifications():
                if message["method"] != "log":
                    continue
                if message["params"].get("ended"):
                    return
                yield str(message["params"]["line"])


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
            raise unreachable(path, error) from None
        self._reader = self._socket.makefile("rb", _READ_BYTES)

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
            self._socket.sendall(request_line(self._last_id, method, params))
            while message := self._read():
                if "method" in message:
                    self._early.append(message)
                elif message.get("id") in (self._last_id, None):
                    return result_of(message)
        except TimeoutError:
            raise too_slow(method, self._timeout) from None
        except OSError:
            pass
        raise ended(self._path)

    def wait_without_limit(self) -> None:
        """From here on silence is no failure."""
        self._socket.settimeout(None)

    def notifications(self) -> Iterator[JsonObject]:
        """What is pushed, those first that came before the answer to the subscription."""
        yield from self._early
        while message := self._read():
            yield message
        raise ended(self._path)

    def _read(self) -> JsonObject | None:
        """The next message, or None at the end of the connection."""
        line = self._reader.readline(MAX_ANSWER_BYTES)
        return message_of(line, self._path) if line.endswith(b"\n") or len(line) == MAX_ANSWER_BYTES else None
