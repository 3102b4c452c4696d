"""Syscalls on managed jobs: start, stop, schedule, look at and forget them."""

import asyncio
import os
import pwd
import socket
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, WithJsonSchema, model_validator

from llmos.errors import Forbidden, NotFound, TimedOut, Unsupported
from llmos.kernel import ordering
from llmos.kernel.caller import Caller
from llmos.kernel.dangerous_commands import dangers
from llmos.kernel.health import Health
from llmos.kernel.job import Job as ManagedJob
from llmos.kernel.job import Span, name_from
from llmos.kernel.job_log import require_files
from llmos.kernel.probing import Probe
from llmos.kernel.process_end import wait_for_end
from llmos.kernel.readiness import Ready
from llmos.kernel.restarts import RestartLimit, codes_and_signals, failures
from llmos.kernel.states import ALIVE, State
from llmos.kernel.step import Outcome, Step
from llmos.kernel.targets import JobTarget, job_target
from llmos.machine.users import uid_of
from llmos.plan import values
from llmos.plan.risk import Risk
from llmos.syscalls.process import Priority
from llmos.syscalls.registry import (
    Argv,
    Cores,
    Count,
    Cron,
    Duration,
    Job,
    Kind,
    Moment,
    NewName,
    Node,
    Path,
    Size,
    Syscall,
    Target,
    Text,
    Time,
    User,
    api_only,
)

if TYPE_CHECKING:
    from llmos.kernel.kernel import Kernel


class Jobs(Syscall, verb="jobs", risk=Risk.READ):
    """Managed jobs."""

    state: Literal["running", "paused", "failed", "scheduled", "stopped"] | None = None
    names: Annotated[list[str] | None, Kind.LIST] = api_only(description="only these jobs; all without it")

    def act(self, step: Step) -> Outcome:
        supervisor, state, names = step.kernel.supervisor, self.state, self.names
        if state is not None:
            jobs = supervisor.jobs.values() if names is None else map(supervisor.get, names)
            names = [job.name for job in jobs if _is(job, state)]
        listing = supervisor.listing() if names is None else supervisor.listing_of(names)
        return Outcome(listing, lambda: [job_target(supervisor, row["name"]) for row in listing])


class Logs(Syscall, verb="logs", risk=Risk.READ, private=True):
    """Output of a job."""

    target: Target
    lines: Count | None = None
    grep: Text | None = None
    since: Duration | None = None
    stream: Literal["stdout", "stderr"] | None = api_only(
        description="only this, of a job whose stderr is kept apart; both as one without it"
    )

    async def act(self, step: Step) -> Outcome:
        jobs = step.only_jobs("target")
        require_files(jobs)
        wanted: dict[str, Any] = {"lines": self.lines or 100, "grep": self.grep, "stream": self.stream}
        wanted["age"] = values.seconds_of(self.since) if self.since is not None else None
        read = [{"job": job.name, **await step.kernel.logs.read(job.name, **wanted)} for job in jobs]
        return Outcome(read[0] if len(read) == 1 else read, step.target())


class Wait(Syscall, verb="wait", risk=Risk.READ, blocks=True):
    """Until it ends."""

    target: Target
    timeout: Duration | None = None

    async def act(self, step: Step) -> Outcome:
        limit = values.seconds_of(self.timeout) if self.timeout is not None else None
        jobs = step.jobs()
        waits: list[Any] = [wait_for_end(process.identity) for process in step.processes()]
        waits += [step.kernel.supervisor.ended(job) for job in jobs if job.state in ALIVE or _comes(job)]
        try:
            await asyncio.wait_for(asyncio.gather(*waits), limit)
        except TimeoutError:
            raise TimedOut(f"{self.target} had not ended after {self.timeout}") from None
        rows: list[dict[str, Any]] = [
            {"name": job.name, "state": str(job.state), "exit_code": job.exit_code, "reason": job.reason}
            for job in jobs
        ]
        rows += [{"name": process.name, "state": "ended", "exit_code": None} for process in step.processes()]
        return Outcome(rows[0] if len(rows) == 1 else rows, step.target())


