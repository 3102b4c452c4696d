"""Syscalls on the machine as a whole."""

import asyncio
from typing import Any, Literal

from llmos.kernel.step import Outcome, Step
from llmos.machine import disk, state
from llmos.plan.risk import Risk
from llmos.syscalls.registry import Count, Path, Syscall

Aspect = Literal["cpu", "memory", "disk", "network", "gpu", "load", "uptime", "pressure", "temperature"]


class System(Syscall, verb="system", risk=Risk.READ):
    """State of the machine."""

    aspect: Aspect

    async def act(self, step: Step) -> Outcome:
        return Outcome(await asyncio.to_thread(state.system_state, self.aspect))


class Usage(Syscall, verb="usage", risk=Risk.READ):
    """Biggest files and folders below a path."""

    path: Path
    limit: Count | None = None

    async def act(self, step: Step) -> Outcome:
        path = await asyncio.to_thread(step.kernel.path_of, self.path, step.caller)
        async with step.kernel.long_reads:
            found = await asyncio.to_thread(disk.largest, path, self.limit or 10)
        below: list[dict[str, Any]] = [{"kind": "folder", **row.as_json()} for row in found.folders]
        below += [{"kind": "file", **row.as_json()} for row in found.files]
        below.sort(key=lambda row: row["bytes"], reverse=True)
        whole = {name: value for name, value in found.as_json().items() if name not in ("folders", "files")}
        return Outcome([{"kind": "total", **whole}, *below[: self.limit or 10]])
