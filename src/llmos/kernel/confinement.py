"""What holds a job: its control groups, limits, priority and user, on the levers that this machine has."""

import asyncio
import os
import pwd
import resource
import shutil
import signal
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any, cast

from llmos.errors import Conflict, Forbidden, NotFound, Unsupported
from llmos.kernel.job import Job
from llmos.kernel.job_log import Outputs
from llmos.kernel.reaper_client import SpawnRequest, User
from llmos.machine import freezer, limits, oom, priority
from llmos.machine.cgroup import Cgroups
from llmos.machine.identity import Identity, with_descendants
from llmos.plan import values


class Confinement:
    """The levers of one daemon over its jobs; every method runs its work in a thread."""

    def __init__(self, cgroups: Cgroups) -> None:
        self.cgroups = cgroups
        self.born_weighed: Callable[[Job], bool] = lambda job: False
        """Whether a job that is started now is to have a CPU group of its own: moving it there later takes 25 ms."""
        # On v1 that would be one more group a job.
        self._counts_kills_in_all = "memory" in cgroups.controllers and cgroups.means("memory") == "cgroup v2"

    async def request(self, job: Job, outputs: Outputs, extra: Mapping[str, str]) -> SpawnRequest:
        """All that the reaper must know to start the job with `extra` variables, its groups made and its limits set.

        :raises Unsupported: the machine cannot keep a limit.
        """
        return await asyncio.to_thread(self._request, job, outputs, extra)

    async def probe(self, job: Job, run: str, argv: list[str]) -> SpawnRequest:
        """What the reaper must know to run a command as the running job would: as its user, within its limits."""
        return await asyncio.to_thread(self._probe, job, run, argv)

    async def set_priority(self, job: Job, word: str | None = None) -> list[str]:
        """Give the job's processes a priority, its own when none is named; returns notes."""
        return await asyncio.to_thread(self._set_priority, job, word or job.priority)

    async def set_limits(self, job: Job, changed: dict[str, str | None]) -> dict[str, Any]:
        """Set or lift limits; of a job without a process, prove that they could be kept. Returns means and caveats."""
        return await asyncio.to_thread(self._set_limits, job, changed)

    async def pause(self, job: Job) -> str:
        """Freeze the job; returns what was used and keeps in the job what `resume` needs."""
        paused = await asyncio.to_thread(lambda: freezer.pause(self.members(job), self.cgroups, group=job.name))
        job.paused = paused.as_json()
        return paused.means

    async def resume(self, job: Job) -> None:
        """Let a frozen job go on."""
        if job.paused is not None:
            paused, job.paused = freezer.Paused.from_json(job.paused), None
            await asyncio.to_thread(freezer.resume, paused, self.cgroups)

    async def found_paused(self, jobs: Iterable[Job]) -> dict[str, dict[str, Any]]:
        """Which of these running jobs are frozen or stopped, whoever did it, each with what `resume` needs."""
        return await asyncio.to_thread(
            lambda: {job.name: paused.as_json() for job in jobs if (paused := self._found_paused(job))}
        )

    def may_have_run_out(self, job: Job, exit_record: Mapping[str, Any]) -> bool:
        """Whether it is worth a look if the kernel had a hand in this end of its run."""
        killed = exit_record["signal"] == signal.SIGKILL
        return exit_record["code"] != 0 and (killed or self._counts_kills_in_all or job.memory is not None)

    async def ran_out_of_memory(self, job: Job, exit_record: Mapping[str, Any]) -> dict[str, Any]:
        """Whether the kernel has killed something of the job, in its present run, for want of memory.

        `oom` is True, False or `perhaps`; `oom_of` says whose memory had run out: `limit` is the job's own, `group` that
        of a control group that it was in, `machine` the whole; None where that is not known.
        """
        return await asyncio.to_thread(self._ran_out_of_memory, job, exit_record)

    async def remove(self, job: Job) -> None:
        """Take the job's control groups away."""
        await asyncio.to_thread(self.cgroups.remove, job.name)

    def _request(self, job: Job, outputs: Outputs, extra: Mapping[str, str]) -> SpawnRequest:
        assert job.run is not None
        bounds = bounds_of({"memory": job.memory, "cpu": job.cpu, "io": job.io})
        wanted = {kind: bound for kind, bound in bounds.items() if bound is not None}
        controllers = ["freezer"] if "freezer" in self.cgroups.controllers else []
        for kind in [*wanted, *(["pids"] if job.pids is not None else [])]:
            if kind in self.cgroups.controllers:
                controllers.append(kind)
            elif kind != "memory":
                raise Unsupported(f"cannot limit {kind} of {job.name}: {self.cgroups.why_not(kind)}", field=kind)
        if "cpu" not in controllers and self.born_weighed(job):
            controllers.append("cpu")
        if controllers:
            self.cgroups.create(job.name, controllers)
        if self._counts_kills_in_all:
            with suppress(Conflict, Forbidden):  # only to count
                self.cgroups.create(job.name, ["memory"])
        if controllers[:1] == ["freezer"] and self.cgroups.freezing(job.name):
            self.cgroups.thaw(job.name)  # its last run ended frozen
        # What an earlier run or another job of this name was bounded by holds no longer.
        made = {kind for kind in (*bounds, "pids") if kind in controllers or self.cgroups.exists(job.name, kind)}
        for kind, bound in bounds.items():
            if kind in made:
                self._set(kind, job.name, bound)
        if "pids" in made:
            self.cgroups.set_pids(job.name, job.pids)
        if "cpu" in made:
            self.cgroups.set_weight(job.name, priority.LEVELS[job.priority].weight)
        grouped = "memory" in made
        job.oom_kills = self._group_oom_kills(job) if grouped else 0
        job.machine_oom_kills = 0 if grouped else oom.count()
        _touch(job)
        return SpawnRequest(
            run=job.run,
            argv=job.argv,
            env={**job.env, **_gpu_environment(job), **extra},
            **outputs,
            cgroups=self._folders(job, controllers),
            notify=True if job.ready and job.ready.get("notify") else None,
            label=cast(Any, job.record()),
            **self._manner(job),
        )

    def _probe(self, job: Job, run: str, argv: list[str]) -> SpawnRequest:
        held = [kind for kind in ("freezer", "memory", "cpu", "io", "pids") if self.cgroups.exists(job.name, kind)]
        env = {**job.env, **_gpu_environment(job)}
        return SpawnRequest(run=run, argv=argv, env=env, cgroups=self._folders(job, held), **self._manner(job))

    def _folders(self, job: Job, controllers: list[str]) -> list[str]:
        return [str(directory) for directory in self.cgroups.directories(job.name, controllers)]

    def _manner(self, job: Job) -> dict[str, Any]:
        """How whatever is run for the job is run."""
        rlimits: dict[str, tuple[int, int]] = {}
        if job.memory is not None and "memory" not in self.cgroups.controllers:
            hard = resource.getrlimit(resource.RLIMIT_AS)[1]  # stays, so that the limit can be raised and lifted
            bound = values.bytes_of(job.memory)
            rlimits["RLIMIT_AS"] = (bound if hard == resource.RLIM_INFINITY else min(bound, hard), hard)
        if job.open_files is not None:
            rlimits["RLIMIT_NOFILE"] = (job.open_files, job.open_files)
        return {
            "cwd": job.cwd,
            "umask": int(job.umask, 8) if job.umask is not None else None,
            "nice": job.nice,
            "rlimits": rlimits,
            "user": _user(job),
            "env_files": job.env_files,
        }

    def _group_oom_kills(self, job: Job) -> int:
        return self.cgroups.usage(job.name).oom_kills or 0

    def _ran_out_of_memory(self, job: Job, exit_record: Mapping[str, Any]) -> dict[str, Any]:
        counted = self.cgroups.exists(job.name, "memory")
        if not (self._group_oom_kills(job) > job.oom_kills if counted else oom.count() > job.machine_oom_kills):
            return {"oom": False}
        kill, readable = None, True
        try:
            kill = oom.kill_of(job.identity) if job.identity is not None else None
        except OSError:
            readable = False
        if kill is None and not counted:
            return {"oom": "perhaps" if not readable and exit_record["signal"] == signal.SIGKILL else False}
        if kill is None:
            return {"oom": True, "oom_of": "limit" if job.memory is not None else None}
        own = counted and kill.limited == kill.group
        return {"oom": True, "oom_of": "limit" if own else "machine" if kill.limited is None else "group"}

    def _set_priority(self, job: Job, word: str) -> list[str]:
        if self.cgroups.exists(job.name, "cpu"):  # inside such a group niceness counts only among its own processes
            self.cgroups.set_weight(job.name, priority.LEVELS[word].weight)
        return priority.apply(self.members(job), word)

    def _set(self, kind: str, group: str, bound: float | None) -> None:
        whole = None if bound is None else int(bound)
        match kind:
            case "memory":
                self.cgroups.set_memory(group, whole)
            case "cpu":
                self.cgroups.set_cpu(group, bound)
            case _:
                self.cgroups.set_io(group, whole)

    def _set_limits(self, job: Job, changed: dict[str, str | None]) -> dict[str, Any]:
        bounds = bounds_of(changed)
        if job.pid is None:
            for kind in bounds:
                if kind != "memory" and kind not in self.cgroups.controllers:
                    raise Unsupported(f"cannot limit {kind}: {self.cgroups.why_not(kind)}", field=kind)
            return {"means": dict.fromkeys(bounds, "when it is started"), "caveats": []}
        held = limits.Held.from_json(job.held) if job.held is not None else None
        if held is None and job.identity and job.memory is not None and "memory" not in self.cgroups.controllers:
            held = limits.Held(rlimits={job.identity: resource.getrlimit(resource.RLIMIT_AS)[0]})  # since its start
        done = limits.limit(bounds, self.members(job), self.cgroups, group=job.name, held=held)
        job.held = done.held.as_json() if done.held is not None else None
        return {"means": dict(done.means), "caveats": done.caveats}

    def _found_paused(self, job: Job) -> freezer.Paused | None:
        try:
            group = job.name if self.cgroups.exists(job.name, "freezer") else None
            if group is not None and self.cgroups.freezing(group):
                return freezer.Paused(self.cgroups.means("freezer"), self.cgroups.members(group), group)
            return freezer.found_stopped(self.members(job)) if job.identity else None
        except NotFound:  # it has just ended
            return None

    def members(self, job: Job) -> list[Identity]:
        """Every process of the job. Blocks.

        :raises Conflict: it has none.
        """
        identity = job.identity
        if identity is None:
            raise Conflict(f"{job.name} is {job.state} and has no process")
        tree = with_descendants([identity])
        grouped = self.cgroups.members(job.name) if "freezer" in self.cgroups.controllers else []
        return list(dict.fromkeys([*tree, *grouped]))


