"""The campaign: `python -m tests.chaos --seed 1 --kills 300`. Its exit status is 0 where nothing was lost."""

import argparse
import json
import random
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from . import bad_jobs, faults, sandbox
from .faults import Scenario, Skipped
from .tally import FAULTS, LIMIT_SECONDS, TRIED, Tally, good, total
from .under_fire import UnderFire
from .workload import Workload


@dataclass(frozen=True)
class Fault:
    """One scenario: what is done, how often for each 300 kills of llmosd, and what it says of itself."""

    does: Callable[[Scenario], None]
    share: int
    says: str


FIRE = {
    "kill": Fault(faults.kill_llmosd, 300, "SIGKILL of llmosd"),
    "stop": Fault(faults.stop_llmosd, 30, "SIGSTOP of llmosd and of the reaper"),
    "reaper": Fault(faults.kill_reaper, 60, "SIGKILL of the reaper"),
    "worker": Fault(faults.kill_worker, 8, "SIGKILL and SIGSTOP of the model worker"),
    "disk": Fault(faults.full_disk, 24, "full disk"),
    "files": Fault(faults.no_descriptors, 24, "no file descriptors"),
    "forks": Fault(faults.no_forks, 24, "forks refused"),
    "pids": Fault(faults.reuse_pids, 30, "pids reused"),
    "clock": Fault(faults.jump_clock, 30, "clock jumps"),
    "journal": Fault(faults.spoil_journal, 35, "journal torn or spoilt"),
    "together": Fault(faults.all_together, 40, "all of it together"),
}
BAD = "bad-jobs"


def main() -> int:
    """Read the command line and run the campaign in its sandbox."""
    arguments = _arguments().parse_args()
    return sandbox.run(lambda folder: campaign(arguments, folder))


def campaign(arguments: argparse.Namespace, folder: Path) -> int:
    """Every scenario that was asked for, one after the other, and what they came to."""
    began = time.monotonic()
    tallies = []
    for name in arguments.only or [*FIRE, BAD]:
        tally = _scenario(name, arguments, folder / name, began)
        tallies.append(tally)
        _say(began, f"{name}: {_in_words(tally)}")
        for case in [*tally.notes, *tally.cases]:
            _say(began, f"    {case}")
    whole = total(tallies)
    if arguments.json:
        answer = {"seed": arguments.seed, "good": good(tallies), "scenarios": [tally.as_json() for tally in tallies]}
        print(json.dumps({**answer, "total": whole.as_json()}))
    else:
        _print_table(tallies, whole)
    return 0 if good(tallies) else 1


def _scenario(name: str, arguments: argparse.Namespace, folder: Path, began: float) -> Tally:
    folder.mkdir()
    tally = Tally(name)
    daemon = UnderFire(folder, tally)

    def progress(text: str) -> None:
        _say(began, f"{name}: {text}", passing=True)

    with ExitStack() as stack:
        try:
            if name == BAD:
                stack.callback(daemon.end)
                bad_jobs.run(daemon, tally, arguments.kills, progress)
                return tally
            fault = FIRE[name]
            if name in ("disk", "together"):
                try:
                    stack.enter_context(faults.small_disk(daemon.state_dir))
                except Skipped:
                    if name == "disk":
                        raise
            if name == "clock":
                daemon.environment = faults.movable_clock(folder)
            daemon.start(counted=False)
            stack.callback(daemon.end)
            work = Workload(daemon, tally, arguments.seed, arguments.jobs)
            rounds = max(2, fault.share * arguments.kills // 300)
            work.begin()
            work.wait_until_full()
            chance = random.Random(f"{arguments.seed} {name}")
            fault.does(Scenario(daemon, work, tally, chance, rounds, progress))
            progress("letting all come to its end")
            work.end()
        except Skipped as reason:
            tally.skipped = str(reason)
        except Exception as error:
            if arguments.keep_going:
                tally.fault("other", f"{type(error).__name__}: {error}")
            else:
                raise
        if "Traceback" in (said := daemon.log()):
            tally.fault("other", f"a traceback: {said[said.index('Traceback') :][:2500]}")
    return tally


def _in_words(tally: Tally) -> str:
    if tally.skipped:
        return f"skipped: {tally.skipped}"
    shown = tally.as_json()
    tried = ", ".join(f"{tally.tried[kind]} {words}" for kind, words in TRIED.items() if tally.tried[kind])
    wrong = ", ".join(f"{tally.wrong[kind]} {words}" for kind, words in FAULTS.items() if tally.wrong[kind])
    back = shown["answered_seconds"]
    times = f"; answers again after p50 {back['p50']:.2f} s, p99 {back['p99']:.2f} s" if back["count"] else ""
    if tally.worked:
        times += f", a start having taken {shown['worked_seconds']['p50']:.2f} s of a processor"
    return f"{tried}: {wrong or 'nothing wrong'}{times}"


def _print_table(tallies: list[Tally], whole: Tally) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(
        *("", "lost", "twice", "signalled", "codes", "lines −", "lines +", "forgotten", "other", "p50 s", "p99 s")
    )
    for tally in [*tallies, whole]:
        shown = tally.as_json()
        back = [shown["answered_seconds"][name] for name in ("p50", "p99")]
        times = [f"{seconds:.2f}" if seconds is not None else "" for seconds in back]
        counts = ["skipped" if tally.skipped else str(tally.wrong[kind]) for kind in FAULTS]
        table.add_row(tally.name, *counts, *times)
    Console(width=120).print(table)
    print(_in_words(whole))
    print(f"{'good' if good(tallies) else 'NOT GOOD'}: all counts must be 0, and each p99 at most {LIMIT_SECONDS:g} s")


def _say(began: float, text: str, *, passing: bool = False) -> None:
    """Progress, on stderr; what is only passing stays on one line of a terminal and is left out elsewhere."""
    if passing and not sys.stderr.isatty():
        return
    line = f"[{time.monotonic() - began:6.1f} s] {text}"
    print(
        f"\r{line[:110]:<110}" if passing else f"\r{line:<110}",
        end="" if passing else "\n",
        file=sys.stderr,
        flush=True,
    )


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description="llmosd under fire.", allow_abbrev=False)
    parser.add_argument("--seed", type=int, default=1, help="what all chance comes from")
    parser.add_argument("--kills", type=int, default=300, help="of llmosd; the other faults are scaled with it")
    parser.add_argument("--jobs", type=int, default=50, help="at a time")
    parser.add_argument("--only", action="append", choices=[*FIRE, BAD], help="this scenario; may be given again")
    parser.add_argument("--json", action="store_true", help="the result for programs, on stdout")
    parser.add_argument("--keep-going", action="store_true", help="count a scenario that breaks off, and go on")
    return parser


if __name__ == "__main__":
    sys.exit(main())
