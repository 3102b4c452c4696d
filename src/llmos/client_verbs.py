"""Generated from the registry of syscalls by `python -m llmos.docs --write`; edits are overwritten.

Each verb as a typed method. `allow` is the risk that may run without asking back, by default what the daemon's settings
say; `confirm` is the hash of a checked plan.
"""

# ruff: noqa: ASYNC109 - a verb's timeout is the daemon's to keep

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Literal

    from llmos.client_types import Allow, Explanation, JobInfo, JobLogs, JsonObject, WaitResult


def _given(arguments: JsonObject) -> JsonObject:
    return {name: value for name, value in arguments.items() if value is not None}


class Verbs(ABC):
    """The verbs, each one call."""

    @abstractmethod
    def call(self, method: str, /, **params: Any) -> Any:
        """Call a method of the socket and return its result."""

    def ps(
        self,
        *,
        name: str | None = None,
        user: str | None = None,
        sort: Literal["cpu", "memory", "io", "gpu", "age"] | None = None,
        limit: int | None = None,
        state: Literal["running", "sleeping", "stopped", "zombie"] | None = None,
    ) -> list[JsonObject]:
        """List processes, the largest first; age: the oldest first."""
        arguments: JsonObject = {
            "name": name,
            "user": user,
            "sort": sort,
            "limit": limit,
            "state": state,
        }
        return cast("list[JsonObject]", self.call("ps", **_given(arguments)))

    def show(self, target: int | str) -> JsonObject | list[JsonObject]:
        """All about one process or job: state, health, limits, recent exits."""
        arguments: JsonObject = {
            "target": target,
        }
        return cast("JsonObject | list[JsonObject]", self.call("show", **_given(arguments)))

    def tree(self, target: int | str | None = None) -> list[JsonObject]:
        """Process tree."""
        arguments: JsonObject = {
            "target": target,
        }
        return cast("list[JsonObject]", self.call("tree", **_given(arguments)))

    def port(self, port: int) -> list[JsonObject]:
        """Processes that listen on a port."""
        arguments: JsonObject = {
            "port": port,
        }
        return cast("list[JsonObject]", self.call("port", **_given(arguments)))

    def files(self, target: int | str) -> list[JsonObject]:
        """Open files and sockets of a process."""
        arguments: JsonObject = {
            "target": target,
        }
        return cast("list[JsonObject]", self.call("files", **_given(arguments)))

    def holders(self, path: str) -> list[JsonObject]:
        """Processes that hold a file, folder or device open."""
        arguments: JsonObject = {
            "path": path,
        }
        return cast("list[JsonObject]", self.call("holders", **_given(arguments)))

    def pause(self, target: int | str, *, allow: Allow | None = None, confirm: str | None = None) -> list[JsonObject]:
        """Freeze."""
        arguments: JsonObject = {
            "target": target,
            "allow": allow,
            "confirm": confirm,
        }
        return cast("list[JsonObject]", self.call("pause", **_given(arguments)))

    def resume(self, target: int | str, *, allow: Allow | None = None, confirm: str | None = None) -> list[JsonObject]:
        """Let go on what is frozen."""
        arguments: JsonObject = {
            "target": target,
            "allow": allow,
            "confirm": confirm,
        }
        return cast("list[JsonObject]", self.call("resume", **_given(arguments)))

    def renice(
        self,
        target: int | str,
        priority: Literal["idle", "low", "normal", "high"],
        *,
        allow: Allow | None = None,
        confirm: str | None = None,
    ) -> list[JsonObject]:
        """Set priority; a person's choice outranks the scheduler's."""
        arguments: JsonObject = {
            "target": target,
            "priority": priority,
            "allow": allow,
            "confirm": confirm,
        }
        return cast("list[JsonObject]", self.call("renice", **_given(arguments)))

    def limit(
        self,
        target: int | str,
        *,
        memory: str | None = None,
        cpu: float | str | None = None,
        io: str | None = None,
        allow: Allow | None = None,
        confirm: str | None = None,
    ) -> list[JsonObject]:
        """Bound what it may use; io is bytes a second, `none` lifts a limit."""
        arguments: JsonObject = {
            "target": target,
            "memory": memory,
            "cpu": cpu,
            "io": io,
            "allow": allow,
            "confirm": confirm,
        }
        return cast("list[JsonObject]", self.call("limit", **_given(arguments)))

    def kill(
        self,
        target: int | str,
        *,
        signal: Literal["TERM", "KILL", "INT", "HUP", "QUIT", "USR1", "USR2"] | None = None,
        allow: Allow | None = None,
        confirm: str | None = None,
    ) -> list[JsonObject]:
        """Send a signal; TERM when absent."""
        arguments: JsonObject = {
            "target": target,
            "signal": signal,
            "allow": allow,
            "confirm": confirm,
        }
        return cast("list[JsonObject]", self.call("kill", **_given(arguments)))

    def jobs(
        self,
        *,
        state: Literal["running", "paused", "failed", "scheduled", "stopped"] | None = None,
        names: Sequence[int | str] | None = None,
    ) -> list[JobInfo]:
        """Managed jobs."""
        arguments: JsonObject = {
            "state": state,
            "names": names,
        }
        return cast("list[JobInfo]", self.call("jobs", **_given(arguments)))

    def logs(
        self,
        target: int | str,
        *,
        lines: int | None = None,
        grep: str | None = None,
        since: str | None = None,
        stream: Literal["stdout", "stderr"] | None = None,
    ) -> JobLogs:
        """Output of a job."""
        arguments: JsonObject = {
            "target": target,
            "lines": lines,
            "grep": grep,
            "since": since,
            "stream": stream,
        }
        return cast("JobLogs", self.call("logs", **_given(arguments)))

    def wait(self, target: int | str, *, timeout: str | None = None) -> WaitResult:
        """Until it ends."""
        arguments: JsonObject = {
            "target": target,
            "timeout": timeout,
        }
        return cast("WaitResult", self.call("wait", **_given(arguments)))

    def run(
        self,
        argv: Sequence[str],
        *,
        name: str | None = None,
        cwd: str | None = None,
        restart: Literal["never", "on-failure", "always"] | None = None,
        memory: str | None = None,
        cpu: float | str | None = None,
        gpu: int | None = None,
        priority: Literal["idle", "low", "normal", "high"] | None = None,
        timeout: str | None = None,
        at: str | None = None,
        once: str | None = None,
        every: str | None = None,
        cron: str | None = None,
        after: str | Sequence[str] | None = None,
        on: str | None = None,
        ready: JsonObject | None = None,
        health: JsonObject | None = None,
        restart_limit: JsonObject | None = None,
        restart_on: Sequence[int | str] | None = None,
        restart_prevent: Sequence[int | str] | None = None,
        success_exit: Sequence[int | str] | None = None,
        stop_signal: Literal["TERM", "INT", "QUIT", "HUP", "USR1", "USR2", "WINCH", "KILL"] | None = None,
        stop_timeout: str | None = None,
        io: str | None = None,
        pids: int | None = None,
        open_files: int | None = None,
        nice: int | None = None,
        umask: str | None = None,
        user: str | None = None,
        env_files: str | Sequence[str] | None = None,
        missed: Literal["run-once", "skip"] | None = None,
        overlap: Literal["skip", "queue", "replace"] | None = None,
        output: Literal["file", "journald"] | None = None,
        stderr: Literal["merged", "separate"] | None = None,
        allow: Allow | None = None,
        confirm: str | None = None,
    ) -> JobInfo:
        """Start a managed job: now; daily (at); one time (once); repeatedly (every, cron); or when JOB ended well
        (after)."""
        arguments: JsonObject = {
            "name": name,
            "cwd": cwd,
            "restart": restart,
            "memory": memory,
            "cpu": cpu,
            "gpu": gpu,
            "priority": priority,
            "timeout": timeout,
            "at": at,
            "once": once,
            "every": every,
            "cron": cron,
            "after": after,
            "on": on,
            "argv": list(argv),
            "ready": ready,
            "health": health,
            "restart_limit": restart_limit,
            "restart_on": restart_on,
            "restart_prevent": restart_prevent,
            "success_exit": success_exit,
            "stop_signal": stop_signal,
            "stop_timeout": stop_timeout,
            "io": io,
            "pids": pids,
            "open_files": open_files,
            "nice": nice,
            "umask": umask,
            "user": user,
            "env_files": env_files,
            "missed": missed,
            "overlap": overlap,
            "output": output,
            "stderr": stderr,
            "allow": allow,
            "confirm": confirm,
        }
        return cast("JobInfo", self.call("run", **_given(arguments)))

    def start(self, job: str, *, allow: Allow | None = None, confirm: str | None = None) -> list[JsonObject]:
        """Start a known job that is not running."""
        arguments: JsonObject = {
            "job": job,
            "allow": allow,
            "confirm": confirm,
        }
        return cast("list[JsonObject]", self.call("start", **_given(arguments)))

    def stop(
        self,
        target: int | str,
        *,
        timeout: str | None = None,
        allow: Allow | None = None,
        confirm: str | None = None,
    ) -> list[JsonObject]:
        """Graceful end, then KILL after the timeout."""
        arguments: JsonObject = {
            "target": target,
            "timeout": timeout,
            "allow": allow,
            "confirm": confirm,
        }
        return cast("list[JsonObject]", self.call("stop", **_given(arguments)))

    def restart(self, target: int | str, *, allow: Allow | None = None, confirm: str | None = None) -> list[JsonObject]:
        """Running or not."""
        arguments: JsonObject = {
            "target": target,
            "allow": allow,
            "confirm": confirm,
        }
        return cast("list[JsonObject]", self.call("restart", **_given(arguments)))

    def schedule(
        self,
        job: str,
        *,
        at: str | None = None,
        once: str | None = None,
        every: str | None = None,
        cron: str | None = None,
        allow: Allow | None = None,
        confirm: str | None = None,
    ) -> list[JsonObject]:
        """Set when a job runs, as in run."""
        arguments: JsonObject = {
            "job": job,
            "at": at,
            "once": once,
            "every": every,
            "cron": cron,
            "allow": allow,
            "confirm": confirm,
        }
        return cast("list[JsonObject]", self.call("schedule", **_given(arguments)))

    def unschedule(self, job: str, *, allow: Allow | None = None, confirm: str | None = None) -> list[JsonObject]:
        """Take a job off its schedule."""
        arguments: JsonObject = {
            "job": job,
            "allow": allow,
            "confirm": confirm,
        }
        return cast("list[JsonObject]", self.call("unschedule", **_given(arguments)))

    def remove(self, job: str, *, allow: Allow | None = None, confirm: str | None = None) -> list[JsonObject]:
        """Forget a job; it must be stopped."""
        arguments: JsonObject = {
            "job": job,
            "allow": allow,
            "confirm": confirm,
        }
        return cast("list[JsonObject]", self.call("remove", **_given(arguments)))

    def system(
        self,
        aspect: Literal["cpu", "memory", "disk", "network", "gpu", "load", "uptime", "pressure", "temperature"],
    ) -> JsonObject | list[JsonObject]:
        """State of the machine."""
        arguments: JsonObject = {
            "aspect": aspect,
        }
        return cast("JsonObject | list[JsonObject]", self.call("system", **_given(arguments)))

    def usage(self, path: str, *, limit: int | None = None) -> list[JsonObject]:
        """Biggest files and folders below a path."""
        arguments: JsonObject = {
            "path": path,
            "limit": limit,
        }
        return cast("list[JsonObject]", self.call("usage", **_given(arguments)))

    def watches(self) -> list[JsonObject]:
        """Standing watches."""
        return cast("list[JsonObject]", self.call("watches"))

    def watch(
        self,
        metric: Literal["cpu", "memory", "disk", "gpu", "load", "temperature", "exit", "log"],
        *,
        above: float | str | None = None,
        below: float | str | None = None,
        match: str | None = None,
        target: int | str | None = None,
        for_: str | None = None,
        then: str | None = None,
        allow: Allow | None = None,
        confirm: str | None = None,
    ) -> list[JsonObject]:
        """A standing rule, until unwatched; without `then` it notifies."""
        arguments: JsonObject = {
            "metric": metric,
            "above": above,
            "below": below,
            "match": match,
            "target": target,
            "for": for_,
            "then": then,
            "allow": allow,
            "confirm": confirm,
        }
        return cast("list[JsonObject]", self.call("watch", **_given(arguments)))

    def unwatch(self, watch: int | str, *, allow: Allow | None = None, confirm: str | None = None) -> list[JsonObject]:
        """Drop watches, by ID, target or metric."""
        arguments: JsonObject = {
            "watch": watch,
            "allow": allow,
            "confirm": confirm,
        }
        return cast("list[JsonObject]", self.call("unwatch", **_given(arguments)))

    def focus(
        self,
        target: int | str,
        *,
        for_: str | None = None,
        allow: Allow | None = None,
        confirm: str | None = None,
    ) -> list[JsonObject]:
        """Favour it; everything else yields."""
        arguments: JsonObject = {
            "target": target,
            "for": for_,
            "allow": allow,
            "confirm": confirm,
        }
        return cast("list[JsonObject]", self.call("focus", **_given(arguments)))

    def unfocus(
        self,
        target: int | str | None = None,
        *,
        allow: Allow | None = None,
        confirm: str | None = None,
    ) -> list[JsonObject]:
        """Favour it no longer; all of it without a target."""
        arguments: JsonObject = {
            "target": target,
            "allow": allow,
            "confirm": confirm,
        }
        return cast("list[JsonObject]", self.call("unfocus", **_given(arguments)))

    def history(self, *, limit: int | None = None) -> list[JsonObject]:
        """What was asked and done."""
        arguments: JsonObject = {
            "limit": limit,
        }
        return cast("list[JsonObject]", self.call("history", **_given(arguments)))

    def why(self, target: int | str) -> Explanation:
        """Why it was reprioritised, paused, restarted, or died."""
        arguments: JsonObject = {
            "target": target,
        }
        return cast("Explanation", self.call("why", **_given(arguments)))

    def undo(
        self,
        steps: int | None = None,
        *,
        allow: Allow | None = None,
        confirm: str | None = None,
    ) -> list[JsonObject]:
        """Take back the last N reversible steps, one when absent."""
        arguments: JsonObject = {
            "steps": steps,
            "allow": allow,
            "confirm": confirm,
        }
        return cast("list[JsonObject]", self.call("undo", **_given(arguments)))


