"""Starts llmosd when no socket answers, and waits until one does."""

import os
import subprocess
import sys
import time
from pathlib import Path

from llmos.cli.session import Session
from llmos.client import Client
from llmos.errors import Unavailable
from llmos.settings import load

START_SECONDS = 10.0  # how long llmosd may take until its socket answers
_ANSWER_SECONDS = 5.0
_POLL_SECONDS = 0.05
_LOG_TAIL_BYTES = 2000


def answers(socket: Path) -> bool:
    """Whether llmosd answers on the socket."""
    try:
        with Client(socket, timeout=_ANSWER_SECONDS) as client:
            client.status()
    except Unavailable:
        return False
    return True


def ensure_running(session: Session, state_dir: Path | None = None) -> bool:
    """Start llmosd unless it answers; returns whether it was started.

    Raises:
        Unavailable: it ended, or did not answer within ten seconds; the message holds the end of its log.
    """
    if answers(session.socket_path):
        return False
    session.waiting("starting llmosd", lambda: _start(session, state_dir or _state_dir(session)), after_seconds=1)
    return True


def _state_dir(session: Session) -> Path:
    """What the settings say; for a socket that someone chose a folder beside it, as two llmosd cannot share a state."""
    if session.socket or os.environ.get("LLMOS_SOCKET"):
        return session.socket_path.absolute().parent / "state"
    return load().state_dir


def _start(session: Session, state_dir: Path) -> None:
    log_path = state_dir / "llmosd.log"
    try:
        state_dir.mkdir(mode=0o711, parents=True, exist_ok=True)
        session.socket_path.parent.mkdir(mode=0o755 if os.geteuid() == 0 else 0o700, parents=True, exist_ok=True)
        with log_path.open("ab") as log:
            process = subprocess.Popen(
                daemon_command(session.socket_path.absolute(), state_dir.absolute()),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                start_new_session=True,
            )
    except OSError as error:
        raise Unavailable(
            f"llmosd cannot be started: {error.filename}: {error.strerror}; "
            "name another place with --socket or `llmos up --state-dir`"
        ) from None
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        # One that lost a race against another llmosd ends, and that other answers.
        ended = process.poll()
        if answers(session.socket_path):
            return
        if ended is not None:
            raise Unavailable(
                f"llmosd ended with status {ended} as it started; its log: {log_path}", log_tail=_tail(log_path)
            )
        time.sleep(_POLL_SECONDS)
    raise Unavailable(
        f"llmosd (pid {process.pid}) does not answer on {session.socket_path} after {START_SECONDS:g} seconds; "
        f"its log: {log_path}",
        log_tail=_tail(log_path),
    )


def daemon_command(socket: Path, state_dir: Path) -> list[str]:
    """The command that is llmosd."""
    return [sys.executable, "-m", "llmos.kernel.daemon", "--socket", str(socket), "--state-dir", str(state_dir)]


def _tail(path: Path) -> list[str]:
    with path.open("rb") as log:
        log.seek(max(0, os.fstat(log.fileno()).st_size - _LOG_TAIL_BYTES))
        return log.read().decode(errors="replace").splitlines()[-10:]
