"""All processes of the reaper's runs: which they are, signalling them as one, and ending what an ended run left behind.

What is done for one run costs what that run has of processes, not what the machine has; only where that is not enough
to tell whose a process is, all of /proc is read. Standard library only.
"""

from __future__ import annotations

import os
import signal
import time

from llmos.kernel import members

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from llmos.kernel.reaper_ledger import Run
    from llmos.kernel.reaper_loop import Loop

KILL_PASSES = 100
"""How often a tree is looked through again for processes born while it was killed."""
ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP)
"""Signals to end by, which a stopped process is to hear."""
FREEZE_LOOKS = 50
FREEZE_LOOK_SECONDS = 0.001
"""How often and how long apart a cgroup that is to freeze is looked at: what waits for a device does not freeze."""
SWEEP_SHARE = 0.1
"""The share of its time that the reaper may spend on looking for what was left behind, however many runs there are."""


class Trees:
    """The runs that have processes, from their start until nothing is left of them."""

    def __init__(self, loop: Loop, mains: Mapping[int, Run]) -> None:
        """`mains` are those main processes that are our children, by pid."""
        self._loop = loop
        self._mains = mains
        self._held: dict[str, Run] = {}
        self._left: dict[str, Run] = {}  # of these the main process has ended
        self._adopted: set[str] = set()
        self._groups: dict[str, set[str]] = {}  # runs by the folders of their cgroups
        self._orphans: dict[int, str] = {}  # which run each bears the mark of
        self._sweep_at = 0.0

    def add(self, run: Run) -> None:
        """A run begins, or is found, running or not."""
        self._held[run.id] = run
        if run.adopted:
            self._adopted.add(run.id)
        for folder in run.cgroups:
            self._groups.setdefault(folder, set()).add(run.id)

    def ended(self, run: Run) -> None:
        """Its main process has ended; `sweep` ends the rest."""
        self._left[run.id] = run

    def gone(self, run: Run) -> None:
        """Nothing is left of it."""
        self._held.pop(run.id, None)
        self._left.pop(run.id, None)
        self._adopted.discard(run.id)
        for folder in run.cgroups:
            if runs := self._groups.get(folder):
                runs.discard(run.id)
                if not runs:
                    del self._groups[folder]

    def orphan_ended(self, pid: int) -> None:
        """A child that was no main process was waited for."""
        self._orphans.pop(pid, None)

    def living(self, run: Run, *, surely: bool = False) -> list[members.Process]:
        """The processes of a run; `surely` misses none that is being born, as a list of children may."""
        if run.id not in self._held:
            return []
        found = self._own_tree(run) if run.cgroups or not surely else None
        if found is None:
            everywhere = bool(self._adopted)
            found = members.members(self._held.values(), os.getpid(), everywhere=everywhere)[run.id]
        if run.exit is not None and not found:
            self.gone(run)
        return found

    def signal(self, run: Run, number: int) -> dict[str, list[int]]:
        """Signal all of a run; KILL ends its cgroup as one, where it has one."""
        if number != signal.SIGKILL:
            return self._signal_each(lambda: self.living(run), number, passes=1)
        for folder in run.cgroups:
            members.freeze(folder)
        try:
            first = self._signal_each(lambda: self.living(run), number, passes=1)
            for folder in run.cgroups:
                if not self._shared(folder):
                    members.kill_cgroup(folder)
                self._await_frozen(folder)
            rest = self._signal_each(lambda: self.living(run, surely=True), number, KILL_PASSES)
        finally:
            for folder in run.cgroups:
                members.thaw(folder)
        return {key: list(dict.fromkeys(first[key] + rest[key])) for key in first}

    def sweep(self) -> None:
        """Kill what ended runs left behind, now or as soon as there is time for it again."""
        if not self._left:
            return
        if time.monotonic() < self._sweep_at:
            self._loop.later(self._sweep_at, self.sweep)
            return
        began = time.process_time()  # what it costs, not how long others keep it from the processor
        # Whatever an own child leaves is orphaned to us, so mostly one read tells that there is nothing.
        children = members.children(os.getpid())
        orphans = children is None or not all(pid in self._mains or self._orphan_lives_on(pid) for pid in children)
        for run in list(self._left.values()):
            if orphans or run.adopted or any(self._holds_others(folder) for folder in run.cgroups):
                self.signal(run, signal.SIGKILL)
            else:
                self.gone(run)
        if orphans:
            self._signal_each(self._strays, signal.SIGKILL, KILL_PASSES)
        self._sweep_at = time.monotonic() + (time.process_time() - began) / SWEEP_SHARE

    def _own_tree(self, run: Run) -> list[members.Process] | None:
        """The processes of a run by its cgroup, ancestry and marks alone; None where these cannot tell."""
        if self._adopted or any(map(self._shared, run.cgroups)):
            return None
        roots = [pid for folder in run.cgroups for pid in members.cgroup_pids(folder)]
        if run.exit is None:
            roots.append(run.pid)
        if not run.cgroups or run.exit is not None:
            children = members.children(os.getpid())
            if children is None:
                return None
            orphans = {pid: self._marked(pid) for pid in children if pid not in self._mains}
            if members.STRAY in orphans.values():
                return None
            roots += [pid for pid, name in orphans.items() if name == run.id]
        return members.descend(roots)

    @staticmethod
    def _await_frozen(folder: str) -> None:
        """Wait for a moment until nothing can be born in a cgroup of version 1."""
        for _ in range(FREEZE_LOOKS):
            if members.freezer_state(folder) != b"FREEZING":
                return
            time.sleep(FREEZE_LOOK_SECONDS)

    def _holds_others(self, folder: str) -> bool:
        """Whether a cgroup holds anything beside the runs in it that live, such as the next of the same job."""
        pids = set(members.cgroup_pids(folder))
        if pids:
            runs = [self._held[name] for name in self._groups.get(folder, ())]
            pids -= {process.pid for process in members.descend(run.pid for run in runs if run.exit is None)}
        return bool(pids)

    def _shared(self, folder: str) -> bool:
        """Whether several runs are in a cgroup, as a job and a probe of it are."""
        return len(self._groups.get(folder, ())) > 1

    def _signal_each(
        self, living: Callable[[], list[members.Process]], number: int, passes: int
    ) -> dict[str, list[int]]:
        """Signal what lives, and look again for what was born meanwhile: what is being killed cannot fork."""
        seen: set[tuple[int, int]] = set()
        sent: list[int] = []
        denied: list[int] = []
        for _ in range(passes):
            new = [each for each in living() if (each.pid, each.start_ticks) not in seen]
            if not new:
                break
            for process in new:
                seen.add((process.pid, process.start_ticks))
                try:
                    if members.send(process, number):
                        sent.append(process.pid)
                        if number in ENDING and process.state in members.STOPPED:
                            members.send(process, signal.SIGCONT)  # only then does it hear of it
                except PermissionError:
                    denied.append(process.pid)
        return {"pids": sent, "denied": denied}

    def _marked(self, pid: int) -> str:
        if pid not in self._orphans:
            self._orphans[pid] = members.run_marked(self._held.values(), pid)
        return self._orphans[pid]

    def _orphan_lives_on(self, pid: int) -> bool:
        """Whether the mark of a child that is no run's main process is that of a run that lives."""
        run = self._held.get(self._marked(pid))
        return run is not None and run.exit is None

    def _strays(self) -> list[members.Process]:
        return members.members(self._held.values(), os.getpid(), strays=True)[members.STRAY]