class AsyncVerbs(ABC):
    """The verbs, each one asynchronous call."""

    @abstractmethod
    async def call(self, method: str, /, **params: Any) -> Any:
        """Call a method of the socket and return its result."""

    async def ps(
        self,
        *,
        name: str | None = None,
        user: str | None = None,
        sort: Literal["cpu", "memory", "io", "gpu", "age"] | None = None,
        limit: int | None = None,
        state: Literal["running", "sleeping", "stopped", "zombie"] | None = None,
    ) -> list[JsonObject]:
        """List processes, the largest first; age: the oldest first."""
        arguments: JsonObject = {
            "name": name,
            "user": user,
            "sort": sort,
            "limit": limit,
            "state": state,
        }
        return cast("list[JsonObject]", await self.call("ps", **_given(arguments)))

    async def show(self, target: int | str) -> JsonObject | list[JsonObject]:
        """All about one process or job: state, health, limits, recent exits."""
        arguments: JsonObject = {
            "target": target,
        }
        return cast("JsonObject | list[JsonObject]", await self.call("show", **_given(arguments)))

    async def tree(self, target: int | str | None = None) -> list[JsonObject]:
        """Process tree."""
        arguments: JsonObject = {
            "target": target,
        }
        return cast("list[JsonObject]", await self.call("tree", **_given(arguments)))

    async def port(self, port: int) -> list[JsonObject]:
        """Processes that listen on a port."""
        arguments: JsonObject = {
            "port": port,
        }
        return cast("list[JsonObject]", await self.call("port", **_given(arguments)))

    async def files(self, target: int | str) -> list[JsonObject]:
        """Open files and sockets of a process."""
        arguments: JsonObject = {
            "target": target,
        }
        return cast("list[JsonObject]", await self.call("files", **_given(arguments)))

    async def holders(self, path: str) -> list[JsonObject]:
        """Processes that hold a file, folder or device open."""
        arguments: JsonObject = {
            "path": path,
        }
        return cast("list[JsonObject]", await self.call("holders", **_given(arguments)))

    async def pause(
        self,
        target: int | str,
        *,
        allow: Allow | None = None,
        confirm: str | None = None,
    ) -> list[JsonObject]:
        """Freeze."""
        arguments: JsonObject = {
            "target": target,
            "allow": allow,
            "confirm": confirm,
        }
        return cast("list[JsonObject]", await self.call("pause", **_given(arguments)))

    async def resume(
        self,
        target: int | str,
        *,
        allow: Allow | None = None,
        confirm: str | None = None,
    ) -> list[JsonObject]:
        """Let go on what is frozen."""
        arguments: JsonObject = {
            "target": target,
            "allow": allow,
            "confirm": confirm,
        }
        return cast("list[JsonObject]", await self.call("resume", **_given(arguments)))

    async def renice(
        self,
        target: int | str,
        priority: Literal["idle", "low", "normal", "high"],
        *,
        allow: Allow | None = None,
        confirm: str | None = None,
    ) -> list[JsonObject]:
        """Set priority; a person's choice outranks the scheduler's."""
        arguments: JsonObject = {
            "target": target,
            "priority": priority,
            "allow": allow,
            "confirm": confirm,
        }
        return cast("list[JsonObject]", await self.call("renice", **_given(arguments)))

    async def limit(
        self,
        target: int | str,
        *,
        memory: str | None = None,
        cpu: float | str | None = None,
        io: str | None = None,
        allow: Allow | None = None,
        confirm: str | None = None,
    ) -> list[JsonObject]:
        """Bound what it may use; io is bytes a second, `none` lifts a limit."""
        arguments: JsonObject = {
            "target": target,
            "memory": memory,
            "cpu": cpu,
            "io": io,
            "allow": allow,
            "confirm": confirm,
        }
        return cast("list[JsonObject]", await self.call("limit", **_given(arguments)))

    async def kill(
        self,
        target: int | str,
        *,
        signal: Literal["TERM", "KILL", "INT", "HUP", "QUIT", "USR1", "USR2"] | None = None,
        allow: Allow | None = None,
        confirm: str | None = None,
    ) -> list[JsonObject]:
        """Send a signal; TERM when absent."""
        arguments: JsonObject = {
            "target": target,
            "signal": signal,
            "allow": allow,
            "confirm": confirm,
        }
        return cast("list[JsonObject]", await self.call("kill", **_given(arguments)))

    async def jobs(
        self,
        *,
        state: Literal["running", "paused", "failed", "scheduled", "stopped"] | None = None,
        names: Sequence[int | str] | None = None,
    ) -> list[JobInfo]:
        """Managed jobs."""
        arguments: JsonObject = {
            "state": state,
            "names": names,
        }
        return cast("list[JobInfo]", await self.call("jobs", **_given(arguments)))

    async def logs(
        self,
        target: int | str,
        *,
        lines: int | None = None,
        grep: str | None = None,
        since: str | None = None,
        stream: Literal["stdout", "stderr"] | None = None,
    ) -> JobLogs:
        """Output of a job."""
        arguments: JsonObject = {
            "target": target,
            "lines": lines,
            "grep": grep,
            "since": since,
            "stream": stream,
        }
        return cast("JobLogs", await self.call("logs", **_given(arguments)))

    async def wait(self, target: int | str, *, timeout: str | None = None) -> WaitResult:
        """Until it ends."""
        arguments: JsonObject = {
            "target": target,
            "timeout": timeout,
        }
        return cast("WaitResult", await self.call("wait", **_given(arguments)))

    async def run(
        self,
        argv: Sequence[str],
        *,
        name: str | None = None,
        cwd: str | None = None,
        restart: Literal["never", "on-failure", "always"] | None = None,
        memory: str | None = None,
        cpu: float | str | None = None,
        gpu: int | None = None,
        priority: Literal["idle", "low", "normal", "high"] | None = None,
        timeout: str | None = None,
        at: str | None = None,
        once: str | None = None,
        every: str | None = None,
        cron: str | None = None,
        after: str | Sequence[str] | None = None,
        on: str | None = None,
        ready: JsonObject | None = None,
        health: JsonObject | None = None,
        restart_limit: JsonObject | None = None,
        restart_on: Sequence[int | str] | None = None,
        restart_prevent: Sequence[int | str] | None = None,
        success_exit: Sequence[int | str] | None = None,
        stop_signal: Literal["TERM", "INT", "QUIT", "HUP", "USR1", "USR2", "WINCH", "KILL"] | None = None,
        stop_timeout: str | None = None,
        io: str | None = None,
        pids: int | None = None,
        open_files: int | None = None,
        nice: int | None = None,
        umask: str | None = None,
        user: str | None = None,
        env_files: str | Sequence[str] | None = None,
        missed: Literal["run-once", "skip"] | None = None,
        overlap: Literal["skip", "queue", "replace"] | None = None,
        output: Literal["file", "journald"] | None = None,
        stderr: Literal["merged", "separate"] | None = None,
        allow: Allow | None = None,
        confirm: str | None = None,
    ) -> JobInfo:
        """Start a managed job: now; daily (at); one time (once); repeatedly (every, cron); or when JOB ended well
        (after)."""
        arguments: JsonObject = {
            "name": name,
            "cwd": cwd,
            "restart": restart,
            "memory": memory,
            "cpu": cpu,
            "gpu": gpu,
            "priority": priority,
            "timeout": timeout,
            "at": at,
            "once": once,
            "every": every,
            "cron": cron,
            "after": after,
            "on": on,
            "argv": list(argv),
            "ready": ready,
            "health": health,
            "restart_limit": restart_limit,
            "restart_on": restart_on,
            "restart_prevent": restart_prevent,
            "success_exit": success_exit,
            "stop_signal": stop_signal,
            "stop_timeout": stop_timeout,
            "io": io,
            "pids": pids,
            "open_files": open_files,
            "nice": nice,
            "umask": umask,
            "user": user,
            "env_files": env_files,
            "missed": missed,
            "overlap": overlap,
            "output": output,
            "stderr": stderr,
            "allow": allow,
            "confirm": confirm,
        }
        return cast("JobInfo", await self.call("run", **_given(arguments)))

    async def start(self, job: str, *, allow: Allow | None = None, confirm: str | None = None) -> list[JsonObject]:
        """Start a known job that is not running."""
        arguments: JsonObject = {
            "job": job,
            "allow": allow,
            "confirm": confirm,
        }
        return cast("list[JsonObject]", await self.call("start", **_given(arguments)))

    async def stop(
        self,
        target: int | str,
        *,
        timeout: str | None = None,
        allow: Allow | None = None,
        confirm: str | None = None,
    ) -> list[JsonObject]:
        """Graceful end, then KILL after the timeout."""
        arguments: JsonObject = {
            "target": target,
            "timeout": timeout,
            "allow": allow,
            "confirm": confirm,
        }
        return cast("list[JsonObject]", await self.call("stop", **_given(arguments)))

    async def restart(
        self,
        target: int | str,
        *,
        allow: Allow | None = None,
        confirm: str | None = None,
    ) -> list[JsonObject]:
        """Running or not."""
        arguments: JsonObject = {
            "target": target,
            "allow": allow,
            "confirm": confirm,
        }
        return cast("list[JsonObject]", await self.call("restart", **_given(arguments)))

    async def schedule(
        self,
        job: str,
        *,
        at: str | None = None,
        once: str | None = None,
        every: str | None = None,
        cron: str | None = None,
        allow: Allow | None = None,
        confirm: str | None = None,
    ) -> list[JsonObject]:
        """Set when a job runs, as in run."""
        arguments: JsonObject = {
            "job": job,
            "at": at,
            "once": once,
            "every": every,
            "cron": cron,
            "allow": allow,
            "confirm": confirm,
        }
        return cast("list[JsonObject]", await self.call("schedule", **_given(arguments)))

    async def unschedule(self, job: str, *, allow: Allow | None = None, confirm: str | None = None) -> list[JsonObject]:
        """Take a job off its schedule."""
        arguments: JsonObject = {
            "job": job,
            "allow": allow,
            "confirm": confirm,
        }
        return cast("list[JsonObject]", await self.call("unschedule", **_given(arguments)))

    async def remove(self, job: str, *, allow: Allow | None = None, confirm: str | None = None) -> list[JsonObject]:
        """Forget a job; it must be stopped."""
        arguments: JsonObject = {
            "job": job,
            "allow": allow,
            "confirm": confirm,
        }
        return cast("list[JsonObject]", await self.call("remove", **_given(arguments)))

    async def system(
        self,
        aspect: Literal["cpu", "memory", "disk", "network", "gpu", "load", "uptime", "pressure", "temperature"],
    ) -> JsonObject | list[JsonObject]:
        """State of the machine."""
        arguments: JsonObject = {
            "aspect": aspect,
        }
        return cast("JsonObject | list[JsonObject]", await self.call("system", **_given(arguments)))

    async def usage(self, path: str, *, limit: int | None = None) -> list[JsonObject]:
        """Biggest files and folders below a path."""
        arguments: JsonObject = {
            "path": path,
            "limit": limit,
        }
        return cast("list[JsonObject]", await self.call("usage", **_given(arguments)))

    async def watches(self) -> list[JsonObject]:
        """Standing watches."""
        return cast("list[JsonObject]", await self.call("watches"))

    async def watch(
        self,
        metric: Literal["cpu", "memory", "disk", "gpu", "load", "temperature", "exit", "log"],
        *,
        above: float | str | None = None,
        below: float | str | None = None,
        match: str | None = None,
        target: int | str | None = None,
        for_: str | None = None,
        then: str | None = None,
        allow: Allow | None = None,
        confirm: str | None = None,
    ) -> list[JsonObject]:
        """A standing rule, until unwatched; without `then` it notifies."""
        arguments: JsonObject = {
            "metric": metric,
            "above": above,
            "below": below,
            "match": match,
            "target": target,
            "for": for_,
            "then": then,
            "allow": allow,
            "confirm": confirm,
        }
        return cast("list[JsonObject]", await self.call("watch", **_given(arguments)))

    async def unwatch(
        self,
        watch: int | str,
        *,
        allow: Allow | None = None,
        confirm: str | None = None,
    ) -> list[JsonObject]:
        """Drop watches, by ID, target or metric."""
        arguments: JsonObject = {
            "watch": watch,
            "allow": allow,
            "confirm": confirm,
        }
        return cast("list[JsonObject]", await self.call("unwatch", **_given(arguments)))

    async def focus(
        self,
        target: int | str,
        *,
        for_: str | None = None,
        allow: Allow | None = None,
        confirm: str | None = None,
    ) -> list[JsonObject]:
        """Favour it; everything else yields."""
        arguments: JsonObject = {
            "target": target,
            "for": for_,
            "allow": allow,
            "confirm": confirm,
        }
        return cast("list[JsonObject]", await self.call("focus", **_given(arguments)))

    async def unfocus(
        self,
        target: int | str | None = None,
        *,
        allow: Allow | None = None,
        confirm: str | None = None,
    ) -> list[JsonObject]:
        """Favour it no longer; all of it without a target."""
        arguments: JsonObject = {
            "target": target,
            "allow": allow,
            "confirm": confirm,
        }
        return cast("list[JsonObject]", await self.call("unfocus", **_given(arguments)))

    async def history(self, *, limit: int | None = None) -> list[JsonObject]:
        """What was asked and done."""
        arguments: JsonObject = {
            "limit": limit,
        }
        return cast("list[JsonObject]", await self.call("history", **_given(arguments)))

    async def why(self, target: int | str) -> Explanation:
        """Why it was reprioritised, paused, restarted, or died."""
        arguments: JsonObject = {
            "target": target,
        }
        return cast("Explanation", await self.call("why", **_given(arguments)))

    async def undo(
        self,
        steps: int | None = None,
        *,
        allow: Allow | None = None,
        confirm: str | None = None,
    ) -> list[JsonObject]:
        """Take back the last N reversible steps, one when absent."""
        arguments: JsonObject = {
            "steps": steps,
            "allow": allow,
            "confirm": confirm,
        }
        return cast("list[JsonObject]", await self.call("undo", **_given(arguments)))
