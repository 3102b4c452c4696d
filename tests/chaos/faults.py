"""What is done to llmosd: each fault as a function of a scenario, which it goes on firing at until its rounds are over."""

import mmap
import os
import random
import resource
import signal
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmos.errors import LlmosError
from llmos.nlui import models

from .sandbox import own_group
from .tally import Tally
from .under_fire import UnderFire
from .workload import Workload

HERE = Path(__file__).resolve().parent
CLOCK = "LLMOS_TEST_CHAOS_CLOCK"
DISK_BYTES = 24 * 1024**2
DAY = 86_400


class Skipped(Exception):
    """Raised when the machine cannot have this fault; the message says what it lacks."""


@dataclass
class Scenario:
    """One llmosd, its workload and who decides on what is done to it."""

    daemon: UnderFire
    work: Workload
    tally: Tally
    chance: random.Random
    rounds: int
    progress: Callable[[str], None]

    def pause(self, longest: float) -> None:
        """Let it work for a random time, in seconds."""
        time.sleep(self.chance.uniform(0, longest))

    def check(self) -> None:
        """Whether what was acknowledged is known."""
        with self.daemon.client() as client:
            self.work.check_acknowledged(client)


# Deaths and stops


def kill_llmosd(scenario: Scenario) -> None:
    """SIGKILL at a random moment; every third time while it is inside a write of its journal."""
    daemon = scenario.daemon
    for number in range(scenario.rounds):
        scenario.progress(f"{number + 1} of {scenario.rounds} kills")
        scenario.pause(0.5)
        if number % 3 == 0 and daemon.wait_for_write(1.0):
            scenario.tally.did("inside_write")
        daemon.restart()
        if number % 5 == 0:
            scenario.check()
        if number % 11 == 10:  # and again before it has come up
            daemon.kill()
            began = time.monotonic()
            for _ in range(3):
                daemon.launch()
                scenario.pause(0.6)
                daemon.kill()
                began = time.monotonic()
            daemon.start(began)


def stop_llmosd(scenario: Scenario) -> None:
    """SIGSTOP for a while, of llmosd and of the reaper; llmosd has to answer while the reaper stands still."""
    daemon = scenario.daemon
    for number in range(scenario.rounds):
        scenario.progress(f"{number + 1} of {scenario.rounds} stops")
        scenario.pause(0.5)
        if number % 2:
            reaper = daemon.reaper()
            os.kill(reaper, signal.SIGSTOP)
            try:
                daemon.wait_for_answer(time.monotonic())
                scenario.pause(1.5)
                if number % 4 == 3:
                    daemon.kill()
            finally:
                os.kill(reaper, signal.SIGCONT)
            if number % 4 == 3:
                daemon.start(time.monotonic())
        else:
            daemon.kill(signal.SIGSTOP)
            scenario.pause(1.5)
            daemon.wait_for_answer(daemon.kill(signal.SIGCONT))
        scenario.check()


def kill_reaper(scenario: Scenario) -> None:
    """SIGKILL of the reaper, and every third time of llmosd with it."""
    daemon = scenario.daemon
    scenario.work.unknown_allowed = True
    for number in range(scenario.rounds):
        scenario.progress(f"{number + 1} of {scenario.rounds} kills of the reaper")
        scenario.pause(1.0)
        reaper = daemon.reaper()
        if number % 3 == 2:
            began = daemon.kill()
            _kill(reaper)
            daemon.start(began)
        else:
            _kill(reaper)
            daemon.wait_for_answer(time.monotonic())
        scenario.tally.did("kills")
        scenario.check()


def kill_worker(scenario: Scenario) -> None:
    """SIGKILL and SIGSTOP of the model worker while it is asked; llmosd answers meanwhile, and the next request too."""
    if not any(models.folder().glob("*.gguf")):
        raise Skipped(f"there is no model in {models.folder()}; make install fetches it")
    daemon = scenario.daemon
    request = "how much memory is in use?"
    with daemon.client() as client:
        for number in range(scenario.rounds):
            scenario.progress(f"{number + 1} of {scenario.rounds} blows at the model worker")
            _answered(lambda: client.call("ask", request=request, dry_run=True), scenario.tally)
            worker = client.status()["model"]["pid"]
            if worker is None:
                continue
            if number % 2:
                os.kill(worker, signal.SIGSTOP)
                daemon.wait_for_answer(time.monotonic())
                with suppress(LlmosError):
                    client.call("ask", request=f"{request} {number}", dry_run=True)
                with suppress(ProcessLookupError):
                    os.kill(worker, signal.SIGCONT)
            else:
                _kill(worker)
                scenario.tally.did("kills")
                daemon.wait_for_answer(time.monotonic())
        scenario.check()


