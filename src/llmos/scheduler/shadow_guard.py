"""The guard over the learned policy: what it would have done beside the static one on the runs that came, and what follows.

Where it does worse over a window it is switched off and the static policy stands in; where it is better again over a
window that has ended since, it comes back. Weights that won in training are tried on the same runs, and put to use where
they do better than what is in use. Replays run in a thread, and take no more than a thousandth of a processor.
"""

import asyncio
import logging
import os
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any

from llmos.errors import LlmosError, ModelError
from llmos.scheduler.adaptation import Adaptation, Weights
from llmos.scheduler.ranking import STATIC as STATIC_POLICY
from llmos.scheduler.ranking import Ranking
from llmos.scheduler.run_history import PastRun
from llmos.scheduler.shadow import BETTER, MARGIN, STATIC, Comparison, compare

if TYPE_CHECKING:
    from llmos.kernel.journal import Journal

log = logging.getLogger("llmos.scheduler")

_FACT = "scheduler learned policy"
EVERY = 8
"""Runs that end from one replay to the next, at least."""
MOST_COST = 0.001
"""Share of one processor that replays may take."""


class ShadowGuard:
    """One kernel's, while its policy is the learned one."""

    def __init__(
        self,
        journal: "Journal",
        adaptation: Adaptation,
        past: Callable[[], Sequence[PastRun]],
        retrain: Callable[[], Awaitable[str]],
    ) -> None:
        """
        :param retrain: starts a training where it may; returns what came of that, in words.
        """
        self.off = ""
        """Why the learned policy is switched off; empty where it is not."""
        self._since = 0.0
        """Runs that ended before say nothing any more: of what was in use then."""
        self._journal = journal
        self._adaptation = adaptation
        self._past = past
        self._retrain = retrain
        self._ended = EVERY  # what ended before a start is judged soon after it
        self._not_before = 0.0
        self._newest: Comparison | None = None
        self._judging: asyncio.Task[None] | None = None

    async def restore(self) -> None:
        """Take up where an llmosd before left."""
        kept = await self._journal.fact(_FACT) or {}
        self.off, self._since = kept.get("off", ""), kept.get("since", 0.0)

    async def close(self) -> None:
        """Wait for the replay that runs."""
        if self._judging is not None:
            await asyncio.gather(self._judging, return_exceptions=True)

    def runs_ended(self, count: int, ranking: Ranking) -> None:
        """So many runs have ended and are in the history; nothing is judged before somebody has had to wait."""
        self._ended += count
        idle = self._judging is None or self._judging.done()
        if idle and self._ended >= EVERY and ranking.loaded and time.monotonic() >= self._not_before:
            self._ended = 0
            self._judging = asyncio.get_running_loop().create_task(self._judge(ranking))

    def weights_changed(self) -> None:
        """Other weights are in use: what the policy did with those before says nothing of it, so it is on."""
        self.off, self._newest = "", None
        self._remember()

    def as_json(self) -> dict[str, Any]:
        """Whether it is on, since when, and how it did over the newest window."""
        found: dict[str, Any] = {
            "in_use": not self.off,
            "switched_off": self.off or None,
            "since": self._since or None,
            "shadow": None,
        }
        if (newest := self._newest) is not None:
            cost = round(newest.cost("learned", STATIC), 3)
            found["shadow"] = {"cost_against_static": cost, **newest.as_json()}
        return found

    async def _judge(self, ranking: Ranking) -> None:
        try:
            in_use, tried, weights = await asyncio.to_thread(self._replay)
            self._newest = in_use or self._newest
            if tried is not None and weights is not None and await self._tried(tried, weights, ranking):
                return
            if in_use is not None:
                await self._weigh(in_use, ranking)
        except LlmosError as error:
            log.warning("the learned policy is not compared with the static one: %s", error)

    def _replay(self) -> tuple[Comparison | None, Comparison | None, Weights | None]:
        """How the weights in use did, and how the candidate did beside them; None where too few runs have ended since."""
        begun = time.thread_time()
        past, cores = self._past(), os.cpu_count() or 1
        networks = {"learned": self._adaptation.in_use().load()}
        in_use = compare(past, networks, since=self._since, cores=cores)
        tried, candidate = None, self._adaptation.candidate()
        if candidate is not None:
            try:
                networks["candidate"] = candidate.load()
                tried = compare(past, networks, since=float(candidate.card["at"]), cores=cores)
            except ModelError as error:
                log.warning("the weights that were tried are given up: %s", error)
                self._adaptation.reject()
        self._not_before = time.monotonic() + (time.thread_time() - begun) / MOST_COST
        return in_use, tried, candidate

    async def _tried(self, found: Comparison, candidate: Weights, ranking: Ranking) -> bool:
        """Put the candidate to use or give it up, where the window tells; says whether it was put to use."""
        present = STATIC if self.off else "learned"
        cost = found.cost("candidate", present)
        adopt = cost < 1.0 - BETTER and found.cost("candidate", STATIC) <= 1.0
        if not adopt and cost <= 1.0 + BETTER:
            return False
        body = {
            "weights": candidate.name,
            "reason": f"over {_window(found)} they would have done {_percent(cost)} than what was in use",
            "comparison": found.as_json(),
        }
        if adopt:
            await asyncio.to_thread(self._adaptation.adopt, candidate)
        else:
            await asyncio.to_thread(self._adaptation.reject)
        self._journal.note(f"scheduler.{'adopted' if adopt else 'rejected'}", "scheduler", None, body)
        if adopt:
            self.weights_changed()
            ranking.stand_in("")
        return adopt

    async def _weigh(self, found: Comparison, ranking: Ranking) -> None:
        """Switch the learned policy off or on again, where the window tells."""
        cost = found.cost("learned", STATIC)
        if not self.off and cost > 1.0 + MARGIN:
            self.off = f"over {_window(found)} the learned policy would have done {_percent(cost)} than {STATIC_POLICY}"
        elif self.off and cost < 1.0 - BETTER:
            self.off = ""
        else:
            return
        self._remember()
        ranking.stand_in(self.off)
        body: dict[str, Any] = {
            "to": STATIC_POLICY if self.off else "learned",
            "reason": self.off or f"over {_window(found)} it would have done {_percent(cost)} than {STATIC_POLICY}",
            "comparison": found.as_json(),
            "forecasts": ranking.forecasts.as_json(),
        }
        if self.off:
            body["retraining"] = await self._retrain()
        self._journal.note("scheduler.switched", "scheduler", None, body)

    def _remember(self) -> None:
        self._since = time.time()
        self._journal.remember(_FACT, {"off": self.off, "since": self._since})


def _window(found: Comparison) -> str:
    return f"the last {found.runs} runs"


def _percent(cost: float) -> str:
    return f"{abs(cost - 1.0):.0%} {'worse' if cost > 1.0 else 'better'}"