def bounds_of(texts: Mapping[str, str | None]) -> dict[limits.Bounded, float | None]:
    """Limits as a line gives them, in bytes, cores and bytes a second; None and `none` are no limit."""

    def bound(kind: str, text: str | None) -> float | None:
        if text is None or text == values.LIFT:
            return None
        return float(text) if kind == "cpu" else values.bytes_of(text)

    return {cast(limits.Bounded, kind): bound(kind, text) for kind, text in texts.items()}


def _touch(job: Job) -> None:
    """Read from the command and look at the folder here, in a thread: the reaper, which has to, waits until it executes.

    So a file system that hangs holds up this start, and nobody else.
    """
    command = job.argv[0]
    path = shutil.which(command, path=job.env.get("PATH", os.defpath))
    with suppress(OSError):  # what is wrong with it the reaper says
        os.stat(job.cwd)
        file = os.open(os.path.join(job.cwd, path or command), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            os.read(file, 256)
        finally:
            os.close(file)


def _user(job: Job) -> User | None:
    if job.uid == os.geteuid():
        return None
    try:
        name = pwd.getpwuid(job.uid).pw_name
    except KeyError:
        return User(uid=job.uid, gid=job.gid)
    return User(uid=job.uid, gid=job.gid, groups=os.getgrouplist(name, job.gid))


def _gpu_environment(job: Job) -> dict[str, str]:
    """Which cards the job sees: those that it holds."""
    return {"CUDA_VISIBLE_DEVICES": ",".join(job.cards)} if job.cards else {}
