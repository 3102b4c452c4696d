"""Bounds on memory, CPU and disk for a job or for any processes: by cgroup where one holds the controller, else by rlimit.

A job is bounded in its own group. Other processes, with all below them, are lent to a group of ours for as long as a
bound holds. Only memory has an rlimit to fall back on. Synchronous; llmosd calls it in threads.
"""

import resource
from collections.abc import Iterable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Self

from llmos.errors import BadInput, Forbidden, NotFound, Unsupported
from llmos.machine.cgroup import Cgroups
from llmos.machine.cgroup_moves import (
    Origins,
    gather,
    give_back,
    origins_as_json,
    origins_from_json,
    require_trees,
    send_home,
)
from llmos.machine.identity import Identity

Bounded = Literal["memory", "cpu", "io"]
Bounds = Mapping[Bounded, float | None]
"""Memory in bytes, cpu in cores, io in bytes a second; None lifts the bound."""

_RLIMIT_CAVEAT = (
    "bounded by RLIMIT_AS, which counts the address space of each process apart: one that reserves much more than it "
    "uses may fail early"
)
_UNCHARGED = "memory that the processes hold already is not counted, only what they take from now on"


@dataclass(frozen=True, slots=True)
class Held:
    """What the bounds rest on, beside a job's own group: give it to the next call on the same processes."""

    group: str | None = None
    origins: Origins = field(default_factory=dict)
    rlimits: dict[Identity, int] = field(default_factory=dict)
    """The soft RLIMIT_AS of each from before, in bytes; -1 is none."""

    def as_json(self) -> dict[str, Any]:
        """For the journal."""
        return {
            "group": self.group,
            "origins": origins_as_json(self.origins),
            "rlimits": {identity.as_text(): soft for identity, soft in self.rlimits.items()},
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """What `as_json` wrote."""
        rlimits = {Identity.from_text(text): soft for text, soft in data["rlimits"].items()}
        return cls(data["group"], origins_from_json(data["origins"]), rlimits)


@dataclass(frozen=True, slots=True)
class Limited:
    """What `limit` did: by what means, what that does not cover, and the bounds before, which undo it."""

    means: dict[Bounded, Literal["cgroup v1", "cgroup v2", "rlimit"]]
    caveats: list[str]
    previous: dict[Bounded, float | None]
    held: Held | None
    """None when nothing of ours is left on the processes."""


def limit(
    bounds: Bounds,
    identities: Iterable[Identity],
    cgroups: Cgroups,
    *,
    group: str | None = None,
    held: Held | None = None,
) -> Limited:
    """Set or lift the bounds, all or none of them.

    `group` names the group that a job has; `held` is what the last call on these processes returned.
    Raises BadInput, NotFound when no process lives, Unsupported where neither cgroup nor rlimit can, Forbidden, and
    Conflict when the processes hold more memory than the bound.
    """
    for kind, bound in bounds.items():
        if bound is not None and bound <= 0:
            raise BadInput(f"a limit of {bound:g} for {kind} is none; give more than 0, or none to lift it", field=kind)
        if kind != "memory" and kind not in cgroups.controllers:
            raise Unsupported(f"cannot limit {kind}: {cgroups.why_not(kind)}; there is no rlimit for it", field=kind)
    tree = require_trees([*identities, *(cgroups.members(group) if group else [])])
    held = held or Held()
    lent = group or held.group or f"/limited {tree[0].pid} {tree[0].start_ticks}"
    came: Origins = {}
    rlimits = dict(held.rlimits)
    done = Limited({}, [], {}, None)
    with ExitStack() as undo:
        if group or held.group:
            undo.callback(give_back, cgroups, came)
        else:
            undo.callback(send_home, cgroups, lent, came)
        for kind, bound in bounds.items():
            if kind in cgroups.controllers:
                done.means[kind] = cgroups.means(kind)
                done.previous[kind] = _by_cgroup(kind, bound, cgroups, lent, undo, done.caveats)
                if bound is not None:  # only now, so that at no time one is in the group without the bound
                    gather(cgroups, lent, tree, [kind], came)
            else:
                done.means[kind] = "rlimit"
                done.previous[kind] = _by_rlimit(bound, tree, rlimits, undo)
                done.caveats.extend([_RLIMIT_CAVEAT] if bound is not None else [])
        undo.pop_all()
    if came and bounds.get("memory") is not None:
        done.caveats.append(_UNCHARGED)
    above = {place for kind in done.means if came for place in cgroups.directory(lent, kind).parents}
    if left := sorted({str(place) for places in came.values() for place in places if place not in above}):
        done.caveats.append(f"until this is lifted, limits set on {', '.join(left)} do not hold for the processes")
    if group:
        return replace(done, held=Held(rlimits=rlimits) if rlimits else None)
    origins = {who: [*held.origins.get(who, []), *came.get(who, [])] for who in {**held.origins, **came}}
    return replace(done, held=_settled(Held(lent, origins, rlimits), cgroups))


def _by_cgroup(
    kind: Bounded, bound: float | None, cgroups: Cgroups, group: str, undo: ExitStack, caveats: list[str]
) -> float | None:
    """Returns the bound before."""
    if not cgroups.exists(group, kind):
        if bound is None:
            return None
        cgroups.create(group, [kind])
    before = cgroups.limits(group)[kind]
    undo.callback(_set, cgroups, group, kind, before)
    caveats.extend(_set(cgroups, group, kind, bound))
    return before


def _set(cgroups: Cgroups, group: str, kind: Bounded, bound: float | None) -> list[str]:
    if kind == "cpu":
        cgroups.set_cpu(group, bound)
        return []
    whole = None if bound is None else int(bound)
    if kind == "memory":
        cgroups.set_memory(group, whole)
        return []
    caveat = cgroups.set_io(group, whole)
    return [caveat] if caveat else []


def _settled(held: Held, cgroups: Cgroups) -> Held | None:
    """Give the processes back when the last bound on their group is lifted."""
    assert held.group is not None
    bounds = cgroups.limits(held.group)
    if any(bound is not None for bound in bounds.values()):
        return held
    if bounds:
        send_home(cgroups, held.group, held.origins)
    return Held(rlimits=held.rlimits) if held.rlimits else None


def _by_rlimit(bound: float | None, tree: list[Identity], before: dict[Identity, int], undo: ExitStack) -> float | None:
    """Bound the soft limit alone, which anybody may raise again up to the hard one. Returns the first one's before."""
    first: int | None = None
    came: dict[int, int] = {}  # what they have from us, and had before: one born since has inherited it
    for identity in list(before):
        try:
            came[_prlimit(identity)[0]] = before[identity]
        except NotFound:
            del before[identity]
    for identity in tree:
        with suppress(NotFound):
            soft, hard = _prlimit(identity)
            first = soft if first is None else first
            own = before.pop(identity, came.get(soft, soft))
            wanted = own if bound is None else int(bound)
            if bound is not None:
                before[identity] = own
            if hard != resource.RLIM_INFINITY and wanted > hard:
                raise Forbidden(f"process {identity.pid} has a hard limit of {hard} bytes; give no more than that")
            _prlimit(identity, (wanted, hard))
            undo.callback(_prlimit, identity, (soft, hard))
    return None if first in (None, resource.RLIM_INFINITY) else first


def _prlimit(identity: Identity, values: tuple[int, int] | None = None) -> tuple[int, int]:
    identity.check()
    try:
        if values is None:
            return resource.prlimit(identity.pid, resource.RLIMIT_AS)
        return resource.prlimit(identity.pid, resource.RLIMIT_AS, values)
    except ProcessLookupError:
        raise NotFound(f"process {identity.pid} has ended", pid=identity.pid) from None
    except PermissionError:
        raise Forbidden(
            f"may not limit process {identity.pid}: it belongs to another user; run llmosd as that user or as root",
            pid=identity.pid,
        ) from None
