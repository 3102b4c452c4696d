"""The rows of the comparison: what is measured of each supervisor, and what llmosd is to reach."""

import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import psutil

from benchmarks.peers.peer import Peer, wait_until
from benchmarks.peers.starts import Starts

FEW, MANY = 100, 500
MIB = 1024**2
SETTLE_SECONDS = 2.0


@dataclass(frozen=True)
class Scale:
    """How much is measured in one round."""

    rounds: int = 3
    crashes: int = 12
    spawns: int = 20
    states: int = 60
    calls_seconds: float = 1.0
    commands: int = 7
    idle_seconds: float = 10.0


QUICK = Scale(rounds=1, crashes=6, spawns=8, states=15, calls_seconds=0.4, commands=3, idle_seconds=5.0)


@dataclass(frozen=True)
class Row:
    """One row: its figures, what they may be at most (or must be at least), and how many decimals they show."""

    title: str
    figures: tuple[str, ...]
    bars: tuple[float, ...]
    at_least: bool = False
    decimals: int = 2

    def reached(self, figures: dict[str, float]) -> bool | None:
        """Whether all bars are reached; None where a figure is missing."""
        pairs = [(figures.get(name), bar) for name, bar in zip(self.figures, self.bars, strict=True)]
        if any(figure is None for figure, _ in pairs):
            return None
        return all((figure or 0) >= bar if self.at_least else (figure or 0) <= bar for figure, bar in pairs)

    def shown(self, figures: dict[str, float]) -> str:
        """The figures of one supervisor."""
        if all(name not in figures for name in self.figures):
            return "–"
        return " / ".join(f"{figures[name]:,.{self.decimals}f}" if name in figures else "–" for name in self.figures)


ROWS = (
    Row("exec of the daemon → 100 / 500 programs run, s", ("start_few", "start_many"), (0.4, 1.0)),
    Row("crash → running again, p50 / p95, ms", ("crash_p50", "crash_p95"), (3, 6), decimals=1),
    Row("spawn: request → process exists, p50, ms", ("spawn",), (3,)),
    Row("full state of 100 / 500 programs, p50, ms", ("state_few", "state_many"), (0.4, 2)),
    Row("one program's state a second, 1 / 16 clients", ("calls_1", "calls_16"), (12_000, 30_000), True, 0),
    Row("command that prints the state of 100, p50, ms", ("command",), (75,), decimals=0),
    Row("idle with 100: CPU ms a second / switches a second", ("idle_cpu", "idle_switches"), (0.5, 1)),
    Row("idle with 500: CPU ms a second / switches a second", ("idle_cpu_many", "idle_switches_many"), (3, 5)),
    Row("resident with 0 / 500, MiB", ("resident_none", "resident_many"), (45, 60), decimals=1),
    Row("resident for each program, KiB", ("resident_each",), (20,), decimals=1),
    Row("daemon killed, 100 run, restarted: managed again", ("again",), (FEW,), True, 0),
    Row("daemon killed, 100 run, restarted: running twice", ("twice",), (0,), decimals=0),
)


def measure(peer: type[Peer], scale: Scale, tell: Callable[[str], None], wanted: frozenset[str]) -> dict[str, float]:
    """One round of one supervisor: with no program, with 100, with 500; `wanted` names groups of rows, all when empty."""
    figures: dict[str, float] = {}
    for programs, groups in ((0, _NONE), (FEW, _SOME), (MANY, _ALL)):
        asked = {name: group for name, group in groups.items() if not wanted or name in wanted}
        if not asked:
            continue
        with tempfile.TemporaryDirectory(prefix="llmos-peers-") as text, Starts(Path(text) / "bin", programs) as starts:
            folder = Path(text) / "daemon"
            folder.mkdir()
            with peer(folder) as running:
                tell(f"{programs} programs: start")
                began = running.start(starts.programs)
                took = starts.all(programs) - began
                if "start" in asked and programs:
                    figures["start_few" if programs == FEW else "start_many"] = took
                if programs:
                    wait_until("all programs run", partial(_all_run, running, programs), every=0.3)
                time.sleep(SETTLE_SECONDS)
                for name, group in asked.items():
                    tell(f"{programs} programs: {name}")
                    try:
                        figures |= group(running, starts, scale)
                    except (TimeoutError, RuntimeError) as error:  # the rest can be measured all the same
                        print(f"{peer.name} with {programs} programs, {name}: {error}", file=sys.stderr)
    if {"resident_none", "resident_many"} <= figures.keys():
        figures["resident_each"] = (figures["resident_many"] - figures["resident_none"]) * 1024 / MANY
    return figures


def _all_run(running: Peer, programs: int) -> bool:
    return len(running.pids()) == programs


def _start(running: Peer, starts: Starts, scale: Scale) -> dict[str, float]:
    return {}  # measured as it begins


def _state_of_few(running: Peer, starts: Starts, scale: Scale) -> dict[str, float]:
    return _median("state_few", (running.full_state() for _ in range(scale.states)))


