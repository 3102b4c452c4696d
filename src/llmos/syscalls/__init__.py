"""Every syscall, one file a noun; importing the package fills the registry in the order of the documented table."""

from llmos.syscalls.registry import SYSCALLS, Argument, Kind, Risk, Syscall

from llmos.syscalls import process, job, system, watch, focus, history, talk  # isort: skip # noqa: E402, F401

__all__ = ["SYSCALLS", "Argument", "Kind", "Risk", "Syscall"]
