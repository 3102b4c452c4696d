"""Syscalls on processes, managed or not: look at them, signal them, freeze them, set what they may use."""

import asyncio
import signal as signals
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import model_validator

from llmos.errors import Conflict, NotFound
from llmos.kernel.confinement import bounds_of
from llmos.kernel.step import Outcome, Step
from llmos.kernel.targets import JobTarget, ProcessTarget, process_targets
from llmos.machine import open_files, priority, processes, sockets
from llmos.machine.identity import Identity
from llmos.plan import values
from llmos.plan.risk import Risk
from llmos.syscalls.registry import (
    CoresLimit,
    Count,
    Path,
    Port,
    ProcessName,
    SizeLimit,
    Syscall,
    Target,
    User,
    positional,
)

if TYPE_CHECKING:
    from llmos.kernel.kernel import Kernel

Signal = Literal["TERM", "KILL", "INT", "HUP", "QUIT", "USR1", "USR2"]
Priority = Literal["idle", "low", "normal", "high"]


class Ps(Syscall, verb="ps", risk=Risk.READ):
    """List processes, the largest first; age: the oldest first."""

    name: ProcessName | None = None
    user: User | None = None
    sort: Literal["cpu", "memory", "io", "gpu", "age"] | None = None
    limit: Count | None = None
    state: Literal["running", "sleeping", "stopped", "zombie"] | None = None

    async def act(self, step: Step) -> Outcome:
        sort = self.sort or "cpu"
        rows = await asyncio.to_thread(
            processes.list_processes,
            name=self.name,
            user=self.user,
            state=self.state,
            sort=sort,
            limit=self.limit,
            interval=processes.INTERVAL if sort in ("cpu", "io") else 0,
        )
        rows = [row for row in rows if row.pid not in step.kernel.own_pids()] if self.name is not None else rows
        return Outcome([row.as_json() for row in rows], process_targets(rows, step.kernel.supervisor))


class Show(Syscall, verb="show", risk=Risk.READ):
    """All about one process or job: state, health, limits, recent exits."""

    target: Target

    async def act(self, step: Step) -> Outcome:
        found: list[dict[str, Any]] = []
        for target in step.target():
            if isinstance(target, JobTarget):
                found.append(await _show_job(step, target.name))
            elif isinstance(target, ProcessTarget):
                found.append(await asyncio.to_thread(processes.describe, target.pid))
        return Outcome(found[0] if len(found) == 1 else found, step.target())


class Tree(Syscall, verb="tree", risk=Risk.READ):
    """Process tree."""

    target: Target | None = positional()

    async def act(self, step: Step) -> Outcome:
        roots: list[int | None] = [*_pids(step)] if self.target is not None else [None]
        rows: list[dict[str, Any]] = []
        for root in roots:
            found = await asyncio.to_thread(processes.process_tree, root)
            rows += [{"depth": row.depth, **row.process.as_json()} for row in found]
        return Outcome(rows, step.target())


class PortOwner(Syscall, verb="port", risk=Risk.READ):
    """Processes that listen on a port."""

    port: Port

    async def act(self, step: Step) -> Outcome:
        found = await asyncio.to_thread(sockets.listeners, self.port)
        rows = await asyncio.to_thread(_rows, [each.pid for each in found if each.pid is not None])
        return Outcome([each.as_json() for each in found], process_targets(rows, step.kernel.supervisor))


class Files(Syscall, verb="files", risk=Risk.READ, private=True):
    """Open files and sockets of a process."""

    target: Target

    async def act(self, step: Step) -> Outcome:
        rows: list[dict[str, Any]] = []
        for pid in _pids(step):
            rows += [{"pid": pid, **file.as_json()} for file in await asyncio.to_thread(open_files.open_files, pid)]
        return Outcome(rows, step.target())


