"""What happens between fork and exec: the child of the reaper becomes the process that was asked for.

Standard library only. `Launch` is checked in the reaper, before anything is forked; `Launch.execute` runs in the child
and never returns.
"""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import signal
import socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any, NoReturn

IOPRIO_SET = {"x86_64": 251, "aarch64": 30, "riscv64": 30, "loongarch64": 30, "ppc64le": 273, "s390x": 282}
"""Number of the system call by machine: glibc has no function for it."""

DEFAULT_PATH = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
HANDLED = (signal.SIGCHLD, signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
"""What the reaper itself handles; each child gets the default back."""


OURS = (b"LLMOS_RUN", b"NOTIFY_SOCKET")
"""Variables that no file of variables changes."""
VARIABLES_BYTES = 1 << 20
"""Largest file of variables."""
JOURNAL_SECONDS = 10
"""How long systemd-journald may take to let a run connect."""
JOURNAL_BUFFER_BYTES = 8 << 20
"""What may be on its way to it; the kernel's own limit may be lower."""
INFO, ERR = 6, 3
"""Priorities of syslog(3)."""


class BadRequest(Exception):
    """Raised when a spawn request is malformed; the message names the field."""


class Launch:
    """A spawn request, every field checked and as the kernel takes it."""

    def __init__(self, request: dict[str, Any]) -> None:
        """Raises BadRequest."""
        self.argv = [_bytes(word, "argv") for word in _list(request, "argv", str)]
        if not self.argv or not self.argv[0]:
            raise BadRequest("argv must begin with a command")
        self.env = {}
        for name, value in _optional(request, "env", dict, {}).items():
            self.env[_bytes(name, "env")] = _bytes(value, "env")
            if not name or "=" in name:
                raise BadRequest(f"env: {name!r} is no name of a variable")
        self.cwd = _path(request, "cwd", "/") or b"/"
        self.stdout = _path(request, "stdout", "/dev/null")
        self.stderr = _path(request, "stderr", None)
        self.journal = _journal(_optional(request, "journal", dict, None))
        self.cgroups: list[str] = _list(request, "cgroups", str)
        self.umask: int | None = _optional(request, "umask", int, None)
        self.nice: int | None = _optional(request, "nice", int, None)
        self.ioclass: list[int] = _list(request, "ioclass", int)
        if self.ioclass and not (len(self.ioclass) == 2 and 0 <= self.ioclass[0] <= 3 and 0 <= self.ioclass[1] <= 7):
            raise BadRequest("ioclass must be a class from 0 to 3 and a level from 0 to 7")
        self.env_files = [_bytes(path, "env_files") for path in _list(request, "env_files", str)]
        self.rlimits = [_rlimit(*item) for item in _optional(request, "rlimits", dict, {}).items()]
        user = _optional(request, "user", dict, None)
        self.user: tuple[int, int, list[int]] | None = None
        if user is not None:
            self.user = _optional(user, "uid", int, -1), _optional(user, "gid", int, -1), _list(user, "groups", int)
            if min(*self.user[:2], *self.user[2]) < 0:
                raise BadRequest("user must hold uid, gid and groups as numbers")

    def execute(
        self, report: int, record: Callable[[], None], held: Iterable[int], umask: int, files: tuple[int, int]
    ) -> NoReturn:
        """Become the process, or write `errno stage message` to the pipe and end.

        Args:
            report: end of a pipe that closes when the exec succeeds.
            record: writes the run to the ledger; called first, raises OSError when it could not.
            held: descriptors to close at once; all others close by the exec.
            umask: what to have when none was asked for.
            files: soft and hard limit of open files to have when none was asked for.
        """
        stage = "fork"
        try:
            for number in HANDLED:
                signal.signal(number, signal.SIG_DFL)
            signal.set_wakeup_fd(-1)
            signal.pthread_sigmask(signal.SIG_SETMASK, ())
            os.setsid()
            stage = "ledger"
            record()
            # Joining a frozen cgroup stops us right there, and a dead reaper's sockets must not live on in us then.
            for descriptor in held:
                os.close(descriptor)
            stage = "cgroup"
            for folder in self.cgroups:
                procs = os.open(f"{folder}/cgroup.procs", os.O_WRONLY)
                os.write(procs, b"0")
                os.close(procs)
            stage = "journal" if self.journal else "log"
            for path, descriptor, priority in ((self.stdout, 1, INFO), (self.stderr, 2, ERR)):
                if path is None:
                    source = 1
                elif self.journal:
                    source = self._journal_stream(priority)
                else:
                    source = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
                os.dup2(source, descriptor)
            stage = "ioclass"
            if self.ioclass:
                set_io_priority(*self.ioclass)
            stage = "user"
            if self.user:
                uid, gid, groups = self.user
                os.setgroups(groups)
                os.setgid(gid)
                os.setuid(uid)
            # With the rights of that user: the kernel refuses what it may not raise, and files that it may not read.
            stage = "rlimit"
            for which, limits in ((resource.RLIMIT_NOFILE, files), *self.rlimits):
                resource.setrlimit(which, limits)
            stage = "nice"
            if self.nice is not None:
                os.setpriority(os.PRIO_PROCESS, 0, self.nice)
            stage = "env"
            for path in self.env_files:
                self.env |= {name: value for name, value in read_variables(path).items() if name not in OURS}
            stage = "chdir"
            os.chdir(self.cwd)
            os.umask(umask if self.umask is None else self.umask)
            stage = "exec"
            signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # Python ignores these two, and exec would pass that on
            signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
            self._exec()
        except BaseException as error:
            known = error.errno if isinstance(error, OSError) else None
            code = known or (errno.ENOMEM if isinstance(error, MemoryError) else errno.EINVAL)
            os.write(report, f"{code} {stage} {error}".encode("utf-8", "replace")[:512])
        finally:
            os._exit(127)

    def _journal_stream(self, priority: int) -> int:
        """A descriptor whose lines go to systemd's journal, opened as the user: the journal notes who that was.

        The protocol is that of sd_journal_stream_fd(3); the unit is left for journald to find.
        """
        assert self.journal
        identifier, path = self.journal
        stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        stream.settimeout(JOURNAL_SECONDS)
        mine = os.geteuid(), os.getegid()
        if self.user:
            os.setegid(self.user[1])
            os.seteuid(self.user[0])
        try:
            stream.connect(path)
        finally:
            if self.user:
                os.seteuid(mine[0])
                os.setegid(mine[1])
        stream.shutdown(socket.SHUT_RD)
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, JOURNAL_BUFFER_BYTES)
        stream.setblocking(True)
        level_prefix, to_syslog, to_kmsg, to_console = 1, 0, 0, 0
        fields = (identifier, b"", priority, level_prefix, to_syslog, to_kmsg, to_console)
        stream.sendall(b"".join(b"%s\n" % (field if isinstance(field, bytes) else b"%d" % field) for field in fields))
        status = os.fstat(stream.fileno())
        self.env[b"JOURNAL_STREAM"] = b"%d:%d" % (status.st_dev, status.st_ino)  # systemd.exec(5)
        return stream.detach()

    def _exec(self) -> NoReturn:
        """Look the command up in the PATH it will have, as execvp does: one that may not be executed outranks none."""
        command = self.argv[0]
        if b"/" in command:
            os.execve(command, self.argv, self.env)
        refused: OSError = FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        for folder in self.env.get(b"PATH", DEFAULT_PATH).split(b":"):
            try:
                os.execve(os.path.join(folder, command), self.argv, self.env)
            except (FileNotFoundError, NotADirectoryError):
                continue
            except PermissionError as error:
                refused = error
        raise refused


