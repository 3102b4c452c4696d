"""What the reaper's errors mean to a person: which error of llmos each becomes, and in what words."""

import errno

from llmos.errors import BadInput, Conflict, Forbidden, LlmosError, NotFound, Unavailable


class ForkRefused(Unavailable):
    """Raised when the machine has no room for one more process now: retrying helps, and starts nothing twice."""


class ReaperError(Exception):
    """Raised when the reaper answers with an error: the errno, the stage that failed, and its own words."""

    def __init__(self, *, errno: int, stage: str, message: str) -> None:
        super().__init__(message)
        self.errno = errno
        self.stage = stage
        self.message = message

    def of_spawn(self, command: str, cwd: str) -> LlmosError:
        """To a spawn of that command in that folder."""
        data = {"stage": self.stage, "errno": self.errno}
        match self.stage, self.errno:
            case "exec", errno.ENOENT if "/" in command:
                return NotFound(
                    f"{command} cannot be started: it, or the interpreter that it names, does not exist", **data
                )
            case "exec", errno.ENOENT:
                return NotFound(f"there is no command {command}; install it, give its full path or set PATH", **data)
            case "exec", errno.ENOTDIR:
                return NotFound(f"there is no command {command}: a part of its path is no folder", **data)
            case "exec", errno.EACCES:
                return Forbidden(f"{command} may not be executed; check its mode (chmod +x) and its folders", **data)
            case "exec", errno.ENOEXEC:
                return BadInput(f"{command} is no program; a script must begin with a line such as #!/bin/sh", **data)
            case "exec", errno.E2BIG:
                return BadInput(f"the arguments and environment of {command} are too long for this machine", **data)
            case ("fork", _) | ("exec", errno.EAGAIN | errno.ENOMEM):
                return ForkRefused(
                    f"there is no room for one more process ({self.message}); try again later; "
                    "`llmos doctor` says what bounds them",
                    **data,
                )
            case "chdir", errno.ENOENT | errno.ENOTDIR:
                return NotFound(f"there is no folder {cwd} to run in", **data)
            case "chdir", errno.EACCES:
                return Forbidden(f"{command} may not run in the folder {cwd}", **data)
            case "journal", _:
                return Unavailable(
                    f"the journal of the machine cannot be reached ({self.message}); is systemd-journald running? "
                    'else give the job output="file"',
                    **data,
                )
            case "ledger", _:
                return Unavailable(f"the start cannot be recorded ({self.message}); free some disk space", **data)
            case "request", _:
                return BadInput(f"{command or 'the run'} cannot be started: {self.message}", **data)
        kind: type[LlmosError] = _KINDS.get(self.errno, BadInput)
        return kind(f"{command} cannot be started: {_SUBJECTS.get(self.stage, self.stage)}: {self.message}", **data)

    def of_call(self) -> LlmosError:
        """To any other request."""
        data = {"stage": self.stage, "errno": self.errno}
        match self.errno:
            case errno.ESRCH:
                return NotFound("the run has ended", **data)
            case errno.ENOENT:
                return NotFound(self.message, **data)
            case errno.EBUSY:
                return Conflict(f"the reaper cannot end: {self.message}", **data)
            case errno.EINVAL:
                return BadInput(self.message, **data)
        return Unavailable(f"the reaper failed: {self.message}", **data)


_KINDS: dict[int, type[LlmosError]] = {
    errno.ENOENT: NotFound,
    errno.EACCES: Forbidden,
    errno.EPERM: Forbidden,
    errno.ENOSPC: Unavailable,
    errno.EIO: Unavailable,
    errno.EMFILE: Unavailable,
    errno.ENFILE: Unavailable,
}
_SUBJECTS = {
    "notify": "it cannot be given a socket for sd_notify",
    "env": "its variables cannot be read",
    "log": "its log file cannot be opened",
    "cgroup": "it cannot join its cgroup",
    "user": "it cannot become that user, which needs root",
    "rlimit": "its limits cannot be set",
    "nice": "its nice value cannot be set",
    "ioclass": "its I/O priority cannot be set",
}
