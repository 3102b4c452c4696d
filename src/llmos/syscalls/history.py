"""Syscalls on what was done before: list it, explain it, take it back."""

from typing import Any

from llmos.errors import LlmosError, NotFound
from llmos.kernel import explain
from llmos.kernel.step import Outcome, Step
from llmos.kernel.targets import job_target
from llmos.plan import language
from llmos.plan.risk import Risk
from llmos.syscalls.registry import Count, Syscall, Target, positional


class History(Syscall, verb="history", risk=Risk.READ):
    """What was asked and done."""

    limit: Count | None = None

    async def act(self, step: Step) -> Outcome:
        uid = None if step.caller.may_all else step.caller.uid
        steps = await step.kernel.journal.steps(limit=self.limit or 20, uid=uid)
        return Outcome([_row(each) for each in steps])


class Why(Syscall, verb="why", risk=Risk.READ):
    """Why it was reprioritised, paused, restarted, or died."""

    target: Target

    async def act(self, step: Step) -> Outcome:
        found = [await explain.why(step.kernel, target) for target in step.target()]
        return Outcome(found[0] if len(found) == 1 else found, step.target())


class Undo(Syscall, verb="undo", risk=Risk.CHANGE):
    """Take back the last N reversible steps, one when absent."""

    steps: Count = positional(1)

    async def act(self, step: Step) -> Outcome:
        """Newest first; one that cannot be taken back any more ends it, and is passed over from then on."""
        uid = None if step.caller.may_all else step.caller.uid
        wanted = await step.kernel.journal.reversible(limit=self.steps, uid=uid)
        if not wanted:
            raise NotFound("there is nothing to take back")
        rows: list[dict[str, Any]] = []
        for done in wanted:
            try:
                self._require_rights(step, done["undo"])
                await language.from_json(done["call"]).take_back(step.kernel, done["undo"])
            except LlmosError as error:
                await step.kernel.journal.mark_undone(done["id"])
                before = f" (taken back before it: {', '.join(row['line'] for row in rows)})" if rows else ""
                raise type(error)(f"{done['line']!r} cannot be taken back: {error.message}{before}") from None
            await step.kernel.journal.mark_undone(done["id"])
            rows.append({"step": done["id"], "line": done["line"]})
        return Outcome(rows)

    @staticmethod
    def _require_rights(step: Step, undo: dict[str, Any]) -> None:
        """A job's name may have become another user's since."""
        for name in undo.get("jobs", ()):
            Step(step.kernel, step.caller, {"job": [job_target(step.kernel.supervisor, name)]}).require_rights()


def _row(step: dict[str, Any]) -> dict[str, Any]:
    return {
        "step": step["id"],
        "at": step["at"],
        "uid": step["uid"],
        "line": step["line"],
        "request": step["request"],
        "ok": None if step["ok"] is None else bool(step["ok"]),
        "error": (step["result"] or {}).get("error"),
        "reversible": step["undo"] is not None and step["undone_at"] is None,
        "undone_at": step["undone_at"],
    }
