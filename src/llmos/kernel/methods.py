"""The methods of the socket: every verb of the registry, and the few that are no verbs."""

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ValidationError

from llmos.errors import BadInput
from llmos.kernel import applying
from llmos.kernel.job_log import MAX_LINES, require_files
from llmos.kernel.openrpc import (
    METHODS as PARAMS,
)
from llmos.kernel.openrpc import (
    ApplyParams,
    AskParams,
    ExportParams,
    FeedbackParams,
    FollowParams,
    ForgetParams,
    LearnParams,
    NoParams,
    PlanCheckParams,
    PlanRunParams,
    ShutdownParams,
    SubscribeParams,
    VerbParams,
    discover,
)
from llmos.kernel.step import Step
from llmos.kernel.targets import job_target
from llmos.plan import values
from llmos.plan.language import plan_from_wire
from llmos.syscalls import SYSCALLS, Risk, Syscall

if TYPE_CHECKING:
    from llmos.kernel.api import Connection

Method = Callable[["Connection", dict[str, Any]], Any]
"""What a request calls: its connection and parameters to its result, or to an awaitable of it."""

MAX_REPLAYED = 1000
FOLLOWED_LINES = 10  # of what came before, as tail(1) has it
_Params = TypeVar("_Params", bound=BaseModel)


def _read(model: type[_Params], params: dict[str, Any], method: str) -> _Params:
    try:
        return model.model_validate(params)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        known = ", ".join(model.model_fields) or "none"
        raise BadInput(f"{method}: {field}: {first['msg']}; its parameters: {known}", field=field) from None


_UNCHOSEN = VerbParams()


def _verb(syscall: type[Syscall]) -> Method:
    ours = VerbParams.model_fields.keys()
    risk, reads = syscall.risk, syscall.risk is Risk.READ

    def method(connection: "Connection", params: dict[str, Any]) -> Any:
        if reads and ours.isdisjoint(params):  # what programs ask most, so on the shortest way
            return connection.kernel.executor.call(syscall.build(params), connection.caller, allow=risk, confirm=None)
        if ours.isdisjoint(params):
            call, chosen = syscall.build(params), _UNCHOSEN
        else:
            call = syscall.build({name: value for name, value in params.items() if name not in ours})
            chosen = _read(VerbParams, {name: value for name, value in params.items() if name in ours}, syscall.verb)
        kernel = connection.kernel
        if chosen.dry_run:
            return _checked(connection, [call])
        allow = Risk[(chosen.allow or kernel.settings.policy.methods_allow).upper()]
        return kernel.executor.call(call, connection.caller, allow=allow, confirm=chosen.confirm)

    return method


async def _checked(connection: "Connection", plan: list[Syscall]) -> dict[str, Any]:
    check = await connection.kernel.executor.check(plan, connection.caller)
    return dict(check.as_json())


def _ask(connection: "Connection", params: dict[str, Any]) -> Any:
    asked = _read(AskParams, params, "ask")
    if not asked.request.strip():
        raise BadInput("ask: request is empty; say what is wanted", field="request")
    asking = connection.kernel.asking
    return asking.ask(asked.request, connection.caller, allow=Risk[asked.allow.upper()], dry_run=asked.dry_run)


def _plan_check(connection: "Connection", params: dict[str, Any]) -> Any:
    return _checked(connection, plan_from_wire(_read(PlanCheckParams, params, "plan.check").plan))


async def _run_plan(connection: "Connection", plan: list[Syscall], allow: Risk, confirm: str | None) -> dict[str, Any]:
    check = await connection.kernel.executor.check(plan, connection.caller)
    answer: dict[str, Any] = await connection.kernel.asking.run(check, connection.caller, allow=allow, confirm=confirm)
    return answer


def _plan_run(connection: "Connection", params: dict[str, Any]) -> Any:
    asked = _read(PlanRunParams, params, "plan.run")
    return _run_plan(connection, plan_from_wire(asked.plan), Risk[asked.allow.upper()], asked.confirm)


def _apply(connection: "Connection", params: dict[str, Any]) -> Any:
    asked = _read(ApplyParams, params, "jobs.apply")
    kernel = connection.kernel
    allow = Risk[(asked.allow or kernel.settings.policy.methods_allow).upper()]
    return applying.apply(
        kernel,
        connection.caller,
        asked.jobs,
        prune=asked.prune,
        allow=allow,
        confirm=asked.confirm,
        dry_run=asked.dry_run,
    )


def _export(connection: "Connection", params: dict[str, Any]) -> Any:
    return applying.export(connection.kernel, connection.caller, _read(ExportParams, params, "jobs.export").names)