def _kept(model: type[BaseModel]) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Check what a job has that has fields of its own, and keep what was said of it as JSON."""

    def check(value: dict[str, Any]) -> dict[str, Any]:
        part = model.model_validate(value)
        if isinstance(part, Probe) and part.exec and (danger := next(iter(dangers(part.exec)), "")):
            raise ValueError(f"the command {danger}; what is run again and again may change nothing")
        return part.model_dump(exclude_unset=True)

    return check


_Ready = Annotated[dict[str, Any], Kind.OBJECT, AfterValidator(_kept(Ready)), WithJsonSchema(Ready.model_json_schema())]
_Health = Annotated[
    dict[str, Any], Kind.OBJECT, AfterValidator(_kept(Health)), WithJsonSchema(Health.model_json_schema())
]
_RestartLimit = Annotated[
    dict[str, Any], Kind.OBJECT, AfterValidator(_kept(RestartLimit)), WithJsonSchema(RestartLimit.model_json_schema())
]


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _jobs(value: Any) -> Any:
    """Jobs to come after: none for an empty list, the name for a list of one."""
    if (
        value is not None
        and not isinstance(value, str)
        and not (isinstance(value, list) and all(isinstance(name, str) for name in value))
    ):
        raise ValueError("name a job, or give a list of such names")
    if isinstance(value, list):
        names = list(dict.fromkeys(map(values.name, value)))
        return names if len(names) > 1 else names[0] if names else None
    return value


def _mode(value: str) -> str:
    if not (1 <= len(value) <= 4 and all(digit in "01234567" for digit in value) and int(value, 8) <= 0o777):
        raise ValueError(f"{values.shown(value)} is no umask; write octal digits, such as 027")
    return value


class Run(Syscall, verb="run", risk=Risk.CHANGE, inverse="stop"):
    """Start a managed job: now; daily (at); one time (once); repeatedly (every, cron); or when JOB ended well (after).

    `cpu` is in cores, 0.5 allowed; `gpu` says how many cards. Programs can also say how the job is found ready, and then
    `after` waits for that; how its health is checked; and how it is limited, run, restarted and stopped.
    """

    name: NewName | None = None
    cwd: Path | None = None
    restart: Literal["never", "on-failure", "always"] = "never"
    memory: Size | None = None
    cpu: Cores | None = None
    gpu: Count | None = None
    priority: Priority = "normal"
    timeout: Duration | None = None
    at: Time | None = None
    once: Moment | None = None
    every: Duration | None = None
    cron: Cron | None = None
    after: Annotated[Job | list[str] | None, BeforeValidator(_jobs)] = None
    on: Node | None = None
    argv: Argv
    ready: _Ready | None = api_only(
        description='how it is found ready, starting until then: {"tcp": 8080}, or exec, http, log or notify; timeout'
    )
    health: _Health | None = api_only(
        description='how it is checked while it runs: {"http": "http://localhost/", "interval": "10s"}, or exec or tcp; '
        "timeout, failures in a row, then: restart or stop"
    )
    restart_limit: _RestartLimit | None = api_only(
        description='how often it may be restarted by itself: {"restarts": 5, "within": "10m"}'
    )
    restart_on: Annotated[list[int | str], Kind.LIST, AfterValidator(failures)] = api_only(
        [], description="exit codes and signals that restart=on-failure answers; every failure when empty"
    )
    restart_prevent: Annotated[list[int | str], Kind.LIST, AfterValidator(codes_and_signals)] = api_only(
        [], description="exit codes and signals after which it is not restarted, whatever restart says"
    )
    success_exit: Annotated[list[int | str], Kind.LIST, AfterValidator(failures)] = api_only(
        [], description="exit codes and signals that are a success too, as exit code 0 is"
    )
    stop_signal: Literal["TERM", "INT", "QUIT", "HUP", "USR1", "USR2", "WINCH", "KILL"] = api_only(
        "TERM", description="what asks it to end"
    )
    stop_timeout: Annotated[Span, Kind.DURATION] | None = api_only(description="from that to KILL")
    io: Size | None = api_only(description="bytes a second that it may read and write on each disk")
    pids: Count | None = api_only(description="processes and threads that it may have at a time")
    open_files: Annotated[int, Kind.COUNT, Field(ge=1, le=2**30)] | None = api_only(
        description="files that each of its processes may have open"
    )
    nice: Annotated[int, Kind.COUNT, Field(ge=-20, le=19)] | None = api_only(
        description="niceness; below 0 only where its user may"
    )
    umask: Annotated[Text, AfterValidator(_mode)] | None = api_only(description="octal digits, such as 027")
    user: User | None = api_only(description="who it runs as, where root asks")
    env_files: Annotated[list[Path], Kind.PATH, BeforeValidator(_listed)] = api_only(
        [], description="files of NAME=VALUE lines, read anew at each start with the rights of its user"
    )
    missed: Literal["run-once", "skip"] = api_only(
        "run-once", description="when its time came while llmosd did not run or the machine slept: run it now, or not"
    )
    overlap: Literal["skip", "queue", "replace"] = api_only(
        "skip",
        description="when its time comes and the run before is not over: leave it out, run it afterwards, or end that run",
    )
    output: Literal["file", "journald"] = api_only(
        "file", description="where what it writes goes: to its own log, or to the journal of the machine"
    )
    stderr: Literal["merged", "separate"] = api_only(
        "merged", description="whether its stderr is kept with its stdout, or apart; in the journal, as errors"
    )

    @model_validator(mode="after")
    def _one_time(self) -> Self:
        _check_schedule(_schedule_of(self))
        if self.after is not None and _schedule_of(self):
            raise ValueError("after= and a time exclude each other")
        if self.restart_on and self.restart != "on-failure":
            raise ValueError("restart_on= is for restart=on-failure alone")
        if self.restart_prevent and self.restart == "never":
            raise ValueError("restart_prevent= is for a job that is restarted")
        if self.output == "journald" and self.ready is not None and "log" in self.ready:
            raise ValueError("output=journald excludes ready={log}: llmosd does not see what goes to the journal")
        if self.nice is not None and self.priority != "normal":
            raise ValueError("nice= and priority= exclude each other: a priority sets the niceness")
        return self

    async def act(self, step: Step) -> Outcome:
        kernel, caller = step.kernel, step.caller
        if self.on is not None and self.on not in ("localhost", socket.gethostname()):
            raise Unsupported(f"there is no node {self.on!r}: this llmosd runs jobs on {socket.gethostname()} alone")

        def look() -> tuple[list[str], Caller, dict[str, str]]:
            cwd, *env_files = (kernel.path_of(path, caller) for path in (self.cwd or ".", *self.env_files))
            if not os.path.isdir(cwd):
                raise NotFound(f"the working directory {cwd} does not exist", field="cwd")
            return [cwd, *env_files], *_owner(caller, self.user)

        (cwd, *env_files), owner, env = await asyncio.to_thread(look)
        if self.name in kernel.supervisor.jobs:  # it takes the place of that job, where it has ended
            Step(kernel, caller, {"name": [job_target(kernel.supervisor, self.name)]}).require_rights()
        after = [target.name for target in step.target("after") if isinstance(target, JobTarget)]
        if isinstance(self.after, list):
            named = [job_target(kernel.supervisor, name) for name in self.after]
            Step(kernel, caller, {"after": [*named]}).require_rights()
            after = [target.name for target in named]
        job = ManagedJob(  # no await from here on, or the free name may be taken
            name=self.name or kernel.supervisor.free_name(name_from(self.argv)),
            argv=list(self.argv),
            cwd=cwd,
            env=env,
            uid=owner.uid,
            gid=owner.gid,
            schedule=_schedule_of(self),
            after=list(dict.fromkeys(after)),
            env_files=env_files,
            **{name: getattr(self, name) for name in _AS_GIVEN},
        )
        await kernel.supervisor.define(job)
        return Outcome(job.as_json(), [job_target(kernel.supervisor, job.name)], {"jobs": [job.name]})

    async def take_back(self, kernel: "Kernel", undo: dict[str, Any]) -> None:
        for job in map(kernel.supervisor.get, undo["jobs"]):
            if "fields" in undo:  # a job file changed these alone
                kernel.supervisor.change(job, undo["fields"])
                continue
            kernel.supervisor.set_schedule(job, {})
            await kernel.supervisor.stop(job, reason="taken back")


_AS_GIVEN = (
    *("restart", "memory", "cpu", "io", "gpu", "priority", "timeout", "ready", "health", "restart_limit"),
    *("restart_on", "restart_prevent", "success_exit", "stop_signal", "stop_timeout", "pids", "open_files", "nice"),
    *("umask", "missed", "overlap", "output", "stderr"),
)
"""Arguments of `run` that the job holds just as they are."""


class Start(Syscall, verb="start", risk=Risk.CHANGE, inverse="stop"):
    """Start a known job that is not running."""

    job: Job

    async def act(self, step: Step) -> Outcome:
        names = {job.name for job in step.only_jobs("job")}
        return await _each(step, "job", lambda job: step.kernel.supervisor.start(job, "as asked", names))

    async def take_back(self, kernel: "Kernel", undo: dict[str, Any]) -> None:
        for name in undo["jobs"]:
            await kernel.supervisor.stop(kernel.supervisor.get(name), reason="taken back")


class Stop(Syscall, verb="stop", risk=Risk.DESTROY, inverse="start", risk_note="for what is not a job, else change"):
    """Graceful end, then KILL after the timeout."""

    target: Target
    timeout: Duration | None = None

    async def act(self, step: Step) -> Outcome:
        kernel = step.kernel
        seconds = values.seconds_of(self.timeout) if self.timeout is not None else None
        running = [job.name for job in step.jobs() if job.state in ALIVE]
        rows: list[dict[str, Any]] = []
        jobs = step.jobs()
        done = await asyncio.gather(
            kernel.supervisor.stop_each(jobs, seconds),
            *(kernel.stop_process(process, seconds, step.caller) for process in step.processes()),
            return_exceptions=True,
        )
        _raise_first(done)
        rows += [job.as_json() for job in jobs]
        rows += [row for row in done if isinstance(row, dict)]
        return Outcome(rows, step.target(), {"jobs": running} if running else None)

    async def take_back(self, kernel: "Kernel", undo: dict[str, Any]) -> None:
        for name in undo["jobs"]:
            await kernel.supervisor.start(kernel.supervisor.get(name), "taken back")


class Restart(Syscall, verb="restart", risk=Risk.CHANGE):
    """Running or not."""

    target: Target

    async def act(self, step: Step) -> Outcome:
        outcome = await _each(step, "target", step.kernel.supervisor.restart)
        outcome.undo = None
        return outcome


class Schedule(Syscall, verb="schedule", risk=Risk.CHANGE, inverse="schedule back"):
    """Set when a job runs, as in run."""

    job: Job
    at: Time | None = None
    once: Moment | None = None
    every: Duration | None = None
    cron: Cron | None = None

    @model_validator(mode="after")
    def _one_time(self) -> Self:
        if not _schedule_of(self):
            raise ValueError('say when: at=TIME, once=TIME|DUR, every=DUR or cron="…"')
        _check_schedule(_schedule_of(self))
        return self

    async def act(self, step: Step) -> Outcome:
        return await _set_schedules(step, _schedule_of(self))

    async def take_back(self, kernel: "Kernel", undo: dict[str, Any]) -> None:
        await _put_schedules_back(kernel, undo)


class Unschedule(Syscall, verb="unschedule", risk=Risk.CHANGE, inverse="schedule"):
    """Take a job off its schedule."""

    job: Job

    async def act(self, step: Step) -> Outcome:
        return await _set_schedules(step, {})

    async def take_back(self, kernel: "Kernel", undo: dict[str, Any]) -> None:
        await _put_schedules_back(kernel, undo)


class Remove(Syscall, verb="remove", risk=Risk.DESTROY):
    """Forget a job; it must be stopped."""

    job: Job

    async def act(self, step: Step) -> Outcome:
        jobs = step.only_jobs("job")
        for job in jobs:
            await step.kernel.supervisor.forget(job)
        return Outcome([{"name": job.name} for job in jobs], [])


def owner_of(caller: Caller, user: str | None) -> Caller:
    """Who a job is to run as: the caller, or the user named. Reads the user database.

    :raises NotFound: there is no such user.
    :raises Forbidden: it is another one, and the caller is not root.
    """
    if user is None:
        return caller
    uid = uid_of(user)
    try:
        owner = Caller(uid, pwd.getpwuid(uid).pw_gid, None)
    except KeyError:
        raise NotFound(f"there is no user {user!r} on this machine", user=user) from None
    if not caller.may_touch(uid):
        raise Forbidden(f"only root may run a job as another user, {user}; leave `user` out")
    return owner


def _owner(caller: Caller, user: str | None) -> tuple[Caller, dict[str, str]]:
    """Who a job is to run as, and its environment: the caller's. Reads the user database and /proc."""
    env = caller.environment()
    owner = owner_of(caller, user)
    if user is None:
        return owner, env
    theirs = owner.environment()
    return owner, {**env, **{name: theirs[name] for name in ("HOME", "USER", "LOGNAME", "SHELL")}}


