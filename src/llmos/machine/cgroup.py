"""Groups of processes that the kernel limits, weighs, freezes and kills as one: cgroup v1 and v2 behind one class.

A group is a directory of the same name in each hierarchy that holds one of its controllers (cgroups(7); the kernel's
admin-guide/cgroup-v2 and admin-guide/cgroup-v1 name the files). Synchronous, and waits a bounded moment where the kernel
settles a change later; llmosd calls it in threads.
"""

import signal
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self
from urllib.parse import unquote

from llmos.errors import BadInput, Conflict, NotFound, TimedOut, Unsupported
from llmos.machine.cgroup_files import (
    directory_name,
    make,
    read,
    read_table,
    read_words,
    remove,
    until,
    write,
)
from llmos.machine.cgroup_mounts import (
    CONTROLLERS,
    Hierarchy,
    hand_down,
    hierarchies,
    memberships,
)
from llmos.machine.identity import Identity

_CPU_PERIOD = 100_000  # microseconds
_CPU_LEAST = 0.01  # cores; the kernel takes no quota below a millisecond a period
_V1_UNLIMITED = 2**62  # v1 writes "no limit" as the largest count of pages
_V1_IO = ("blkio.throttle.read_bps_device", "blkio.throttle.write_bps_device")


@dataclass(frozen=True)
class Usage:
    """What a group used: bytes, seconds, counts since it was made. None where the group has no such controller."""

    memory: int | None
    cpu_seconds: float | None
    oom_kills: int | None
    throttled: int | None
    """Periods (of 100 ms, when the limit is ours) in which the group was held back by its CPU limit."""


