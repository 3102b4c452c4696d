"""llmosd: the process. It reads the settings, at SIGHUP again, starts the kernel, opens the socket, ends when told to.

Most of the time until it answers goes into imports, and some into the reaper, another process: the two go on side by
side, so the kernel is imported in `serve`.
"""

import argparse
import asyncio
import faulthandler
import fcntl
import logging
import os
import resource
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import uvloop

from llmos import __version__
from llmos.errors import BadInput, LlmosError, Unavailable
from llmos.kernel.reaper_client import reach
from llmos.kernel.service_manager import ServiceManager
from llmos.kernel.threads import Threads
from llmos.settings import Settings, load

if TYPE_CHECKING:
    from llmos.kernel.kernel import Kernel

log = logging.getLogger("llmos")

MAX_THREADS = 32
"""Reads of /proc, /sys and files that go on at a time."""


LIVE = ("policy", "model")
"""Sections of the settings that SIGHUP changes; the others change at a restart, which ends no job."""


def main() -> None:
    """The command `llmosd`."""
    arguments = _arguments().parse_args()
    logging.basicConfig(stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s", level=logging.INFO)
    faulthandler.enable()  # the SIGABRT of a watchdog leaves in the log where llmosd hung
    try:
        manager = ServiceManager.take()
        if arguments.socket and manager.socket_path:
            raise BadInput(f"the service manager gives {manager.socket_path} to listen on; leave --socket out")
        socket = arguments.socket or manager.socket_path
        model = {"model": {"name": arguments.model}} if arguments.model else {}

        def read() -> Settings:
            return load(arguments.config, socket=socket, state_dir=arguments.state_dir, **model)

        settings = read()
        lock = _take_lock(settings)
        reaper = threading.Thread(target=_begin_reaper, args=(settings.state_dir,), name="reaper")
        reaper.start()
        try:
            uvloop.run(serve(settings, read, manager, reaper.join))
        finally:
            os.close(lock)
    except LlmosError as error:
        print(f"llmosd: {error.message}", file=sys.stderr)
        sys.exit(error.exit_code)


def _begin_reaper(state_dir: Path) -> None:
    with suppress(LlmosError, OSError):  # what is wrong is said when it is wanted
        reach(state_dir).close()


async def serve(
    settings: Settings, read: Callable[[], Settings], manager: ServiceManager, reaper_begun: Callable[[], None]
) -> None:
    """Start, serve until SIGTERM, SIGINT or a shutdown request, and end in order; SIGHUP reads the settings again.

    :raises LlmosError: a part cannot be started.
    """
    from llmos.kernel.api import Server
    from llmos.kernel.kernel import Kernel

    loop = asyncio.get_running_loop()
    loop.set_default_executor(Threads(MAX_THREADS, "llmosd"))
    await asyncio.to_thread(reaper_begun)
    _raise_file_limit()
    kernel = Kernel(settings)
    server = Server(kernel)
    hang_up = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, server.stopping.set)
    loop.add_signal_handler(signal.SIGHUP, hang_up.set)
    await manager.notify("STATUS=taking up what runs")
    await kernel.start()
    try:
        await server.listen(settings.socket, settings.group, manager.listening)
        log.info("llmosd %s answers on %s", __version__, settings.socket)
        await manager.ready(settings.socket)
        async with asyncio.TaskGroup() as beside:
            tasks = [
                beside.create_task(manager.feed_watchdog(settings.socket)),
                beside.create_task(manager.keep_status(lambda: _status(kernel))),
                beside.create_task(_reload(kernel, read, hang_up, manager)),
            ]
            await server.stopping.wait()
            for task in tasks:
                task.cancel()
        log.info("llmosd ends; %s", "its jobs end too" if server.end_jobs else "its jobs live on")
    finally:
        await manager.notify("STOPPING=1", "STATUS=ending")
        await server.close()
        await kernel.close(end_jobs=server.end_jobs)


async def _reload(
    kernel: "Kernel", read: Callable[[], Settings], wanted: asyncio.Event, manager: ServiceManager
) -> None:
    """Take over what changed of the `LIVE` settings, each time it is wanted; where they are wrong, all stays as it was."""
    while await wanted.wait():
        wanted.clear()
        await manager.reloading()
        old = kernel.settings
        try:
            new = await asyncio.to_thread(read)
        except LlmosError as error:
            log.error("the settings stay as they were: %s", error.message)
        else:
            kernel.settings = old.model_copy(update={section: getattr(new, section) for section in LIVE})
            if new.model != old.model:
                await kernel.reload_model()
            log.info("the settings were read again")
            for section in Settings.model_fields.keys() - LIVE:
                if getattr(new, section) != getattr(old, section):
                    log.warning("what changed of %s waits for a restart of llmosd, which ends no job", section)
        await manager.notify("READY=1")


def _status(kernel: "Kernel") -> str:
    model = kernel.model.status()
    return f"{len(kernel.supervisor.jobs)} jobs; the model {model['model']} is {model['state']}"


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