async def _subscribe(connection: "Connection", params: dict[str, Any]) -> dict[str, Any]:
    asked = _read(SubscribeParams, params, "events.subscribe")
    kinds = None if asked.kinds is None else tuple(asked.kinds)

    def push(event: dict[str, Any]) -> None:
        wanted = kinds is None or event["kind"].startswith(kinds)
        if wanted and (connection.caller.may_all or event["uid"] in (None, connection.caller.uid)):
            connection.notify("event", event)

    kernel = connection.kernel
    await kernel.journal.flush()
    newest = await kernel.journal.events(limit=1)
    kernel.subscribers.add(push)
    connection.on_close.append(lambda: kernel.subscribers.discard(push))
    if asked.since is not None:
        for event in await kernel.journal.events(since=asked.since, limit=MAX_REPLAYED):
            push(event)
    return {"subscribed": True, "last": newest[0]["id"] if newest else 0}


async def _follow(connection: "Connection", params: dict[str, Any]) -> dict[str, Any]:
    asked = _read(FollowParams, params, "logs.follow")
    kernel = connection.kernel
    target = job_target(kernel.supervisor, str(asked.target))
    Step(kernel, connection.caller, {"target": [target]}).require_rights()
    name = target.name
    require_files([kernel.supervisor.get(name)])
    age = values.seconds_of(asked.since) if asked.since is not None else None
    lines = asked.lines if asked.lines is not None else FOLLOWED_LINES if age is None else MAX_LINES

    async def push() -> None:
        ended = asyncio.ensure_future(kernel.supervisor.at_rest(kernel.supervisor.get(name)))
        try:
            log = kernel.logs.follow(name, ended, lines=lines, grep=asked.grep, age=age, stream=asked.stream)
            async with aclosing(log) as following:
                async for new in following:
                    for line in new:
                        connection.notify("log", {"job": name, "line": line})
        finally:
            ended.cancel()
        connection.notify("log", {"job": name, "ended": True})

    connection.keep(push())
    return {"following": name}


def _feedback(connection: "Connection", params: dict[str, Any]) -> Any:
    heard = _read(FeedbackParams, params, "learn.feedback")
    learning = connection.kernel.learning
    return learning.hear(connection.caller, heard.request, heard.given, heard.verdict, heard.wanted)


def _learn(connection: "Connection", params: dict[str, Any]) -> Any:
    return connection.kernel.learning.start(connection.caller, _read(LearnParams, params, "learn.start").dev)


def _forget(connection: "Connection", params: dict[str, Any]) -> Any:
    asked = _read(ForgetParams, params, "learn.forget")
    return connection.kernel.learning.forget(connection.caller, adapters=asked.adapters)


def _shutdown(connection: "Connection", params: dict[str, Any]) -> dict[str, Any]:
    asked = _read(ShutdownParams, params, "shutdown")
    connection.server.require_owner(connection.caller)
    connection.server.end_jobs = asked.jobs
    connection.server.stopping.set()
    return {"stopping": True}


def _doctor(connection: "Connection") -> Any:
    from llmos.kernel.doctor import examine

    return asyncio.to_thread(examine, connection.kernel)


def _without_params(name: str, answer: Callable[["Connection"], Any]) -> dict[str, Method]:
    """The method of a name that takes nothing."""

    def method(connection: "Connection", params: dict[str, Any]) -> Any:
        _read(NoParams, params, name)
        return answer(connection)

    return {name: method}


METHODS: dict[str, Method] = {
    "ask": _ask,
    "plan.check": _plan_check,
    "plan.run": _plan_run,
    "jobs.apply": _apply,
    "jobs.export": _export,
    "events.subscribe": _subscribe,
    "logs.follow": _follow,
    "learn.feedback": _feedback,
    "learn.start": _learn,
    **_without_params("learn.status", lambda to: to.kernel.learning.status(to.caller)),
    **_without_params("learn.stop", lambda to: to.kernel.learning.stop(to.caller)),
    **_without_params("learn.rollback", lambda to: to.kernel.learning.roll_back(to.caller)),
    "learn.forget": _forget,
    **_without_params("scheduler.status", lambda to: to.kernel.scheduling.status()),
    **_without_params("scheduler.on", lambda to: to.kernel.scheduling.on(to.caller)),
    **_without_params("scheduler.off", lambda to: to.kernel.scheduling.off(to.caller)),
    **_without_params("scheduler.train", lambda to: to.kernel.scheduling.train(to.caller)),
    **_without_params("scheduler.rollback", lambda to: to.kernel.scheduling.roll_back(to.caller)),
    **_without_params("daemon.status", lambda to: asyncio.to_thread(to.kernel.status)),
    "shutdown": _shutdown,
    **_without_params("rpc.discover", lambda _: asyncio.to_thread(discover)),
    **_without_params("doctor", _doctor),
    **{verb: _verb(syscall) for verb, syscall in SYSCALLS.items() if syscall.risk is not Risk.TALK},
}
assert METHODS.keys() >= PARAMS.keys()

READS = frozenset(
    [
        "plan.check",
        "jobs.export",
        "events.subscribe",
        "logs.follow",
        "learn.status",
        "scheduler.status",
        "daemon.status",
        "rpc.discover",
        "doctor",
    ]
    + [verb for verb, syscall in SYSCALLS.items() if syscall.risk is Risk.READ]
)
"""Methods that change nothing: they are given up when the caller is gone."""
