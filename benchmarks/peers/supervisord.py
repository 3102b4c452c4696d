"""supervisord, by XML-RPC over HTTP on its Unix socket, one connection kept open."""

import http.client
import os
import re
import signal
import subprocess
import time
import xmlrpc.client
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.peers import cache
from benchmarks.peers.load import calls_a_second, connected
from benchmarks.peers.peer import ANSWER_SECONDS, Peer, wait_until

VERSION = "4.3.0"
_LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)


class Supervisord(Peer):
    """The daemon, which logs to files and takes a program as running at once (`startsecs=0`)."""

    name = "supervisord"

    @classmethod
    def prepare(cls) -> None:
        cls._commands = cache.from_pip("supervisor", VERSION)

    _commands: Path

    def start(self, programs: Sequence[Path]) -> float:
        self._path = str(self.folder / "s")
        self._config = self.folder / "supervisord.conf"
        self._config.write_text(
            f"[unix_http_server]\nfile={self._path}\n"
            f"[supervisord]\nnodaemon=true\nminfds=8192\nlogfile={self.folder}/log\npidfile={self.folder}/pid\n"
            f"childlogdir={self.folder}\n"
            "[rpcinterface:supervisor]\n"
            "supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface\n"
            f"[supervisorctl]\nserverurl=unix://{self._path}\n"
            + "".join(
                f"[program:{program.name}]\ncommand={program} 100000\nautorestart=true\nstartsecs=0\n"
                "redirect_stderr=true\n"
                for program in programs
            )
        )
        began = time.monotonic()
        self._exec()
        self._connect()
        return began

    def _exec(self) -> None:
        command = [str(self._commands / "supervisord"), "-c", str(self._config)]
        self._daemon = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def _connect(self) -> None:
        wait_until("supervisord", lambda: _answers(self._path))
        proxy = xmlrpc.client.ServerProxy("http://localhost/RPC2", _UnixTransport(self._path))
        self._supervisor: Any = proxy.supervisor

    def processes(self) -> list[int]:
        return [self._daemon.pid]

    def pids(self) -> dict[str, int]:
        rows = self._supervisor.getAllProcessInfo()
        return {row["name"]: row["pid"] for row in rows if row["statename"] == "RUNNING"}

    def stop(self, name: str) -> None:
        self._supervisor.stopProcess(name)

    def begin(self, name: str) -> float:
        began = time.monotonic()
        self._supervisor.startProcess(name, False)
        return began

    def full_state(self) -> float:
        began = time.perf_counter()
        self._supervisor.getAllProcessInfo()
        return time.perf_counter() - began

    def calls_a_second(self, clients: int, seconds: float) -> float:
        body = xmlrpc.client.dumps(("program-007",), "supervisor.getProcessInfo").encode()
        head = (
            f"POST /RPC2 HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/xml\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        connections = connected(self._path, clients)
        try:
            return calls_a_second(connections, head.encode() + body, _whole, seconds)
        finally:
            for connection in connections:
                connection.close()

    def status_command(self) -> tuple[list[str], dict[str, str]]:
        return [str(self._commands / "supervisorctl"), "-c", str(self._config), "status"], dict(os.environ)

    def restart_killed(self) -> None:
        self._daemon.wait()
        self._exec()
        self._connect()

    def end(self) -> None:
        self._daemon.send_signal(signal.SIGTERM)
        self._daemon.wait(ANSWER_SECONDS)


class _UnixTransport(xmlrpc.client.Transport):
    """HTTP on a Unix socket, the connection kept open as `supervisorctl` keeps it."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self._path = path

    def make_connection(self, host: Any) -> http.client.HTTPConnection:
        if (made := self._connection[1]) is None:
            made = http.client.HTTPConnection("localhost")
            [made.sock] = connected(self._path, 1)
            self._connection = "localhost", made
        return made


def _answers(path: str) -> bool:
    try:
        [connection] = connected(path, 1)
    except OSError:
        return False
    connection.close()
    return True


def _whole(answer: bytes) -> bool:
    head, end, body = answer.partition(b"\r\n\r\n")
    found = _LENGTH.search(head)
    return bool(end and found and len(body) >= int(found[1]))
