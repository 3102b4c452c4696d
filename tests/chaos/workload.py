"""Some fifty jobs that start, log numbered lines, crash and end, asked for by threads without a pause; and the reckoning.

Each thread works on jobs of its own, keeps what it asked and what was acknowledged, and compares a job that has come to
rest with what its witness says, before it removes it.
"""

import random
import re
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from llmos import Client
from llmos.errors import Conflict, LlmosError, NotFound, TimedOut, Unavailable

from .sandbox import INSIDE
from .tally import Tally
from .under_fire import UnderFire
from .witness import SCRIPT, Lived, Witness, living, run_of

THREADS = 4
SETTLE_SECONDS = 45.0
MAX_RECENT = 10
"""How many ends of a job llmosd keeps."""
AT_REST = {"stopped", "failed"}


@dataclass
class Asked:
    """One job as it was asked for, and what has been acknowledged of it."""

    name: str
    kind: str
    code: str
    lines: int
    tries: int
    witness: Witness
    acknowledged: bool = False
    stop_asked: bool = False
    stopped: bool = False
    paused: bool | None = None
    """What was acknowledged last; None where the last was not answered, and before."""
    scheduled: bool | None = None
    removing: bool = False
    forgotten: bool = False
    """Counted as such already."""


@dataclass
class Workload:
    """The jobs of one scenario."""

    daemon: UnderFire
    tally: Tally
    seed: int
    jobs: int = 50
    unknown_allowed: bool = False
    """Ends may have been seen by nobody, since the reaper is killed."""
    asked: dict[str, Asked] = field(default_factory=dict)
    gone: dict[str, Asked] = field(default_factory=dict)
    watches: set[int] = field(default_factory=set)
    _over: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)
    _turn: threading.Lock = field(default_factory=threading.Lock)

    @property
    def truth(self) -> Path:
        """Where the witnesses lie."""
        return self.daemon.folder / "truth"

    def begin(self) -> None:
        """Start the threads."""
        self.truth.mkdir()
        self._threads = [
            threading.Thread(target=self._work, args=(number, random.Random(f"{self.seed} {number}")), daemon=True)
            for number in range(THREADS)
        ]
        for thread in self._threads:
            thread.start()

    def wait_until_full(self) -> None:
        """Wait until most of the jobs are there."""
        deadline = time.monotonic() + SETTLE_SECONDS
        while len(self.asked) < 0.8 * self.jobs and time.monotonic() < deadline:
            time.sleep(0.05)

    def end(self) -> None:
        """Ask nothing any more, let everything come to its end, and reckon."""
        self._over.set()
        for thread in self._threads:
            thread.join(SETTLE_SECONDS)
            if thread.is_alive():
                self.tally.fault("other", "a call was never answered")
        with self.daemon.client() as client:
            self.check_acknowledged(client)
            self._settle(client)
            self._check_watches(client)
            self._check_strays(client)

    # Asking

    def _work(self, thread: int, chance: random.Random) -> None:
        number = 0
        mine: list[Asked] = []
        client = self.daemon.client(timeout=60)
        while not self._over.is_set():
            try:
                if len(mine) < self.jobs / THREADS:
                    number += 1
                    mine.append(self._ask_job(client, f"job-{thread}-{number}", chance))
                else:
                    self._act(client, chance.choice(mine), chance)
                self._clear(client, mine)
            except NotFound as problem:
                self.tally.fault("calls_forgotten", problem.message)
            except (Unavailable, TimedOut):  # it is away, or is kept from it: what was asked may have been done or not
                client.close()
                time.sleep(0.05)
            time.sleep(chance.uniform(0, 0.03))
        client.close()

    def _ask_job(self, client: Client, name: str, chance: random.Random) -> Asked:
        kind = chance.choices(["once", "crasher", "killed", "steady", "ticker"], [10, 4, 2, 3, 1])[0]
        code = str(chance.randint(1, 99)) if kind == "crasher" else str(chance.randint(0, 99))
        pause = chance.choice(["0.1", "0.2", "0.4"])
        lines = chance.randint(1, 12) if kind == "once" else chance.randint(1, 3)
        if kind == "killed":
            code = f"k{chance.choice([signal.SIGKILL, signal.SIGSEGV, signal.SIGUSR1]).value}"
        if kind == "steady":
            lines = 1_000_000
        tries = chance.randint(1, 4) if kind == "crasher" else 0
        asked = Asked(name, kind, code, lines, tries, Witness(self.truth / name))
        params: dict[str, Any] = {"crasher": {"restart": "on-failure"}, "steady": {"restart": "always"}}.get(kind, {})
        if kind == "ticker":
            params = {"every": "1s"}
        argv = ["sh", "-c", SCRIPT, "sh", str(asked.witness.path), str(lines), pause, code, str(tries)]
        with self._turn:
            self.asked[name] = asked
        try:
            client.call("run", name=name, argv=argv, cwd="/", **params)
        except (Unavailable, TimedOut):
            return asked
        except LlmosError as error:
            self.tally.fault("other", f"run {name}: {error.message}")
            return asked
        self.tally.did("jobs")
        asked.acknowledged = True
        asked.scheduled = True if kind == "ticker" else None
        self.tally.did("calls")
        return asked

    def _act(self, client: Client, asked: Asked, chance: random.Random) -> None:
        """Do something to a job that lasts."""
        if asked.kind not in ("steady", "ticker") or asked.stop_asked or not asked.acknowledged:
            if chance.random() < 0.02:
                [watch] = client.call("watch", metric="load", above=100_000)
                self.watches.add(watch["id"])
                self.tally.did("calls")
            return
        if asked.kind == "ticker":
            if chance.random() < 0.3:
                asked.scheduled, asked.stop_asked = None, True
                client.call("unschedule", job=asked.name)
                asked.scheduled = False
                self.tally.did("calls")
            return
        if asked.paused is True or (asked.paused is False and chance.random() < 0.5):
            wanted = not asked.paused
            asked.paused = None
            try:
                client.call("pause" if wanted else "resume", target=asked.name)
            except Conflict:  # it has been done already, unanswered; or it is in a state that does not allow it
                return
            asked.paused = wanted
            self.tally.did("calls")
        elif chance.random() < 0.5:
            asked.paused = None
            try:
                client.call("pause", target=asked.name)
            except Conflict:
                return
            asked.paused = True
            self.tally.did("calls")
        else:
            asked.stop_asked, asked.paused = True, None
            client.call("stop", target=asked.name)
            asked.stopped = True
            self.tally.did("calls")

    def _clear(self, client: Client, mine: list[Asked]) -> None:
        """Compare jobs that have come to rest, remove them, and look at them no more."""
        states = {job["name"]: job for job in client.call("jobs")}
        for asked in list(mine):
            job = states.get(asked.name)
            if job is None and not asked.acknowledged and not asked.witness.read():  # it never came about
                mine.remove(asked)
                with self._turn:
                    self.asked.pop(asked.name)
            elif job is None and asked.removing:  # that was done, and not answered
                self._removed(asked, mine)
            elif job is not None and job["state"] in AT_REST and not job["schedule"]:
                if not asked.removing:
                    self._compare(client, asked, job)
                    asked.removing = True
                client.call("remove", job=asked.name)
                self.tally.did("calls")
                self._removed(asked, mine)

    def _removed(self, asked: Asked, mine: list[Asked]) -> None:
        mine.remove(asked)
        with self._turn:
            self.gone[asked.name] = self.asked.pop(asked.name)

    # Reckoning

    def check_acknowledged(self, client: Client) -> None:
        """Compare what was acknowledged with what is known."""
        with self._turn:
            asked = [each for each in self.asked.values() if each.acknowledged and not each.removing]
            removed = list(self.gone)
        before = [(each, each.paused, each.stopped, each.scheduled) for each in asked]
        jobs = {job["name"]: job for job in client.call("jobs")}
        for each, paused, stopped, scheduled in before:
            job = jobs.get(each.name)
            problem = ""
            if each.removing or (paused, stopped, scheduled) != (each.paused, each.stopped, each.scheduled):
                continue  # it is being acted on
            if job is None:
                problem = "it is not known"
            elif stopped and job["state"] not in AT_REST:
                problem = f"it was stopped and is {job['state']}"
            elif paused is not None and not each.stop_asked and paused is not (job["state"] == "paused"):
                problem = f"it was {'paused' if paused else 'resumed'} and is {job['state']}"
            elif scheduled is not None and scheduled is not bool(job["schedule"]):
                problem = f"it was {'' if scheduled else 'un'}scheduled and its schedule is {job['schedule']}"
            if problem and not each.forgotten:
                each.forgotten = True
                self.tally.fault("calls_forgotten", f"{each.name}: {problem} ({(job or {}).get('reason')})")
        for name in removed:
            if name in jobs:
                self.tally.fault("calls_forgotten", f"{name}: it was removed and is {jobs[name]['state']}")
                self.gone.pop(name)

    def _settle(self, client: Client) -> None:
        """Stop what lasts, wait for what ends by itself, and compare all."""
        deadline = time.monotonic() + SETTLE_SECONDS
        for asked in list(self.asked.values()):
            if asked.kind in ("steady", "ticker"):
                asked.stop_asked = True
                if asked.kind == "ticker":
                    _try(partial(client.call, "unschedule", job=asked.name))
                _try(partial(client.call, "stop", target=asked.name))
        waiting = {name: asked for name, asked in self.asked.items() if not asked.removing}
        while waiting and time.monotonic() < deadline:
            jobs = {job["name"]: job for job in client.call("jobs")}
            for name, asked in list(waiting.items()):
                job = jobs.get(name)
                if job is None or (job["state"] in AT_REST and not job["schedule"]):
                    del waiting[name]
                    if job is not None:
                        self._compare(client, asked, job)
                    elif asked.witness.read():
                        self.tally.fault("children_lost", f"{name} ran and is not known")
            time.sleep(0.1)
        for name in waiting:
            job = client.call("show", target=name)
            self.tally.fault(
                "children_lost", f"{name} ({waiting[name].kind}) never came to rest: {job['state']}, {job['reason']}"
            )

    def _compare(self, client: Client, asked: Asked, job: dict[str, Any]) -> None:
        """One job at rest with what its witness says."""
        runs = asked.witness.read()
        shown = client.call("show", target=asked.name)
        recent = {past["run"]: past for past in shown["recent"] if past.get("run")}
        self.tally.did("runs", len(runs))
        kept = [number for number, lived in enumerate(runs) if lived.id in recent]
        for number, lived in enumerate(runs):
            # Only the newest ends are kept, among them those of runs that never began.
            dropped = len(shown["recent"]) >= MAX_RECENT and (not kept or number < kept[0])
            self._compare_run(asked, lived, recent, dropped=dropped)
        if asked.kind in ("once", "killed") and len(runs) > 1:
            self.tally.fault("started_twice", f"{asked.name} ({asked.kind}): {len(runs)} runs, one asked for")
        if any(not lived.over and not recent.get(lived.id, {}).get("unknown") for lived in runs[:-1]):
            self.tally.fault("started_twice", f"{asked.name} ({asked.kind}): {runs}")
        if not runs and asked.acknowledged and not asked.stop_asked:
            self.tally.fault("children_lost", f"{asked.name} ({asked.kind}) never ran: {shown['reason']}")
        if asked.kind == "crasher":
            for lived in runs[:-1]:
                if lived.code == 0 and not recent.get(lived.id, {}).get("unknown"):
                    self.tally.fault("started_twice", f"{asked.name} was started again after it had ended well")
            if runs and runs[-1].over and runs[-1].code != 0:
                self.tally.fault("children_lost", f"{asked.name} failed and was not started again: {shown['reason']}")
        self._compare_lines(client, asked, runs)

    def _compare_run(self, asked: Asked, lived: Lived, recent: dict[str, Any], *, dropped: bool) -> None:
        who = f"{asked.name} ({asked.kind}), run {lived.id[:8]}"
        if lived.starts > 1 or lived.overlapped:
            self.tally.fault("started_twice", f"{who}: {lived.starts} starts, overlapped: {lived.overlapped}")
        if lived.lives():
            self.tally.fault("children_lost", f"{who} lives as {lived.pid}, and is not known to")
            return
        known = recent.get(lived.id)
        if (lived.terminated or not lived.over) and not asked.stop_asked:
            how = "SIGTERM came" if lived.terminated else "it was ended"
            self.tally.fault("signalled_wrongly", f"{who}: {how}, and nobody asked for it; known: {known}")
        if known is None:
            if not dropped:
                ends = [(past.get("run"), past["code"]) for past in recent.values()]
                self.tally.fault("exit_codes_lost", f"{who}: {lived}; known: {ends}")
            return
        if known.get("unknown") or (known["code"] is None and known["signal"] is None):
            if self.unknown_allowed and known.get("unknown"):
                self.tally.did("unknown")
            else:
                self.tally.fault("exit_codes_lost", f"{who}: {known}")
        elif (
            lived.over
            and (known["code"], known["signal"]) != (lived.code, lived.signal)
            and not (asked.stop_asked and known["signal"] in (signal.SIGTERM, signal.SIGKILL))
        ):
            said = f"code {lived.code}, signal {lived.signal}"
            self.tally.fault("exit_codes_lost", f"{who}: it ended with {said}, and known is {known}")

    def _compare_lines(self, client: Client, asked: Asked, runs: list[Lived]) -> None:
        if sum(lived.lines for lived in runs) > 9_000:
            return
        text = "\n".join(client.call("logs", target=asked.name, lines=10_000)["lines"])
        for lived in runs:
            found = [int(number) for number in re.findall(rf"{lived.id}:(\d+):$", text, re.MULTILINE)]
            self.tally.did("lines", lived.lines)
            # One more may have been written by a process that ended before it could say so.
            if missing := lived.written - set(found):
                case = f"{asked.name}, run {lived.id[:8]}: {len(missing)} of {lived.lines}, such as {min(missing)}"
                self.tally.fault("lines_lost", case)
            if len(found) != len(set(found)):
                self.tally.fault("lines_doubled", f"{asked.name}, run {lived.id[:8]}: {len(found)} of {lived.lines}")

    def _check_watches(self, client: Client) -> None:
        known = {watch["id"] for watch in client.call("watches")}
        for number in self.watches - known:
            self.tally.fault("calls_forgotten", f"watch {number} is not known")

    def _check_strays(self, client: Client) -> None:
        """Nothing of any job may live any more."""
        jobs = {job["pid"] for job in client.call("jobs")}
        deadline = time.monotonic() + 5
        while strays := [pid for pid, _ in living(f"{INSIDE}=".encode()) if pid not in jobs and run_of(pid)]:
            if time.monotonic() > deadline:
                self.tally.fault("children_lost", f"processes {strays} of jobs live on and belong to none")
                return
            time.sleep(0.1)


def _try(act: Callable[[], object]) -> None:
    with suppress(Conflict, NotFound):
        act()
