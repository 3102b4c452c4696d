"""The executor: it resolves a plan, weighs it, and carries it out as a graph.

Checking resolves every target to an identity, running those reads that later lines refer to; carrying out acts on
exactly what was checked. Only what cannot be known before (the job that a line above will start) is resolved when its
line is reached, and weighed again then.
"""

import asyncio
import hashlib
import inspect
import json
import logging
from collections.abc import Awaitable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from llmos.errors import LlmosError, NeedsConfirmation, NotFound, PlanChanged, want
from llmos.kernel import targets
from llmos.kernel.caller import Caller
from llmos.kernel.policy import Assessment, Surroundings, assess
from llmos.kernel.step import Outcome, Step
from llmos.kernel.targets import Resolved
from llmos.plan import values
from llmos.plan.graph import Node, graph
from llmos.plan.language import parse_line, print_line, print_plan
from llmos.syscalls import Kind, Risk, Syscall

if TYPE_CHECKING:
    from llmos.kernel.kernel import Kernel

log = logging.getLogger("llmos.executor")


@dataclass(slots=True)
class _Line:
    """One line of a checked plan."""

    call: Syscall
    node: Node
    targets: dict[str, list[Resolved]] = field(default_factory=dict)
    unresolved: dict[str, str] = field(default_factory=dict)
    then_targets: list[Resolved] = field(default_factory=list)
    assessment: Assessment = field(default_factory=lambda: Assessment(Risk.READ, ()))
    outcome: Outcome | None = None
    """What a read returned that was run for the check."""

    @property
    def acted_on(self) -> list[Resolved]:
        """What the line does something to: its positional targets; what its keys name is only named."""
        positional = {name for name, argument in self.call.arguments.items() if argument.positional}
        return [target for name, found in self.targets.items() if name in positional for target in found]


@dataclass(slots=True)
class Check:
    """A plan with all that is known of it before it is carried out."""

    lines: list[_Line]
    bound: dict[int, list[Resolved]] = field(default_factory=dict)
    """What `$N` stands for where no line N is in the plan: of a watch, what it was when the watch was set."""
    hash: str = ""

    @property
    def risk(self) -> Risk:
        """The highest risk of a line."""
        return max(line.assessment.risk for line in self.lines)

    def as_json(self) -> dict[str, Any]:
        """As callers see it."""
        return {
            "plan": print_plan([line.call for line in self.lines]),
            "risk": str(self.risk),
            "risks": [str(line.assessment.risk) for line in self.lines],
            "reasons": [
                f"line {number}: {reason}" if len(self.lines) > 1 else reason
                for number, line in enumerate(self.lines, 1)
                for reason in line.assessment.reasons
            ],
            "hash": self.hash,
            "targets": [
                {"line": number, **target}
                for number, line in enumerate(self.lines, 1)
                for target in [
                    *(found.as_json() for group in line.targets.values() for found in group),
                    *({"name": text, "resolved": False} for text in line.unresolved.values()),
                ]
            ],
        }


