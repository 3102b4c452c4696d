"""A program that drives a supervisor from within that supervisor's own environment, asked in lines of JSON, and what the
peers that are driven so share."""

import json
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from benchmarks.peers.peer import Peer

DRIVERS = Path(__file__).with_name("drivers")
"""Where these programs lie."""


class Driver:
    """The running program; `ask` sends it an operation and returns its answer."""

    def __init__(self, command: Sequence[str], environment: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True, bufsize=1
        )

    def ask(self, operation: str, **values: Any) -> Any:
        """What the program answers.

        :raises RuntimeError: it failed, or has ended.
        """
        assert self._process.stdin is not None and self._process.stdout is not None
        with suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps({"do": operation, **values}) + "\n")
        line = self._process.stdout.readline()
        answer = json.loads(line) if line else {"error": "the driver has ended"}
        if "error" in answer:
            raise RuntimeError(f"{operation}: {answer['error']}")
        return answer["value"]

    def close(self) -> None:
        """End the program."""
        assert self._process.stdin is not None and self._process.stdout is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait(30)
        self._process.stdout.close()


class DrivenPeer(Peer):
    """A peer whose driver knows the operations pids, stop, start and state; `start` opens it."""

    _driver: Driver

    def pids(self) -> dict[str, int]:
        found: dict[str, int] = self._driver.ask("pids")
        return found

    def stop(self, name: str) -> None:
        self._driver.ask("stop", name=name)

    def begin(self, name: str) -> float:
        return float(self._driver.ask("start", name=name))

    def full_state(self) -> float:
        return float(self._driver.ask("state"))