class Holders(Syscall, verb="holders", risk=Risk.READ):
    """Processes that hold a file, folder or device open."""

    path: Path

    async def act(self, step: Step) -> Outcome:
        path = await asyncio.to_thread(step.kernel.path_of, self.path, step.caller)
        async with step.kernel.long_reads:
            found = await asyncio.to_thread(open_files.holders, path)
        rows = await asyncio.to_thread(_rows, [each.pid for each in found.holders])
        return Outcome([each.as_json() for each in found.holders], process_targets(rows, step.kernel.supervisor))


class Pause(Syscall, verb="pause", risk=Risk.CHANGE, inverse="resume"):
    """Freeze."""

    target: Target

    async def act(self, step: Step) -> Outcome:
        rows: list[dict[str, Any]] = [
            {"name": job.name, "pid": job.pid, "means": await step.kernel.supervisor.pause(job)} for job in step.jobs()
        ]
        if identities := [process.identity for process in step.processes()]:
            means = await step.kernel.pause_processes(identities)
            rows += [_acted(process, means=means) for process in step.processes()]
        return Outcome(rows, step.target(), _names(step))

    async def take_back(self, kernel: "Kernel", undo: dict[str, Any]) -> None:
        for name in undo["jobs"]:
            await kernel.supervisor.resume(kernel.supervisor.get(name))
        for text in undo["processes"]:
            await kernel.resume_process(Identity.from_text(text))


class Resume(Syscall, verb="resume", risk=Risk.CHANGE, inverse="pause"):
    """Let go on what is frozen."""

    target: Target

    async def act(self, step: Step) -> Outcome:
        rows: list[dict[str, Any]] = []
        for job in step.jobs():
            await step.kernel.supervisor.resume(job)
            rows.append({"name": job.name, "pid": job.pid})
        for process in step.processes():
            await step.kernel.resume_process(process.identity)
            rows.append(_acted(process))
        return Outcome(rows, step.target(), _names(step))

    async def take_back(self, kernel: "Kernel", undo: dict[str, Any]) -> None:
        for name in undo["jobs"]:
            await kernel.supervisor.pause(kernel.supervisor.get(name))
        if identities := [Identity.from_text(text) for text in undo["processes"]]:
            await kernel.pause_processes(identities)


class Renice(Syscall, verb="renice", risk=Risk.CHANGE, inverse="renice back"):
    """Set priority; a person's choice outranks the scheduler's."""

    target: Target
    priority: Priority

    async def act(self, step: Step) -> Outcome:
        rows: list[dict[str, Any]] = []
        undo: dict[str, Any] = {"jobs": {}, "processes": {}}
        for job in step.jobs():
            undo["jobs"][job.name] = job.priority
            notes = await step.kernel.supervisor.renice(job, self.priority)
            rows.append({"name": job.name, "pid": job.pid, "priority": self.priority, "notes": notes})
        for process in step.processes():
            before, notes = await asyncio.to_thread(_renice, process.identity, self.priority)
            undo["processes"][process.identity.as_text()] = before
            rows.append(_acted(process, priority=self.priority, notes=notes))
            step.kernel.note("process.reniced", process, step.caller, {"priority": self.priority, "reason": "as asked"})
        return Outcome(rows, step.target(), undo)

    async def take_back(self, kernel: "Kernel", undo: dict[str, Any]) -> None:
        for name, word in undo["jobs"].items():
            await kernel.supervisor.renice(kernel.supervisor.get(name), word, "taken back")
        for text, state in undo["processes"].items():
            await asyncio.to_thread(priority.restore, Identity.from_text(text), priority.Priority.from_json(state))


