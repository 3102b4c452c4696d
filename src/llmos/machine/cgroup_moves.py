"""Lending processes that are not ours to a group of ours, with all that they start, and giving them back.

Where each came from is kept by the caller, who writes it to the journal. Synchronous; llmosd calls it in threads.
"""

import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from llmos.errors import Conflict, NotFound
from llmos.machine.cgroup import Cgroups
from llmos.machine.identity import Identity, with_descendants

Origins = dict[Identity, list[Path]]

_PASSES = 100  # over the process table, until a tree that still forks is all in


def require_trees(identities: Iterable[Identity]) -> list[Identity]:
    """The processes and all below them. Raises NotFound when none lives, Conflict when our own is among them."""
    tree = with_descendants(identities)
    if not tree:
        raise NotFound("none of the processes lives any more")
    if os.getpid() in {identity.pid for identity in tree}:
        raise Conflict("llmos itself is among these processes or was started by one of them; name others")
    return tree


def gather(
    cgroups: Cgroups, name: str, roots: Iterable[Identity], controllers: Iterable[str], origins: Origins
) -> None:
    """Move these processes and all below them into the group, and note in `origins` where they were.

    Raises NotFound when there is no such group, Forbidden, or Conflict when the tree grows faster than it is moved.
    """
    roots = list(roots)
    parts = cgroups.parts(controllers)
    seen: set[Identity] = set()
    for _ in range(_PASSES):
        new = [identity for identity in with_descendants(roots) if identity not in seen]
        if not new:
            return
        for identity in new:
            seen.add(identity)
            with suppress(NotFound):
                _move(cgroups, name, identity, parts, origins)
    raise Conflict(f"process {roots[0].pid} starts others faster than they can be moved; pause or end it first")


def give_back(cgroups: Cgroups, origins: Mapping[Identity, list[Path]]) -> None:
    """Move each of these processes back to where it was; if that was a group since removed, to what is above it."""
    for identity, places in origins.items():
        for place in places:
            with suppress(NotFound):
                cgroups.put(identity, cgroups.nearest(place))


def send_home(cgroups: Cgroups, name: str, origins: Mapping[Identity, list[Path]]) -> None:
    """Give back every member, and remove the group; one born in the group goes where the first one does.

    Where nobody knows any more where they came from, they go to where no group of ours is.
    """
    usual = next(iter(origins.values()), None) or cgroups.outside(name)
    give_back(cgroups, {member: origins.get(member, usual) for member in cgroups.members(name)})
    cgroups.remove(name)


def origins_as_json(origins: Origins) -> dict[str, list[str]]:
    """For the journal."""
    return {identity.as_text(): [str(place) for place in places] for identity, places in origins.items()}


def origins_from_json(data: Mapping[str, list[str]]) -> Origins:
    """What `origins_as_json` wrote."""
    return {Identity.from_text(text): [Path(place) for place in places] for text, places in data.items()}


def _move(cgroups: Cgroups, name: str, identity: Identity, parts: list[str], origins: Origins) -> None:
    for part in parts:
        directory, place = cgroups.directory(name, part), cgroups.place(identity, part)
        if place == directory:
            continue
        if place not in origins.setdefault(identity, []):
            origins[identity].append(place)
        if not directory.is_dir():
            raise Conflict(f"there is no group {name}")
        cgroups.put(identity, directory)