def read_variables(path: bytes) -> dict[bytes, bytes]:
    """The variables of a file with lines NAME=VALUE; empty lines and such as begin with # are none.

    `export` before a name and quotes around a whole value are dropped. Raises OSError naming file and line.
    """
    name = os.fsdecode(path)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a pipe in its place must not hang
        data = os.read(descriptor, VARIABLES_BYTES + 1)
    except OSError as error:
        raise OSError(error.errno, f"{name}: {error.strerror}") from None
    if len(data) > VARIABLES_BYTES:
        raise OSError(errno.EINVAL, f"{name} is larger than {VARIABLES_BYTES} bytes")
    found = {}
    for number, line in enumerate(data.split(b"\n"), 1):
        line = line.strip()
        if not line or line.startswith(b"#"):
            continue
        variable, equals, value = line.removeprefix(b"export ").partition(b"=")
        variable, value = variable.strip(), value.strip()
        if not equals or not variable or b" " in variable or b"\0" in line:
            raise OSError(errno.EINVAL, f"line {number} of {name} is not NAME=VALUE")
        quoted = len(value) > 1 and value[:1] == value[-1:] and value[:1] in (b'"', b"'")
        found[variable] = value[1:-1] if quoted else value
    return found


def set_io_priority(kind: int, level: int) -> None:
    """Set class (0 none, 1 realtime, 2 best effort, 3 idle) and level (0 highest to 7) of the calling process."""
    number = IOPRIO_SET.get(os.uname().machine)
    if number is None:
        raise OSError(errno.ENOSYS, f"the I/O priority cannot be set on {os.uname().machine}")
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(number, 1, 0, kind << 13 | level) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _optional(request: dict[str, Any], field: str, kind: type, absent: Any) -> Any:
    value = request.get(field)
    if value is None:
        return absent
    if type(value) is not kind:
        raise BadRequest(f"{field} must be of type {kind.__name__}")
    return value


def _list(request: dict[str, Any], field: str, kind: type) -> list[Any]:
    values: list[Any] = _optional(request, field, list, [])
    if not all(type(value) is kind for value in values):
        raise BadRequest(f"{field} must be a list of type {kind.__name__}")
    return values


def _journal(request: dict[str, Any] | None) -> tuple[bytes, bytes] | None:
    if request is None:
        return None
    identifier, path = _bytes(request.get("identifier"), "journal"), _path(request, "socket", None)
    if not identifier or b"\n" in identifier or path is None:
        raise BadRequest("journal must hold an identifier of one line and a socket")
    return identifier, path


def _path(request: dict[str, Any], field: str, absent: str | None) -> bytes | None:
    path = _optional(request, field, str, absent)
    if path is None:
        return None
    if not path.startswith("/"):
        raise BadRequest(f"{field} must be an absolute path, not {path!r}")
    return _bytes(path, field)


def _bytes(value: Any, field: str) -> bytes:
    """Text to what the kernel takes. Always UTF-8, whatever the locale of the reaper, and odd bytes as they came."""
    if not isinstance(value, str) or "\0" in value:
        raise BadRequest(f"{field}: {value!r} is no text without NUL bytes")
    try:
        return value.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise BadRequest(f"{field}: {value!r} cannot be written as UTF-8") from None


def _rlimit(name: str, limits: Any) -> tuple[int, tuple[int, int]]:
    which = getattr(resource, name, None) if name.startswith("RLIMIT_") else None
    if which is None:
        raise BadRequest(f"rlimits: {name!r} is no limit that this machine knows")
    if not isinstance(limits, list) or len(limits) != 2 or not all(type(limit) is int for limit in limits):
        raise BadRequest(f"rlimits: {name} must be a soft and a hard limit, -1 for none")
    return which, (limits[0], limits[1])
