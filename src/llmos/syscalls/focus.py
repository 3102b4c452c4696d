"""Syscalls that favour one process over everything else."""

from typing import TYPE_CHECKING, Any

from llmos.errors import NotFound
from llmos.kernel.step import Outcome, Step
from llmos.plan import values
from llmos.syscalls.registry import Duration, Risk, Syscall, Target, key, positional

if TYPE_CHECKING:
    from llmos.kernel.kernel import Kernel


class Focus(Syscall, verb="focus", risk=Risk.CHANGE, inverse="unfocus"):
    """Favour it; everything else yields."""

    target: Target
    for_: Duration | None = key(None, alias="for")

    async def act(self, step: Step) -> Outcome:
        seconds = float(values.seconds_of(self.for_)) if self.for_ is not None else None
        keys = [await step.kernel.focus.favour(target, seconds) for target in step.target()]
        rows = [{**target.as_json(), "for_seconds": seconds} for target in step.target()]
        return Outcome(rows, step.target(), {"keys": keys})

    async def take_back(self, kernel: "Kernel", undo: dict[str, Any]) -> None:
        for key in undo["keys"]:
            await kernel.focus.lift(key)


class Unfocus(Syscall, verb="unfocus", risk=Risk.CHANGE, inverse="focus"):
    """Favour it no longer; all of it without a target."""

    target: Target | None = positional()

    async def act(self, step: Step) -> Outcome:
        wanted = step.target() if self.target is not None else [None]
        keys = [key for target in wanted for key in step.kernel.focus.keys(target)]
        if not keys:
            raise NotFound(f"{self.target or 'nothing'} is not favoured" if self.target else "nothing is favoured")
        for key in keys:
            await step.kernel.focus.lift(key)
        return Outcome([{"name": key} for key in keys], step.target(), None)
