"""Syscalls on standing watches."""

from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import model_validator

from llmos.kernel.job_log import require_files
from llmos.kernel.step import Outcome, Step
from llmos.kernel.targets import WatchTarget
from llmos.plan.risk import Risk
from llmos.syscalls.registry import Argument, Duration, Line, Syscall, Target, Text, Threshold, WatchRef, key

if TYPE_CHECKING:
    from llmos.kernel.kernel import Kernel

Metric = Literal["cpu", "memory", "disk", "gpu", "load", "temperature", "exit", "log"]


class Watches(Syscall, verb="watches", risk=Risk.READ):
    """Standing watches."""

    def act(self, step: Step) -> Outcome:
        standing = step.kernel.watches.standing.values()
        return Outcome([watch.as_json() for watch in standing], [watch.target() for watch in standing])


class Watch(Syscall, verb="watch", risk=Risk.CHANGE, inverse="unwatch"):
    """A standing rule, until unwatched; without `then` it notifies.

    Percent used, of the machine or of the target (whose cpu is in percent of one core); for memory also a SIZE; for
    disk, target is a path; `for`: how long it must hold. `exit`: the target ends; `log`: its output matches. `$N` in
    `then` is what that line returned when the watch was set.
    """

    metric: Metric
    above: Threshold | None = None
    below: Threshold | None = None
    match: Text | None = None
    target: Target | None = None
    for_: Duration | None = key(None, alias="for")
    then: Line | None = None

    @model_validator(mode="after")
    def _complete(self) -> Self:
        sizes = [level for level in (self.above, self.below) if level is not None and level[-1].isalpha()]
        if sizes and self.metric != "memory":
            raise ValueError(f"{sizes[0]} is a size, and only memory is measured in sizes")
        match self.metric:
            case "exit" if self.target is None:
                raise ValueError("say whose end: target=TARGET")
            case "log" if self.target is None or self.match is None:
                raise ValueError("say whose output and what to look for: target=JOB match=STR")
            case "exit" | "log" if self.above is not None or self.below is not None:
                raise ValueError(f"{self.metric} has no above= or below=")
            case "load" | "temperature" if self.target is not None:
                raise ValueError(f"{self.metric} is of the machine; it has no target=")
            case "exit" | "log":
                return self
        if self.above is None and self.below is None:
            raise ValueError("say the limit: above=NUM or below=NUM")
        if self.match is not None:
            raise ValueError("match= is for the metric log")
        return self

    def named(self) -> list[tuple[Argument, str]]:
        return [] if self.metric == "disk" else super().named()

    async def act(self, step: Step) -> Outcome:
        if self.metric == "log":
            require_files(step.only_jobs("target"))
        watch = await step.kernel.watches.set(self, step.caller, step.target(), step.earlier, step.granted)
        return Outcome([watch.as_json()], [watch.target()], {"watch": watch.number})

    async def take_back(self, kernel: "Kernel", undo: dict[str, Any]) -> None:
        await kernel.watches.drop(undo["watch"])


class Unwatch(Syscall, verb="unwatch", risk=Risk.CHANGE, inverse="watch"):
    """Drop watches, by ID, target or metric."""

    watch: WatchRef

    async def act(self, step: Step) -> Outcome:
        numbers = [target.number for target in step.target("watch") if isinstance(target, WatchTarget)]
        dropped = [await step.kernel.watches.drop(number) for number in numbers]
        undo = {"watches": [watch.record() for watch in dropped]}
        return Outcome([watch.as_json() for watch in dropped], step.target("watch"), undo)

    async def take_back(self, kernel: "Kernel", undo: dict[str, Any]) -> None:
        for record in undo["watches"]:
            await kernel.watches.put_back(record)
