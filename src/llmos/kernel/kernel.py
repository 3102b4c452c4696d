"""The kernel: the parts of one running llmos, put together, started and ended in order."""

import asyncio
import hashlib
import logging
import os
import signal
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from llmos import __version__
from llmos.errors import LlmosError, NotFound, TimedOut
from llmos.kernel import explain
from llmos.kernel.asking import Asking
from llmos.kernel.caller import Caller
from llmos.kernel.confinement import Confinement
from llmos.kernel.executor import Executor
from llmos.kernel.job_log import JobLogs
from llmos.kernel.job_runs import KILL_GRACE_SECONDS
from llmos.kernel.journal import Journal
from llmos.kernel.learning import Learning
from llmos.kernel.process_end import wait_for_end
from llmos.kernel.reaper_client import Exit, Reaper
from llmos.kernel.scheduling import Scheduling
from llmos.kernel.supervisor import Supervisor
from llmos.kernel.targets import ProcessTarget
from llmos.kernel.watches import Watches
from llmos.machine import freezer, limits, procfs
from llmos.machine.cgroup import Cgroups
from llmos.machine.identity import Identity
from llmos.nlui.worker_client import ModelWorker
from llmos.scheduler.focus import Focus
from llmos.settings import Settings

log = logging.getLogger("llmos.kernel")

_PAUSED, _LIMITED = "paused processes", "limited processes"


MAX_LONG_READS = 4
"""Walks through folders and descriptors at a time, so that they leave threads to everything else."""