class Executor:
    """Checks plans and carries them out, for one kernel."""

    def __init__(self, kernel: "Kernel") -> None:
        self._kernel = kernel

    async def check(
        self, plan: Sequence[Syscall], caller: Caller, bound: dict[int, list[Resolved]] | None = None
    ) -> Check:
        """Resolve and weigh a plan; nothing is changed."""
        check = Check([_Line(call, node) for call, node in zip(plan, graph(plan), strict=True)], bound or {})
        referenced = {reference for call in plan for reference in call.references()}
        acted = False
        for number, line in enumerate(check.lines, 1):
            await self._resolve(check, line, caller)
            acted = acted or line.call.risk > Risk.READ
            if number in referenced and not acted and not line.unresolved and not line.call.blocks:
                with suppress(LlmosError):  # it is said when the line is carried out; until then nothing is known of it
                    line.outcome = await self._perform(line, self._step(check, line, caller, Risk.READ, ""))
        await self._assess(check.lines, caller)
        check.hash = _hash(check)
        return check

    async def run(
        self, check: Check, caller: Caller, *, allow: Risk, confirm: str | None = None, request: str = ""
    ) -> list[dict[str, Any]]:
        """Carry out a checked plan; returns one result a line.

        :raises NeedsConfirmation: its risk is above `allow` and it was not confirmed.
        :raises PlanChanged: it was confirmed, but resolves to something else now.
        """
        if confirm is not None and confirm != check.hash:
            raise PlanChanged(
                "what this plan resolves to is not what was confirmed; look at it again and confirm its new hash",
                **check.as_json(),
            )
        if confirm is None and check.risk > allow:
            raise NeedsConfirmation(
                f"this plan can {check.risk} and only {allow} is allowed without asking; "
                "confirm it by its hash, or allow more",
                **check.as_json(),
            )
        granted = max(check.risk, allow) if confirm is not None else allow
        results: list[dict[str, Any] | None] = [None] * len(check.lines)
        over = [asyncio.Event() for _ in check.lines]

        async def carry_out(index: int, line: _Line) -> None:
            for earlier in line.node.after | ({line.node.same_as} if line.node.same_as is not None else set()):
                await over[earlier].wait()
            results[index] = await self._result(check, line, results, caller, granted, request)
            over[index].set()

        async with asyncio.TaskGroup() as group:
            for index, line in enumerate(check.lines):
                group.create_task(carry_out(index, line))
        return [result for result in results if result is not None]

    def call(self, call: Syscall, caller: Caller, *, allow: Risk, confirm: str | None) -> Any:
        """Carry out one call for its value: at once where memory alone answers, else as an awaitable."""
        if call.risk is Risk.READ and not call.named():
            done = call.act(Step(self._kernel, caller))
            return done.value if isinstance(done, Outcome) else self._value(done)
        return self._call(call, caller, allow, confirm)

    async def _call(self, call: Syscall, caller: Caller, allow: Risk, confirm: str | None) -> Any:
        check = await self.check([call], caller)
        line = check.lines[0]
        if line.unresolved:
            await self._resolve(check, line, caller, must=True)
        [result] = await self.run(check, caller, allow=allow, confirm=confirm)
        if result["ok"]:
            return result["value"]
        raise result["raised"]

    @staticmethod
    async def _value(done: Awaitable[Outcome]) -> Any:
        return (await done).value

    async def _result(
        self,
        check: Check,
        line: _Line,
        results: Sequence[dict[str, Any] | None],
        caller: Caller,
        granted: Risk,
        request: str,
    ) -> dict[str, Any]:
        text = print_line(line.call)
        if line.node.same_as is not None:
            line.outcome = check.lines[line.node.same_as].outcome
            return {**(results[line.node.same_as] or {}), "line": text}
        for needed in sorted(line.node.needs):
            if not (results[needed] or {}).get("ok"):
                return {"line": text, "ok": False, "skipped": f"line {needed + 1} did not go well"}
        try:
            if line.outcome is None:
                await self._reach(check, line, caller, granted)
                line.outcome = await self._perform(line, self._step(check, line, caller, granted, request))
        except LlmosError as error:
            return {"line": text, "ok": False, "error": error.as_json(), "raised": error}
        except Exception as error:
            if (lacking := want(error)) is not None:
                return {"line": text, "ok": False, "error": lacking.as_json(), "raised": lacking}
            log.exception("%s failed inside llmosd", text)
            inside = LlmosError(f"llmosd failed inside ({type(error).__name__}: {error}); its log has more")
            return {"line": text, "ok": False, "error": inside.as_json(), "raised": inside}
        return {"line": text, "ok": True, "value": line.outcome.value}

    async def _reach(self, check: Check, line: _Line, caller: Caller, granted: Risk) -> None:
        """Resolve what was not known before, and weigh the line again where that changed anything."""
        if not line.unresolved:
            return
        await self._resolve(check, line, caller, must=True)
        await self._assess([line], caller)
        if line.assessment.risk > granted:
            raise NeedsConfirmation(
                f"{print_line(line.call)} turned out to be of risk {line.assessment.risk}, and {granted} was agreed to",
                **Check([line]).as_json(),
            )

    async def _perform(self, line: _Line, step: Step) -> Outcome:
        """Carry a line out; acts leave their intent and their outcome in the journal.

        Settling is durable, and all that the act wrote to the journal before is on disk with it.
        """
        call = line.call
        if call.risk <= Risk.READ:
            if call.private:
                step.require_rights()
            return await _outcome(call, step)
        step.require_rights()
        journal = self._kernel.journal
        number = await journal.intend(step.caller.uid, step.request, print_line(call), call.as_json())
        try:
            outcome = await _outcome(call, step)
        except LlmosError as error:
            await journal.settle(number, ok=False, result={"error": error.message}, undo=None)
            raise
        except BaseException as error:
            await journal.settle(number, ok=False, result={"error": f"{type(error).__name__}: {error}"}, undo=None)
            raise
        result = {"targets": [target.as_json() for target in outcome.targets]}
        await journal.settle(number, ok=True, result=result, undo=outcome.undo)
        return outcome

    def _step(self, check: Check, line: _Line, caller: Caller, granted: Risk, request: str) -> Step:
        earlier = {
            number: above.outcome.targets
            for number, above in enumerate(check.lines[: line.node.index], 1)
            if above.outcome is not None
        }
        return Step(self._kernel, caller, line.targets, granted, earlier, request)

    async def _resolve(self, check: Check, line: _Line, caller: Caller, *, must: bool = False) -> None:
        """Resolve what the line names; what is not there is noted as unresolved, or raised where it `must` be."""
        line.unresolved = {}
        for argument, text in line.call.named():
            try:
                line.targets[argument.name] = await self._find(check, argument.kind, text, caller)
            except NotFound:
                if must:
                    raise
                line.unresolved[argument.name] = text
        then = getattr(line.call, "then", None)
        if then is not None:
            line.then_targets = []
            for argument, text in parse_line(then).named():
                try:
                    line.then_targets += await self._find(check, argument.kind, text, caller)
                except NotFound:
                    continue  # it may be there when the watch fires, and is weighed then

    async def _find(self, check: Check, kind: Kind, text: str, caller: Caller) -> list[Resolved]:
        reference = values.reference(text)
        if reference in check.bound:
            return check.bound[reference]
        if reference is not None:
            outcome = check.lines[reference - 1].outcome
            if outcome is None:
                raise NotFound(f"{text} is not known before line {reference} has been carried out")
            return outcome.targets
        if kind is Kind.WATCH:
            return self._kernel.watches.find(text)
        if kind is Kind.JOB:
            return [targets.job_target(self._kernel.supervisor, text)]
        excluded = self._kernel.own_pids() | frozenset([caller.pid] if caller.pid else [])
        return await asyncio.to_thread(targets.by_text, text, self._kernel.supervisor, excluded)

    async def _assess(self, lines: Sequence[_Line], caller: Caller) -> None:
        if all(line.call.risk <= Risk.READ for line in lines):
            for line in lines:
                line.assessment = Assessment(line.call.risk, ())
            return
        settings, own = self._kernel.settings.policy, self._kernel.own_pids()

        def weigh(ancestors: frozenset[int]) -> None:
            around = Surroundings(own, ancestors)
            for line in lines:
                line.assessment = assess(line.call, line.acted_on, line.then_targets, settings, around)

        named = [target for line in lines for target in (*line.acted_on, *line.then_targets)]
        if any(not isinstance(target, targets.WatchTarget) and target.pid is not None for target in named):
            await asyncio.to_thread(lambda: weigh(caller.ancestors()))
        else:
            weigh(frozenset())


async def _outcome(call: Syscall, step: Step) -> Outcome:
    done = call.act(step)
    return await done if inspect.isawaitable(done) else done


def _hash(check: Check) -> str:
    """What a confirmation is bound to: the lines, their risk, and every identity that they resolve to."""
    content = [
        [print_line(line.call), int(line.assessment.risk), sorted(target.key for target in line.acted_on)]
        for line in check.lines
    ]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:32]