def _answered(ask: Callable[[], object], tally: Tally) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            ask()
            return
        except LlmosError as error:
            if time.monotonic() > deadline:
                tally.fault("other", f"the model does not answer again: {error.message}")
                return
            time.sleep(0.2)


# Want


def full_disk(scenario: Scenario) -> None:
    """The disk of the state folder is full for a while; every second time llmosd is killed, or comes up, meanwhile."""
    daemon = scenario.daemon
    filler = daemon.state_dir / "filler"
    for number in range(scenario.rounds):
        scenario.progress(f"{number + 1} of {scenario.rounds} full disks")
        scenario.pause(1.0)
        with filler.open("wb", buffering=0) as file, suppress(OSError):
            while True:
                file.write(bytes(65536))
        if number % 2:
            daemon.kill()
            if number % 4 == 3:
                daemon.launch()
        scenario.pause(1.5)
        with filler.open("r+b", buffering=0) as file, suppress(OSError):  # what was given back has been taken again
            file.seek(0, os.SEEK_END)
            while True:
                file.write(bytes(4096))
        scenario.pause(1.0)
        filler.unlink()
        if number % 2:
            if number % 4 == 3:
                daemon.kill()
            daemon.start()
        scenario.check()


@contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    """A small tmpfs at a folder."""
    if os.geteuid() != 0:
        raise Skipped("mounting a small tmpfs needs root")
    folder.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES},mode=700", "chaos", folder], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def no_descriptors(scenario: Scenario) -> None:
    """No file descriptor is left to llmosd, to the reaper, and to both."""
    daemon = scenario.daemon
    for number in range(scenario.rounds):
        scenario.progress(f"{number + 1} of {scenario.rounds} times without descriptors")
        scenario.pause(0.5)
        chosen = [[daemon.pid], [daemon.reaper()], [daemon.pid, daemon.reaper()]][number % 3]
        before = {pid: resource.prlimit(pid, resource.RLIMIT_NOFILE) for pid in chosen}
        for pid, (_, hard) in before.items():
            free = number % 4  # none, or a few
            used = max(int(name) for name in os.listdir(f"/proc/{pid}/fd")) + 1
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (used + free, hard))
        try:
            scenario.pause(2.0)
        finally:
            for pid, limits in before.items():
                resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)
        daemon.wait_for_answer(time.monotonic())
        scenario.check()


def no_forks(scenario: Scenario) -> None:
    """The reaper and its jobs, and then llmosd with them, may have no more processes or threads."""
    daemon = scenario.daemon
    home = own_group("pids")
    if home is None:
        raise Skipped("refusing forks needs root and the pids controller of cgroup v1")
    group = home / "few"
    group.mkdir(exist_ok=True)
    for number in range(scenario.rounds):
        scenario.progress(f"{number + 1} of {scenario.rounds} times without forks")
        scenario.pause(0.5)
        for pid in [daemon.reaper(), *([daemon.pid] if number % 2 else [])]:
            (group / "cgroup.procs").write_text(str(pid))
        (group / "pids.max").write_text("1")
        scenario.pause(2.0)
        if number % 4 == 3:
            began = daemon.kill()
        (group / "pids.max").write_text("max")
        if number % 4 == 3:
            daemon.start(began)
        else:
            daemon.wait_for_answer(time.monotonic())
        scenario.check()


# Lies


