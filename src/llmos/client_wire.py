"""What both Python clients send and read: JSON-RPC 2.0, one message a line, and what went wrong with it."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmos.default_paths import default_socket
from llmos.errors import BadInput, Forbidden, LlmosError, TimedOut, Unavailable, from_json

if TYPE_CHECKING:
    from llmos.client_types import JsonObject, Verdict

    Plan = str | Sequence[str | JsonObject]
    """A plan on the wire: text, or lines and `{"call": verb, "args": {…}}` objects."""

MAX_REQUEST_BYTES = 1024 * 1024
MAX_ANSWER_BYTES = 64 * 1024 * 1024  # a bound on what a broken peer can make us hold
_LONGEST_PATH = 107  # bytes of sun_path, less the NUL: unix(7)


def socket_path(given: str | Path | None = None) -> Path:
    """The socket to use: the given one, else `LLMOS_SOCKET`, else the default of this user."""
    return Path(given) if given else default_socket()


def request_line(number: int, method: str, params: JsonObject) -> bytes:
    """A request as its line.

    :raises BadInput: the arguments are no JSON, or more than 1 MiB.
    """
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


def message_of(line: bytes, path: Path) -> JsonObject:
    """The message of a line.

    :raises Unavailable: it is none of JSON-RPC.
    """
    try:
        message = json.loads(line)
    except ValueError:
        message = None
    if not isinstance(message, dict):
        raise Unavailable(f"what answers on {path} is not llmosd: {line[:80]!r} is no JSON-RPC message")
    return message


def result_of(message: JsonObject) -> Any:
    """The result that a message holds; raises the error that it holds instead."""
    if "error" in message:
        raise from_json(message["error"])
    return message.get("result")


def unreachable(path: Path, error: OSError) -> LlmosError:
    """Why the socket cannot be opened, as the error to raise."""
    if isinstance(error, PermissionError):
        return Forbidden(f"this user may not open the socket {path}; ask for access to it", socket=str(path))
    if len(os.fsencode(path)) > _LONGEST_PATH:
        return BadInput(
            f"the path {path} is too long for a socket, which may have {_LONGEST_PATH} bytes", field="socket"
        )
    why = "there is no socket" if isinstance(error, FileNotFoundError) else error.strerror or str(error)
    return Unavailable(f"llmosd does not answer on {path} ({why}); start it with: llmos up", socket=str(path))


def ended(path: Path) -> Unavailable:
    """The connection ended before the answer, as the error to raise."""
    return Unavailable(
        f"llmosd closed the connection on {path} before it answered; see whether it runs with: llmos status",
        socket=str(path),
    )


def too_slow(method: str, timeout: float | None) -> TimedOut:
    """No answer came in time, as the error to raise."""
    return TimedOut(f"{method} got no answer within {timeout:g} seconds", method=method)


def feedback_params(request: str, given: Sequence[str], verdict: Verdict, wanted: Sequence[str] | None) -> JsonObject:
    """The parameters of `learn.feedback`."""
    return {
        "request": request,
        "given": list(given),
        "verdict": verdict,
        "wanted": None if wanted is None else list(wanted),
    }


def plan_params(plan: Plan) -> str | list[str | JsonObject]:
    """A plan as a parameter."""
    return plan if isinstance(plan, str) else list(plan)
