"""Doctor: what this machine offers llmos, what it lacks, and what could be done about it."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmos.errors import LlmosError, ModelError, NotFound
from llmos.machine import capacity, state
from llmos.machine.cgroup_mounts import CONTROLLERS
from llmos.machine.gpu import gpus
from llmos.nlui import models
from llmos.nlui.serving import served
from llmos.settings import Settings

if TYPE_CHECKING:
    from llmos.kernel.kernel import Kernel


MANY_JOBS = 1000
"""Room for fewer is worth a remark."""


def examine(kernel: "Kernel") -> list[dict[str, Any]]:
    """Every check: `{check, ok, detail, remedy}`. Blocks."""
    cgroups = kernel.cgroups
    found = [
        _row("kernel", True, f"{os.uname().sysname} {os.uname().release}"),
        _row(
            "user", True, "root" if os.geteuid() == 0 else f"uid {os.geteuid()}: only its own processes can be changed"
        ),
        _row("cgroup", cgroups.version != "none", cgroups.version, "mount a cgroup hierarchy"),
    ]
    for controller in CONTROLLERS:
        usable = controller in cgroups.controllers
        detail = cgroups.means(controller) if usable else cgroups.why_not(controller)
        found.append(
            _row(f"cgroup {controller}", usable, detail, "" if usable else "jobs go without it, or use rlimits")
        )
    found += [
        _autogroup(),
        _told("pressure (PSI)", lambda: "there" if state.system_state("pressure") else "", "boot with psi=1"),
        _told(
            "GPU", lambda: f"{len(gpus().probe())} cards", "pip install 'llmos[gpu]' on a machine with an NVIDIA driver"
        ),
        _told("temperature", lambda: f"{len(state.temperatures())} sensors", "load the driver of a sensor"),
        _row("pidfd", hasattr(os, "pidfd_open"), "signals cannot hit a reused pid"),
        _room(kernel),
    ]
    return [*found, *_model(kernel)]


def _model(kernel: "Kernel") -> list[dict[str, Any]]:
    name = kernel.settings.model.name
    status = kernel.model.status()
    pull = f"llmos model pull {name}"
    there = [_told("model", lambda: str(models.locate(name).path), pull)]
    if there[0]["ok"]:
        there.append(_told("merged model", lambda: _merged(kernel.settings), pull))
    ready = _row("model worker", status["state"] not in ("failed", "missing"), status["error"] or status["state"])
    return [*there, ready]


def _merged(settings: Settings) -> str:
    """Where the model lies that its adapter is merged into.

    :raises ModelError: it has not been made, or the adapter is damaged.
    """
    model = served(settings.model.name, settings.state_dir)
    if model.adapter is not None:
        raise ModelError("the adapter is not merged into its model: each answer takes longer")
    return str(model.path) if model.trained else "none: there is no adapter for this model"


def _room(kernel: "Kernel") -> dict[str, Any]:
    """How many jobs the machine has room for, and what would make more."""
    try:
        tightest = capacity.bounds(kernel.reaper.pid or 0)[0]
    except NotFound as error:
        return _row("room for jobs", False, error.message, "llmosd starts it again; ask once more")
    detail = f"at most {tightest.limit:,} processes: {tightest.what}"
    return _row("room for jobs", tightest.limit >= MANY_JOBS, detail, tightest.remedy)


def _autogroup() -> dict[str, Any]:
    try:
        on = Path("/proc/sys/kernel/sched_autogroup_enabled").read_text().strip() == "1"
    except OSError:
        on = False
    detail = "on: renice sets the group's niceness too" if on else "off: niceness counts across sessions"
    return _row("autogroup", True, detail)


def _told(check: str, ask: Callable[[], str], remedy: str) -> dict[str, Any]:
    try:
        return _row(check, True, ask())
    except LlmosError as error:
        return _row(check, False, error.message, remedy)


def _row(check: str, ok: bool, detail: str, remedy: str = "") -> dict[str, Any]:
    return {"check": check, "ok": ok, "detail": detail, "remedy": "" if ok else remedy}
