"""The arms: who decides which of the jobs goes first."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

_AUTOGROUP = Path("/proc/sys/kernel/sched_autogroup_enabled")


@dataclass(frozen=True, slots=True)
class Arm:
    """One of them. `policy` is that of llmosd's scheduler; where there is none, it is off."""

    title: str
    policy: str | None = None
    autogroup: bool = True
    rules: bool = False
    """Whether programs that are known for a background load are put behind, once and for all."""

    @property
    def settings(self) -> str:
        """For llmosd, as TOML."""
        if self.policy is None:
            return "[scheduler]\nenabled = false\n"
        return f'[scheduler]\npolicy = "{self.policy}"\n'


KERNEL = "kernel"
OURS = "hybrid"
LAS = "las"
ARMS = {
    KERNEL: Arm("the kernel alone, autogroup on"),
    "kernel-plain": Arm("the kernel alone, autogroup off", autogroup=False),
    "static": Arm("static rules by program, autogroup off", autogroup=False, rules=True),
    LAS: Arm("llmos, policy las", policy="las"),
    OURS: Arm("llmos, policy hybrid (ours)", policy="hybrid"),
    "learned": Arm("llmos, policy learned", policy="learned"),
}


def put_in_the_background(pid: int) -> None:
    """What ananicy's rules say of BG_CPUIO, the class of compilers, encoders and backups: niceness 16, scheduled idle.

    With autogroup on niceness means little between sessions, so its manual has that switched off.
    """
    with suppress(ProcessLookupError):  # it has ended
        os.setpriority(os.PRIO_PROCESS, pid, 16)
        os.sched_setscheduler(pid, os.SCHED_IDLE, os.sched_param(0))


@contextmanager
def autogroup_kept() -> Iterator[None]:
    """Have autogroup in the end as it was in the beginning."""
    before = _AUTOGROUP.read_text(encoding="ascii") if _AUTOGROUP.exists() else None
    try:
        yield
    finally:
        if before is not None and _AUTOGROUP.read_text(encoding="ascii") != before:
            _AUTOGROUP.write_text(before, encoding="ascii")


def why_not(arm: Arm) -> str:
    """Why an arm cannot be had here; empty where it can."""
    if not _AUTOGROUP.exists():
        return "" if not arm.autogroup else "this kernel has no autogroup"
    if not os.access(_AUTOGROUP, os.W_OK) and (_AUTOGROUP.read_text(encoding="ascii").strip() == "1") != arm.autogroup:
        return "only root may switch autogroup"
    return ""


def set_autogroup(on: bool) -> None:
    """Switch it for all that is started from now on. Sessions that there are keep their groups."""
    if _AUTOGROUP.exists() and _AUTOGROUP.read_text(encoding="ascii").strip() != str(int(on)):
        _AUTOGROUP.write_text(str(int(on)), encoding="ascii")
