"""Which process is meant: a pid together with its start time and the boot, since the kernel hands pids out again.

Everything that signals a process does so here, through a pidfd whose start time was checked after it was opened.
Synchronous reads of /proc: llmosd calls it in threads.
"""

import errno
import os
import signal
from collections import defaultdict
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple, Self

from llmos.errors import BadInput, Forbidden, NotFound, Unavailable, Unsupported

_DEAD = frozenset("ZXx")


class Stat(NamedTuple):
    """What identity needs of /proc/PID/stat (proc_pid_stat(5))."""

    pid: int
    name: str
    state: str
    parent: int
    session: int
    threads: int
    start_ticks: int

    @property
    def alive(self) -> bool:
        """False for a zombie; a leader that has ended while other threads run is shown as Z but still a process."""
        return self.state not in _DEAD or self.threads > 1


@dataclass(frozen=True, slots=True)
class Identity:
    """One process, for good: `start_ticks` is in clock ticks after boot, field 22 of /proc/PID/stat."""

    pid: int
    start_ticks: int
    boot_id: str

    @classmethod
    def of(cls, pid: int) -> Self:
        """The process that has this pid now. Raises NotFound when there is none, or only its exit status is left."""
        stat = read_stat(pid)
        if not stat.alive:
            raise NotFound(
                f"process {pid} has ended; its parent has yet to collect its exit status",
                pid=pid,
            )
        identity = cls(pid, stat.start_ticks, boot_id())
        os.close(identity.open())  # refuses the number of a thread, for which /proc has a stat as well
        return identity

    def alive(self) -> bool:
        """Whether that same process still runs, be it stopped or frozen; a zombie does not."""
        try:
            stat = read_stat(self.pid)
        except NotFound:
            return False
        return stat.alive and stat.start_ticks == self.start_ticks and self.boot_id == boot_id()

    def check(self) -> None:
        """Raises NotFound when the process has ended."""
        if not self.alive():
            raise NotFound(f"process {self.pid} has ended", pid=self.pid)

    def open(self) -> int:
        """A pidfd on the process, which the caller closes. Raises NotFound when it has ended."""
        try:
            descriptor = os.pidfd_open(self.pid)
        except OSError as error:
            if error.errno == errno.ENOSYS:
                raise Unsupported("this kernel has no pidfd; llmos needs Linux 5.3 or newer") from None
            if error.errno in (errno.EMFILE, errno.ENFILE):
                raise Unavailable(f"no file descriptor is left to open process {self.pid} with; try later") from None
            raise NotFound(f"process {self.pid} has ended", pid=self.pid) from None
        # The pidfd holds whatever had the pid when it was opened; only the start time says that it is the one meant.
        if not self.alive():
            os.close(descriptor)
            raise NotFound(f"process {self.pid} has ended", pid=self.pid)
        return descriptor

    def send(self, number: int) -> None:
        """Signal the process. Raises NotFound when it has ended, Forbidden when it belongs to somebody else."""
        descriptor = self.open()
        try:
            signal.pidfd_send_signal(descriptor, number)
        except ProcessLookupError:
            raise NotFound(f"process {self.pid} has ended", pid=self.pid) from None
        except PermissionError:
            raise Forbidden(
                f"may not signal process {self.pid}: it belongs to another user; run llmosd as that user or as root",
                pid=self.pid,
            ) from None
        finally:
            os.close(descriptor)

    def as_text(self) -> str:
        """PID:START_TICKS:BOOT_ID, for the journal."""
        return f"{self.pid}:{self.start_ticks}:{self.boot_id}"

    @classmethod
    def from_text(cls, text: str) -> Self:
        """What `as_text` wrote. Raises BadInput."""
        match text.split(":"):
            case [pid, ticks, boot] if pid.isdecimal() and ticks.isdecimal() and boot:
                return cls(int(pid), int(ticks), boot)
        raise BadInput(f"{text!r} is no process identity; it is written PID:START_TICKS:BOOT_ID")


