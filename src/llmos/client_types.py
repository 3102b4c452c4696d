"""The shapes of what the socket answers, as typed dictionaries.

Times are epoch seconds, sizes bytes, durations seconds. The objects may hold more fields than are named here.
"""

from typing import Any, Literal, NotRequired

from typing_extensions import TypedDict  # pydantic reads no typing.TypedDict before Python 3.12

JsonObject = dict[str, Any]
Allow = Literal["read", "change", "destroy"]
Verdict = Literal["accepted", "edited", "rejected"]
RiskName = Literal["talk", "read", "change", "destroy"]


class Target(TypedDict):
    """What a line of a plan would touch; only `line`, `name` and `resolved` are there while it does not exist."""

    line: int
    name: str
    resolved: bool
    kind: NotRequired[Literal["process", "job", "watch"]]
    pid: NotRequired[int | None]
    user: NotRequired[str]
    age_seconds: NotRequired[float]
    command: NotRequired[str]


class Check(TypedDict):
    """A plan, its risk and what it would touch; `hash` confirms exactly this."""

    plan: list[str]
    risk: RiskName
    risks: list[RiskName]
    reasons: list[str]
    hash: str
    targets: list[Target]


class LineResult(TypedDict):
    """What came of one line: its value, its error, or why it was skipped."""

    line: str
    ok: bool
    value: NotRequired[Any]
    error: NotRequired[JsonObject]
    skipped: NotRequired[str]


class Answer(Check):
    """A check and what running it gave. `seconds` is the model's time, on what was asked in words."""

    ok: NotRequired[bool]
    answer: str | None
    results: NotRequired[list[LineResult]]
    seconds: NotRequired[float]


class JobInfo(TypedDict):
    """A managed job."""

    name: str
    state: str
    pid: int | None
    started_at: float | None
    exit_code: int | None
    restarts: int
    argv: list[str]


class JobLogs(TypedDict):
    """Output of a job."""

    job: str
    lines: list[str]
    truncated: bool


class WaitResult(TypedDict):
    """How what was waited for ended."""

    name: str
    state: str
    exit_code: int | None


class Explanation(TypedDict):
    """Why something happened to a target, and the events that say so."""

    target: str
    sentence: str
    events: list[JsonObject]


class Event(TypedDict):
    """One event of the journal."""

    id: int
    at: float
    kind: str
    subject: str
    uid: int
    body: JsonObject


class Doctor(TypedDict):
    """One thing that the machine offers or lacks."""

    check: str
    ok: bool
    detail: str
    remedy: str | None
