"""Syscalls on what was done before: list it, explain it, take it back."""

from llmos.syscalls.registry import Count, Risk, Syscall, Target, positional


class History(Syscall, verb="history", risk=Risk.READ):
    """What was asked and done."""

    limit: Count | None = None


class Why(Syscall, verb="why", risk=Risk.READ):
    """Why it was reprioritised, paused, restarted, or died."""

    target: Target


class Undo(Syscall, verb="undo", risk=Risk.CHANGE):
    """Take back the last N reversible steps, one when absent."""

    steps: Count = positional(1)
