"""llmosd: the process. It reads the settings, starts the kernel, opens the socket, and ends when told to."""

import argparse
import asyncio
import fcntl
import logging
import os
import resource
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import uvloop

from llmos import __version__
from llmos.errors import LlmosError, Unavailable
from llmos.kernel.api import Server
from llmos.kernel.kernel import Kernel
from llmos.settings import Settings, load

log = logging.getLogger("llmos")

MAX_THREADS = 32
"""Reads of /proc, /sys and files that go on at a time."""


def main() -> None:
    """The command `llmosd`."""
    arguments = _arguments().parse_args()
    logging.basicConfig(stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s", level=logging.INFO)
    try:
        model = {"model": {"name": arguments.model}} if arguments.model else {}
        settings = load(arguments.config, socket=arguments.socket, state_dir=arguments.state_dir, **model)
        uvloop.run(serve(settings))
    except LlmosError as error:
        print(f"llmosd: {error.message}", file=sys.stderr)
        sys.exit(error.exit_code)


async def serve(settings: Settings) -> None:
    """Start, serve until SIGTERM, SIGINT or a shutdown request, and end in order.

    :raises LlmosError: a part cannot be started.
    """
    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(MAX_THREADS, "llmosd"))
    lock = await asyncio.to_thread(_take_lock, settings)
    _raise_file_limit()
    kernel = Kernel(settings)
    server = Server(kernel)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, server.stopping.set)
    await kernel.start()
    try:
        await server.listen(settings.socket, settings.group)
        log.info("llmosd %s answers on %s", __version__, settings.socket)
        await server.stopping.wait()
        log.info("llmosd ends; %s", "its jobs end too" if server.end_jobs else "its jobs live on")
    finally:
        await server.close()
        await kernel.close(end_jobs=server.end_jobs)
        os.close(lock)


def _take_lock(settings: Settings) -> int:
    """One daemon a state folder: the lock is held for as long as the process lives."""
    try:
        settings.state_dir.mkdir(mode=0o711, parents=True, exist_ok=True)
        descriptor = os.open(settings.state_dir / "llmosd.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise Unavailable(f"another llmosd works in {settings.state_dir}; `llmos down` ends it") from None
    except OSError as error:
        raise Unavailable(f"the state folder {settings.state_dir} cannot be used: {error.strerror}") from None
    return descriptor


def _raise_file_limit() -> None:
    """Connections, pidfds and watches need descriptors: take as many as may be had."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="llmosd", description="The llmos daemon.", allow_abbrev=False)
    parser.add_argument("--socket", type=Path, help="where to listen")
    parser.add_argument("--state-dir", type=Path, help="where the journal and the logs lie")
    parser.add_argument("--config", type=Path, help="the settings file")
    parser.add_argument("--model", help="the model that turns words into plans")
    parser.add_argument("--version", action="version", version=f"llmosd {__version__}")
    return parser


if __name__ == "__main__":
    main()
