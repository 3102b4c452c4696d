"""Syscalls that favour one process over everything else."""

from llmos.syscalls.registry import Duration, Risk, Syscall, Target, key, positional


class Focus(Syscall, verb="focus", risk=Risk.CHANGE, inverse="unfocus"):
    """Favour it; everything else yields."""

    target: Target
    for_: Duration | None = key(None, alias="for")


class Unfocus(Syscall, verb="unfocus", risk=Risk.CHANGE, inverse="focus"):
    """Favour it no longer; all of it without a target."""

    target: Target | None = positional()
