"""The OpenRPC 1.3 document of the socket, generated from the registry of syscalls and the table of fixed methods.

`METHODS` holds the methods that are no verbs, each with a pydantic model of its parameters, so that what the document
says and what a request is checked against are one thing. https://spec.open-rpc.org
"""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, TypeAdapter

from llmos import __version__, client_types, errors
from llmos.client_source import RESULTS, callable_verbs
from llmos.plan import values
from llmos.syscall_help import phrase
from llmos.syscalls import Kind, Risk, Syscall

Allow = Literal["read", "change", "destroy"]


class Params(BaseModel):
    """The named parameters of a method."""

    model_config = ConfigDict(extra="forbid", defer_build=True)


class NoParams(Params):
    """None at all."""


class AskParams(Params):
    """Of `ask`."""

    request: str = Field(min_length=1, max_length=4000, description="what is wanted, in words")
    allow: Allow = Field("read", description="the risk that may run without asking back")
    dry_run: bool = Field(False, description="return the check and run nothing")


class PlanCheckParams(Params):
    """Of `plan.check`."""

    plan: str | list[str | dict[str, JsonValue]] = Field(
        description='text, or a list of lines and of objects {"call": verb, "args": {…}}'
    )


class PlanRunParams(PlanCheckParams):
    """Of `plan.run`."""

    allow: Allow = Field("read", description="the risk that may run without asking back")
    confirm: str | None = Field(None, description="the hash of the checked plan: run exactly that, whatever its risk")


class VerbParams(Params):
    """What every method that is a verb takes besides the verb's own arguments."""

    allow: Allow | None = Field(
        None, description="the risk that may run without asking back; null: what the daemon's settings say"
    )
    confirm: str | None = Field(None, description="the hash of the checked call: run exactly that, whatever its risk")
    dry_run: bool = Field(False, description="return the check and run nothing")


class ApplyParams(VerbParams):
    """Of `jobs.apply`."""

    jobs: dict[str, dict[str, JsonValue]] = Field(
        description="each job's fields by its name, as a job file has them: the parameters of `run`, and env"
    )
    prune: bool = Field(False, description="remove the jobs that an earlier call declared and this one does not")


class ExportParams(Params):
    """Of `jobs.export`."""

    names: list[str] | None = Field(None, description="only these jobs; all that are the caller's without it")


class SubscribeParams(Params):
    """Of `events.subscribe`."""

    kinds: list[str] | None = Field(None, description="only events of these kinds; all without it")
    since: int | None = Field(None, ge=0, description="first replay the events after this id")


class FollowParams(Params):
    """Of `logs.follow`."""

    target: str | int = Field(description="a job")
    lines: int | None = Field(
        None, ge=0, le=1_000_000, description="how many of the last lines come first; 10, or with since all of those"
    )
    grep: str | None = Field(None, min_length=1, description="only lines that hold this text")
    since: Annotated[str, AfterValidator(values.duration)] | None = Field(
        None, description="lines that are no older than this come first, such as 30s, 5m, 2h or 1d"
    )
    stream: Literal["stdout", "stderr"] | None = Field(
        None, description="only this, of a job whose stderr is kept apart; both as one without it"
    )


class FeedbackParams(Params):
    """Of `learn.feedback`."""

    request: str = Field(min_length=1, max_length=4000, description="what was asked, in words")
    given: list[str] = Field(max_length=64, description="the lines of the plan that came of it")
    verdict: client_types.Verdict = Field(description="what the person made of it")
    wanted: list[str] | None = Field(
        None,
        min_length=1,
        max_length=64,
        description="the lines wanted instead: of what was edited; of what was rejected, if known",
    )


class LearnParams(Params):
    """Of `learn.start`."""

    dev: str | None = Field(None, description="file of cases that must not get worse; else what the settings say")


class ForgetParams(Params):
    """Of `learn.forget`."""

    adapters: bool = Field(False, description="remove what was learned, too")


class ShutdownParams(Params):
    """Of `shutdown`."""

    jobs: bool = Field(False, description="end the managed jobs too")


