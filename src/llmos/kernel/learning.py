"""Learning from feedback, as the daemon has it: keep what people say, run the job that learns, put its adapter to use.

The job only writes into its own folder. What came of it is judged here when it has ended: a result that says so is
adopted, anything else is removed.
"""

import asyncio
import json
import logging
import os
import shutil
import sys
from collections import Counter
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmos.client_types import Verdict
from llmos.errors import BadInput, Conflict, Forbidden, LlmosError, NotFound, Unsupported
from llmos.kernel.caller import Caller
from llmos.kernel.feedback import Feedback
from llmos.kernel.job import Job
from llmos.kernel.states import ALIVE
from llmos.nlui.learning import adoption
from llmos.nlui.learning.lessons import read_lessons, require_corrections
from llmos.plan.language import parse_plan, print_plan

if TYPE_CHECKING:
    from llmos.kernel.kernel import Kernel

log = logging.getLogger("llmos.learning")

JOB = "llmos-learn"
TIMEOUT = "2h"
MAX_FEEDBACK_BYTES = 16 * 1024
"""Of one request with its plans."""
_LAST = "last.json"
_NEEDED = ("torch", "gguf", "tensorboard")


class Learning:
    """What the methods `learn.*` do, for one kernel."""

    def __init__(self, kernel: "Kernel") -> None:
        self._kernel = kernel
        self._settings = kernel.settings.learn
        self._state_dir = kernel.settings.state_dir
        self._feedback = Feedback(self._state_dir / "feedback.jsonl")
        self._turn = asyncio.Lock()
        self._ends: set[asyncio.Task[None]] = set()
        kernel.supervisor.exit_listeners.append(self._on_exit)

    async def close(self) -> None:
        """Wait for what is being put to use."""
        await asyncio.gather(*self._ends)

    async def hear(
        self, caller: Caller, request: str, given: Sequence[str], verdict: Verdict, wanted: Sequence[str] | None
    ) -> dict[str, Any]:
        """Keep what a person said to the plan of a request; says whether it was kept.

        :raises BadInput: a plan is none, the wanted one is missing or should be, or it is too long.
        """
        if verdict != "rejected" and (wanted is None) == (verdict == "edited"):
            needs = "the plan that was wanted instead" if wanted is None else "no wanted plan: the given one was right"
            raise BadInput(f"learn.feedback: {verdict} needs {needs}", field="wanted")
        given = print_plan(parse_plan(given)) if given else []
        wanted = print_plan(parse_plan(wanted)) if wanted else None
        if len(json.dumps([request, given, wanted])) > MAX_FEEDBACK_BYTES:
            raise BadInput(f"learn.feedback: more than {MAX_FEEDBACK_BYTES} bytes; only shorter plans can be learned")
        if self._settings.keep:
            await asyncio.to_thread(self._feedback.add, caller.uid, request, given, verdict, wanted)
        return {"kept": self._settings.keep}

    async def start(self, caller: Caller, dev: str | None) -> dict[str, Any]:
        """Start the job that learns.

        :raises Unsupported: what training needs is not installed.
        :raises BadInput: nothing was corrected yet.
        :raises Conflict: it runs already.
        """
        self._require_owner(caller)
        await asyncio.gather(*self._ends)
        async with self._turn:
            if self._ends or (self._job is not None and self._job.state in ALIVE):
                raise Conflict(f"{JOB} runs already; `llmos learn stop` ends it")
            folder = await asyncio.to_thread(self._prepare)
            command = self._command(folder, await asyncio.to_thread(self._kernel.path_of, dev, caller) if dev else None)
            job = Job(JOB, command, "/", dict(os.environ), os.geteuid(), os.getegid(), priority="idle", timeout=TIMEOUT)
            await self._kernel.supervisor.define(job)
            await self._kernel.supervisor.flush()
        return job.as_json()

    async def stop(self, caller: Caller) -> dict[str, Any]:
        """End the job; nothing is learned.

        :raises NotFound: it does not run.
        """
        self._require_owner(caller)
        job = self._job
        if job is None or job.state not in ALIVE:
            raise NotFound("nothing is being learned")
        await self._kernel.supervisor.stop(job)
        return job.as_json()

    async def status(self, caller: Caller) -> dict[str, Any]:
        """What was kept and what came of it, in percent."""
        await asyncio.gather(*self._ends)
        return await asyncio.to_thread(self._status, caller)

    async def roll_back(self, caller: Caller) -> dict[str, Any]:
        """Go back to the adapter that was in use before.

        :raises NotFound: the shipped one is in use.
        """
        self._require_owner(caller)
        async with self._turn:
            now = await asyncio.to_thread(adoption.roll_back, self._state_dir)
            await self._changed("rolled back", caller.uid, now)
        return {"in_use": _name(now.number if now else None)}

    async def forget(self, caller: Caller, *, adapters: bool) -> dict[str, Any]:
        """Remove the caller's feedback, or everybody's where the daemon is theirs, and if wanted what was learned of it.

        What is being learned is given up.
        """
        owner = caller.may_touch(os.geteuid())
        if adapters:
            self._require_owner(caller)
        if owner and self._job is not None and self._job.state in ALIVE:
            await self._kernel.supervisor.stop(self._job)
            await asyncio.gather(*self._ends)
        async with self._turn:
            count = await asyncio.to_thread(self._feedback.forget, lambda record: owner or record["uid"] == caller.uid)
            if adapters:
                await asyncio.to_thread(adoption.generations(self._state_dir).forget)
                await self._changed("forgotten", caller.uid, None)
        return {"forgotten": count, "adapters": adapters}

    @property
    def _job(self) -> Job | None:
        job = self._kernel.supervisor.jobs.get(JOB)
        return job if job is not None and self._is_ours(job) else None

    def _command(self, folder: Path, dev: str | None) -> list[str]:
        dev = dev or (str(self._settings.dev) if self._settings.dev else None)
        command = [sys.executable, "-m", "llmos.nlui.learning", "--state", str(self._state_dir.absolute())]
        command += ["--out", str(folder.absolute()), "--model", self._kernel.settings.model.name]
        return [*command, "--dev", dev] if dev else command

    def _is_ours(self, job: Job) -> bool:
        """Whether it is the job that learns, and no other that somebody gave its name."""
        ours = self._command(Path("/"), None)
        return job.uid == os.geteuid() and job.argv[: ours.index("--out")] == ours[: ours.index("--out")]

    def _prepare(self) -> Path:
        for module in _NEEDED:
            if find_spec(module) is None:
                raise Unsupported(
                    f"learning needs {module}; install it with: {sys.executable} -m pip install 'llmos[train]'"
                )
        require_corrections(read_lessons(self._feedback.records()))
        adapters = adoption.generations(self._state_dir)
        adapters.remove_unused()
        return adapters.new_folder()

    def _status(self, caller: Caller) -> dict[str, Any]:
        records = self._feedback.records()
        mine = [one for one in records if caller.may_touch(os.geteuid()) or one["uid"] == caller.uid]
        counts = Counter(one["verdict"] for one in mine)
        now, job = adoption.adopted(self._state_dir), self._job
        return {
            "keep": self._settings.keep,
            "feedback": {verdict: counts[verdict] for verdict in ("accepted", "edited", "rejected")},
            "lessons": len(read_lessons(mine)),
            "job": str(job.state) if job else None,
            "adapters": self._adapters(now),
            "last": _read(adoption.generations(self._state_dir).home / _LAST),
        }

    def _adapters(self, now: adoption.Adopted | None) -> list[dict[str, Any]]:
        """The adapter in use and the one before it, with their figures as they were measured side by side."""
        if now is None:
            return [{"adapter": _name(None), "use": "now"}]
        learned, before = now.card["learned"], adoption.generations(self._state_dir).in_use()[1:]
        return [
            {"adapter": _name(now.number), "use": "now", **_figures(learned, "after")},
            {"adapter": _name(before[0] if before else None), "use": "before", **_figures(learned, "before")},
        ]

    def _on_exit(self, job: Job) -> None:
        if job.name == JOB and self._is_ours(job):
            task = asyncio.get_running_loop().create_task(self._finish(Path(job.argv[job.argv.index("--out") + 1])))
            self._ends.add(task)
            task.add_done_callback(self._ends.discard)

    async def _finish(self, folder: Path) -> None:
        """Adopt what the job made, or remove it."""
        async with self._turn:
            try:
                if (new := await asyncio.to_thread(self._judged, folder)) is not None:
                    await self._changed("adopted", os.geteuid(), new)
            except (LlmosError, OSError, ValueError, KeyError) as error:
                log.error("what was learned is not put to use: %s", error)

    def _judged(self, folder: Path) -> adoption.Adopted | None:
        """The adapter that the job made, put to use where its result says so; else its folder is removed."""
        if folder.parent != adoption.generations(self._state_dir).home.absolute():
            return None
        result = _read(folder / adoption.RESULT)
        if result is not None:
            folder.with_name(_LAST).write_text(json.dumps(result), encoding="utf-8")
            if result["adopt"]:
                return adoption.adopt(self._state_dir, int(folder.name))
        shutil.rmtree(folder, ignore_errors=True)
        return None

    async def _changed(self, what: str, uid: int, now: adoption.Adopted | None) -> None:
        self._kernel.journal.note(
            f"learn.{what.replace(' ', '_')}", JOB, uid, {"in_use": _name(now.number if now else None)}
        )
        await self._kernel.reload_model()

    def _require_owner(self, caller: Caller) -> None:
        if not caller.may_touch(os.geteuid()):
            raise Forbidden("only root and the user who runs this llmosd may change what its model has learned")


def _name(number: int | None) -> str:
    return f"learned {number}" if number else "shipped"


def _figures(learned: dict[str, Any], when: str) -> dict[str, Any]:
    figures = {f"{name}_percent": 100 * share for name, share in learned[when].items()}
    return {**figures, "lessons": learned["lessons"], "at": learned["at"]} if when == "after" else figures


def _read(path: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None
