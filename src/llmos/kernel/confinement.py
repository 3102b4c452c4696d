"""What holds a job: its control groups, limits, priority and user, on the levers that this machine has."""

import asyncio
import os
import pwd
from collections.abc import Mapping
from typing import Any, cast

from llmos.errors import Conflict, Unsupported
from llmos.kernel.job import Job
from llmos.kernel.reaper_client import SpawnRequest, User
from llmos.machine import freezer, limits, priority
from llmos.machine.cgroup import Cgroups
from llmos.machine.gpu import gpus
from llmos.machine.identity import Identity, with_descendants
from llmos.plan import values


class Confinement:
    """The levers of one daemon over its jobs; every method runs its work in a thread."""

    def __init__(self, cgroups: Cgroups) -> None:
        self.cgroups = cgroups
        self._held: dict[str, limits.Held] = {}

    async def request(self, job: Job, log_path: str, extra: Mapping[str, str]) -> SpawnRequest:
        """All that the reaper must know to start the job with `extra` variables, its groups made and its limits set.

        :raises Unsupported: the machine cannot keep a limit, or has too few GPUs.
        """
        return await asyncio.to_thread(self._request, job, log_path, extra)

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

    async def ran_out_of_memory(self, job: Job) -> bool:
        """Whether the kernel has killed something of the job, in its present run, for want of memory."""
        return await asyncio.to_thread(lambda: self._count_oom_kills(job) > job.oom_kills)

    async def remove(self, job: Job) -> None:
        """Take the job's control groups away."""
        self._held.pop(job.name, None)
        await asyncio.to_thread(self.cgroups.remove, job.name)

    def _request(self, job: Job, log_path: str, extra: Mapping[str, str]) -> SpawnRequest:
        assert job.run is not None
        bounds = bounds_of({"memory": job.memory, "cpu": job.cpu, "io": job.io})
        wanted = {kind: bound for kind, bound in bounds.items() if bound is not None}
        controllers = ["freezer"] if "freezer" in self.cgroups.controllers else []
        for kind in [*wanted, *(["pids"] if job.pids is not None else [])]:
            if kind in self.cgroups.controllers:
                controllers.append(kind)
            elif kind != "memory":
                raise Unsupported(f"cannot limit {kind} of {job.name}: {self.cgroups.why_not(kind)}", field=kind)
        if controllers:
            self.cgroups.create(job.name, controllers)
        for kind, bound in wanted.items():
            if kind in controllers:
                self._set(kind, job.name, bound)
        if job.pids is not None:
            self.cgroups.set_pids(job.name, job.pids)
        job.oom_kills = self._count_oom_kills(job)
        return SpawnRequest(
            run=job.run,
            argv=job.argv,
            env={**job.env, **_gpu_environment(job), **extra},
            stdout=log_path,
            cgroups=self._folders(job, controllers),
            label=cast(Any, job.record()),
            **self._manner(job),
        )

    def _probe(self, job: Job, run: str, argv: list[str]) -> SpawnRequest:
        held = [kind for kind in ("freezer", "memory", "cpu", "io", "pids") if self.cgroups.exists(job.name, kind)]
        return SpawnRequest(run=run, argv=argv, env=job.env, cgroups=self._folders(job, held), **self._manner(job))

    def _folders(self, job: Job, controllers: list[str]) -> list[str]:
        return [str(directory) for directory in self.cgroups.directories(job.name, controllers)]

    def _manner(self, job: Job) -> dict[str, Any]:
        """How whatever is run for the job is run."""
        rlimits: dict[str, tuple[int, int]] = {}
        if job.memory is not None and "memory" not in self.cgroups.controllers:
            rlimits["RLIMIT_AS"] = (values.bytes_of(job.memory),) * 2
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

    def _count_oom_kills(self, job: Job) -> int:
        return self.cgroups.usage(job.name).oom_kills or 0 if self.cgroups.exists(job.name, "memory") else 0

    def _set_priority(self, job: Job, word: str) -> list[str]:
        if self.cgroups.exists(job.name, "cpu"):  # inside such a group niceness counts only among its own processes
            self.cgroups.set_weight(job.name, priority.LEVELS[word].weight)
        return priority.apply(self.members(job), word)

    def _set(self, kind: str, group: str, bound: float) -> None:
        match kind:
            case "memory":
                self.cgroups.set_memory(group, int(bound))
            case "cpu":
                self.cgroups.set_cpu(group, bound)
            case _:
                self.cgroups.set_io(group, int(bound))

    def _set_limits(self, job: Job, changed: dict[str, str | None]) -> dict[str, Any]:
        bounds = bounds_of(changed)
        if job.pid is None:
            for kind in bounds:
                if kind != "memory" and kind not in self.cgroups.controllers:
                    raise Unsupported(f"cannot limit {kind}: {self.cgroups.why_not(kind)}", field=kind)
            if self.cgroups.exists(job.name, "freezer"):
                self.cgroups.remove(job.name)
            return {"means": dict.fromkeys(bounds, "when it is started"), "caveats": []}
        held = self._held.pop(job.name, None)
        done = limits.limit(bounds, self.members(job), self.cgroups, group=job.name, held=held)
        if done.held is not None:
            self._held[job.name] = done.held
        return {"means": dict(done.means), "caveats": done.caveats}

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


def _user(job: Job) -> User | None:
    if job.uid == os.geteuid():
        return None
    try:
        name = pwd.getpwuid(job.uid).pw_name
    except KeyError:
        return User(uid=job.uid, gid=job.gid)
    return User(uid=job.uid, gid=job.gid, groups=os.getgrouplist(name, job.gid))


def _gpu_environment(job: Job) -> dict[str, str]:
    """Which cards the job sees: those with the most free memory."""
    if job.gpu is None:
        return {}
    cards = sorted(gpus().probe(), key=lambda card: card.memory_used_bytes - card.memory_total_bytes)
    if len(cards) < job.gpu:
        raise Unsupported(f"{job.name} asks for {job.gpu} GPUs, and this machine has {len(cards)}", field="gpu")
    return {"CUDA_VISIBLE_DEVICES": ",".join(card.uuid for card in cards[: job.gpu])}