@dataclass(frozen=True, slots=True)
class Method:
    """A method of the socket that is no verb; `result` is the name of a schema, or a schema."""

    params: type[Params]
    summary: str
    result: str | dict[str, Any]


METHODS: dict[str, Method] = {
    "ask": Method(AskParams, "Turn words into a plan and run it, as far as its risk is allowed", "Answer"),
    "plan.check": Method(PlanCheckParams, "Resolve a plan: its risk, its hash and what it would touch", "Check"),
    "plan.run": Method(PlanRunParams, "Run a plan, as far as its risk is allowed or it is confirmed", "Answer"),
    "jobs.apply": Method(
        ApplyParams,
        "Make jobs be as declared: the difference as a plan, its `changes`, and what came of it; nothing where none is",
        "Answer",
    ),
    "jobs.export": Method(
        ExportParams, "What `jobs.apply` takes to make these jobs: each one's fields by its name", {"type": "object"}
    ),
    "events.subscribe": Method(
        SubscribeParams, "Have each event pushed on this connection, as a notification `event`", {"type": "object"}
    ),
    "logs.follow": Method(
        FollowParams, "Have each line of a job's output pushed, as a notification `log`", {"type": "object"}
    ),
    "learn.feedback": Method(
        FeedbackParams,
        "Keep what a person made of a plan, to learn from, unless the settings say not to",
        {"type": "object"},
    ),
    "learn.start": Method(LearnParams, "Start the job that learns from what was kept", "JobInfo"),
    "learn.status": Method(NoParams, "What was kept, the adapter in use and the one before it", {"type": "object"}),
    "learn.stop": Method(NoParams, "Give up what is being learned", "JobInfo"),
    "learn.rollback": Method(NoParams, "Go back to the adapter that was in use before", {"type": "object"}),
    "learn.forget": Method(ForgetParams, "Remove what was kept of the caller", {"type": "object"}),
    "scheduler.status": Method(
        NoParams, "What the scheduler sees, and where everything that wants a processor stands", {"type": "object"}
    ),
    "scheduler.on": Method(NoParams, "Let the scheduler act, now and at later starts", {"type": "object"}),
    "scheduler.off": Method(NoParams, "Put back all that the scheduler changed, and end it", {"type": "object"}),
    "scheduler.train": Method(NoParams, "Start the job that adapts the learned policy to past runs", "JobInfo"),
    "scheduler.rollback": Method(NoParams, "Go back to the weights that were in use before", {"type": "object"}),
    "daemon.status": Method(NoParams, "State of the daemon, its reaper and its model", {"type": "object"}),
    "shutdown": Method(
        ShutdownParams, "Stop the daemon; its jobs run on unless they are to end too", {"type": "object"}
    ),
    "rpc.discover": Method(NoParams, "This document", {"type": "object"}),
    "doctor": Method(NoParams, "What this machine offers", "list[Doctor]"),
}


def discover() -> dict[str, Any]:
    """The document: every method with its parameters, result and errors, all schemas in `components`."""
    schemas: dict[str, Any] = {}
    for shape in _SHAPES:
        schema = TypeAdapter(shape).json_schema(ref_template=_REF + "{model}")
        schemas |= schema.pop("$defs", {})
        schemas[shape.__name__] = schema
    return {
        "openrpc": "1.3.2",
        "info": {
            "title": "llmosd",
            "version": __version__,
            "description": "JSON-RPC 2.0 over a Unix stream socket: one message a line, UTF-8, requests up to 1 MiB.",
            "license": {"name": "Apache-2.0"},
        },
        "methods": [
            *(_fixed(name, method) for name, method in METHODS.items()),
            *map(_verb, callable_verbs()),
        ],
        "components": {"schemas": schemas, "errors": {kind.code: _error(kind) for kind in errors.BY_CODE.values()}},
    }


_REF = "#/components/schemas/"
_SHAPES = (
    client_types.Check,
    client_types.Answer,
    client_types.JobInfo,
    client_types.JobLogs,
    client_types.WaitResult,
    client_types.Explanation,
    client_types.Event,
    client_types.Doctor,
)