def reuse_pids(scenario: Scenario) -> None:
    """The pid of an ended job is given to a bystander at once, while llmosd, or llmosd and the reaper, are away.

    Nothing that is done to the job afterwards may reach the bystander.
    """
    last = Path("/proc/sys/kernel/ns_last_pid")
    if os.geteuid() != 0 or not os.access(last, os.W_OK):
        raise Skipped("forcing a pid needs root and /proc/sys/kernel/ns_last_pid")
    daemon = scenario.daemon
    scenario.work.unknown_allowed = True
    for number in range(scenario.rounds):
        scenario.progress(f"{number + 1} of {scenario.rounds} pids reused")
        name = f"victim-{number}"
        with daemon.client() as client:
            pid = client.call("run", name=name, argv=["sh", "-c", "sleep 0.4; exit 5"], cwd="/")["pid"]
            check = client.plan_check([f"kill {pid}"]) if number % 3 == 2 else None
            reaper = client.status()["reaper"]["pid"]
        if number % 3 < 2:
            began = daemon.kill()
            if number % 3 == 1:
                _kill(reaper)
        while Path(f"/proc/{pid}").exists():
            time.sleep(0.01)
        bystander = _at_pid(pid, last)
        if number % 3 < 2:
            daemon.start(began)
        if bystander is None:
            scenario.progress(f"pid {pid} could not be had")
            continue
        with daemon.client() as client:
            for method, params in (("kill", {"target": name}), ("stop", {"target": name}), ("pause", {"target": name})):
                with suppress(LlmosError):
                    client.call(method, **params)
            if check is not None:
                with suppress(LlmosError):
                    client.plan_run(check["plan"], allow="destroy", confirm=check["hash"])
            shown = client.call("show", target=name)
            if shown["pid"] is not None:
                scenario.tally.fault("other", f"{name}: its pid {pid} is another's, and it is shown {shown['state']}")
            if shown["exit_code"] != 5 and not (number % 3 == 1 and shown["recent"][-1].get("unknown")):
                scenario.tally.fault("exit_codes_lost", f"{name}: {shown['recent']}")
        time.sleep(0.05)
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        if bystander.poll() is not None or state in "TtZ":
            scenario.tally.fault("signalled_wrongly", f"a bystander that got pid {pid} of {name}: {state}")
        bystander.kill()
        bystander.wait()


def _at_pid(pid: int, last: Path) -> "subprocess.Popen[bytes] | None":
    """A process with that pid, or None where it was always somebody else's."""
    for _ in range(200):
        last.write_text(str(pid - 1))
        process = subprocess.Popen(["sleep", "600"], stdin=subprocess.DEVNULL)
        if process.pid == pid:
            return process
        process.kill()
        process.wait()
    return None


def jump_clock(scenario: Scenario) -> None:
    """The wall clock is set, hours and days to and fro, while llmosd runs, and while it does not."""
    daemon = scenario.daemon
    offset = Path(daemon.environment[CLOCK])
    with offset.open("r+b") as file, mmap.mmap(file.fileno(), 8) as page:
        for number in range(scenario.rounds):
            scenario.pause(1.0)
            jump = scenario.chance.choice([-400 * DAY, -DAY, -3600, -5, 5, 3600, DAY, 400 * DAY])
            scenario.progress(f"{number + 1} of {scenario.rounds}: the clock is set {jump:+d} s off")
            if number % 3 == 2:
                began = daemon.kill()
                page[:] = struct.pack("l", jump)
                daemon.start(began)
            else:
                page[:] = struct.pack("l", jump)
                daemon.wait_for_answer(time.monotonic())
            scenario.check()


def movable_clock(folder: Path) -> dict[str, str]:
    """Variables with which a process has a wall clock that can be set: a library made of clock.c is preloaded."""
    library, offset = folder / "clock.so", folder / "clock"
    try:
        command: list[str | Path] = ["cc", "-shared", "-fPIC", "-O1", "-o", library, HERE / "clock.c"]
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise Skipped(f"setting the clock of one process needs a C compiler: {error}") from None
    offset.write_bytes(bytes(8))
    return {"LD_PRELOAD": str(library), CLOCK: str(offset)}


def spoil_journal(scenario: Scenario) -> None:
    """llmosd is killed, and its journal is torn at its end, or a page of it is overwritten or zeroed."""
    daemon = scenario.daemon
    ways = [_tear_wal, _half_frame, _spoil_page, _zero_page, _spoil_wal, _truncate, _empty]
    for number in range(scenario.rounds):
        way = ways[number % len(ways)]
        scenario.progress(f"{number + 1} of {scenario.rounds}: {way.__name__.strip('_').replace('_', ' ')}")
        scenario.pause(1.5)
        began = daemon.kill()
        way(daemon.state_dir / "journal.db", scenario.chance)
        daemon.start(began)
        scenario.check()


