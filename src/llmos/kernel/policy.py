"""Risk: what a line can do to this machine, computed from its verb, its arguments and what it resolves to.

Never by the model, and never from what a request says about itself. What raises it is here and, for commands, in
`dangerous_commands`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from llmos.kernel.dangerous_commands import dangers
from llmos.kernel.targets import JobTarget, Resolved, WatchTarget
from llmos.machine import procfs
from llmos.plan.language import parse_line
from llmos.settings import PolicySettings
from llmos.syscalls import Risk, Syscall
from llmos.syscalls.job import Restart, Run, Schedule, Start, Stop
from llmos.syscalls.process import Kill
from llmos.syscalls.watch import Watch

HARMLESS_SIGNALS = {"HUP", "USR1", "USR2"}

NEEDED_NAMES = frozenset([
    "systemd", "init", "sshd", "sshd-session", "dropbear", "dbus-daemon", "dbus-broker", "systemd-journald",
    "systemd-logind", "systemd-udevd", "systemd-networkd", "systemd-resolved", "NetworkManager", "wpa_supplicant",
    "Xorg", "gnome-shell", "kwin_wayland", "plasmashell", "login", "getty", "agetty", "containerd", "dockerd",
    "kubelet", "auditd", "polkitd",
])  # fmt: skip
"""Programs without which a machine cannot be reached or used."""


@dataclass(frozen=True, slots=True)
class Assessment:
    """The risk of one line and the reasons that raised it."""

    risk: Risk
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What an assessment knows of the daemon and the caller: llmos's own pids, and those the caller comes from."""

    own: frozenset[int]
    ancestors: frozenset[int]


def assess(
    call: Syscall,
    targets: Sequence[Resolved],
    then_targets: Sequence[Resolved],
    settings: PolicySettings,
    around: Surroundings,
) -> Assessment:
    """The risk of a line that acts on `targets`, and whose `then` would act on `then_targets`. Reads /proc."""
    risk, reasons = _by_verb(call, targets)
    if risk < Risk.CHANGE:
        return Assessment(risk, ())
    if isinstance(call, Watch) and call.then is not None:
        then = assess(parse_line(call.then), then_targets, (), settings, around)
        risk = max(risk, then.risk)
        reasons += [f"then: {reason}" for reason in then.reasons]
    commands: list[Sequence[str]] = [call.argv] if isinstance(call, Run) else []
    if isinstance(call, Start | Restart | Schedule):
        commands += [target.argv for target in targets if isinstance(target, JobTarget)]
    raising = [f"the command {what}" for argv in commands for what in dangers(argv)]
    raising += [why for target in targets if (why := _needed(target, settings, around))]
    if len(targets) > settings.max_targets:
        raising.append(f"{len(targets)} targets are more than the {settings.max_targets} that one line may touch")
    if raising:
        risk = Risk.DESTROY
    return Assessment(risk, tuple(dict.fromkeys([*reasons, *raising])))


def _by_verb(call: Syscall, targets: Sequence[Resolved]) -> tuple[Risk, list[str]]:
    """The risk that the table gives a call."""
    if isinstance(call, Kill) and call.signal in HARMLESS_SIGNALS:
        return Risk.CHANGE, []
    if isinstance(call, Stop) and targets and all(isinstance(target, JobTarget) for target in targets):
        return Risk.CHANGE, []
    return call.risk, [f"{call.verb} cannot be taken back"] if call.risk is Risk.DESTROY else []


def _needed(target: Resolved, settings: PolicySettings, around: Surroundings) -> str:
    """Why the machine, or llmos, or the caller's own session needs a target; empty when nothing is known to."""
    if isinstance(target, WatchTarget) or target.pid is None:
        return ""
    pid = target.pid
    if pid in around.ancestors:
        return f"{target.name} ({pid}) is what this request comes from"
    if isinstance(target, JobTarget):
        return ""
    if pid == 1:
        return "pid 1 is the init of this machine"
    if (stat := procfs.read_stat(pid)) is not None and stat.kernel_thread:
        return f"{target.name} ({pid}) is a thread of the kernel"
    if pid in around.own:
        return f"{target.name} ({pid}) is llmos itself"
    if target.name in NEEDED_NAMES or target.name in settings.protected:
        return f"{target.name} ({pid}) is something this machine needs"
    return ""
