"""Job files carried out: what they declare against the job table, the difference as a plan, and the reverse.

What a file declares is what a job is, not whether it runs at the moment: a job that stands as declared is left as it
is, ended or not. New jobs are run; of those that differ, what needs no new run is changed live, and anything else means
stop and run anew.
"""

import asyncio
import hashlib
import json
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING, Any

from llmos.errors import BadInput, Forbidden, LlmosError, NeedsConfirmation, NotFound, PlanChanged
from llmos.jobfile import FIELDS, MAX_JOBS, JobSpec, Table, spec_of, table_of
from llmos.kernel import ordering
from llmos.kernel.caller import Caller
from llmos.kernel.executor import Check
from llmos.kernel.job import Job
from llmos.kernel.states import ALIVE, State
from llmos.kernel.step import Step
from llmos.kernel.targets import job_target, user_name
from llmos.plan.language import print_line
from llmos.syscalls import Risk, Syscall
from llmos.syscalls.job import Remove, Run, Schedule, Stop, Unschedule, owner_of
from llmos.syscalls.process import Limit, Renice

if TYPE_CHECKING:
    from llmos.kernel.kernel import Kernel

log = logging.getLogger("llmos.applying")

MAX_AT_A_TIME = 16
"""Jobs that are changed side by side: more would keep other callers waiting."""
SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""PATH of a job whose file sets none."""
_SCHEDULE = ("at", "once", "every", "cron")
_LIMITS = ("memory", "cpu", "io")
"""What `limit` sets of a job that runs."""
_LIVE = (
    *("restart", "restart_limit", "restart_on", "restart_prevent", "success_exit", "timeout", "health"),
    *("stop_signal", "stop_timeout", "missed", "overlap"),
)
"""What else needs no new run, and has no line of its own."""
_DECLARED = [item.name for item in fields(Job) if item.name in FIELDS or item.name in ("uid", "schedule")]
"""The fields of a job that a file decides."""


@dataclass(slots=True)
class _Change:
    """What makes one job as it is declared, or takes it away: the lines that do, and the job that `run` is to start.

    `how`, of a job that is there: `live`, or `restart`, or `start` where it does not run and waits for no time. `live` is
    what is set without a line, and `run` the line that says what the job is then.
    """

    name: str
    kind: str
    lines: list[Syscall]
    job: Job | None = None
    how: str | None = None
    live: dict[str, Any] = field(default_factory=dict)
    run: Run | None = None
    fields: dict[str, Any] = field(default_factory=dict)
    results: list[dict[str, Any]] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        lines = [print_line(line) for line in self.lines]
        how = {"how": self.how} if self.how is not None else {}
        return {"job": self.name, "change": self.kind, **how, "lines": lines, "fields": self.fields}


@dataclass(slots=True)
class _Difference:
    """All changes, in levels: those of one level may be made side by side, after those of the level before."""

    levels: list[list[_Change]]
    check: Check

    @property
    def changes(self) -> list[_Change]:
        return [change for level in self.levels for change in level]

    @property
    def risk(self) -> Risk:
        live = Risk.CHANGE if any(change.live for change in self.changes) else Risk.READ
        return max(self.check.risk, live) if self.check.lines else live

    @property
    def hash(self) -> str:
        """What a confirmation is bound to: the checked plan, and all that its lines do not say."""
        declared = [[change.as_json(), change.job and _declaration(change.job)] for change in self.changes]
        return hashlib.sha256(json.dumps([self.check.hash, declared]).encode()).hexdigest()[:32]

    def as_json(self) -> dict[str, Any]:
        changes = [change.as_json() for change in self.changes]
        if not self.check.lines:
            shown: dict[str, Any] = {"plan": [], "risk": str(self.risk), "risks": [], "reasons": [], "targets": []}
        else:
            shown = self.check.as_json()
        return {**shown, "hash": self.hash, "changes": changes}


async def apply(
    kernel: "Kernel",
    caller: Caller,
    tables: Mapping[str, Table],
    *,
    prune: bool,
    allow: Risk,
    confirm: str | None,
    dry_run: bool,
) -> dict[str, Any]:
    """Make the jobs be as their tables say; returns the check of the plan, its `changes`, and the results.

    `prune` removes the jobs that an earlier call declared and this one does not.

    :raises BadInput: a table is malformed, or jobs wait for one another in a circle.
    :raises NotFound: a job waits for one that is nowhere, or a user or working directory is not there.
    :raises Forbidden: a job is another user's, or is to run as another user.
    :raises NeedsConfirmation: the plan's risk is above `allow` and it was not confirmed.
    :raises PlanChanged: it was confirmed, but is another one now.
    """
    if len(tables) > MAX_JOBS:
        raise BadInput(f"{len(tables)} jobs are more than the {MAX_JOBS} of one file; split it", field="jobs")
    specs = await asyncio.to_thread(lambda: {name: spec_of(name, table) for name, table in tables.items()})
    applied = set(await kernel.journal.fact(_applied(caller)) or [])
    jobs = kernel.supervisor.jobs
    gone = [name for name in sorted(applied - specs.keys()) if name in jobs and caller.may_touch(jobs[name].uid)]
    difference = await _difference(kernel, caller, specs, gone if prune else [])
    shown = difference.as_json()
    if dry_run:
        return shown
    if confirm is not None and confirm != difference.hash:
        raise PlanChanged("what is to be done is not what was confirmed; look at it again", **shown)
    if confirm is None and difference.risk > allow:
        raise NeedsConfirmation(
            f"this plan can {difference.risk} and only {allow} is allowed without asking; "
            "confirm it by its hash, or allow more",
            **shown,
        )
    granted = max(difference.risk, allow) if confirm is not None else allow
    turn = asyncio.Semaphore(MAX_AT_A_TIME)
    for level in difference.levels:
        await asyncio.gather(*(_carry_out(kernel, caller, change, granted, turn) for change in level))
    kernel.journal.remember(_applied(caller), sorted((applied | specs.keys()) & jobs.keys()))
    await kernel.journal.flush()
    results = [result for change in difference.changes for result in change.results]
    return {**shown, "answer": None, "ok": all(result["ok"] for result in results), "results": results}


async def export(kernel: "Kernel", caller: Caller, names: Sequence[str] | None) -> dict[str, Table]:
    """The tables of these jobs, or of all that are the caller's; `apply` of them changes nothing.

    :raises NotFound: there is no job of a name.
    :raises Forbidden: a named job is another user's.
    """
    table = kernel.supervisor.jobs.values()
    jobs = [job for job in table if caller.may_touch(job.uid)] if names is None else map(kernel.supervisor.get, names)
    found = {job.name: job for job in jobs}
    _require_rights(kernel, caller, list(found))
    return await asyncio.to_thread(lambda: {name: _table(job, caller) for name, job in found.items()})


async def _difference(
    kernel: "Kernel", caller: Caller, specs: Mapping[str, JobSpec], gone: Sequence[str]
) -> _Difference:
    jobs = dict(kernel.supervisor.jobs)
    present = {name: jobs[name] for name in (*gone, *specs) if name in jobs}
    _require_rights(kernel, caller, list(present))
    declared = await asyncio.to_thread(
        lambda: {name: _declared_job(kernel, caller, name, spec) for name, spec in specs.items()}
    )
    awaited = {other for job in declared.values() for other in job.after if other in jobs}
    _require_rights(kernel, caller, sorted(awaited))
    removed = [_Change(name, "remove", [*_ending(present[name]), Remove(job=name)]) for name in gone if name in present]
    made = [
        [change for job in wave if (change := _change(specs[job.name], job, present.get(job.name))) is not None]
        for wave in _waves(jobs, declared)
    ]
    levels = [removed, *made]
    lines = [line for level in levels for change in level for line in change.lines]
    return _Difference(levels, await kernel.executor.check(lines, caller))


def _waves(jobs: Mapping[str, Job], declared: Mapping[str, Job]) -> list[list[Job]]:
    """The declared jobs in groups, each of which waits for none but those before it."""
    table = {**jobs, **declared}
    for job in declared.values():
        for other in job.after:
            if other not in table:
                raise NotFound(
                    f"job.{job.name}: after: there is no job {other!r}, here or among `llmos jobs`", name=other
                )
    try:
        TopologicalSorter({name: job.after for name, job in table.items()}).prepare()
    except CycleError as error:
        circle = " after ".join(reversed(error.args[1]))
        raise BadInput(f"these jobs would wait for one another: {circle}; take one out", field="after") from None
    return ordering.waves(table, declared.values())


def _change(spec: JobSpec, job: Job, present: Job | None) -> _Change | None:
    """What makes the job that is there the one that is declared; None where it is that already."""
    run = spec.run.model_copy(update={"cwd": job.cwd})
    if present is None:
        fields = {"env": {"from": {}, "to": spec.env}} if spec.env else {}
        return _Change(job.name, "add", [run], job, fields=fields)
    differing = [name for name in _DECLARED if getattr(job, name) != getattr(present, name)]
    if {**job.env, **present.env} == job.env and spec.env.keys() <= present.env.keys() and "env" in differing:
        differing.remove("env")  # it lacks but some of what every job of a file is given
    if "once" in job.schedule and not present.schedule and "schedule" in differing:
        differing.remove("schedule")  # its one time has been
    if not differing:
        return None
    shown = {_shown(name): {"from": _show(present, name), "to": _show(job, name)} for name in differing}
    if set(differing) <= {"priority", "schedule", *_LIMITS, *_LIVE}:
        live = {name: getattr(job, name) for name in differing if name in _LIVE}
        return _Change(job.name, "change", _in_place(job, differing), None, "live", live, run, shown)
    runs = present.state in ALIVE or present.state is State.BACKOFF
    how = "restart" if runs else None if job.schedule else "start"
    return _Change(job.name, "change", [*_ending(present), run], job, how, fields=shown)


def _in_place(job: Job, differing: Sequence[str]) -> list[Syscall]:
    lines: list[Syscall] = []
    if limits := {name: getattr(job, name) or "none" for name in _LIMITS if name in differing}:
        lines.append(Limit.build({"target": job.name, **limits}))
    if "priority" in differing:
        lines.append(Renice.build({"target": job.name, "priority": job.priority}))
    if "schedule" in differing:
        lines.append(Schedule.build({"job": job.name, **job.schedule}) if job.schedule else Unschedule(job=job.name))
    return lines


def _ending(job: Job) -> list[Syscall]:
    """The lines after which the job has no process, and none to come."""
    lines: list[Syscall] = [Unschedule(job=job.name)] if job.schedule else []
    if job.state not in (State.SCHEDULED, State.STOPPED, State.FAILED):
        lines.append(Stop(target=job.name))
    return lines


async def _carry_out(kernel: "Kernel", caller: Caller, change: _Change, granted: Risk, turn: asyncio.Semaphore) -> None:
    """When its turn comes, do the lines of one change in order; after one that fails the rest is skipped."""
    failed = False
    async with turn:
        if change.live and change.run is not None:
            await _set_live(kernel, caller, change.run, change.live)
        for line in change.lines:
            result: dict[str, Any] = {"line": print_line(line), "ok": False}
            change.results.append(result)
            if failed:
                result["skipped"] = "the line before did not go well"
                continue
            try:
                if isinstance(line, Run):
                    assert change.job is not None
                    result["value"] = await _run(kernel, caller, line, change.job)
                else:
                    result["value"] = await kernel.executor.call(line, caller, allow=granted, confirm=None)
                result["ok"] = True
            except LlmosError as error:
                result["error"], failed = error.as_json(), True


async def _set_live(kernel: "Kernel", caller: Caller, line: Run, wanted: dict[str, Any]) -> None:
    """Change a job while it runs, as the line does that says what it is then: a step that can be undone."""
    job = kernel.supervisor.jobs.get(line.name or "")
    if job is None:  # somebody has removed it just now, and might have after this as well
        return
    before = {name: getattr(job, name) for name in wanted}
    step = await kernel.journal.intend(caller.uid, "", print_line(line), line.as_json())
    kernel.supervisor.change(job, wanted)
    result = {"targets": [job_target(kernel.supervisor, job.name).as_json()]}
    await kernel.journal.settle(step, ok=True, result=result, undo={"jobs": [job.name], "fields": before})


async def _run(kernel: "Kernel", caller: Caller, line: Run, job: Job) -> dict[str, Any]:
    """Take on a declared job, as the line does that says most of it: a step that can be undone."""
    journal = kernel.journal
    step = await journal.intend(caller.uid, "", print_line(line), line.as_json())
    try:
        await kernel.supervisor.define(job)
    except LlmosError as error:
        await journal.settle(step, ok=False, result={"error": error.message}, undo=None)
        raise
    except Exception as error:
        log.exception("%s failed inside llmosd", print_line(line))
        inside = LlmosError(f"llmosd failed inside ({type(error).__name__}: {error}); its log has more")
        await journal.settle(step, ok=False, result={"error": inside.message}, undo=None)
        raise inside from None
    result = {"targets": [job_target(kernel.supervisor, job.name).as_json()]}
    await journal.settle(step, ok=True, result=result, undo={"jobs": [job.name]})
    return job.as_json()


def _require_rights(kernel: "Kernel", caller: Caller, names: Sequence[str]) -> None:
    Step(kernel, caller, {"job": [job_target(kernel.supervisor, name) for name in names]}).require_rights()


# Between tables and jobs; these read the user database and the file system: called in threads.


def _declared_job(kernel: "Kernel", caller: Caller, name: str, spec: JobSpec) -> Job:
    run = spec.run
    owner = _owner(name, run.user, caller)
    cwd = kernel.path_of(run.cwd or ".", caller)
    if not os.path.isdir(cwd):
        raise NotFound(f"job.{name}: the working directory {cwd} does not exist", field="cwd")
    said: dict[str, Any] = {item: getattr(run, item) for item in _DECLARED if item in Run.model_fields}
    said |= {
        "name": name,
        "argv": list(run.argv),
        "cwd": cwd,
        "env": {**_base_environment(owner.uid, owner.gid), **spec.env},
        "env_files": [kernel.path_of(path, caller) for path in run.env_files],
        "schedule": {key: value for key in _SCHEDULE if (value := getattr(run, key)) is not None},
    }
    return Job(**said, uid=owner.uid, gid=owner.gid)


def _table(job: Job, caller: Caller) -> Table:
    said = {name: getattr(job, name) for name in _DECLARED if name in Run.model_fields}
    user = user_name(job.uid) if job.uid != caller.uid else None
    call = Run.build({**said, **job.schedule, "name": job.name, "user": user})
    base = _base_environment(job.uid, job.gid)
    env = {name: value for name, value in job.env.items() if base.get(name) != value}
    return table_of(JobSpec(run=call, env=env))


def _applied(caller: Caller) -> str:
    """Where the journal keeps the names of the jobs that a caller has declared."""
    return f"jobs applied by {caller.uid}"


def _declaration(job: Job) -> Table:
    return {name: getattr(job, name) for name in _DECLARED}


def _owner(name: str, user: str | None, caller: Caller) -> Caller:
    try:
        return owner_of(caller, user)
    except (NotFound, Forbidden) as error:
        raise type(error)(f"job.{name}: {error.message}", **error.data) from None


def _base_environment(uid: int, gid: int) -> dict[str, str]:
    """The environment of a job but for what its file sets: the same whoever applies it, and from wherever."""
    return {**Caller(uid, gid, None).environment(), "PATH": SEARCH_PATH, "LANG": "C.UTF-8"}


def _shown(name: str) -> str:
    return "user" if name == "uid" else name


def _show(job: Job, name: str) -> Any:
    return user_name(job.uid) if name == "uid" else getattr(job, name)