def _fixed(name: str, method: Method) -> dict[str, Any]:
    return _method(name, method.summary, _params(method.params), method.result)


def _verb(syscall: type[Syscall]) -> dict[str, Any]:
    described = {
        **_method(
            syscall.verb,
            syscall.meaning(),
            [*_arguments(syscall), *_params(VerbParams)],
            RESULTS.get(syscall.verb, {"type": "array", "items": {"type": "object"}}),
        ),
        "x-risk": str(syscall.risk),
    }
    if syscall.risk is not Risk.READ:
        described |= {"x-risk-note": syscall.risk_note, "x-inverse": syscall.inverse}
    return described


def _method(name: str, summary: str, params: list[dict[str, Any]], result: str | dict[str, Any]) -> dict[str, Any]:
    return {
        "name": name,
        "summary": summary,
        "paramStructure": "by-name",
        "params": sorted(params, key=lambda param: not param["required"]),  # OpenRPC wants the required ones first
        "result": {"name": "result", "schema": _result(result) if isinstance(result, str) else result},
        "errors": [{"$ref": f"#/components/errors/{code}"} for code in errors.BY_CODE],
    }


def _arguments(syscall: type[Syscall]) -> list[dict[str, Any]]:
    descriptors = _params(syscall)
    for descriptor in descriptors:
        argument = syscall.arguments.get(descriptor["name"])
        if argument is None:  # for programs alone: described where it is defined
            continue
        descriptor["description"] = phrase(argument)
        if accepted := _ALSO_NUMBERS.get(argument.kind):
            descriptor["schema"] = {"type": ["string", accepted]}
    return descriptors


_ALSO_NUMBERS = {Kind.TARGET: "integer", Kind.WATCH: "integer", Kind.CORES: "number", Kind.THRESHOLD: "number"}
"""Kinds of text that a JSON number may stand for."""


def _params(model: type[BaseModel]) -> list[dict[str, Any]]:
    """The content descriptors of a model's fields; references are written out, so each schema stands alone."""
    schema = model.model_json_schema()
    definitions = schema.get("$defs", {})
    required = schema.get("required", ())
    descriptors = []
    for name, field in schema.get("properties", {}).items():
        field = _inlined(field, definitions)
        for noise in ("title", "positional", "api_only"):
            field.pop(noise, None)
        descriptor = {"name": name, "required": name in required, "schema": field}
        if description := field.pop("description", None):
            descriptor["description"] = description
        descriptors.append(descriptor)
    return descriptors


def _inlined(schema: Any, definitions: dict[str, Any]) -> Any:
    if isinstance(schema, list):
        return [_inlined(part, definitions) for part in schema]
    if not isinstance(schema, dict):
        return schema
    if reference := schema.get("$ref"):
        return (
            _JSON_VALUE
            if reference.endswith("/JsonValue")
            else _inlined(definitions[reference.split("/")[-1]], definitions)
        )
    return {_BOUNDS.get(name, name): _inlined(part, definitions) for name, part in schema.items()}


_BOUNDS = {"ge": "minimum", "le": "maximum"}
"""Bounds that pydantic leaves under its own names where a validator stands before them."""

_JSON_VALUE: dict[str, Any] = {"description": "any JSON value"}


def _result(annotation: str) -> dict[str, Any]:
    """The schema of a result written as a Python annotation, such as `JsonObject | list[JobInfo]`."""
    if " | " in annotation:
        return {"oneOf": [_result(part) for part in annotation.split(" | ")]}
    if annotation.startswith("list["):
        return {"type": "array", "items": _result(annotation[5:-1])}
    return {"type": "object"} if annotation == "JsonObject" else {"$ref": _REF + annotation}


def _error(kind: type[errors.LlmosError]) -> dict[str, Any]:
    return {"code": kind.number, "message": (kind.__doc__ or "").strip(), "data": {"code": kind.code}}