class Kernel:
    """All parts of one llmos. `subscribers` are called with each event once it is in the journal."""

    journal: Journal
    reaper: Reaper
    cgroups: Cgroups
    confinement: Confinement
    logs: JobLogs
    supervisor: Supervisor
    watches: Watches
    focus: Focus
    scheduling: Scheduling
    executor: Executor
    model: ModelWorker
    asking: Asking
    learning: Learning

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.subscribers: set[Any] = set()
        self.started_at = time.time()
        self.long_reads = asyncio.Semaphore(MAX_LONG_READS)
        self._paused: list[freezer.Paused] = []
        self._limited: dict[str, limits.Held] = {}

    async def start(self) -> None:
        """Bring up every part; jobs that live on from before are taken up.

        :raises LlmosError: a part cannot be started; the message says which and why.
        """
        state_dir = self.settings.state_dir
        await asyncio.to_thread(state_dir.mkdir, mode=0o711, parents=True, exist_ok=True)
        self.journal = await Journal.open(state_dir / "journal.db")
        self.journal.on_event = self._publish
        if self.journal.set_aside is not None:
            log.error(
                "the journal failed its check (%s); it is kept as %s", self.journal.problem, self.journal.set_aside
            )
            body = {"problem": self.journal.problem, "kept_as": str(self.journal.set_aside)}
            self.journal.note("journal.set_aside", "journal", None, body)
        self.reaper = await Reaper.connect(state_dir, self._on_exit)  # exits of before are told again by `list`
        self.cgroups = await asyncio.to_thread(self._probe)
        self.confinement = Confinement(self.cgroups)
        self.logs = JobLogs(state_dir / "logs", self.settings.jobs.log_bytes)
        await self.logs.start()
        self.supervisor = Supervisor(self.settings.jobs, self.journal, self.reaper, self.confinement, self.logs)
        self.executor = Executor(self)
        self.watches = Watches(self)
        self.focus = Focus(self)
        self.scheduling = Scheduling(self)
        self.model = self._model_worker()
        self.asking = Asking(self)
        self.learning = Learning(self)
        await self._restore()

    async def close(self, *, end_jobs: bool = False) -> None:
        """End every part; the jobs live on under the reaper, unless they are to end too."""
        await self.watches.close()
        await self.learning.close()
        await self.model.close()
        await self.scheduling.close()
        if end_jobs:
            await self.supervisor.end_all()
        await self.focus.close()
        await self.supervisor.close()
        await self.logs.close()
        try:
            if end_jobs:
                await self.reaper.shutdown(force=True)
        except LlmosError as error:
            log.warning("the reaper stays, for %s", error)
        await self.reaper.close()
        self.journal.note("daemon.stopped", "llmosd", None, {"pid": os.getpid()})
        await self.journal.close()

    async def reload_model(self) -> None:
        """Have the next request answered by a model worker that loads its adapter anew."""
        old, self.model = self.model, self._model_worker()
        self.asking.forget()
        await old.close()

    def own_pids(self) -> frozenset[int]:
        """llmos's own processes: the daemon, the reaper, the model worker."""
        worker = self.model.status()["pid"]
        return frozenset(pid for pid in (os.getpid(), self.reaper.pid, worker) if pid is not None)

    def status(self) -> dict[str, Any]:
        """What `daemon.status` answers. Reads memory use from /proc: called in a thread."""
        states: dict[str, int] = {}
        for job in self.supervisor.jobs.values():
            states[str(job.state)] = states.get(str(job.state), 0) + 1
        stat, reaper = procfs.read_stat(os.getpid()), procfs.read_stat(self.reaper.pid or 0)
        return {
            "version": __version__,
            "pid": os.getpid(),
            "uptime_seconds": time.time() - self.started_at,
            "socket": str(self.settings.socket),
            "state_dir": str(self.settings.state_dir),
            "jobs": states,
            "watches": len(self.watches.standing),
            "reaper": {"pid": self.reaper.pid, "memory_bytes": reaper.rss_bytes if reaper else None},
            "model": {"name": self.settings.model.name, **self.model.status()},
            "memory_bytes": stat.rss_bytes if stat else None,
        }

    def note(self, kind: str, target: ProcessTarget, caller: Caller, body: dict[str, Any]) -> None:
        """Leave an event about a process that is no job."""
        self.journal.note(
            kind, explain.subject_of(target), caller.uid, {"name": target.name, "pid": target.pid, **body}
        )

    def path_of(self, path: str, caller: Caller) -> str:
        """A path as the caller means it: from its working directory, `~` its home. Reads /proc: called in a thread."""
        if path == "~" or path.startswith("~/"):
            path = caller.home() + path[1:]
        return os.path.normpath(path if os.path.isabs(path) else os.path.join(caller.cwd(), path))

    # Processes that are no jobs

    async def stop_process(self, process: ProcessTarget, seconds: float | None, caller: Caller) -> dict[str, Any]:
        """End a process gracefully: TERM, and KILL after `seconds`.

        :raises TimedOut: it outlives KILL.
        """
        identity = process.identity
        await asyncio.to_thread(identity.send, signal.SIGTERM)
        self.note("process.signalled", process, caller, {"signal": "TERM", "reason": "stopped as asked"})
        used = "TERM"
        try:
            await asyncio.wait_for(
                wait_for_end(identity), self.settings.jobs.stop_timeout_seconds if seconds is None else seconds
            )
        except TimeoutError:
            used = "KILL"
            with suppress(NotFound):  # it may just have ended
                await asyncio.to_thread(identity.send, signal.SIGKILL)
            try:
                await asyncio.wait_for(wait_for_end(identity), KILL_GRACE_SECONDS)
            except TimeoutError:
                raise TimedOut(f"{process.name} (pid {process.pid}) is still there after KILL") from None
        return {"name": process.name, "pid": process.pid, "user": process.user, "signal": used}

    async def pause_processes(self, identities: list[Identity]) -> str:
        """Freeze processes that are no jobs, and remember what resuming them needs; returns what was used."""
        for identity in identities:  # each apart, so that each can be resumed apart
            self._paused.append(await asyncio.to_thread(freezer.pause, [identity], self.cgroups))
            self._remember_paused()
        return self._paused[-1].means

    async def resume_process(self, identity: Identity) -> None:
        """Let a process go on that was paused, by llmos or by anybody.

        :raises NotFound: it is not paused.
        """
        for paused in self._paused:
            if identity in paused.processes:
                await asyncio.to_thread(freezer.resume, paused, self.cgroups)
                self._paused.remove(paused)
                self._remember_paused()
                return
        if not await asyncio.to_thread(freezer.resume_stopped, [identity]):
            raise NotFound(f"process {identity.pid} is not paused", pid=identity.pid)

    async def limit_process(self, identity: Identity, bounds: limits.Bounds) -> limits.Limited:
        """Set or lift limits of a process that is no job, and remember what lifting them needs."""
        key = identity.as_text()
        done = await asyncio.to_thread(
            lambda: limits.limit(bounds, [identity], self.cgroups, held=self._limited.get(key))
        )
        if done.held is not None:
            self._limited[key] = done.held
        else:
            self._limited.pop(key, None)
        self.journal.remember(_LIMITED, {text: held.as_json() for text, held in self._limited.items()})
        return done

    def _remember_paused(self) -> None:
        self.journal.remember(_PAUSED, [paused.as_json() for paused in self._paused])

    # Beginning

    async def _restore(self) -> None:
        self._paused = [freezer.Paused.from_json(each) for each in await self.journal.fact(_PAUSED) or []]
        self._paused += await asyncio.to_thread(freezer.unrecorded, self.cgroups, list(self._paused))
        held: Mapping[str, Any] = await self.journal.fact(_LIMITED) or {}
        self._limited = {text: limits.Held.from_json(each) for text, each in held.items()}
        await self.watches.load()  # before the jobs, so that they hear of what ended meanwhile
        await self.scheduling.load()
        await self.supervisor.restore()
        await self.focus.restore()
        await self.scheduling.restore()
        self.watches.begin()
        for step in await self.journal.unsettled():
            # What came of it shows in the machine as it is now; doing it again could do it twice.
            await self.journal.settle(
                step["id"], ok=False, result={"error": "llmosd ended during this step"}, undo=None
            )
        self.journal.note("daemon.started", "llmosd", None, {"pid": os.getpid(), "version": __version__})

    def _model_worker(self) -> ModelWorker:
        model = self.settings.model
        return ModelWorker(
            model.name,
            self.settings.state_dir,
            idle_seconds=model.idle_unload_seconds,
            threads=model.threads,
            sure=model.sure,
        )

    def _probe(self) -> Cgroups:
        digest = hashlib.sha256(os.fsencode(self.settings.state_dir.absolute())).hexdigest()[:8]
        # Found from the reaper, which outlives the daemon and so keeps the place of the groups.
        return Cgroups.probe(own=Path(f"/proc/{self.reaper.pid}/cgroup"), parent=f"llmos-{digest}")

    def _on_exit(self, run: str, outcome: Exit) -> None:
        if (supervisor := getattr(self, "supervisor", None)) is not None:
            supervisor.on_exit(run, asdict(outcome))

    def _publish(self, event: dict[str, Any]) -> None:
        for subscriber in list(self.subscribers):
            subscriber(event)