def _state_of_many(running: Peer, starts: Starts, scale: Scale) -> dict[str, float]:
    return _median("state_many", (running.full_state() for _ in range(scale.states)))


def _calls(running: Peer, starts: Starts, scale: Scale) -> dict[str, float]:
    found = {f"calls_{clients}": running.calls_a_second(clients, scale.calls_seconds) for clients in (1, 16)}
    return {name: rate for name, rate in found.items() if rate is not None}


def _command(running: Peer, starts: Starts, scale: Scale) -> dict[str, float]:
    if (command := running.status_command()) is None:
        return {}
    words, environment = command

    def once() -> float:
        began = time.perf_counter()
        subprocess.run(words, env=environment, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, check=True)
        return time.perf_counter() - began

    once()
    return _median("command", (once() for _ in range(scale.commands)))


def _spawn(running: Peer, starts: Starts, scale: Scale) -> dict[str, float]:
    took = []
    for program in starts.programs[: scale.spawns]:
        running.stop(program.name)
        time.sleep(0.1)  # some answer before they are done with it
        starts.forget()
        asked = running.begin(program.name)
        took.append(starts.of(program.name) - asked)
    return _median("spawn", took)


def _crash(running: Peer, starts: Starts, scale: Scale) -> dict[str, float]:
    took = []
    pids = running.pids()
    for program in starts.programs[-scale.crashes :]:
        starts.forget()
        killed = time.monotonic()
        os.kill(pids[program.name], signal.SIGKILL)
        took.append((starts.of(program.name) - killed) * 1000)
        time.sleep(0.05)
    return {"crash_p50": statistics.median(took), "crash_p95": statistics.quantiles(took, n=20)[-1]}


def _idle_with_few(running: Peer, starts: Starts, scale: Scale) -> dict[str, float]:
    cpu, switches = _idle(running, scale)
    return {"idle_cpu": cpu, "idle_switches": switches}


def _idle_with_many(running: Peer, starts: Starts, scale: Scale) -> dict[str, float]:
    cpu, switches = _idle(running, scale)
    return {"idle_cpu_many": cpu, "idle_switches_many": switches}


def _resident_with_none(running: Peer, starts: Starts, scale: Scale) -> dict[str, float]:
    return {"resident_none": _resident(running)}


def _resident_with_many(running: Peer, starts: Starts, scale: Scale) -> dict[str, float]:
    return {"resident_many": _resident(running)}


def _killed(running: Peer, starts: Starts, scale: Scale) -> dict[str, float]:
    """Kill the daemon, start it again as before, and count."""
    if not (daemon := running.processes()):
        return {}
    before = running.pids()
    os.kill(daemon[0], signal.SIGKILL)
    running.restart_killed()
    time.sleep(SETTLE_SECONDS)
    after = running.pids()
    alive = Counter(Path(process.info["exe"]).name for process in starts.running())
    again = sum(before.get(name) == pid for name, pid in after.items())
    return {"again": again, "twice": sum(count > 1 for count in alive.values())}


Group = Callable[[Peer, Starts, Scale], dict[str, float]]
_NONE: dict[str, Group] = {"resident": _resident_with_none}
_SOME: dict[str, Group] = {
    "start": _start,
    "idle": _idle_with_few,
    "state": _state_of_few,
    "calls": _calls,
    "command": _command,
    "spawn": _spawn,
    "crash": _crash,
    "killed": _killed,
}
_ALL: dict[str, Group] = {
    "start": _start,
    "resident": _resident_with_many,
    "idle": _idle_with_many,
    "state": _state_of_many,
}
GROUPS = tuple(_SOME | _ALL)
"""The names of the groups of rows."""


def _median(name: str, seconds: Iterable[float | None]) -> dict[str, float]:
    known = [each for each in seconds if each is not None]
    return {name: statistics.median(known) * 1000} if known else {}


def _resident(running: Peer) -> float:
    return sum(psutil.Process(pid).memory_info().rss for pid in running.processes()) / MIB


def _idle(running: Peer, scale: Scale) -> tuple[float, float]:
    """Milliseconds of processor time and context switches a second of the daemon while nobody asks for anything."""
    pids = running.processes()
    before = [_spent(pid) for pid in pids]
    time.sleep(scale.idle_seconds)
    after = [_spent(pid) for pid in pids]
    cpu, switches = (sum(new[part] - old[part] for old, new in zip(before, after, strict=True)) for part in (0, 1))
    return cpu * 1000 / scale.idle_seconds, switches / scale.idle_seconds


def _spent(pid: int) -> tuple[float, int]:
    """Processor seconds and context switches of all threads of a process."""
    seconds, switches = 0.0, 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        seconds += int((task / "schedstat").read_text().split()[0]) / 1e9
        switches += sum(
            int(line.split()[1]) for line in (task / "status").read_text().splitlines() if "_switches" in line
        )
    return seconds, switches