@cache
def boot_id() -> str:
    """The random id that the kernel drew at this boot."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()


def parse_stat(line: bytes) -> Stat:
    """Read a line of /proc/PID/stat; the name may itself hold spaces and parentheses, so the last one closes it."""
    head, _, tail = line.rpartition(b")")
    pid, _, name = head.partition(b" (")
    fields = tail.split()
    return Stat(
        pid=int(pid),
        name=name.decode(errors="replace"),
        state=fields[0].decode(),
        parent=int(fields[1]),
        session=int(fields[3]),
        threads=int(fields[17]),
        start_ticks=int(fields[19]),
    )


def read_stat(pid: int) -> Stat:
    """Raises NotFound when no process has this pid, Forbidden where /proc hides it, Unavailable out of descriptors."""
    try:
        return parse_stat(Path(f"/proc/{pid}/stat").read_bytes())
    except (FileNotFoundError, ProcessLookupError):
        raise NotFound(f"there is no process {pid}", pid=pid) from None
    except PermissionError:
        raise Forbidden(
            f"may not see process {pid}: /proc is mounted with hidepid; run llmosd as root", pid=pid
        ) from None
    except OSError as error:  # never to be taken for a process that has ended
        raise Unavailable(f"cannot read /proc/{pid}/stat: {error.strerror}; try again", pid=pid) from None


def all_stats() -> list[Stat]:
    """Every process, zombies included, by one pass over /proc; without those that end meanwhile or are hidden."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdecimal():
            with suppress(NotFound, Forbidden):
                found.append(read_stat(int(entry)))
    return found


def ancestors(pid: int) -> list[Identity]:
    """The parent, its parent and so on, as far as this pid namespace shows. Raises NotFound when pid has ended."""
    found = []
    stat = read_stat(pid)
    while stat.parent:
        try:
            stat = read_stat(stat.parent)
        except NotFound:
            break
        found.append(Identity(stat.pid, stat.start_ticks, boot_id()))
    return found


def descendants(pid: int) -> list[Identity]:
    """All living children, their children and so on, each after its parent; empty when there is no such process."""
    return [identity for identity in _trees([pid]) if identity.pid != pid]


def with_descendants(identities: Iterable[Identity]) -> list[Identity]:
    """These processes, those that still live, and all below them: each once, each after its parent."""
    roots = {identity.pid: identity for identity in identities if identity.alive()}
    return [roots.get(found.pid, found) for found in _trees(roots)]


def _trees(pids: Iterable[int]) -> list[Identity]:
    if not Path("/proc/self/task", str(os.getpid()), "children").exists():  # without CONFIG_PROC_CHILDREN
        return _trees_among(all_stats(), pids)
    trees: dict[int, dict[int, Stat]] = {}
    for pid in pids:
        if not any(pid in tree for tree in trees.values()):
            tree = _tree(pid)
            trees = {root: other for root, other in trees.items() if root not in tree} | {pid: tree}
    below = (stat for tree in trees.values() for stat in tree.values() if stat.alive)
    return [Identity(stat.pid, stat.start_ticks, boot_id()) for stat in below]


def _tree(root: int) -> dict[int, Stat]:
    """A process and all below it, each after its parent."""
    found: dict[int, Stat] = {}
    ahead = [root]
    while ahead:
        pid = ahead.pop()
        if pid not in found:
            with suppress(NotFound, Forbidden, FileNotFoundError, ProcessLookupError, PermissionError):
                found[pid] = read_stat(pid)
                for thread in Path(f"/proc/{pid}/task").iterdir():
                    with suppress(OSError):  # the thread has ended
                        ahead += map(int, (thread / "children").read_bytes().split())
    return found


def _trees_among(stats: Iterable[Stat], pids: Iterable[int]) -> list[Identity]:
    wanted = set(pids)
    by_pid = {stat.pid: stat for stat in stats}
    children: defaultdict[int, list[int]] = defaultdict(list)
    for stat in by_pid.values():
        children[stat.parent].append(stat.pid)
    found = []
    ahead = [(stat.pid, False) for stat in by_pid.values() if stat.parent not in by_pid]
    while ahead:
        pid, inside = ahead.pop()
        inside = inside or pid in wanted
        if inside and by_pid[pid].alive:
            found.append(Identity(pid, by_pid[pid].start_ticks, boot_id()))
        ahead += [(child, inside) for child in children[pid]]
    return found
