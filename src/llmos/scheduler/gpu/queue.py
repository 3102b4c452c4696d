"""The GPUs of one daemon's jobs: who holds which, who waits, and what runs came to use, by NVML.

Who holds what and who waits since when is in the jobs' records, and so outlives llmosd. Cards are given out when a job
asks and when one ends; while somebody waits or holds one, NVML is also looked at every few seconds, for memory that others
use and free, and for what each job uses. Without such jobs nothing wakes and NVML is not loaded.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from llmos.errors import LlmosError, Unavailable, Unsupported
from llmos.kernel.job import Job
from llmos.kernel.journal import Journal
from llmos.kernel.states import State
from llmos.machine import gpu
from llmos.machine.identity import Identity
from llmos.scheduler import workload
from llmos.scheduler.fingerprint import fingerprint
from llmos.scheduler.gpu.admission import BEST_FIT, WHOLE, Card, Start, Want, admit
from llmos.scheduler.gpu.runtimes import Runtimes
from llmos.scheduler.run_history import PastRun

log = logging.getLogger("llmos.scheduler")

FIRST_LOOK_SECONDS = 1.0
"""From what a job does to a look at NVML, while somebody waits for a card or holds one."""
LOOK_SECONDS = 5.0
"""From one such look to the next at most, once nothing happens; they come half as much later each time."""
MOST_BACK_OFF_SECONDS = 60.0
"""The same at most, after looks that failed."""
ANSWER_SECONDS = 30.0
"""A driver that wakes up may take long; one that takes longer than this hangs."""
_MAX_KINDS = 2000
_FADING = 0.9
"""What an earlier run's memory counts against the next one's."""
_LEVELS = ("high", "normal", "low", "idle")
"""Priorities, the first in line first."""
_GIB = 1024**3


@dataclass(frozen=True, slots=True)
class _Seen:
    """One look: the cards, and the most that each run uses of one card, in bytes."""

    cards: Sequence[gpu.Card]
    used: Mapping[str, int]


class GpuQueue:
    """Those of one daemon.

    `members` are all processes of a job, and blocks; `start` starts one by itself; `wait` has one wait, or wait for
    another reason.
    """

    def __init__(
        self,
        jobs: Mapping[str, Job],
        journal: Journal,
        members: Callable[[Job], list[Identity]],
        start: Callable[[Job, str], None],
        wait: Callable[[Job, str], None],
        cards: gpu.Gpus | None = None,
    ) -> None:
        self._jobs = jobs
        self._journal = journal
        self._members = members
        self._start = start
        self._wait = wait
        self._cards = cards or gpu.gpus()
        self._asking: dict[str, Job] = {}
        self._insisting: set[str] = set()
        self._runtimes = Runtimes()
        self._memory: dict[tuple[str, int], float] = {}
        self._peaks: dict[str, int] = {}
        self._turn = asyncio.Lock()
        self._look: asyncio.Future[_Seen] | None = None
        self._look_until = 0.0
        self._wake = asyncio.Event()
        self._watching: asyncio.Task[None] | None = None
        self._closed = False

    async def ask(self, job: Job) -> str:
        """Give a job its cards, and return nothing; or what it waits for from now on.

        Who waits already insists: free memory does not count any more.

        :raises Unsupported: the machine has too few GPUs, or none.
        :raises Unavailable: the driver does not answer.
        """
        if job.gpu_since is not None:
            self._insisting.add(job.name)
        since = job.gpu_since or time.time()
        self._asking[job.name] = job
        why = ""
        try:
            async with self._turn:
                if not job.cards:  # somebody else's question may have given it some meanwhile
                    seen = await self._see()
                    if len(seen.cards) < (job.gpu or 0):
                        there = f"{len(seen.cards)} GPU{'s' if len(seen.cards) != 1 else ''}"
                        raise Unsupported(
                            f"{job.name} asks for {job.gpu} GPUs, and this machine has {there}", field="gpu"
                        )
                    job.gpu_since = since
                    why = self._give(seen).get(job.name, "")
        finally:
            del self._asking[job.name]
            self._insisting.discard(job.name)
        self.came_free()
        return why if why or job.cards else "it is to end"

    def came_free(self) -> None:
        """A card may have come free: look who waits."""
        self._wake.set()
        self._watch()

    def used(self, job: Job) -> dict[str, Any]:
        """What the run that ends held and used, for its record; nothing where it held no card."""
        peak = self._peaks.pop(job.run or "", None)
        return {"cards": job.cards, "gpu_peak_bytes": peak} if job.cards else {}

    def learn(self, run: PastRun) -> None:
        """A run has ended, now or long ago."""
        if not run.gpus:
            return
        self._runtimes.note(_kind(run.fingerprint, run.uid, run.gpus, run.runtime))
        if run.gpu_peak_bytes:
            kind = run.fingerprint, run.uid
            self._memory[kind] = max(float(run.gpu_peak_bytes), _FADING * self._memory.pop(kind, 0.0))
            if len(self._memory) > _MAX_KINDS:
                del self._memory[next(iter(self._memory))]

    async def status(self) -> dict[str, Any] | None:
        """Every card with who holds it, and who waits, in the order of arrival; None where there is no card."""
        cards: Sequence[gpu.Card] = ()
        problem = None
        try:
            cards = (await self._see()).cards
        except LlmosError as error:
            if isinstance(error, Unsupported) and not self._waiting() and not self._held():
                return None
            problem = error.message
        held = self._held()

        def row(card: gpu.Card) -> dict[str, Any]:
            job = held.get(card.uuid)
            peak = self._peaks.get(job.run or "") if job is not None else None
            return {**card.as_json(), "job": job and job.name, "job_peak_bytes": peak}

        return {
            "problem": problem,
            "cards": [row(card) for card in cards],
            "waiting": [
                {"job": job.name, "gpus": job.gpu, "asked_at": job.gpu_since, "reason": job.reason}
                for job in self._waiting()
            ],
        }

    async def close(self) -> None:
        """Look no more; who waits goes on to wait."""
        self._closed = True
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)

    # The decision

    def _give(self, seen: _Seen) -> dict[str, str]:
        """Give out what is free, and start who waits and is given something; returns what the others wait for, by name."""
        now = time.time()
        held = self._held()
        if not (waiting := self._waiting()):
            return {}
        cards = [
            Card(
                card.uuid,
                0 if card.uuid in held else WHOLE,
                card.memory_total_bytes,
                card.memory_total_bytes - card.memory_used_bytes,
            )
            for card in seen.cards
        ]
        left = [card for card in cards if card.free]
        wants: dict[str, Want] = {}
        if left:
            wants = {job.name: self._want(job) for job in waiting}
            possible = [want for want in wants.values() if want.cards <= len(cards)]
            running = {uuid: [self._remaining(job, now)] for uuid, job in held.items()}
            starts = admit(possible, cards, running, now)
            by_arrival = (
                {start.want.key for start in admit(possible, cards, running, now, BEST_FIT)} if starts else set()
            )
            for start in starts:
                self._admit(start, seen, len(possible), start.want.key in by_arrival)
            taken = {uuid for start in starts for uuid in start.cards}
            left = [card for card in left if card.name not in taken]
        whys: dict[str, str] = {}
        for job in waiting:
            if job.cards:
                continue
            whys[job.name] = why = _why(job, wants.get(job.name), left, len(cards))
            if job.name not in self._asking and job.reason != why:
                self._wait(job, why)
        return whys

    def _admit(self, start: Start, seen: _Seen, wanted: int, by_arrival: bool) -> None:
        job, want = self._jobs[start.want.key], start.want
        job.cards = list(start.cards)
        index = {card.uuid: card.index for card in seen.cards}
        places = " and ".join(f"GPU {index[uuid]}" for uuid in start.cards)
        expected, runs = self._runtimes.expected(_kind(_program(job), job.uid, want.cards))
        body = {
            "cards": job.cards,
            "places": places,
            "waited": round(max(0.0, time.time() - want.came), 1),
            "wanting": wanted,
            "predicted": {"seconds": round(expected, 1), "runs": runs} if runs else None,
            "memory_bytes": want.memory_bytes or None,
            "runner_up": {"policy": "order of arrival", "given": by_arrival},
        }
        self._journal.note("scheduler.admitted", job.name, None, body)
        if job.name not in self._asking:
            self._start(job, f"given {places} after it had waited for {body['waited']:.0f} s")

    def _want(self, job: Job) -> Want:
        cards, kind = job.gpu or 1, _program(job)
        expected, _ = self._runtimes.expected(_kind(kind, job.uid, cards))
        needed = 0 if job.name in self._insisting else int(self._memory.get((kind, job.uid), 0))
        level = _LEVELS.index(job.priority)
        return Want(job.name, cards, job.gpu_since or 0.0, expected, memory_bytes=needed, level=level)

    def _remaining(self, job: Job, now: float) -> float:
        served = now - job.started_at if job.started_at is not None and job.pid is not None else 0.0
        kind = _kind(_program(job), job.uid, job.gpu or 1)
        return self._runtimes.expected(kind, max(0.0, served))[0]

    def _held(self) -> dict[str, Job]:
        return {uuid: job for job in self._jobs.values() for uuid in job.cards}

    def _waiting(self) -> list[Job]:
        """Who waits for cards, in the order of arrival."""
        found = [
            job
            for job in self._jobs.values()
            if job.gpu_since is not None
            and not job.cards
            and job.state is (State.STARTING if job.name in self._asking else State.WAITING)
        ]
        return sorted(found, key=lambda job: job.gpu_since or 0.0)

    # Looking

    async def _see(self) -> _Seen:
        """Look; a look that hangs is not begun a second time.

        :raises Unsupported: there is no card.
        :raises Unavailable: the driver does not answer.
        """
        loop = asyncio.get_running_loop()
        if self._look is None or self._look.done():
            holders = [job for job in self._jobs.values() if job.cards and job.pid is not None]
            self._look, self._look_until = loop.create_future(), loop.time() + ANSWER_SECONDS
            arguments = self._look, holders, [tuple(job.argv) for job in self._waiting()]
            thread = threading.Thread(target=self._read_into, args=arguments, name="nvml", daemon=True)
            try:
                thread.start()  # one of its own: a driver that hangs must not keep llmosd from ending
            except RuntimeError as error:
                self._look = None
                raise Unavailable(f"the GPUs cannot be looked at: {error}", stage="cards") from None
        try:
            async with asyncio.timeout_at(self._look_until):
                return await asyncio.shield(self._look)
        except TimeoutError:
            raise Unavailable(
                f"the NVIDIA driver has not answered for {ANSWER_SECONDS:.0f} s; see `nvidia-smi` and the kernel's log",
                stage="cards",
            ) from None

    def _read_into(
        self, look: asyncio.Future[_Seen], holders: Sequence[Job], waiting: Sequence[tuple[str, ...]]
    ) -> None:
        seen: _Seen | None = None
        problem: Exception | None = None
        try:
            for argv in waiting:  # here, for many of them take long
                _fingerprint(argv)
            seen = self._read(holders)
        except Exception as error:
            problem = error

        def tell() -> None:
            if seen is not None:
                look.set_result(seen)
            elif problem is not None:
                look.set_exception(problem)
                look.exception()  # whoever asked may have given up

        with suppress(RuntimeError):  # the loop has ended
            look.get_loop().call_soon_threadsafe(tell)

    def _read(self, holders: Sequence[Job]) -> _Seen:
        cards = self._cards.probe()
        used: dict[str, int] = {}
        by_card = self._cards.memory_by_card() if holders else {}
        for job in holders:
            run = job.run
            with suppress(LlmosError):  # it has just ended
                pids = {identity.pid for identity in self._members(job)}
                shares = [sum(bytes_ for pid, bytes_ in held.items() if pid in pids) for held in by_card.values()]
                if run is not None and (most := max(shares, default=0)):
                    used[run] = most
        return _Seen(cards, used)

    def _watch(self) -> None:
        """Look from time to time, as long as there is somebody to look for."""
        if self._closed or (self._watching is not None and not self._watching.done()):
            return
        if self._waiting() or self._held():
            self._watching = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        pause = FIRST_LOOK_SECONDS
        while (waits := self._waiting()) or self._held():
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._wake.wait()
                pause = FIRST_LOOK_SECONDS
            self._wake.clear()
            try:
                async with self._turn:
                    seen = await self._see()
                    for run in seen.used.keys() & {job.run for job in self._held().values()}:
                        self._peaks[run] = max(seen.used[run], self._peaks.get(run, 0))
                    self._give(seen)
                pause = min(1.5 * pause, LOOK_SECONDS)
            except LlmosError as problem:
                pause = min(2 * pause, MOST_BACK_OFF_SECONDS)
                log.warning("%s", problem)
                for job in waits:
                    why = f"waits for a GPU: {problem}"
                    if job.state is State.WAITING and job.gpu_since is not None and job.reason != why:
                        self._wait(job, why)
            except Exception:
                pause = MOST_BACK_OFF_SECONDS
                log.exception("a look at the GPUs failed")


def _why(job: Job, want: Want | None, left: Sequence[Card], there: int) -> str:
    """What a job waits for. `left` are the cards that nobody holds; without one of these no `want` is needed."""
    memory_bytes = want.memory_bytes if want is not None else 0
    roomy = [card for card in left if card.has_room(memory_bytes)]
    why = f"waits for a GPU: {job.gpu} wanted, {len(roomy)} free"
    if there < (job.gpu or 0):
        return f"{why}, and only {there} of this machine can be read"
    if len(left) > len(roomy):
        needed = f"{memory_bytes / _GIB:.1f} GiB"
        return (
            f"{why}, {len(left) - len(roomy)} more with less memory left than the {needed} that its earlier runs used"
        )
    return why if len(roomy) < (job.gpu or 0) else f"{why}, which are kept for one that has waited for longer"


def _program(job: Job) -> str:
    return _fingerprint(tuple(job.argv))


@lru_cache(4096)
def _fingerprint(argv: tuple[str, ...]) -> str:
    """The same, remembered: of each job that waits it is wanted at each look."""
    return fingerprint(argv)


def _kind(program: str, uid: int, cards: int, runtime: float = 0.0) -> workload.Job:
    """A run as runtimes are kept of it."""
    return workload.Job(0, 0.0, runtime, cards, str(uid), program, str(cards))
