"""Syscalls that favour one process over everything else."""

from typing import TYPE_CHECKING, Any

from llmos.errors import NotFound
from llmos.kernel.step import Outcome, Step
from llmos.plan import values
from llmos.plan.risk import Risk
from llmos.syscalls.registry import Duration, Syscall, Target, key, positional

if TYPE_CHECKING:
    from llmos.kernel.kernel import Kernel


class Focus(Syscall, verb="focus", risk=Risk.CHANGE, inverse="unfocus"):
    """Favour it; everything else yields."""

    target: Target
    for_: Duration | None = key(None, alias="for")

    async def act(self, step: Step) -> Outcome:
        seconds = float(values.seconds_of(self.for_)) if self.for_ is not None else None
        keys = [await step.kernel.focus.favour(target, seconds, step.caller) for target in step.target()]
        rows = [{**target.as_json(), "for_seconds": seconds} for target in step.target()]
        return Outcome(rows, step.target(), {"keys": keys})

    async def take_back(self, kernel: "Kernel", undo: dict[str, Any]) -> None:
        for favoured in undo["keys"]:
            await kernel.focus.lift(favoured)


class Unfocus(Syscall, verb="unfocus", risk=Risk.CHANGE, inverse="focus"):
    """Favour it no longer; all of it without a target."""

    target: Target | None = positional()

    async def act(self, step: Step) -> Outcome:
        wanted = step.target() if self.target is not None else [None]
        keys = [key for target in wanted for key in step.kernel.focus.keys(target, step.caller)]
        if not keys:
            raise NotFound(f"{self.target} is not favoured" if self.target else "nothing is favoured")
        lifted = {key: await step.kernel.focus.lift(key) for key in keys}
        return Outcome([{"name": entry["name"]} for entry in lifted.values()], step.target(), {"favoured": lifted})

    async def take_back(self, kernel: "Kernel", undo: dict[str, Any]) -> None:
        for favoured, entry in undo["favoured"].items():
            await kernel.focus.put_back(favoured, entry)
