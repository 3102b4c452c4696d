"""Jobs as bad as they come: each is started on an llmosd of its own kind of trouble, which has to go on answering.

What went in is compared with what came out by digests that the jobs themselves write.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from llmos import Client
from llmos.errors import LlmosError, Unavailable

from .tally import Tally
from .under_fire import UnderFire

LOG_BYTES = 1024**2
"""As the settings of the campaign have it."""
FLOOD_BYTES = 1_000_000_000
EXITS = 10_000
"""Of orphans, in a minute."""
RUNS = 2_500
ASK_SECONDS = 0.05
NAMES = ("two words", "it's", 'a "quoted" one', "a $(reboot)", "名字 🦊", "-rf", "a\\b", "x" * 128, "..", "é\u0301")
REFUSED_NAMES = ("new\nline", "tab\t", "a/b", "", "42", "$1")


def run(daemon: UnderFire, tally: Tally, kills: int, progress: Callable[[str], None]) -> None:
    """All of them; the floods are as much smaller as the campaign has fewer kills than 300."""
    daemon.start(counted=False)
    share = min(1.0, kills / 300)
    trouble = Trouble(daemon, tally, daemon.folder)
    troubles: tuple[tuple[Callable[[], None], str], ...] = (
        (partial(trouble.flood, int(FLOOD_BYTES * share)), "output without a newline"),
        (partial(trouble.exits, int(RUNS * share)), "runs one after the other"),
        (partial(trouble.orphans, int(EXITS * share)), "10,000 exits a minute"),
        (trouble.binary, "binary output"),
        (trouble.names, "odd names"),
        (trouble.arguments, "64 KiB of arguments"),
        (trouble.environment, "1 MiB of environment"),
        (trouble.vanishing_folder, "a working directory that vanishes"),
        (trouble.replaced_program, "a program that is replaced"),
    )
    for job, says in troubles:
        progress(says)
        with trouble.asked_meanwhile(says):
            job()


class Trouble:
    """The bad jobs of one campaign."""

    def __init__(self, daemon: UnderFire, tally: Tally, folder: Path) -> None:
        self.daemon = daemon
        self.tally = tally
        self.folder = folder

    @contextmanager
    def asked_meanwhile(self, what: str) -> Iterator[None]:
        """Ask the API all the while, and count each time that it took."""
        over = threading.Event()

        def ask() -> None:
            with self.daemon.client() as client:
                while not over.wait(ASK_SECONDS):
                    began = time.monotonic()
                    try:
                        client.status()
                    except Unavailable:  # it is being restarted, or has died, and then what asks it next says so
                        continue
                    except LlmosError as error:
                        self.wrong(f"{what}: {error.message}")
                    self.tally.answered.append(time.monotonic() - began)

        asking = threading.Thread(target=ask)
        asking.start()
        try:
            yield
        finally:
            over.set()
            asking.join()

    def wrong(self, case: str, kind: str = "other") -> None:
        """Count something that should not have been."""
        self.tally.fault(kind, case)

    def once(self, client: Client, name: str, argv: list[str], seconds: str = "120s", **params: Any) -> dict[str, Any]:
        """Run a job, wait for its end, and return what is shown of it."""
        client.call("run", name=name, argv=argv, **{"cwd": str(self.folder), **params})
        self.tally.did("jobs")
        self.tally.did("calls")
        client.call("wait", target=name, timeout=seconds)
        shown: dict[str, Any] = client.call("show", target=name)
        return shown

    def flood(self, size: int) -> None:
        """The log is bounded, and can be asked for."""
        with self.daemon.client(timeout=300) as client:
            shown = self.once(client, "flood", ["sh", "-c", f"head -c {size} /dev/zero | tr '\\0' x"], "300s")
            if shown["exit_code"] != 0:
                self.wrong(f"the flood ended with {shown['exit_code']}", "exit_codes_lost")
            deadline = time.monotonic() + 10
            while (held := self.log_bytes()) > 2 * LOG_BYTES and time.monotonic() < deadline:
                time.sleep(0.1)
            if held > 2 * LOG_BYTES:
                self.wrong(f"{held} bytes of the log of a flood are kept, and {LOG_BYTES} are to be")
            if not client.call("logs", target="flood", lines=3)["lines"]:
                self.wrong("nothing is left of a flood", "lines_lost")

    def log_bytes(self) -> int:
        """What the logs take on the disk."""
        return sum(path.stat().st_blocks * 512 for path in (self.daemon.state_dir / "logs").iterdir())

    def exits(self, count: int) -> None:
        """So many runs, started one after the other by some callers as fast as they can, each with its exit code known."""
        callers = 8
        began = time.monotonic()

        def call(caller: int) -> None:
            with self.daemon.client() as client:
                for number in range(count // callers):
                    code = number % 100
                    shown = self.once(client, f"exit-{caller}", ["sh", "-c", f"exit {code}"], cwd="/")
                    self.tally.did("runs")
                    if shown["exit_code"] != code:
                        self.wrong(f"exit-{caller}: {shown['exit_code']}, not {code}", "exit_codes_lost")

        _in_threads(call, callers)
        rate = count / (time.monotonic() - began) * 60
        self.tally.notes.append(f"{rate:,.0f} runs a minute, each started, waited for and shown by a call of its own")

    def orphans(self, count: int) -> None:
        """So many orphans of one job within a minute, which the reaper has to wait for."""
        pace = 60 / EXITS
        script = (
            "import os, sys, time\n"
            "for number in range(int(sys.argv[1])):\n"
            "    if os.fork() == 0:\n"
            "        if os.fork() == 0: os._exit(3)\n"
            "        os._exit(0)\n"
            "    os.wait()\n"
            "    time.sleep(float(sys.argv[2]))\n"
            "sys.exit(9)\n"
        )
        with self.daemon.client(timeout=300) as client:
            argv = [sys.executable, "-S", "-c", script, str(count), str(pace)]
            shown = self.once(client, "orphans", argv, "300s")
            if shown["exit_code"] != 9:
                self.wrong(f"the parent of orphans ended with {shown['exit_code']}", "exit_codes_lost")

    def binary(self) -> None:
        """The log holds every byte, and what is shown of it is text."""
        copy = self.folder / "random"
        with self.daemon.client() as client:
            shown = self.once(client, "binary", ["sh", "-c", f"head -c 500000 /dev/urandom | tee {copy}"])
            if Path(shown["log"]).read_bytes() != copy.read_bytes():
                self.wrong("the log of a binary output is not what was written", "lines_lost")
            if not client.call("logs", target="binary", lines=10)["lines"]:
                self.wrong("nothing is shown of a binary output", "lines_lost")

    def names(self) -> None:
        """Names of jobs and arguments: each is taken as it is, or refused."""
        with self.daemon.client() as client:
            for number, name in enumerate(NAMES):
                out = self.folder / f"name-{number}"
                shown = self.once(
                    client, name, ["sh", "-c", f"printf %s \"$1\" > '{out}'; echo said", "sh", name + "\n'\""]
                )
                if shown["name"] != name or shown["exit_code"] != 0 or out.read_text() != name + "\n'\"":
                    self.wrong(f"the job {name!r} is shown as {shown['name']!r}, {shown['reason']}")
                if client.call("logs", target=name)["lines"] != ["said"]:
                    self.wrong(f"the output of the job {name!r}", "lines_lost")
                client.call("remove", job=name)
            for name in REFUSED_NAMES:
                try:
                    client.call("run", name=name, argv=["true"])
                except LlmosError as error:
                    if error.code != "bad-input":
                        self.wrong(f"the name {name!r}: {error.message}")
                else:
                    self.wrong(f"the name {name!r} was taken")

    def arguments(self) -> None:
        """One long argument, and many short ones."""
        out = self.folder / "arguments"
        for words in (["y" * 65536], [f"word {number}" for number in range(4000)]):
            with self.daemon.client() as client:
                script = f"printf '%s\\n' \"$@\" | sha256sum > {out}"
                shown = self.once(client, "arguments", ["sh", "-c", script, "sh", *words])
                wanted = hashlib.sha256("".join(f"{word}\n" for word in words).encode()).hexdigest()
                if shown["exit_code"] != 0 or out.read_text().split()[0] != wanted or shown["argv"][4:] != words:
                    self.wrong(f"{sum(map(len, words))} characters of arguments: {shown['reason']}")

    def environment(self) -> None:
        """A caller with a large environment: its jobs have all of it."""
        words = {f"BIG_{number}": "z" * 65_500 for number in range(16)}
        out = self.folder / "environment"
        script = f"env | grep ^BIG_ | LC_ALL=C sort | sha256sum > {out}"
        caller = (
            "import json, sys\nfrom llmos import Client\n"
            "with Client(sys.argv[1]) as client:\n"
            "    client.call('run', name='environment', argv=['sh', '-c', sys.argv[2]], cwd='/')\n"
            "    print(json.dumps(client.call('wait', target='environment')))\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", caller, self.daemon.socket, script],
            env={**os.environ, **words},
            capture_output=True,
            text=True,
            check=False,
        )
        lines = "".join(sorted(f"{name}={word}\n" for name, word in words.items()))
        if done.returncode:
            self.wrong(f"1 MiB of environment: {done.stderr[-500:]}")
        elif json.loads(done.stdout)["exit_code"] != 0 or out.read_text().split()[0] != (
            hashlib.sha256(lines.encode()).hexdigest()
        ):
            self.wrong(f"1 MiB of environment did not arrive whole: {done.stdout}")
        self.tally.did("jobs")
        self.daemon.restart()  # which reads it all again

    def vanishing_folder(self) -> None:
        """It runs on, and its restart says what is wrong."""
        place = self.folder / "vanishing"
        place.mkdir()
        with self.daemon.client() as client:
            argv = ["sh", "-c", "sleep 0.3; exit 4"]
            client.call("run", name="homeless", argv=argv, cwd=str(place), restart="on-failure")
            place.rmdir()
            self.tally.did("jobs")
            deadline = time.monotonic() + 20
            while "there is no folder" not in (shown := client.call("show", target="homeless"))["reason"]:
                if time.monotonic() > deadline:
                    self.wrong(f"a working directory vanished, and what is said is {shown['reason']!r}")
                    break
                time.sleep(0.05)
            if shown["recent"][0]["code"] != 4:
                self.wrong(f"a job without its folder: {shown['recent']}", "exit_codes_lost")
            client.call("stop", target="homeless")

    def replaced_program(self) -> None:
        """What runs goes on, is stopped by its name, and its next run is of the new program."""
        program, other = self.folder / "program", self.folder / "other"
        shutil.copy(shutil.which("sleep") or "/bin/sleep", program)
        with self.daemon.client() as client:
            pid = client.call("run", name="replaced", argv=[str(program), "600"])["pid"]
            self.tally.did("jobs")
            other.write_text("#!/bin/sh\nexit 12\n")
            other.chmod(0o755)
            other.rename(program)
        self.daemon.restart()
        with self.daemon.client() as client:
            if client.call("show", target="replaced")["pid"] != pid:
                self.wrong("a job whose program was replaced was not taken up", "children_lost")
            client.call("stop", target="replaced")
            if Path(f"/proc/{pid}").exists():
                self.wrong(f"a job whose program was replaced lives on as {pid}", "children_lost")
            client.call("start", job="replaced")
            client.call("wait", target="replaced")
            if (shown := client.call("show", target="replaced"))["exit_code"] != 12:
                self.wrong(f"the replaced program: {shown['reason']}", "exit_codes_lost")


def _in_threads(call: Callable[[int], None], count: int) -> None:
    problems: list[BaseException] = []

    def guarded(number: int) -> None:
        try:
            call(number)
        except BaseException as problem:
            problems.append(problem)

    threads = [threading.Thread(target=guarded, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if problems:
        raise problems[0]