def _schedule_of(call: Run | Schedule) -> dict[str, str]:
    """The parts of a schedule that a call gives, by key."""
    return {key: value for key in ("at", "once", "every", "cron") if (value := getattr(call, key)) is not None}


def _check_schedule(schedule: dict[str, str]) -> None:
    """Raise `ValueError` where the parts of a schedule do not go together."""
    if len(schedule) > 1 and not (
        schedule.keys() == {"at", "every"} and values.seconds_of(schedule["every"]) % 86400 == 0
    ):
        raise ValueError(
            f"{'= and '.join(schedule)}= exclude each other; only at= with an every= of whole days does not"
        )
    if "every" in schedule and values.seconds_of(schedule["every"]) == 0:
        raise ValueError("every=0 would never end")


def _is(job: ManagedJob, state: str) -> bool:
    """Whether a job counts as running, paused, failed, scheduled or stopped; it may count as two of them."""
    match state:
        case "running":
            return job.state in (State.STARTING, State.RUNNING, State.STOPPING)
        case "failed":
            broke = job.ended_at is not None and not job.ended_well() and job.state is State.SCHEDULED
            return job.state in (State.FAILED, State.BACKOFF) or broke
        case "scheduled":
            return bool(job.schedule)
    return job.state == state


def _comes(job: ManagedJob) -> bool:
    """Whether a job without a process will have one by itself, so that its end can be waited for."""
    return job.state in (State.WAITING, State.BACKOFF, State.SCHEDULED)


