"""circusd, by its own client over ZeroMQ on a Unix socket; the client runs in circus's environment."""

import os
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.peers import cache
from benchmarks.peers.driver import DRIVERS, DrivenPeer, Driver
from benchmarks.peers.peer import ANSWER_SECONDS

VERSION = "0.19.0"


class Circus(DrivenPeer):
    """The daemon, without its statistics; the full state is names and states, for pids cost one call more each.

    It looks for ended programs every `check_delay` seconds. The 5 of its default would be what a crash costs; 0.1 is
    what makes that good, and is paid for while it idles.
    """

    name = "circus"

    @classmethod
    def prepare(cls) -> None:
        cls._commands = cache.from_pip("circus", VERSION)

    _commands: Path

    def start(self, programs: Sequence[Path]) -> float:
        self._config = self.folder / "circus.ini"
        self._endpoint = f"ipc://{self.folder}/e"
        self._config.write_text(
            f"[circus]\nendpoint = {self._endpoint}\npubsub_endpoint = ipc://{self.folder}/p\ncheck_delay = 0.1\n"
            + "".join(
                f"[watcher:{program.name}]\ncmd = {program} 100000\nwarmup_delay = 0\ngraceful_timeout = 5\n"
                f"stdout_stream.class = FileStream\nstdout_stream.filename = {self.folder}/{program.name}.log\n"
                for program in programs
            )
        )
        began = time.monotonic()
        self._exec()
        self._connect()
        return began

    def _exec(self) -> None:
        with (self.folder / "circusd.log").open("ab") as log:
            self._daemon = subprocess.Popen([self._commands / "circusd", self._config], stdout=log, stderr=log)

    def _connect(self) -> None:
        command = [str(self._commands / "python"), str(DRIVERS / "circus_client.py"), self._endpoint]
        self._driver = Driver(command, dict(os.environ))

    def processes(self) -> list[int]:
        return [self._daemon.pid]

    def calls_a_second(self, clients: int, seconds: float) -> float:
        return float(self._driver.ask("calls", name="program-007", clients=clients, seconds=seconds))

    def status_command(self) -> tuple[list[str], dict[str, str]]:
        return [str(self._commands / "circusctl"), "--endpoint", self._endpoint, "status"], dict(os.environ)

    def restart_killed(self) -> None:
        self._daemon.wait()
        self._driver.close()
        self._exec()
        self._connect()
        self._driver.ask("state")

    def end(self) -> None:
        self._driver.close()
        self._daemon.send_signal(signal.SIGTERM)
        self._daemon.wait(ANSWER_SECONDS)
