"""What a syscall's handler is given, and what it gives back."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from llmos.errors import Forbidden, NotFound
from llmos.kernel.caller import Caller
from llmos.kernel.targets import JobTarget, ProcessTarget, Resolved
from llmos.plan.risk import Risk

if TYPE_CHECKING:
    from llmos.kernel.job import Job
    from llmos.kernel.kernel import Kernel


@dataclass(slots=True)
class Outcome:
    """What came of a line: its natural JSON value, what `$N` stands for, and what taking it back needs, if it can be.

    What `$N` stands for may be a function, called only where a line refers to it.
    """

    value: Any = None
    found: list[Resolved] | Callable[[], list[Resolved]] = field(default_factory=list)
    undo: dict[str, Any] | None = None

    @property
    def targets(self) -> list[Resolved]:
        """What `$N` stands for."""
        return self.found() if callable(self.found) else self.found


@dataclass(slots=True)
class Step:
    """One line on its way to be carried out.

    `targets`: what each argument that names something resolved to; `granted`: the risk up to which the caller has
    agreed; `earlier`: what the lines above returned, by their number from 1; `request`: the words it came from.
    """

    kernel: "Kernel"
    caller: Caller
    targets: dict[str, list[Resolved]] = field(default_factory=dict)
    granted: Risk = Risk.READ
    earlier: dict[int, list[Resolved]] = field(default_factory=dict)
    request: str = ""

    def target(self, argument: str = "target") -> list[Resolved]:
        """What an argument resolved to."""
        return self.targets.get(argument, [])

    def processes(self, argument: str = "target") -> list[ProcessTarget]:
        """The processes, jobs aside, that an argument resolved to."""
        return [target for target in self.target(argument) if isinstance(target, ProcessTarget)]

    def jobs(self, argument: str = "target") -> "list[Job]":
        """The jobs that an argument resolved to."""
        found = [target.name for target in self.target(argument) if isinstance(target, JobTarget)]
        return [self.kernel.supervisor.get(name) for name in found]

    def only_jobs(self, argument: str = "job") -> "list[Job]":
        """The jobs that an argument resolved to.

        :raises NotFound: it resolved to a process that is no job.
        """
        for process in self.processes(argument):
            raise NotFound(
                f"{process.name} (pid {process.pid}) is no job of llmos, which cannot know how to run it; "
                f"`llmos run -- COMMAND` makes a job of a command",
                pid=process.pid,
            )
        return self.jobs(argument)

    def require_rights(self) -> None:
        """Raise `Forbidden` where a target is not the caller's."""
        for targets in self.targets.values():
            for target in targets:
                if not self.caller.may_touch(target.uid):
                    who = f"pid {target.pid}" if isinstance(target, ProcessTarget) else target.label
                    raise Forbidden(
                        f"{who} belongs to another user (uid {target.uid}); only they and root may touch it"
                    )