async def _each(step: Step, argument: str, act: Any) -> Outcome:
    """Do something to each of the jobs, begun in their order; all are tried, and the first failure is raised."""
    jobs = step.only_jobs(argument)
    order = ordering.waves(step.kernel.supervisor.jobs, jobs)
    done = await asyncio.gather(*(act(job) for wave in order for job in wave), return_exceptions=True)
    _raise_first(done)
    return Outcome([job.as_json() for job in jobs], step.target(argument), {"jobs": [job.name for job in jobs]})


def _raise_first(done: Sequence[Any]) -> None:
    for result in done:
        if isinstance(result, BaseException):
            raise result


async def _set_schedules(step: Step, schedule: dict[str, str]) -> Outcome:
    jobs = step.only_jobs("job")
    if not schedule and (unset := [job.name for job in jobs if not job.schedule]):
        raise NotFound(f"{', '.join(unset)} has no schedule")
    undo = {job.name: job.schedule for job in jobs}
    for job in jobs:
        step.kernel.supervisor.set_schedule(job, dict(schedule))
    return Outcome([job.as_json() for job in jobs], step.target("job"), {"jobs": undo})


async def _put_schedules_back(kernel: "Kernel", undo: dict[str, Any]) -> None:
    for name, schedule in undo["jobs"].items():
        kernel.supervisor.set_schedule(kernel.supervisor.get(name), schedule)