class Cgroups:
    """The groups below one parent group of ours. Get it from `probe`; nothing is written before `create`."""

    def __init__(self, found: Iterable[Hierarchy], parent: str, blocks: Path) -> None:
        self._found = list(found)
        self._parent = parent
        self._blocks = blocks
        # On a hybrid machine a controller is in v1 or in v2, but freezing is in both: v1 holds what is frozen there.
        self._homes = {
            name: hierarchy
            for hierarchy in sorted(self._found, key=lambda each: -each.version)
            if hierarchy.base
            for name in hierarchy.controllers
        }
        versions = {hierarchy.version for hierarchy in self._found if hierarchy.controllers}
        kinds: dict[frozenset[int], Literal["v1", "v2", "hybrid"]] = {
            frozenset({1}): "v1",
            frozenset({2}): "v2",
            frozenset({1, 2}): "hybrid",
        }
        self.version: Literal["v1", "v2", "hybrid", "none"] = kinds.get(frozenset(versions), "none")
        self.controllers = frozenset(self._homes) & set(CONTROLLERS)

    @classmethod
    def probe(
        cls,
        root: Path = Path("/sys/fs/cgroup"),
        mounts: Path = Path("/proc/self/mountinfo"),
        own: Path = Path("/proc/self/cgroup"),
        *,
        parent: str = "llmos",
        blocks: Path = Path("/sys/block"),
    ) -> Self:
        """Look at what is mounted below `root` and usable.

        The groups lie below the group of the process whose cgroup file is `own`: give that of the process which lives
        longest, so that they are found again. Two runtimes on one machine need a `parent` each.
        """
        return cls(hierarchies(root, mounts, own), parent, blocks)

    def why_not(self, controller: str) -> str:
        """Why this controller cannot be used; empty when it can."""
        if controller in self.controllers:
            return ""
        for hierarchy in self._found:
            if controller in hierarchy.controllers:
                return f"the cgroup controller {controller} is there, but {hierarchy.reason}"
        if not self._found:
            return f"there is no cgroup controller {controller}: no cgroup hierarchy is mounted"
        return (
            f"there is no cgroup controller {controller}: no v1 hierarchy holds it and our v2 group is not given it; "
            "enable it in the kernel and in cgroup.subtree_control of the group above"
        )

    def means(self, controller: str) -> Literal["cgroup v1", "cgroup v2"]:
        """What holds it. Raises Unsupported."""
        return "cgroup v1" if self._home(controller).version == 1 else "cgroup v2"

    # Groups and their members

    def create(self, name: str, controllers: Iterable[str]) -> list[Path]:
        """Make the group in every hierarchy that holds one of these; what exists stays. Raises Unsupported, Forbidden.

        Returns the directories; who writes 0 to `cgroup.procs` of each joins the group.
        """
        wanted = list(controllers)
        for part in self.parts(wanted):
            directory = self.directory(name, part)
            if self._homes[part].version == 2:
                hand_down(directory.parent, part)
            make(directory)
            if part == "cpuset" and self._homes[part].version == 1:
                for file in ("cpuset.cpus", "cpuset.mems"):  # empty in a new group, which then takes no process
                    for place in (directory.parent, directory):
                        if not read_words(place / file):
                            write(place / file, read(place.parent / file))
        return self.directories(name, wanted)

    def directories(self, name: str, controllers: Iterable[str]) -> list[Path]:
        """Those of the group's directories that these controllers need, made or not. Raises Unsupported."""
        return list(dict.fromkeys(self.directory(name, part) for part in self.parts(controllers)))

    def parts(self, controllers: Iterable[str]) -> list[str]:
        """The controllers, and cpuacct with cpu on v1: there it alone counts CPU time. Raises Unsupported."""
        wanted = list(controllers)
        for controller in wanted:
            self._home(controller)
        return wanted + (["cpuacct"] if "cpu" in wanted and "cpuacct" in self._homes else [])

    def directory(self, name: str, controller: str) -> Path:
        """The group's directory for one controller, made or not. Raises Unsupported."""
        base = self._home(controller).base
        assert base is not None  # _homes holds no other
        return base / self._parent / directory_name(name)

    def exists(self, name: str, controller: str) -> bool:
        """Whether the group was made in the hierarchy of this controller and, on v2, was given the controller."""
        if controller not in self._homes:
            return False
        directory = self.directory(name, controller)
        if self._homes[controller].version == 1 or controller == "freezer":
            return directory.is_dir()
        return controller in read_words(directory / "cgroup.controllers")

    def attach(self, name: str, identities: Iterable[Identity], controllers: Iterable[str]) -> list[Identity]:
        """Move processes into the group; what they start from now on is born there. Returns those that still lived.

        Raises NotFound when none lived or there is no such group, Forbidden when one may not be moved.
        """
        directories = self.directories(name, controllers)
        moved = []
        for identity in identities:
            with suppress(NotFound):
                for directory in directories:
                    self.put(identity, directory)
                moved.append(identity)
        if not moved:
            raise NotFound(f"no process is left to put into the group {name}")
        return moved

    def place(self, identity: Identity, controller: str) -> Path:
        """The directory that the process is in. Raises NotFound, Unsupported."""
        identity.check()
        return self._home(controller).locate(memberships(Path(f"/proc/{identity.pid}/cgroup")))

    def put(self, identity: Identity, directory: Path) -> None:
        """Move one process into a directory that `directories` or `place` gave. Raises NotFound, Forbidden."""
        identity.check()
        write(
            directory / "cgroup.procs",
            str(identity.pid),
            act=f"move process {identity.pid} into {directory}",
        )

    def nearest(self, directory: Path) -> Path:
        """The directory, or where it was removed the first above it that takes processes: not the parent of ours."""
        return next(each for each in (directory, *directory.parents) if each.is_dir() and each.name != self._parent)

    def members(self, name: str) -> list[Identity]:
        """Every process in the group and in groups below it, in whatever hierarchy."""
        pids = {
            int(word)
            for directory in self._made(name)
            for procs in directory.rglob("cgroup.procs")
            for word in read_words(procs)
        }
        found = []
        for pid in sorted(pids - {0}):  # 0 is a process of another pid namespace
            with suppress(NotFound):
                found.append(Identity.of(pid))
        return found

    def outside(self, name: str) -> list[Path]:
        """The directories above all groups of ours, in each hierarchy in which this one was made."""
        return [directory.parent.parent for directory in self._made(name)]

    def names(self, controller: str) -> list[str]:
        """The groups that are made in the hierarchy of this controller; not those of names too long to be read back."""
        if controller not in self._homes:
            return []
        made = self.directory("any", controller).parent.glob("*.group")
        names = (unquote(directory.name.removesuffix(".group")) for directory in made)
        return sorted(name for name in names if self.exists(name, controller))

    def remove(self, name: str) -> None:
        """Take the group away, everywhere. Raises Conflict when processes are still in it."""
        for directory in self._made(name):
            below = sorted((each for each in directory.rglob("*") if each.is_dir()), reverse=True)
            if not all(remove(place) for place in (*below, directory)):
                pids = ", ".join(str(identity.pid) for identity in self.members(name)) or "ending ones"
                raise Conflict(f"the group {name} still holds processes: {pids}; end them first")
            with suppress(OSError):  # the last one out takes the parent along
                directory.parent.rmdir()

    # Limits and weights

    def set_memory(self, name: str, limit: int | None) -> None:
        """Bound memory, swap included, in bytes. Raises Conflict when v1 cannot bring the group below the limit."""
        directory = self.directory(name, "memory")
        if self._homes["memory"].version == 2:
            write(directory / "memory.max", "max" if limit is None else str(limit))
            if (directory / "memory.swap.max").exists():
                write(directory / "memory.swap.max", "max" if limit is None else "0")
            return
        files = [
            directory / "memory.limit_in_bytes",
            directory / "memory.memsw.limit_in_bytes",
        ]
        if limit is None or limit > int(read(files[0])):
            files.reverse()  # the bound with swap may at no time be the lower one
        for file in files:
            if file.exists() or "memsw" not in file.name:
                write(
                    file,
                    str(-1 if limit is None else limit),
                    act=f"bring the group {name} below {limit} bytes",
                )

    def set_cpu(self, name: str, cores: float | None) -> None:
        """Bound CPU time, in cores; 0.5 is half of one. Raises BadInput below a hundredth of a core."""
        directory = self.directory(name, "cpu")
        if cores is not None and cores < _CPU_LEAST:
            raise BadInput(f"{cores} cores are too few: the least is {_CPU_LEAST}", field="cpu")
        quota = None if cores is None else round(cores * _CPU_PERIOD)
        if self._homes["cpu"].version == 2:
            write(
                directory / "cpu.max",
                f"{'max' if quota is None else quota} {_CPU_PERIOD}",
            )
        else:
            write(directory / "cpu.cfs_period_us", str(_CPU_PERIOD))
            write(directory / "cpu.cfs_quota_us", str(-1 if quota is None else quota))

    def set_weight(self, name: str, weight: int) -> None:
        """Share of the CPU against other groups when it is short: 1 to 10000, 100 by default."""
        self._put_weight(self.directory(name, "cpu"), weight)

    def weight(self, name: str) -> int:
        """What `set_weight` sets, 100 in a new group."""
        return self._weight(self.directory(name, "cpu"))

    def set_common_weight(self, weight: int) -> None:
        """What all groups of ours together weigh against what is outside of them. Raises NotFound where there is none."""
        self._put_weight(self.directory("any", "cpu").parent, weight)

    def set_memory_high(self, name: str, limit: int | None) -> None:
        """From how many bytes on the group is slowed and its memory taken back first; nothing is killed for it.

        On v1 that is the soft limit, which counts only when the whole machine is short.
        """
        directory = self.directory(name, "memory")
        if self._homes["memory"].version == 2:
            write(directory / "memory.high", "max" if limit is None else str(limit))
        else:
            write(directory / "memory.soft_limit_in_bytes", str(-1 if limit is None else limit))

    def memory_high(self, name: str) -> int | None:
        """What `set_memory_high` sets."""
        second = self._homes["memory"].version == 2
        words = read(self.directory(name, "memory") / ("memory.high" if second else "memory.soft_limit_in_bytes"))
        return None if words == "max" or int(words) >= _V1_UNLIMITED else int(words)

    def set_io_weight(self, name: str, weight: int) -> None:
        """Share of each disk against other groups when it is short: 1 to 1000, 100 by default. Raises Unsupported.

        It takes an I/O scheduler that weighs groups: BFQ, or on v2 the io.cost controller.
        """
        file, default = self._io_weight(name)
        write(file, f"{default}{weight}")

    def io_weight(self, name: str) -> int:
        """What `set_io_weight` sets. Raises Unsupported."""
        file, _ = self._io_weight(name)
        words = read(file).splitlines()[0].split()  # the first line is that of all disks without one of their own
        return int(words[-1])

    def _io_weight(self, name: str) -> tuple[Path, str]:
        directory = self.directory(name, "io")
        files = {"io.weight": "default ", "io.bfq.weight": ""}
        if self._homes["io"].version == 1:
            files = {"blkio.bfq.weight": "", "blkio.weight": ""}
        for file, default in files.items():
            if (directory / file).exists():
                return directory / file, default
        raise Unsupported(f"no I/O scheduler here weighs groups: {directory} has none of {', '.join(files)}")

    def set_io(self, name: str, rate: int | None) -> str:
        """Bound reading and writing of each disk, in bytes a second each. Returns what this does not cover."""
        directory = self.directory(name, "io")
        second = self._homes["io"].version == 2
        disks = self._disks()
        if rate is None and not (directory / ("io.max" if second else _V1_IO[0])).exists():
            return ""  # a kernel that cannot throttle never did
        if not disks and rate is not None:
            raise Unsupported(f"there is no disk in {self._blocks} to limit")
        for disk in disks:
            if second:
                bound = "max" if rate is None else rate
                write(directory / "io.max", f"{disk} rbps={bound} wbps={bound}")
            else:
                for file in _V1_IO:
                    write(directory / file, f"{disk} {rate or 0}")
        if rate is None:
            return ""
        each = "the limit holds for each disk, and for reading and writing apart"
        if second:
            return f"{each}; buffered writes count only on file systems with cgroup writeback (ext4, btrfs, xfs)"
        return f"{each}; under cgroup v1 buffered writes are not limited, only reads and direct writes"

    def set_pids(self, name: str, limit: int | None) -> None:
        """Bound how many processes and threads the group may have at a time."""
        write(
            self.directory(name, "pids") / "pids.max",
            "max" if limit is None else str(limit),
        )

    def limits(self, name: str) -> dict[str, float | None]:
        """The bounds on memory (bytes), cpu (cores) and io (bytes a second) where the group has the controller."""
        found: dict[str, float | None] = {}
        for controller in ("memory", "cpu", "io"):
            if self.exists(name, controller):
                found[controller] = self._limit(self.directory(name, controller), controller)
        return found

    def _limit(self, directory: Path, controller: str) -> float | None:
        second = self._homes[controller].version == 2
        if controller == "memory":
            words = read(directory / ("memory.max" if second else "memory.limit_in_bytes"))
            return None if words == "max" or int(words) >= _V1_UNLIMITED else int(words)
        if controller == "cpu":
            files = ("cpu.max",) if second else ("cpu.cfs_quota_us", "cpu.cfs_period_us")
            quota, period = " ".join(read(directory / file) for file in files).split()
            return None if quota in ("max", "-1") else int(quota) / int(period)
        words = read(directory / ("io.max" if second else _V1_IO[0]))
        rates = [
            word.removeprefix("rbps=")
            for word in words.split()
            if (word.startswith("rbps=") and word != "rbps=max" if second else ":" not in word)
        ]
        return int(rates[0]) if rates else None

    # Freezing, killing, reading

    def freeze(self, name: str) -> None:
        """Stop the whole group where it is. Raises TimedOut, with the group thawed, when it does not come to rest."""
        self.request_freeze(name)
        if not until(lambda: self.frozen(name)):
            self._set_frozen(name, False)
            raise TimedOut(f"the group {name} did not freeze: a process in it waits for a device; try again later")

    def request_freeze(self, name: str) -> None:
        """Begin to freeze the group, and whatever enters it from now on."""
        self._set_frozen(name, True)

    def thaw(self, name: str) -> None:
        """Let a frozen group go on."""
        self._set_frozen(name, False)
        if not until(lambda: not self.frozen(name)):
            raise Conflict(f"the group {name} stays frozen: a group above it is frozen too")

    def frozen(self, name: str) -> bool:
        """Whether all of the group is at rest."""
        directory = self.directory(name, "freezer")
        if self._homes["freezer"].version == 2:
            return read_table(directory / "cgroup.events").get("frozen") == 1
        return read(directory / "freezer.state") == "FROZEN"

    def freezing(self, name: str) -> bool:
        """Whether the group was told to freeze, be it at rest yet or not."""
        directory = self.directory(name, "freezer")
        return (
            read(directory / ("cgroup.freeze" if self._homes["freezer"].version == 2 else "freezer.self_freezing"))
            == "1"
        )

    def kill(self, name: str) -> None:
        """KILL every process of the group, those born meanwhile too. Raises TimedOut when some do not end."""
        made = self._made(name)
        at_once = [directory for directory in made if (directory / "cgroup.kill").exists()]
        for directory in at_once:
            write(directory / "cgroup.kill", "1")
        can_freeze = not at_once and self.exists(name, "freezer")

        def emptied() -> bool:
            if can_freeze:
                with suppress(TimedOut):  # what does not freeze is killed all the same
                    self.freeze(name)
            members = self.members(name)
            for identity in members:
                with suppress(NotFound):
                    identity.send(signal.SIGKILL)
            if can_freeze:
                self._set_frozen(name, False)
            return not members

        if not until(emptied):
            pids = ", ".join(str(identity.pid) for identity in self.members(name))
            raise TimedOut(f"processes of the group {name} do not end: {pids}; they wait for a device")

    def usage(self, name: str) -> Usage:
        """What the group used until now. Raises NotFound when there is no such group."""
        if not self._made(name):
            raise NotFound(f"there is no group {name}")
        memory = oom_kills = throttled = seconds = None
        if self.exists(name, "memory"):
            directory = self.directory(name, "memory")
            second = self._homes["memory"].version == 2
            memory = int(read(directory / ("memory.current" if second else "memory.usage_in_bytes")))
            oom_kills = read_table(directory / ("memory.events" if second else "memory.oom_control")).get("oom_kill")
        if "cpu" in self._homes and self.directory(name, "cpu").is_dir():  # on v2 it counts without the controller
            stat = read_table(self.directory(name, "cpu") / "cpu.stat")
            throttled = stat.get("nr_throttled")
            seconds = stat["usage_usec"] / 1e6 if "usage_usec" in stat else None
        if self.exists(name, "cpuacct"):
            seconds = int(read(self.directory(name, "cpuacct") / "cpuacct.usage")) / 1e9
        return Usage(memory, seconds, oom_kills, throttled)

    # Where things are

    def _weight(self, directory: Path) -> int:
        if self._homes["cpu"].version == 2:
            return int(read(directory / "cpu.weight"))
        return max(1, round(int(read(directory / "cpu.shares")) * 100 / 1024))

    def _put_weight(self, directory: Path, weight: int) -> None:
        if not 1 <= weight <= 10_000:
            raise BadInput(f"{weight} is no CPU weight: it goes from 1 to 10000", field="weight")
        if self._homes["cpu"].version == 2:
            write(directory / "cpu.weight", str(weight))
        else:
            write(directory / "cpu.shares", str(max(2, round(weight * 1024 / 100))))

    def _home(self, controller: str) -> Hierarchy:
        if controller not in self._homes:
            raise Unsupported(self.why_not(controller), controller=controller)
        return self._homes[controller]

    def _made(self, name: str) -> list[Path]:
        """The group's directories in all hierarchies, those that exist."""
        places = [each.base / self._parent / directory_name(name) for each in self._found if each.base]
        return [place for place in places if place.is_dir()]

    def _set_frozen(self, name: str, frozen: bool) -> None:
        directory = self.directory(name, "freezer")
        if self._homes["freezer"].version == 2:
            write(directory / "cgroup.freeze", str(int(frozen)))
        else:
            write(directory / "freezer.state", "FROZEN" if frozen else "THAWED")

    def _disks(self) -> list[str]:
        """MAJOR:MINOR of whole disks with something in them; RAM disks and compressed swap are memory."""
        return [
            read(disk / "dev")
            for disk in sorted(self._blocks.glob("*"))
            if not disk.name.startswith(("ram", "zram")) and read(disk / "size") != "0"
        ]