class Limit(Syscall, verb="limit", risk=Risk.CHANGE, inverse="limit back"):
    """Bound what it may use; io is bytes a second, `none` lifts a limit."""

    target: Target
    memory: SizeLimit | None = None
    cpu: CoresLimit | None = None
    io: SizeLimit | None = None

    @model_validator(mode="after")
    def _says_what(self) -> Self:
        if self.memory is None and self.cpu is None and self.io is None:
            raise ValueError("say what to limit: memory=SIZE, cpu=NUM or io=SIZE")
        return self

    async def act(self, step: Step) -> Outcome:
        wanted = {name: text for name in ("memory", "cpu", "io") if (text := getattr(self, name)) is not None}
        rows: list[dict[str, Any]] = []
        undo: dict[str, Any] = {"jobs": {}, "processes": {}}
        for job in step.jobs():
            undo["jobs"][job.name] = {name: getattr(job, name) or values.LIFT for name in wanted}
            rows.append({"name": job.name, "pid": job.pid, **wanted, **await step.kernel.supervisor.limit(job, wanted)})
        for process in step.processes():
            done = await step.kernel.limit_process(process.identity, bounds_of(wanted))
            undo["processes"][process.identity.as_text()] = done.previous
            rows.append(_acted(process, **wanted, means=dict(done.means), caveats=done.caveats))
            step.kernel.note("process.limited", process, step.caller, {"limits": wanted, "means": dict(done.means)})
        return Outcome(rows, step.target(), undo)

    async def take_back(self, kernel: "Kernel", undo: dict[str, Any]) -> None:
        for name, before in undo["jobs"].items():
            await kernel.supervisor.limit(kernel.supervisor.get(name), before)
        for text, previous in undo["processes"].items():
            await kernel.limit_process(Identity.from_text(text), previous)


class Kill(Syscall, verb="kill", risk=Risk.DESTROY, inverse=None, risk_note="HUP, USR1, USR2: change"):
    """Send a signal; TERM when absent."""

    target: Target
    signal: Signal = "TERM"

    async def act(self, step: Step) -> Outcome:
        number = int(signals.Signals[f"SIG{self.signal}"])
        rows: list[dict[str, Any]] = []
        for job in step.jobs():
            rows.append({"name": job.name, "pid": job.pid, "signal": self.signal})
            await step.kernel.supervisor.kill(job, number)
        gone: list[NotFound] = []
        for process in step.processes():
            try:
                await asyncio.to_thread(process.identity.send, number)
            except NotFound as error:
                gone.append(error)
                continue
            rows.append(_acted(process, signal=self.signal))
            step.kernel.note("process.signalled", process, step.caller, {"signal": self.signal, "reason": "as asked"})
        if gone and not rows:
            raise gone[0]
        return Outcome(rows, step.target())


async def _show_job(step: Step, name: str) -> dict[str, Any]:
    job = step.kernel.supervisor.get(name)
    shown = {**job.as_json(), "log": step.kernel.logs.where(job), "recent": job.recent}
    if job.pid is not None:
        with suppress(NotFound):  # it has just ended; the next look says so
            shown["process"] = await asyncio.to_thread(processes.describe, job.pid)
    return shown


def _pids(step: Step) -> list[int]:
    """The processes that the step's target has.

    :raises Conflict: a job among them has none.
    """
    pids: list[int] = []
    for job in step.jobs():
        if job.pid is None:
            raise Conflict(f"{job.name} is {job.state} and has no process")
        pids.append(job.pid)
    return [*pids, *(process.pid for process in step.processes())]


def _names(step: Step) -> dict[str, Any]:
    """What was acted on, in a form that outlives the daemon."""
    return {
        "jobs": [job.name for job in step.jobs()],
        "processes": [process.identity.as_text() for process in step.processes()],
    }


def _acted(process: ProcessTarget, **more: Any) -> dict[str, Any]:
    return {"name": process.name, "pid": process.pid, "user": process.user, "command": process.command, **more}


def _rows(pids: list[int]) -> list[processes.ProcessRow]:
    """The rows of processes, those that have vanished left out."""
    found = []
    for pid in dict.fromkeys(pids):
        try:
            found.append(processes.process_row(pid))
        except NotFound:
            continue
    return found


def _renice(identity: Identity, word: str) -> tuple[dict[str, Any], list[str]]:
    before = priority.get(identity).as_json()
    return before, priority.apply([identity], word)
