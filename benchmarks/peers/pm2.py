"""pm2, by the remote calls of its daemon (`rpc.sock`) through its own client, which runs in Node.js."""

import os
import shutil
import signal
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from benchmarks.peers import cache
from benchmarks.peers.driver import DRIVERS, DrivenPeer, Driver

VERSION = "7.0.4"


class Pm2(DrivenPeer):
    """The daemon; programs are run in fork mode without an interpreter."""

    name = "pm2"

    @classmethod
    def prepare(cls) -> None:
        cls._package = cache.from_npm("pm2", VERSION) / "node_modules/pm2"

    _package: Path

    def start(self, programs: Sequence[Path]) -> float:
        self._environment = {**os.environ, "PM2_HOME": str(self.folder), "PM2_DISABLE_VERSION_CHECK": "true"}
        self._apps = [_app(program) for program in programs]
        self._open()
        return float(self._driver.ask("begin", apps=self._apps))

    def _open(self) -> None:
        node = shutil.which("node") or "node"
        command = [node, str(DRIVERS / "pm2_client.js"), str(self._package)]
        self._driver = Driver(command, self._environment)

    def processes(self) -> list[int]:
        return [int((self.folder / "pm2.pid").read_text())]

    def status_command(self) -> tuple[list[str], dict[str, str]]:
        return [shutil.which("node") or "node", str(self._package / "bin/pm2"), "jlist"], self._environment

    def restart_killed(self) -> None:
        self._driver.close()
        self._open()
        self._driver.ask("begin", apps=self._apps)

    def end(self) -> None:
        daemon = self.processes()[0]
        self._driver.ask("kill")
        self._driver.close()
        with suppress(ProcessLookupError):
            os.kill(daemon, signal.SIGKILL)


def _app(program: Path) -> dict[str, Any]:
    return {"name": program.name, "script": str(program), "args": ["100000"], "interpreter": "none"}