def _tear_wal(path: Path, chance: random.Random) -> None:
    """What a write that never came to its end leaves behind the last commit."""
    with _wal(path).open("ab") as file:
        file.write(chance.randbytes(chance.randint(1, 4000)))


def _half_frame(path: Path, chance: random.Random) -> None:
    """A page that is about to be moved from the WAL to its place was written to half of it only."""
    data = _wal(path).read_bytes()
    if len(data) < 32 + 24:
        return
    number = int.from_bytes(data[32:36], "big")
    with path.open("r+b") as file:
        file.seek((number - 1) * 4096 + 2048)
        file.write(chance.randbytes(2048))


def _spoil_page(path: Path, chance: random.Random) -> None:
    _overwrite(path, chance.randbytes(4096), chance)


def _zero_page(path: Path, chance: random.Random) -> None:
    _overwrite(path, bytes(4096), chance)


def _spoil_wal(path: Path, chance: random.Random) -> None:
    """A frame in the middle of what was committed."""
    _overwrite(_wal(path), chance.randbytes(512), chance)


def _truncate(path: Path, chance: random.Random) -> None:
    os.truncate(path, path.stat().st_size // 2)


def _empty(path: Path, chance: random.Random) -> None:
    os.truncate(path, 0)


def _overwrite(path: Path, data: bytes, chance: random.Random) -> None:
    size = path.stat().st_size
    if size >= len(data):
        with path.open("r+b") as file:
            file.seek(chance.randrange(size // len(data)) * len(data))
            file.write(data)


def _wal(path: Path) -> Path:
    return path.with_name(path.name + "-wal")


def all_together(scenario: Scenario) -> None:
    """Two or three faults at a time, as they come."""
    daemon = scenario.daemon
    scenario.work.unknown_allowed = True
    few = own_group("pids")
    for number in range(scenario.rounds):
        scenario.progress(f"{number + 1} of {scenario.rounds} mixed blows")
        scenario.pause(1.0)
        reaper = daemon.reaper()
        blows = scenario.chance.sample(["llmosd", "reaper", "stop", "reaper stop", "descriptors", "forks", "disk"], 3)
        undo: list[Callable[[], Any]] = []
        try:
            if "descriptors" in blows:
                soft, hard = resource.prlimit(reaper, resource.RLIMIT_NOFILE)
                used = max(int(name) for name in os.listdir(f"/proc/{reaper}/fd")) + 1
                resource.prlimit(reaper, resource.RLIMIT_NOFILE, (used, hard))
                undo.append(lambda: resource.prlimit(reaper, resource.RLIMIT_NOFILE, (soft, hard)))  # noqa: B023
            if "forks" in blows and few is not None:
                group = few / "few"
                group.mkdir(exist_ok=True)
                (group / "cgroup.procs").write_text(str(reaper))
                (group / "pids.max").write_text("1")
                undo.append(lambda: (group / "pids.max").write_text("max"))  # noqa: B023
            if "disk" in blows and os.path.ismount(daemon.state_dir):
                filler = daemon.state_dir / "filler"
                undo.append(filler.unlink)
                with filler.open("wb", buffering=0) as file, suppress(OSError):
                    while True:
                        file.write(bytes(65536))
            if "reaper stop" in blows and Path(f"/proc/{reaper}").exists():
                os.kill(reaper, signal.SIGSTOP)
                undo.append(lambda: os.kill(reaper, signal.SIGCONT))  # noqa: B023
            if "stop" in blows:
                daemon.kill(signal.SIGSTOP)
                scenario.pause(0.5)
                daemon.kill(signal.SIGCONT)
            scenario.pause(1.0)
            if "reaper" in blows:
                _kill(reaper)
                scenario.tally.did("kills")
            if "llmosd" in blows:
                daemon.kill()
        finally:
            for back in undo:
                with suppress(OSError):
                    back()
        if "llmosd" in blows:
            daemon.start(time.monotonic())
        else:
            daemon.wait_for_answer(time.monotonic())
        scenario.check()


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return
        except OSError:
            return
        time.sleep(0.002)
