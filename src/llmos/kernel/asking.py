"""Words to deeds: a request goes to the model, the model's text becomes a typed plan, the plan is checked and run."""

import asyncio
import time
from typing import TYPE_CHECKING, Any

from llmos.errors import BadInput, ModelError
from llmos.kernel.caller import Caller
from llmos.machine import procfs
from llmos.plan.language import parse_plan
from llmos.syscalls import Risk, Syscall
from llmos.syscalls.talk import Ask, Refuse

if TYPE_CHECKING:
    from llmos.kernel.kernel import Kernel

MAX_NAMES = 300


class Asking:
    """What `ask` does, for one kernel."""

    def __init__(self, kernel: "Kernel") -> None:
        self._kernel = kernel

    async def ask(self, request: str, caller: Caller, *, allow: Risk, dry_run: bool) -> dict[str, Any]:
        """Turn a request into a plan and run it, as far as `allow` goes; the answer holds the plan and its results.

        :raises ModelError: the model is missing, or gave no plan.
        :raises NeedsConfirmation: the plan's risk is above `allow`.
        """
        began = time.perf_counter()
        plan = await self._plan(request)
        seconds = round(time.perf_counter() - began, 4)
        self._kernel.journal.note("asked", "llmosd", caller.uid, {"request": request[:2000]})
        if talk := next((call for call in plan if isinstance(call, Ask | Refuse)), None):  # it makes the others moot
            check = await self._kernel.executor.check([talk], caller)
            answer = talk.question if isinstance(talk, Ask) else talk.reason
            return {**check.as_json(), "ok": True, "answer": answer, "results": [], "seconds": seconds}
        check = await self._kernel.executor.check(plan, caller)
        shown = {**check.as_json(), "answer": None, "seconds": seconds}
        if dry_run:
            return shown
        results = await self._kernel.executor.run(check, caller, allow=allow, request=request)
        return {**shown, **summary(results)}

    async def _plan(self, request: str) -> list[Syscall]:
        names = [*self._kernel.supervisor.jobs, *await _process_names()]
        text = await self._kernel.model.plan(
            request,
            list(dict.fromkeys(names))[:MAX_NAMES],
            timeout=self._kernel.settings.model.timeout_seconds,
        )
        try:
            return parse_plan(text.text)
        except BadInput as error:
            raise ModelError(f"the model gave no valid plan ({error.message}); say it in other words") from None


def summary(results: list[dict[str, Any]]) -> dict[str, Any]:
    """The results as callers see them: whether all went well, and each line's."""
    shown = [{name: value for name, value in result.items() if name != "raised"} for result in results]
    return {"ok": all(result["ok"] for result in shown), "results": shown}


async def _process_names() -> list[str]:
    return await asyncio.to_thread(lambda: sorted({stat.comm for stat in procfs.stats() if not stat.kernel_thread}))
