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
        self._oom_kills: dict[str, int] = {}

    async def request(self, job: Job, log_path: str) -> SpawnRequest:
        """All that the reaper must know to start the job, its groups made and its limits set.

        :raises Unsupported: the machine cannot keep a limit, or has too few GPUs.
        """
        return await asyncio.to_thread(self._request, job, log_path)

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
        return await asyncio.to_thread(lambda: self._count_oom_kills(job) > self._oom_kills.get(job.name, 0))

    async def remove(self, job: Job) -> None:
        """Take the job's control groups away."""
        self._held.pop(job.name, None)
        self._oom_kills.pop(job.name, None)
        await asyncio.to_thread(self.cgroups.remove, job.name)

    def _request(self, job: Job, log_path: str) -> SpawnRequest:
        assert job.run is not None
        bounds = bounds_of({"memory": job.memory, "cpu": job.cpu, "io": job.io})
        wanted = {kind: bound for kind, bound in bounds.items() if bound is not None}
        controllers = ["freezer"] if "freezer" in self.cgroups.controllers else []
        rlimits: dict[str, tuple[int, int]] = {}
        for kind, bound in wanted.items():
            if kind in self.cgroups.controllers:
                controllers.append(kind)
            elif kind == "memory":
                rlimits["RLIMIT_AS"] = (int(bound), int(bound))
            else:
                raise Unsupported(f"cannot limit {kind} of {job.name}: {self.cgroups.why_not(kind)}", field=kind)
        directories = self.cgroups.create(job.name, controllers) if controllers else []
        for kind, bound in wanted.items():
            if kind in controllers:
                self._set(kind, job.name, bound)
        self._oom_kills[job.name] = self._count_oom_kills(job)
        return SpawnRequest(
            run=job.run,
            argv=job.argv,
            env={**job.env, **_gpu_environment(job)},
            cwd=job.cwd,
            stdout=log_path,
            cgroups=[str(directory) for directory in directories],
            rlimits=rlimits,
            user=_user(job),
            label=cast(Any, job.record()),
        )

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
