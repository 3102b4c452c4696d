"""Waiting for the end of a process that is not ours: woken by its pidfd, in the loop."""

import asyncio
import os

from llmos.errors import NotFound
from llmos.machine.identity import Identity


async def wait_for_end(identity: Identity) -> None:
    """Return once a process has ended; at once where it has already."""
    try:
        descriptor = await asyncio.to_thread(identity.open)
    except NotFound:
        return
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_reader(descriptor, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)
