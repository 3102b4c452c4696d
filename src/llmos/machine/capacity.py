"""How many processes fit beside one another here: what bounds them, and what raises each bound. Reads /proc and cgroups."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from llmos.errors import NotFound
from llmos.machine.cgroup_mounts import hierarchies, memberships


@dataclass(frozen=True, slots=True)
class Bound:
    """At most `limit` of something that each job needs one of."""

    limit: int
    what: str
    remedy: str


def bounds(reaper: int, *, root: Path = Path("/sys/fs/cgroup"), proc: Path = Path("/proc")) -> list[Bound]:
    """What bounds the jobs of the reaper with that pid, the narrowest first.

    :raises NotFound: it has ended.
    """
    return sorted(_bounds(reaper, root, proc), key=lambda bound: bound.limit)


def _bounds(reaper: int, root: Path, proc: Path) -> Iterator[Bound]:
    try:
        limits = (proc / str(reaper) / "limits").read_text()
    except (FileNotFoundError, ProcessLookupError):
        raise NotFound(f"the reaper (pid {reaper}) has ended", pid=reaper) from None
    files = _number(limits.partition("Max open files")[2].split()[1])
    yield from _bound(
        files, "open files of the reaper", "raise LimitNOFILE= of its unit, or ulimit -Hn, and restart it"
    )
    users = _number(limits.partition("Max processes")[2].split()[0])
    yield from _bound(users, "processes of its user", "raise LimitNPROC= of its unit, or ulimit -u, and restart it")
    for name in ("pid_max", "threads-max"):
        kernel = _number(_read(proc / "sys/kernel" / name))
        yield from _bound(kernel, f"kernel.{name}", f"raise kernel.{name} with sysctl")
    watches = _number(_read(proc / "sys/fs/inotify/max_user_watches"))
    yield from _bound(watches, "inotify watches", "raise fs.inotify.max_user_watches with sysctl")
    own = proc / str(reaper) / "cgroup"
    for hierarchy in hierarchies(root, proc / "self/mountinfo", own):
        if hierarchy.version == 2 or "pids" in hierarchy.controllers:
            place = hierarchy.locate(memberships(own))
            while place.is_relative_to(hierarchy.mount):
                remedy = "raise TasksMax= of the unit, or this file"
                yield from _bound(_number(_read(place / "pids.max")), f"{place}/pids.max", remedy)
                place = place.parent


def _bound(limit: int | None, what: str, remedy: str) -> Iterator[Bound]:
    if limit is not None:
        yield Bound(limit, what, remedy)


def _number(text: str) -> int | None:
    """The number of a limit; None where it is unlimited or not there."""
    return int(text) if text.isdecimal() else None


def _read(path: Path) -> str:
    with suppress(OSError):
        return path.read_text().strip()
    return ""
