"""Every error that llmos shows to a person or sends to a program.

    LlmosError
    ├── BadInput                 what was asked is malformed
    │   ├── PlanSyntaxError      a line is not in the plan language
    │   └── UnknownMethod        no such method on the socket
    ├── NotFound                 no such job, process, watch, step or model
    ├── Conflict                 the thing exists, but not in a state that allows this
    ├── Forbidden                the caller may not do this
    ├── NeedsConfirmation        above the allowed risk; carries the plan and its hash
    ├── Ambiguous                a request can be read in two ways; carries both
    ├── PlanChanged              what a confirmed plan resolves to is no longer the same
    ├── Unsupported              this machine lacks what is needed (no cgroup, no GPU, no sensor)
    ├── Unavailable              a part of llmos is not there now (daemon, reaper, model); trying later may help
    ├── TimedOut                 it took longer than it was allowed to
    └── ModelError               a model could not be fetched, verified or loaded

Each carries `code`, a stable word for programs; `number`, its JSON-RPC code; `exit_code`, what the command line
returns; and a message that says what is wrong and what to do.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from pydantic import JsonValue  # which takes longer to load than a command takes to run


class LlmosError(Exception):
    """The base: its message is meant to be shown, never a traceback."""

    code: ClassVar[str] = "error"
    number: ClassVar[int] = -32000
    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, **data: Any) -> None:
        super().__init__(message)
        self.message = message
        self.data: dict[str, JsonValue] = data

    def as_json(self) -> dict[str, JsonValue]:
        """The `error` object of JSON-RPC: `{code, message, data: {code, …}}`."""
        return {"code": self.number, "message": self.message, "data": {"code": self.code, **self.data}}


class BadInput(LlmosError):
    """Raised when what was asked is malformed; `field` in the data names where."""

    code = "bad-input"
    number = -32602
    exit_code = 2


class PlanSyntaxError(BadInput):
    """Raised when a line is not in the plan language."""

    code = "plan-syntax"


class UnknownMethod(BadInput):
    """Raised when the socket is asked for a method that does not exist."""

    code = "unknown-method"
    number = -32601


class NotFound(LlmosError):
    """Raised when a job, process, watch, step or model of that name is not there."""

    code = "not-found"
    number = -32001
    exit_code = 3


class Conflict(LlmosError):
    """Raised when the thing exists but is not in a state that allows this."""

    code = "conflict"
    number = -32002
    exit_code = 4


class Forbidden(LlmosError):
    """Raised when the caller may not act on this."""

    code = "forbidden"
    number = -32003
    exit_code = 5


class NeedsConfirmation(LlmosError):
    """Raised when a plan's risk is above what the caller allowed; the data hold plan, risk, hash and targets."""

    code = "needs-confirmation"
    number = -32004
    exit_code = 6


class PlanChanged(LlmosError):
    """Raised when a confirmed plan no longer resolves to what was shown."""

    code = "plan-changed"
    number = -32005
    exit_code = 7


class Unsupported(LlmosError):
    """Raised when the machine lacks what is needed; the message names it."""

    code = "unsupported"
    number = -32006
    exit_code = 8


class Unavailable(LlmosError):
    """Raised when a part of llmos is not there now; trying later may help."""

    code = "unavailable"
    number = -32007
    exit_code = 9


class TimedOut(LlmosError):
    """Raised when something took longer than it was allowed to."""

    code = "timed-out"
    number = -32008
    exit_code = 10


class ModelError(LlmosError):
    """Raised when a model cannot be fetched, verified or loaded."""

    code = "model"
    number = -32009
    exit_code = 11


class Ambiguous(LlmosError):
    """Raised when the model is not sure what a request means; the data hold `readings`, each a checked plan, the
    likelier first, and the `confidence` of that one."""

    code = "ambiguous"
    number = -32010
    exit_code = 12


_WANTS = {
    errno.EMFILE: "llmosd has no file descriptor left",
    errno.ENFILE: "the machine has no file descriptor left",
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.ENOMEM: "no memory is left",
}


def want(error: Exception) -> Unavailable | None:
    """What a person is told of an error of the system that means that something has run out; None of any other."""
    if isinstance(error, OSError) and error.errno in _WANTS:
        return Unavailable(f"{_WANTS[error.errno]} ({error}); try again")
    return None


def _tree(root: type[LlmosError]) -> list[type[LlmosError]]:
    return [root, *(leaf for child in root.__subclasses__() for leaf in _tree(child))]


BY_CODE: dict[str, type[LlmosError]] = {kind.code: kind for kind in _tree(LlmosError)}


def from_json(error: dict[str, Any]) -> LlmosError:
    """Rebuild the error that the other side raised from its JSON-RPC object."""
    data = dict(error.get("data") or {})
    kind = BY_CODE.get(str(data.pop("code", "")), LlmosError)
    return kind(str(error.get("message", "unknown error")), **data)
