"""Every syscall, one file a noun; importing the package fills the registry in the order of the documented table."""

from llmos.plan.risk import Risk
from llmos.syscalls.registry import SYSCALLS, Argument, Kind, Syscall

from llmos.syscalls import process, job, system, watch, focus, history, talk  # isort: skip # noqa: F401

__all__ = ["SYSCALLS", "Argument", "Kind", "Risk", "Syscall"]
