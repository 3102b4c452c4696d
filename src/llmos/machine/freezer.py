"""Pausing processes with all that they started, and letting them go on exactly as they were.

The cgroup v1 freezer is unseen by the process and by its parent, and limits nothing else, so any process may be moved to
a group of ours for the time. On v2 the freezer is part of the group that holds the limits, so only what already has a
group of ours, a job, is frozen in it; everything else gets SIGSTOP. Synchronous; llmosd calls it in threads.
"""

import signal
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal, Self

from llmos.errors import Conflict, Forbidden, LlmosError, NotFound
from llmos.machine.cgroup import Cgroups
from llmos.machine.cgroup_files import until
from llmos.machine.cgroup_moves import Origins, gather, origins_as_json, origins_from_json, require_trees, send_home
from llmos.machine.identity import Identity, read_stat, with_descendants

_PREFIX = "/paused "  # no job has a name with a slash
_PASSES = 100  # over the process table, until a tree that still forks has come to rest


@dataclass(frozen=True, slots=True)
class Paused:
    """What `pause` did, all that `resume` needs. `means` is what was used; `processes` are those it holds."""

    means: Literal["cgroup v1", "cgroup v2", "SIGSTOP"]
    processes: list[Identity]
    group: str | None = None
    origins: Origins = field(default_factory=dict)
    """Where each process was before it was moved to `group`; empty for a job, whose group is its own."""

    def as_json(self) -> dict[str, Any]:
        """For the journal."""
        return {
            "means": self.means,
            "processes": [identity.as_text() for identity in self.processes],
            "group": self.group,
            "origins": origins_as_json(self.origins),
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """What `as_json` wrote."""
        return cls(
            means=data["means"],
            processes=[Identity.from_text(text) for text in data["processes"]],
            group=data["group"],
            origins=origins_from_json(data["origins"]),
        )


def pause(identities: Iterable[Identity], cgroups: Cgroups, *, group: str | None = None) -> Paused:
    """Stop these processes and all below them. `group` names the group that a job already has.

    Raises NotFound when none lives, Forbidden for somebody else's, Conflict when our own process is among them, and
    TimedOut when a process waits for a device; what was stopped by then goes on again.
    """
    roots = list(identities)
    require_trees(roots)
    if group is not None and cgroups.exists(group, "freezer"):
        cgroups.freeze(group)
        return Paused(cgroups.means("freezer"), cgroups.members(group), group)
    if "freezer" in cgroups.controllers and cgroups.means("freezer") == "cgroup v1":
        with suppress(Forbidden):  # a process that may not be moved may still be stopped
            return _freeze(roots, cgroups)
    return _stop(roots)


def unrecorded(cgroups: Cgroups, known: Iterable[Paused]) -> list[Paused]:
    """Processes that `pause` froze and nobody has a record of: llmosd ended before it could write one."""
    names = {paused.group for paused in known}
    found = []
    for group in cgroups.names("freezer"):
        if group.startswith(_PREFIX) and group not in names:
            frozen = cgroups.members(group)
            origins = {identity: cgroups.outside(group) for identity in frozen}
            if origins:
                found.append(Paused(cgroups.means("freezer"), frozen, group, origins))
            else:
                cgroups.remove(group)
    return found


def resume(paused: Paused, cgroups: Cgroups) -> None:
    """Let what `pause` stopped go on, and move it back to where it was. What ended meanwhile is left out."""
    if paused.means == "SIGSTOP":
        _continue(paused.processes)
        return
    assert paused.group is not None  # as `pause` made it
    if not cgroups.exists(paused.group, "freezer"):
        return
    cgroups.thaw(paused.group)
    if paused.origins:
        send_home(cgroups, paused.group, paused.origins)


def resume_stopped(identities: Iterable[Identity]) -> list[Identity]:
    """SIGCONT to these and all below them, whoever stopped them. Returns those that were stopped."""
    stopped = [identity for identity in with_descendants(identities) if _is_stopped(identity)]
    _continue(stopped)
    return stopped


def found_stopped(tree: list[Identity]) -> Paused | None:
    """What `resume` needs for a tree, of which the first is the root, that somebody has stopped; None where it runs."""
    if not tree or not _is_stopped(tree[0]):
        return None
    return Paused("SIGSTOP", [identity for identity in tree if _is_stopped(identity)])


def _freeze(roots: list[Identity], cgroups: Cgroups) -> Paused:
    group = f"{_PREFIX}{roots[0].pid} {roots[0].start_ticks}"
    if cgroups.exists(group, "freezer"):
        raise Conflict(f"process {roots[0].pid} is paused already")
    origins: Origins = {}
    cgroups.create(group, ["freezer"])
    try:
        # What enters a frozen group freezes: parents first, so that it soon starts nothing new.
        cgroups.request_freeze(group)
        gather(cgroups, group, roots, ["freezer"], origins)
        cgroups.freeze(group)
    except LlmosError:
        cgroups.thaw(group)
        send_home(cgroups, group, origins)
        raise
    return Paused("cgroup v1", cgroups.members(group), group, origins)


def _stop(roots: list[Identity]) -> Paused:
    seen: set[Identity] = set()
    stopped: list[Identity] = []
    try:
        for _ in range(_PASSES):
            new = [identity for identity in with_descendants(roots) if identity not in seen]
            if not new:
                break
            for identity in new:
                seen.add(identity)
                with suppress(NotFound):
                    if not _is_stopped(identity):  # what somebody else stopped is not ours to continue
                        identity.send(signal.SIGSTOP)
                        stopped.append(identity)
        until(lambda: all(map(_is_at_rest, stopped)))  # what waits in the kernel stops as soon as it comes back
    except LlmosError:
        _continue(stopped)
        raise
    return Paused("SIGSTOP", stopped)


def _continue(processes: list[Identity]) -> None:
    for identity in reversed(processes):  # children first: a parent finds them running
        with suppress(NotFound):
            identity.send(signal.SIGCONT)


def _is_at_rest(identity: Identity) -> bool:
    """Whether it has taken SIGSTOP, under a debugger too, or has ended."""
    try:
        return read_stat(identity.pid).state in "TtZX" or not identity.alive()
    except NotFound:
        return True


def _is_stopped(identity: Identity) -> bool:
    try:
        return read_stat(identity.pid).state == "T" and identity.alive()
    except NotFound:
        return False
