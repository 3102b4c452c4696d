"""Where the cgroup hierarchies are mounted, v1 and v2 (cgroups(7)), and where below them llmos may make groups.

On v1 that is our own group, or the mount when our own cannot be written. On v2 a group with processes in it may not hand
controllers to its children, so it must be one that is ours to rearrange: delegated to us, or the root. Synchronous;
llmosd calls it in threads.
"""

import os
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from llmos.errors import Conflict, NotFound
from llmos.machine.cgroup_files import make, read_words, until, write

CONTROLLERS = ("cpu", "memory", "io", "pids", "freezer", "cpuset")
# On v2 the processes that were in the delegated group move to this leaf below it, so that it may enable controllers.
SUPERVISOR = "supervisor"

_V1_NAMES = {"blkio": "io"}
_DELEGATION_MARKS = ("trusted.delegate", "user.delegate")


@dataclass(frozen=True)
class Hierarchy:
    """One mounted hierarchy; `base` is the directory below which we may make groups, or None and `reason` says why."""

    version: int
    mount: Path
    mounted: PurePosixPath
    controllers: frozenset[str]
    base: Path | None = None
    reason: str = ""

    def locate(self, memberships: Mapping[str, str]) -> Path:
        """The directory of the process whose memberships these are, or the mount when it lies outside of what we see."""
        path = PurePosixPath(memberships.get("" if self.version == 2 else min(self.controllers), "/"))
        if ".." in path.parts or not path.is_relative_to(self.mounted):
            return self.mount
        return self.mount / path.relative_to(self.mounted)


def memberships(file: Path) -> dict[str, str]:
    """/proc/PID/cgroup as controller → path, with v2 under the empty name. Raises NotFound when the process is gone."""
    try:
        lines = file.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except (FileNotFoundError, ProcessLookupError):
        raise NotFound(f"there is no {file}: the process has ended") from None
    found: dict[str, str] = {}
    for line in lines:
        _, names, path = line.split(":", 2)
        found |= {_V1_NAMES.get(name, name): path.removesuffix(" (deleted)") for name in names.split(",")}
    return found


def hierarchies(root: Path, mounts: Path, own: Path) -> list[Hierarchy]:
    """Every hierarchy mounted at or below `root`, with its base as seen by the process whose cgroup file is `own`."""
    try:
        ours = memberships(own)
        lines = mounts.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except (OSError, NotFound):
        return []
    found: dict[Path, Hierarchy] = {}
    for line in lines:
        head, _, tail = line.partition(" - ")
        fields, (kind, _, options) = head.split(), tail.split()[:3]
        mount = Path(_unescape(fields[4]))
        if not mount.is_relative_to(root) or kind not in ("cgroup", "cgroup2"):
            continue
        if kind == "cgroup2":
            hierarchy = _v2(mount, PurePosixPath(_unescape(fields[3])), ours)
        else:
            names = {_V1_NAMES.get(name, name) for name in options.split(",")} & {
                *CONTROLLERS,
                "cpuacct",
            }
            if not names:
                continue
            hierarchy = _v1(mount, PurePosixPath(_unescape(fields[3])), frozenset(names), ours)
        found[mount] = hierarchy
    return list(found.values())


def hand_down(parent: Path, controller: str) -> None:
    """Make `parent` below a v2 base, and give it and its children the controller; the base is emptied if it must be.

    Raises Forbidden, or Conflict when processes in the base cannot be moved.
    """
    make(parent)
    if controller == "freezer":  # no controller on v2: every group has it
        return
    for place in (parent.parent, parent):
        control = place / "cgroup.subtree_control"
        if controller in read_words(control):
            continue
        try:
            write(control, f"+{controller}")
        except Conflict:  # EBUSY: processes are in it
            if place == parent:
                raise
            _vacate(place)
            write(control, f"+{controller}")


def _vacate(base: Path) -> None:
    leaf = base / SUPERVISOR
    make(leaf)

    def emptied() -> bool:
        for word in read_words(base / "cgroup.procs"):
            with suppress(NotFound):
                write(leaf / "cgroup.procs", word)
        return not read_words(base / "cgroup.procs")

    if not until(emptied):
        raise Conflict(f"the processes in {base} cannot be moved to {leaf}, so it cannot hand down its controllers")


def _v1(mount: Path, mounted: PurePosixPath, names: frozenset[str], ours: Mapping[str, str]) -> Hierarchy:
    bare = Hierarchy(1, mount, mounted, names)
    for place in (bare.locate(ours), mount):
        if _writable([place, place / "cgroup.procs"]):
            return Hierarchy(1, mount, mounted, names, place)
    reason = f"{mount} cannot be written by uid {os.geteuid()}; run llmosd as root"
    return Hierarchy(1, mount, mounted, names, None, reason)


def _v2(mount: Path, mounted: PurePosixPath, ours: Mapping[str, str]) -> Hierarchy:
    own = Hierarchy(2, mount, mounted, frozenset()).locate(ours)
    if own.name == SUPERVISOR and own != mount:
        own = own.parent
    for place in (own, mount):
        files = [place, place / "cgroup.procs", place / "cgroup.subtree_control"]
        if _writable(files) and (_may_hold_processes(place) or _ours_to_rearrange(place, mount)):
            names = read_words(place / "cgroup.controllers") & set(CONTROLLERS)
            return Hierarchy(2, mount, mounted, names | {"freezer"}, place)
    reason = (
        f"{own} is not delegated to uid {os.geteuid()}; start llmosd as a systemd service with Delegate=yes, "
        "or by systemd-run --user -p Delegate=yes llmosd"
    )
    return Hierarchy(
        2,
        mount,
        mounted,
        read_words(own / "cgroup.controllers") & set(CONTROLLERS),
        None,
        reason,
    )


def _may_hold_processes(place: Path) -> bool:
    """The real root (which alone has no cgroup.type) is exempt from the rule; an empty group does not break it."""
    return not (place / "cgroup.type").exists() or not read_words(place / "cgroup.procs")


def _ours_to_rearrange(place: Path, mount: Path) -> bool:
    """Delegated by systemd, handed to our own user, or the root that a container sees."""
    if place == mount or (os.geteuid() != 0 and place.stat().st_uid == os.geteuid()):
        return True
    for mark in _DELEGATION_MARKS:
        try:
            if os.getxattr(place, mark) == b"1":
                return True
        except OSError:  # the mark is not set, or this file system has no such marks
            continue
    return False


def _writable(places: Iterable[Path]) -> bool:
    return all(os.access(place, os.W_OK) for place in places)


def _unescape(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)
