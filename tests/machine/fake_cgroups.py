"""cgroup v2 with all controllers, as a tree of plain files that stands for what the kernel would show."""

from pathlib import Path

from llmos.machine.cgroup import Cgroups
from llmos.machine.cgroup_files import directory_name

GROUP_FILES = {
    "cgroup.procs": "",
    "cgroup.type": "domain",
    "cgroup.subtree_control": "",
    "cgroup.controllers": "cpuset cpu io memory pids",
    "cgroup.events": "populated 1\nfrozen 0",
    "cgroup.freeze": "0",
    "cgroup.kill": "",
    "memory.max": "max",
    "memory.high": "max",
    "memory.swap.max": "max",
    "memory.current": "4096",
    "memory.events": "low 0\noom 1\noom_kill 3",
    "cpu.max": "max 100000",
    "cpu.weight": "100",
    "cpu.stat": "usage_usec 1500000\nnr_periods 9\nnr_throttled 7\nthrottled_usec 1",
    "io.max": "",
    "io.weight": "default 100",
    "pids.max": "max",
}


def a_group(directory: Path, **changes: str) -> Path:
    """A directory with the files that the kernel makes in a v2 group."""
    directory.mkdir(parents=True, exist_ok=True)
    for file, text in (GROUP_FILES | changes).items():
        (directory / file).write_text(text)
    return directory


class FakeV2:
    """A v2 mount of plain files, and a disk to limit; `own` is the runtime's group in it."""

    def __init__(self, root: Path, own: str = "/") -> None:
        self.mount = root / "cgroup"
        self.mount.mkdir()
        for file in ("cgroup.procs", "cgroup.subtree_control", "cgroup.controllers"):
            (self.mount / file).write_text(GROUP_FILES[file])
        self.own = a_group(self.mount / own.lstrip("/")) if own != "/" else self.mount
        (root / "mounts").write_text(
            f"30 23 0:26 / {self.mount} rw,nosuid - cgroup2 cgroup2 rw\n22 1 254:0 / / rw - ext4 /dev/vda rw\n"
        )
        (root / "own").write_text(f"0::{own}\n")
        for name, size in {"vda": "512", "loop0": "0", "zram0": "64"}.items():
            (root / "block" / name).mkdir(parents=True)
            (root / "block" / name / "dev").write_text("254:0\n")
            (root / "block" / name / "size").write_text(f"{size}\n")
        self.root = root

    def probe(self) -> Cgroups:
        root = self.root
        return Cgroups.probe(root, root / "mounts", root / "own", blocks=root / "block")

    def group(self, name: str) -> Path:
        a_group(self.own / "llmos")
        return a_group(self.own / "llmos" / directory_name(name))
