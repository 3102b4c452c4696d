"""Words to deeds: a request goes to the model, the model's text becomes a typed plan, the plan is checked and run."""

import asyncio
import re
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from llmos.errors import Ambiguous, BadInput, LlmosError, ModelError
from llmos.kernel.caller import Caller
from llmos.kernel.executor import Check
from llmos.machine import procfs
from llmos.nlui.worker_client import PlanText
from llmos.plan.language import parse_plan
from llmos.syscalls import Risk, Syscall
from llmos.syscalls.talk import Ask, Refuse

if TYPE_CHECKING:
    from llmos.kernel.kernel import Kernel

MAX_NAMES = 300
"""Names that a plan may name besides the words of the request."""
MAX_REMEMBERED = 256
"""Requests whose plans are remembered."""
_WORD = re.compile(r"[a-z0-9_]{2,}")


class Asking:
    """What `ask` does, for one kernel."""

    def __init__(self, kernel: "Kernel") -> None:
        self._kernel = kernel
        self._remembered: OrderedDict[tuple[str, ...], PlanText] = OrderedDict()

    def forget(self) -> None:
        """Ask the model again whatever it was asked before, since it is another one now."""
        self._remembered.clear()

    async def ask(self, request: str, caller: Caller, *, allow: Risk, dry_run: bool) -> dict[str, Any]:
        """Turn a request into a plan and run it, as far as `allow` goes; the answer holds the plan and its results.

        :raises ModelError: the model is missing, or gave no plan.
        :raises Ambiguous: the model is not sure which of two plans is meant.
        :raises NeedsConfirmation: the plan's risk is above `allow`.
        """
        began = time.perf_counter()
        text = await self._plan_text(request)
        seconds = round(time.perf_counter() - began, 4)
        self._kernel.journal.note("asked", "llmosd", caller.uid, {"request": request[:2000]})
        check = await self._checked(_parsed(text.text), caller)
        if text.other is not None and (other := await self._other(text.other, caller)) is not None:
            raise Ambiguous(
                "this can be read in two ways; choose one of the readings, or say it in other words",
                readings=[check.as_json(), other.as_json()],
                confidence=round(self._kernel.model.probability(text), 4),
                seconds=seconds,
            )
        if dry_run and said(check) is None:
            return {**check.as_json(), "answer": None, "seconds": seconds}
        return {**await self.run(check, caller, allow=allow, request=request), "seconds": seconds}

    async def run(
        self, check: Check, caller: Caller, *, allow: Risk, confirm: str | None = None, request: str = ""
    ) -> dict[str, Any]:
        """Carry out a checked plan; where it asks or refuses, that is the answer and nothing is run.

        :raises NeedsConfirmation: the plan's risk is above `allow` and it was not confirmed.
        :raises PlanChanged: it was confirmed, but resolves to something else now.
        """
        shown = {**check.as_json(), "answer": said(check)}
        if shown["answer"] is not None:
            return {**shown, "ok": True, "results": []}
        results = await self._kernel.executor.run(check, caller, allow=allow, confirm=confirm, request=request)
        return {**shown, **summary(results)}

    async def _plan_text(self, request: str) -> PlanText:
        """The model's answer, from memory where the same was asked of the same machine before."""
        processes = await asyncio.to_thread(_process_names)
        alike = (name for name in processes if resembles(name, request))
        known = list(dict.fromkeys([*self._kernel.supervisor.jobs, *alike]))[:MAX_NAMES]
        key = (request, *known)
        if (text := self._remembered.get(key)) is None:
            text = await self._kernel.model.plan(request, known, timeout=self._kernel.settings.model.timeout_seconds)
            self._remembered[key] = text
            if len(self._remembered) > MAX_REMEMBERED:
                self._remembered.popitem(last=False)
        self._remembered.move_to_end(key)
        return text

    async def _checked(self, plan: list[Syscall], caller: Caller) -> Check:
        talk = next((call for call in plan if isinstance(call, Ask | Refuse)), None)  # it makes the others moot
        return await self._kernel.executor.check([talk] if talk else plan, caller)

    async def _other(self, text: str, caller: Caller) -> Check | None:
        """Another reading, or None where it would come to nothing on this machine."""
        try:
            return await self._checked(_parsed(text), caller)
        except LlmosError:
            return None


def summary(results: list[dict[str, Any]]) -> dict[str, Any]:
    """The results as callers see them: whether all went well, and each line's."""
    shown = [{name: value for name, value in result.items() if name != "raised"} for result in results]
    return {"ok": all(result["ok"] for result in shown), "results": shown}


def _parsed(text: str) -> list[Syscall]:
    try:
        return parse_plan(text)
    except BadInput as error:
        raise ModelError(f"the model gave no valid plan ({error.message}); say it in other words") from None


def said(check: Check) -> str | None:
    """The question or the refusal that a plan is, or None where it does something."""
    match check.lines[0].call:
        case Ask(question=text) | Refuse(reason=text):
            return str(text)
    return None


def resembles(name: str, request: str) -> bool:
    """Whether a request may mean this process: a word of it begins alike, or they have three letters in a row alike."""
    name, request = name.lower(), request.lower()
    beginnings = {word[:2] for word in _WORD.findall(request)}
    return name[:2] in beginnings or any(name[at : at + 3] in request for at in range(len(name) - 2))


def _process_names() -> list[str]:
    return sorted({stat.comm for stat in procfs.stats() if not stat.kernel_thread})
