"""Where a campaign runs: as root in namespaces and a cgroup of its own, so that the kernel itself takes all of it away.

The process outside makes a folder and a cgroup, waits for the campaign inside, and removes both. Whatever ends it, the
pid namespace ends every process inside and the mount namespace every mount; what a SIGKILL of the outer one leaves of
folders and cgroups, the next campaign removes. Without root there are no namespaces: the campaign ends what it started,
and the faults that need root are skipped.
"""

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

INSIDE = "CHAOS_OF_LLMOS"
"""Variable set inside, and in every job: the folder of the campaign."""
PREFIX = "llmos-chaos-"
APART = ("freezer", "pids", "memory", "")
"""Hierarchies in which a campaign has a cgroup of its own; the last is version 2."""
GONE_SECONDS = 60.0
PR_SET_PDEATHSIG = 1
libc = ctypes.CDLL(None)


def run(campaign: Callable[[Path], int]) -> int:
    """Run a campaign in a folder of its own and return its exit status; nothing of it is left afterwards."""
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    if inside := os.environ.get(INSIDE):
        return campaign(Path(inside)) if os.getpid() != 1 else _init(lambda: campaign(Path(inside)))
    sweep()
    folder = tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-")
    groups = [mount / f"{PREFIX}{os.getpid()}" for mount in hierarchies()] if os.geteuid() == 0 else []
    process = None
    try:
        command = [sys.executable, *sys.orig_argv[1:]]
        if os.geteuid() == 0:
            command = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--", *command]
        process = subprocess.Popen(command, env={**os.environ, INSIDE: folder}, preexec_fn=lambda: _join(groups))
        return process.wait()
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        if process is not None and process.poll() is None:
            if os.geteuid() == 0:
                process.kill()  # and by --kill-child all of the namespace
            else:
                process.terminate()
            process.wait()
        _remove_groups(groups)
        shutil.rmtree(folder, ignore_errors=True)


def _init(campaign: Callable[[], int]) -> int:
    """Be PID 1 of the namespace: start the campaign, wait for every orphan, and end with it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        return campaign()
    while True:
        pid, status = os.wait()
        if pid == child:
            sys.stdout.flush()
            os._exit(os.waitstatus_to_exitcode(status) % 256)


def own_group(controller: str) -> Path | None:
    """The cgroup (version 1) of this process in that hierarchy, where it may be written."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            folder = Path(f"/sys/fs/cgroup/{controllers}{path}")
            return folder if os.access(folder / "cgroup.procs", os.W_OK) else None
    return None


def hierarchies() -> Iterator[Path]:
    """Where this process is in each cgroup hierarchy that it may write."""
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    places = {name: mount for _, mount, kind, options, *_ in mounts if kind == "cgroup" for name in options.split(",")}
    places[""] = next((mount for _, mount, kind, *_ in mounts if kind == "cgroup2"), "")
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        # In the group of the processor all of a campaign would have to do with the share of one.
        if controllers in APART and os.access(folder := Path(f"{places.get(controllers)}{path}"), os.W_OK):
            yield folder


def _join(groups: list[Path]) -> None:
    """Before the campaign executes: into its cgroups, and to end with who waits for it."""
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL if os.geteuid() == 0 else signal.SIGTERM)
    for group in groups:
        with suppress(OSError):
            group.mkdir()
            (group / "cgroup.procs").write_text("0")


def _remove_groups(groups: list[Path]) -> None:
    """Remove cgroups and all below them, whose last processes may still be on their way out.

    All at a time: a process that is frozen in one stays in every other until it is thawed.
    """
    deadline = time.monotonic() + GONE_SECONDS
    while (left := [group for group in groups if group.exists()]) and time.monotonic() < deadline:
        for group in left:
            for frozen in group.rglob("freezer.state"):
                with suppress(OSError):
                    frozen.write_text("THAWED")
            for procs in group.rglob("cgroup.procs"):
                with suppress(OSError):
                    for pid in procs.read_text().split():
                        os.kill(int(pid), signal.SIGKILL)
        for group in left:
            for folder, _, _ in os.walk(group, topdown=False):
                with suppress(OSError):
                    os.rmdir(folder)
        if any(group.exists() for group in left):
            time.sleep(0.05)


def sweep() -> None:
    """Remove what campaigns left that were killed from outside: what is named after a process that is gone."""
    places = [Path(tempfile.gettempdir()), *(hierarchies() if os.geteuid() == 0 else [])]
    left = [
        path
        for place in places
        for path in place.glob(f"{PREFIX}*")
        if (number := path.name.removeprefix(PREFIX).split("-")[0]).isdecimal() and not Path(f"/proc/{number}").exists()
    ]
    _remove_groups([path for path in left if (path / "cgroup.procs").exists()])
    for path in left:
        shutil.rmtree(path, ignore_errors=True)
