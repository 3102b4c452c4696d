"""Starting a process by posix_spawn(3), which does not copy the reaper: at a third of what fork and exec cost.

The folder, the umask, the limits and the cgroup of version 1 that the new process is to have the reaper takes on itself
for that moment, and takes back. So it starts only what needs nothing that could not be taken back or would bind the
reaper meanwhile; all else is forked (`reaper_child`). Standard library only.
"""

from __future__ import annotations

import errno
import os
import resource
import signal

from llmos.kernel import members
from llmos.kernel.reaper_child import DEFAULT_PATH, Launch
from llmos.kernel.reaper_loop import Refused

IGNORED = (signal.SIGPIPE, signal.SIGXFSZ)
"""What Python ignores, and exec would pass on."""


class Spawner:
    """What the reaper comes back to after each start.

    Attributes:
        umask: what a process gets that asks for none.
        files: soft and hard limit of open files of every process; the reaper itself has the hard one.
        last_file: no start may need a descriptor above this.
    """

    def __init__(self, umask: int, files: tuple[int, int], last_file: int) -> None:
        self.umask = umask
        self.files = files
        self.last_file = last_file
        self._here = os.open(".", os.O_PATH | os.O_CLOEXEC)
        self._home: tuple[bytes, int] | None = None  # the reaper's own freezer cgroup, and its list of threads

    def fits(self, launch: Launch) -> bool:
        """Whether this start can be made here: without another user, and in no cgroup but one that can only freeze."""
        special = launch.user or launch.journal or launch.ioclass or launch.rlimits or launch.env_files
        if special or launch.nice is not None or len(launch.cgroups) > 1:
            return False
        # One that is frozen would hold the reaper.
        return all(members.freezer_state(folder) == b"THAWED" and self._knows_home(folder) for folder in launch.cgroups)

    def start(self, run: str, started_at: float, launch: Launch) -> int:
        """Start the process of a run that begins at that time (epoch seconds); returns its pid once it executes.

        Raises:
            Refused: it does not.
        """
        stage = "log"
        opened: list[int] = []
        mine = resource.getrlimit(resource.RLIMIT_RTTIME)
        try:
            actions = []
            for path, descriptor in ((launch.stdout, 1), (launch.stderr, 2)):
                if path:
                    opened.append(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600))
                actions.append((os.POSIX_SPAWN_DUP2, opened[-1] if path or opened else 1, descriptor))
            if max(opened, default=0) > self.last_file:
                stage = "fork"
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
            stage = "cgroup"
            for folder in launch.cgroups:
                _join(f"{folder}/tasks")
            stage = "chdir"
            os.chdir(launch.cwd)
            os.umask(self.umask if launch.umask is None else launch.umask)
            members.mark(run, started_at)
            resource.setrlimit(resource.RLIMIT_NOFILE, self.files)
            stage = "exec"
            return _spawn(launch, actions)
        except OSError as error:
            if stage == "exec" and error.errno in (errno.EAGAIN, errno.ENOMEM):
                stage = "fork"
            raise Refused(error.errno or errno.EIO, stage, str(error)) from error
        finally:
            for descriptor in opened:
                os.close(descriptor)
            resource.setrlimit(resource.RLIMIT_NOFILE, (self.files[1], self.files[1]))
            resource.setrlimit(resource.RLIMIT_RTTIME, mine)
            os.umask(0o077)
            os.fchdir(self._here)
            if launch.cgroups and self._home:
                os.write(self._home[1], b"0")

    def _knows_home(self, folder: str) -> bool:
        """Find the reaper's own freezer cgroup, above the folder of one of its runs."""
        own = members.freezer_cgroup()
        if self._home and self._home[0] == own:
            return True
        mine = b"%d" % os.getpid()
        while own and (folder := os.path.dirname(folder)) != "/":
            try:
                with open(f"{folder}/tasks", "rb") as tasks:
                    if mine not in tasks.read().split():
                        continue
                descriptor = os.open(f"{folder}/tasks", os.O_WRONLY | os.O_CLOEXEC)
            except OSError:
                break
            if self._home:
                os.close(self._home[1])
            self._home = own, descriptor
            return True
        return False


def _join(tasks: str) -> None:
    # Thread by thread: a whole process is moved only after a wait for a grace period of the kernel, some milliseconds.
    descriptor = os.open(tasks, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, b"0")
    finally:
        os.close(descriptor)


def _spawn(launch: Launch, actions: list[tuple[int, int, int]]) -> int:
    """Look the command up in the PATH it will have, as execvp does: one that may not be executed outranks none."""
    command = launch.argv[0]
    paths = [command]
    if b"/" not in command:
        folders = launch.env.get(b"PATH", DEFAULT_PATH).split(b":")
        paths = [path for folder in folders if os.access(path := os.path.join(folder, command), os.F_OK)]
    refused: OSError = FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
    for path in paths:
        try:
            return os.posix_spawn(
                path,
                launch.argv,
                launch.env,
                file_actions=actions,
                setsid=True,
                setsigmask=(),
                setsigdef=IGNORED,
            )
        except (FileNotFoundError, NotADirectoryError) as error:
            if len(paths) == 1 and path is command:
                refused = error
        except PermissionError as error:
            refused = error
    raise refused
