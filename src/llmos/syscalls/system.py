"""Syscalls on the machine as a whole."""

from typing import Literal

from llmos.syscalls.registry import Count, Path, Risk, Syscall

Aspect = Literal["cpu", "memory", "disk", "network", "gpu", "load", "uptime", "pressure", "temperature"]


class System(Syscall, verb="system", risk=Risk.READ):
    """State of the machine."""

    aspect: Aspect


class Usage(Syscall, verb="usage", risk=Risk.READ):
    """Biggest files and folders below a path."""

    path: Path
    limit: Count | None = None
