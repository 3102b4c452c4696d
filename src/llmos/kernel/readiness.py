"""Whether a job is ready: what can tell it, and the waiting for it. What is asked again and again is in `probing.py`.

A job tells it by itself, with a line of its output or with sd_notify(3), or it is asked by a probe until that goes well.
"""

import asyncio
import os
import socket
import struct
from collections.abc import Sequence
from contextlib import aclosing

from pydantic import Field

from llmos.errors import LlmosError, TimedOut, Unavailable
from llmos.kernel.job import Job, Span
from llmos.kernel.job_log import JobLogs
from llmos.kernel.probing import Probe, Prober
from llmos.kernel.reaper_client import Reaper
from llmos.plan import values

FIRST_PAUSE_SECONDS = 0.05
LONGEST_PAUSE_SECONDS = 1.0
"""Between two probes of a job that is not ready yet; each pause is half as long again as the one before."""
PROBE_SECONDS = 5.0
"""How long one probe may take."""
NOTIFY_BYTES = 4096
"""Longest message of sd_notify."""
MAX_DESCRIPTORS = 16
_CREDENTIALS = struct.Struct("3i")


class Ready(Probe):
    """How a job is found ready, and by when: in one of these ways.

    `log`: a line of its output holds this text. `notify`: it, or a process of it, sends READY=1 as sd_notify(3) does.
    """

    log: str | None = Field(None, min_length=1, description="text that a line of its output holds when it is ready")
    notify: bool = Field(False, description="it says READY=1 to the socket in NOTIFY_SOCKET, as sd_notify(3) does")
    timeout: Span = "60s"


class Readiness:
    """The waiting for jobs of one daemon to be ready: `expect` before the process is there, then `wait`, then `forget`."""

    def __init__(self, prober: Prober, reaper: Reaper, logs: JobLogs) -> None:
        self._prober = prober
        self._reaper = reaper
        self._logs = logs
        self._sockets: dict[str, socket.socket] = {}

    async def expect(self, job: Job) -> dict[str, str]:
        """From now on nothing that the job tells is missed; returns the variables that it needs for that.

        :raises Unavailable: there is no socket for it.
        """
        ready = Ready.model_validate(job.ready) if job.ready is not None else None
        if ready is not None and ready.log is not None:
            job.log_from = await self._logs.length(job.name)
        if ready is None or not ready.notify:
            return {}
        assert job.run is not None
        try:
            listening = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        except OSError as error:
            raise Unavailable(f"{job.name} cannot be given a socket for sd_notify: {error.strerror}") from None
        self._sockets[job.run] = listening
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        listening.bind(f"\0llmos/{job.run}")  # an abstract name leaves nothing behind, however we end
        return {"NOTIFY_SOCKET": f"@llmos/{job.run}"}

    async def wait(self, job: Job) -> None:
        """Return once the job is ready.

        :raises TimedOut: it is not, after all the time it has for that.
        """
        ready = Ready.model_validate(job.ready)
        found = "it did not say so"
        try:
            async with asyncio.timeout(values.seconds_of(ready.timeout)):
                if ready.notify:
                    await self._notified(job)
                elif ready.log is not None:
                    await self._logged(job, ready.log)
                else:
                    pause = FIRST_PAUSE_SECONDS
                    while found := await self._prober.problem(job, ready, PROBE_SECONDS):
                        await asyncio.sleep(pause)
                        pause = min(pause * 1.5, LONGEST_PAUSE_SECONDS)
        except TimeoutError:
            raise TimedOut(f"it was not ready within {ready.timeout}: {found}") from None

    def forget(self, run: str) -> None:
        """The run is ready, or has ended."""
        if (listening := self._sockets.pop(run, None)) is not None:
            asyncio.get_running_loop().remove_reader(listening)
            listening.close()

    def close(self) -> None:
        """Listen to none any more."""
        for run in list(self._sockets):
            self.forget(run)

    async def _logged(self, job: Job, text: str) -> None:
        async with aclosing(self._logs.follow(job.name, since=job.log_from)) as following:
            async for lines in following:
                if any(text in line for line in lines):
                    return

    async def _notified(self, job: Job) -> None:
        assert job.run is not None
        listening = self._sockets.get(job.run)
        if listening is None:
            return  # llmosd was started anew meanwhile: what the job has said since is lost, and it runs
        while True:
            await _readable(listening)
            message, descriptors, sender = _receive(listening)
            try:
                if b"READY=1" in message.split(b"\n") and await self._belongs(sender, job):
                    return
            finally:
                for descriptor in descriptors:  # who sent BARRIER=1 waits for this
                    os.close(descriptor)

    async def _belongs(self, pid: int, job: Job) -> bool:
        """Whether a sender is of the job; one that has ended already is not known to be."""
        if pid == job.pid:
            return True
        try:
            return pid in {process.pid for process in await self._reaper.members(job.run or "")}
        except LlmosError:  # the job has just ended, or the reaper is away
            return False


async def _readable(listening: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    came = asyncio.Event()
    loop.add_reader(listening, came.set)
    try:
        await came.wait()
    finally:
        if listening.fileno() >= 0:  # else it was forgotten meanwhile
            loop.remove_reader(listening)


def _receive(listening: socket.socket) -> tuple[bytes, Sequence[int], int]:
    """A message, the descriptors that came along, and the sender's pid, 0 where the kernel does not vouch for one."""
    room = socket.CMSG_SPACE(_CREDENTIALS.size) + socket.CMSG_SPACE(MAX_DESCRIPTORS * 4)
    try:
        message, ancillary, _, _ = listening.recvmsg(NOTIFY_BYTES, room, socket.MSG_CMSG_CLOEXEC)
    except BlockingIOError:
        return b"", (), 0
    descriptors: list[int] = []
    sender = 0
    for _, kind, data in ancillary:
        if kind == socket.SCM_RIGHTS:
            descriptors += struct.unpack(f"{len(data) // 4}i", data[: len(data) // 4 * 4])
        elif kind == socket.SCM_CREDENTIALS:
            sender = _CREDENTIALS.unpack(data)[0]
    return message, descriptors, sender
