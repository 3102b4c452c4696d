"""A container in which a real systemd is PID 1: namespaces of its own over a Debian that debootstrap made."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from llmos import Client
from llmos.nlui import models

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
SUITE = "trixie"
CACHE = Path("/var/tmp/llmos-systemd")
PACKAGES = "systemd,procps,python3,libgomp1,libstdc++6"
"""python3 for the libraries that the Python of the checkout wants; the others for llama.cpp and ExecReload=."""
NAMESPACES = ("--pid", "--fork", "--mount", "--uts", "--ipc", "--cgroup", "--net", "--kill-child")
BOOT_SECONDS = 60.0


@dataclass(frozen=True)
class Container:
    """A booted one; `init` is the pid of its systemd, as the machine sees it."""

    init: int

    @property
    def root(self) -> Path:
        """Its root folder."""
        return Path(f"/proc/{self.init}/root")

    def run(self, *command: str, check: bool = True) -> str:
        """Run a command inside, and return what it printed."""
        whole = ["nsenter", "--target", str(self.init), "--all", "--", *command]
        done = subprocess.run(whole, capture_output=True, text=True, timeout=60)
        if check and done.returncode:
            journal = self.run("journalctl", "--no-pager", "--lines", "30", check=False)
            raise AssertionError(f"{' '.join(command)}: {done.stdout}{done.stderr}\n{journal}")
        return done.stdout.strip()

    def systemctl(self, *words: str) -> str:
        """Run systemctl inside."""
        return self.run("systemctl", *words)

    def property(self, name: str, unit: str = "llmosd.service") -> str:
        """A property of a unit."""
        return self.systemctl("show", "--value", "--property", name, unit)

    def journal(self, unit: str = "llmosd.service") -> str:
        """What a unit, and systemd about it, has logged."""
        return self.run("journalctl", "--no-pager", "--output", "cat", "--unit", unit)

    def client(self) -> Client:
        """A connection to the llmosd inside."""
        return Client(self.root / "run/llmos/llmosd.sock", timeout=30)


def eventually(condition: Callable[[], object], seconds: float = 30.0) -> None:
    """Wait until something is true."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.1)


@contextmanager
def booted() -> Iterator[Container]:
    """Boot one that sees this checkout; when it ends, nothing but the cached Debian is left."""
    python = Path(sys.base_prefix)
    assert python != Path("/usr"), "the container has a /usr of its own: make .venv with a Python that lies elsewhere"
    folders = [folder for folder in (ROOT, python, models.folder()) if folder.is_dir()]
    unified = _unified()
    group = unified / f"llmos-test-{os.getpid()}"
    with tempfile.TemporaryDirectory(prefix="llmos-systemd-") as work, tempfile.TemporaryFile() as log:
        debian = _debian()
        group.mkdir()
        lent = _lend(unified, "hugetlb")
        process = subprocess.Popen(
            ["unshare", *NAMESPACES, HERE / "boot.sh", work, debian, *folders],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            preexec_fn=lambda: (group / "cgroup.procs").write_text("0"),
        )
        try:
            init = _init(process)
            (unified / "cgroup.procs").write_text(str(process.pid))  # the group is the root of the container's
            yield Container(init)
        except BaseException:
            log.seek(0)
            print(log.read().decode(errors="replace"))
            raise
        finally:
            process.kill()  # and with it, by --kill-child, all of the namespace
            process.wait()
            _remove(group)
            if lent:
                (unified / "cgroup.subtree_control").write_text("-hugetlb")


def _debian() -> Path:
    """The folder with the minimal Debian, made at the first call."""
    target = CACHE / SUITE
    if not (CACHE / f"{SUITE}.made").exists():
        shutil.rmtree(target, ignore_errors=True)
        CACHE.mkdir(parents=True, exist_ok=True)
        print(f"debootstrap makes a {SUITE} in {target}", flush=True)
        with (CACHE / "debootstrap.log").open("wb") as log:
            command = ["debootstrap", "--variant=minbase", f"--include={PACKAGES}", SUITE, str(target)]
            subprocess.run(command, stdout=log, stderr=log, check=True)
        (CACHE / f"{SUITE}.made").touch()
    return target


def _unified() -> Path:
    """Where the cgroup v2 hierarchy is mounted."""
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, mount, kind, *_ = line.split()
        if kind == "cgroup2":
            return Path(mount)
    raise AssertionError("no cgroup2 is mounted; mount -t cgroup2 cgroup2 /mnt")


def _lend(group: Path, controller: str) -> bool:
    """Give the children of a cgroup a controller; whether they did not have it and could get it."""
    control = group / "cgroup.subtree_control"
    available = (group / "cgroup.controllers").read_text().split()
    if controller not in available or controller in control.read_text().split():
        return False
    control.write_text(f"+{controller}")
    return True


def _init(process: subprocess.Popen[bytes]) -> int:
    """The pid of the container's systemd, once it has booted."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    deadline = time.monotonic() + BOOT_SECONDS
    while time.monotonic() < deadline:
        assert process.poll() is None, "the container ended as it booted"
        if (
            children.read_text()
            and Path(f"/proc/{(init := int(children.read_text()))}/comm").read_text() == "systemd\n"
        ):
            state = Container(init).run("systemctl", "is-system-running", check=False)
            if state in ("running", "degraded"):
                return init
        time.sleep(0.2)
    raise AssertionError("the container does not boot")


def _remove(group: Path) -> None:
    """Remove a cgroup and all below it, whose last processes may still be on their way out."""
    deadline = time.monotonic() + 10
    while group.exists() and time.monotonic() < deadline:
        for procs in group.rglob("cgroup.procs"):
            for pid in procs.read_text().split():
                os.kill(int(pid), signal.SIGKILL)
        for folder, _, _ in os.walk(group, topdown=False):
            try:
                os.rmdir(folder)
            except OSError:
                time.sleep(0.05)
