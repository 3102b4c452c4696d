"""Risk: what a line can do to this machine, computed from its verb, its arguments and what it resolves to.

Never by the model, and never from what a request says about itself. The lists of what raises it are here.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath

from llmos.kernel.targets import JobTarget, ProcessTarget, Resolved
from llmos.machine import procfs
from llmos.plan.language import parse_line
from llmos.settings import PolicySettings
from llmos.syscalls import Risk, Syscall
from llmos.syscalls.job import Restart, Run, Schedule, Start, Stop
from llmos.syscalls.process import Kill
from llmos.syscalls.watch import Watch

HARMLESS_SIGNALS = {"HUP", "USR1", "USR2"}

NEEDED_NAMES = frozenset(
    "systemd init sshd dbus-daemon dbus-broker systemd-journald systemd-logind systemd-udevd systemd-networkd "
    "systemd-resolved NetworkManager wpa_supplicant Xorg gnome-shell kwin_wayland plasmashell login getty agetty "
    "containerd dockerd kubelet auditd polkitd".split()
)
"""Programs without which a machine cannot be reached or used."""

_WRAPPER_ARGUMENT = re.compile(r"-|[\w.]+=|[\d.]+[smhd]?$")
_SHELLS = {"sh", "bash", "zsh", "dash", "ksh", "fish", "ash"}
_WRAPPERS = {"sudo", "doas", "env", "nice", "ionice", "nohup", "timeout", "stdbuf", "setsid", "xargs", "time", "chroot"}
_DESTROYS = {
    "mkfs", "mke2fs", "wipefs", "shred", "fdisk", "sfdisk", "parted", "gdisk", "mkswap", "blkdiscard", "srm",
    "shutdown", "reboot", "poweroff", "halt", "userdel", "groupdel", "deluser", "vgremove", "lvremove", "pvremove",
    "zpool", "cryptsetup", "hdparm", "nvme", "flash_erase", "kill", "killall", "pkill", "skill", "telinit", "kexec",
}  # fmt: skip
_OPENS = {
    "passwd", "chpasswd", "useradd", "adduser", "usermod", "visudo", "iptables", "nft", "ufw", "firewall-cmd",
    "setenforce", "modprobe", "insmod", "rmmod", "setcap", "ngrok", "crontab", "at", "ssh-keygen", "ssh-copy-id",
}  # fmt: skip
_PATTERNS = (
    (r"\brm\s+(?:\S+\s+)*-\w*[rRf]", "deletes without asking"),
    (r"\brm\s+(?:\S+\s+)*--(?:recursive|force|no-preserve-root)", "deletes without asking"),
    (r"\bfind\b.*\s-delete\b|\bfind\b.*-exec\s+rm\b", "deletes what it finds"),
    (r"\bdd\b.*\bof=", "overwrites a file or a device"),
    (r">\s*/dev/(?:sd|nvme|vd|hd|mapper|mem|kmem)", "writes to a device"),
    (r"\b(?:truncate|fallocate)\b", "cuts files"),
    (r"\bgit\b.*\b(?:clean\s+-\w*f|reset\s+--hard|push\s+(?:\S+\s+)*(?:-f|--force))", "throws work away"),
    (r"\b(?:drop\s+(?:database|table|schema)|truncate\s+table)\b", "drops data"),
    (r"\bchmod\b.*\b0?777\b|\bchmod\b.*(?:\ba\+\w*w|\+s\b)|\bch(?:mod|own)\s+(?:-\w*R|--recursive)", "changes rights"),
    (r"\b(?:curl|wget|fetch)\b.*\|\s*(?:sudo\s+)?\w*sh\b", "runs what it downloads"),
    (r"\b(?:nc|ncat|netcat|socat)\b.*(?:\s-\w*[lec]|exec:|listen)", "opens the machine"),
    (r"/dev/tcp/", "opens a connection from a shell"),
    (r"\bbase64\b.*(?:-d|--decode|-D)", "hides what it does"),
    (r"\b(?:eval|exec)\s*[\"'(]|\$\(|`", "hides what it does"),
    (r"\\x[0-9a-f]{2}|\\u[0-9a-f]{4}", "hides what it does"),
    (r":\s*\(\s*\)\s*\{", "forks without end"),
    (r"\bhistory\s+-c\b|\bunset\s+HISTFILE\b", "hides what it does"),
    (r"authorized_keys|/etc/(?:passwd|shadow|sudoers|crontab|ssh)|/etc/cron", "touches who may do what"),
    (r"\bsystemctl\b.*\b(?:stop|disable|mask|isolate|poweroff|reboot|kill)\b", "stops what the machine runs"),
    (r"\b(?:ip|ifconfig)\b.*\b(?:down|flush|del)\b", "cuts the network"),
    (r"\bsysctl\s+(?:-w|\S+=)", "changes the kernel"),
    (r"--privileged\b|\s-v\s*/:", "opens the machine"),
)
_COMPILED = tuple((re.compile(pattern, re.IGNORECASE | re.DOTALL), what) for pattern, what in _PATTERNS)


@dataclass(frozen=True, slots=True)
class Assessment:
    """The risk of one line and the reasons that raised it."""

    risk: Risk
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What an assessment knows of the daemon and the caller: llmos's own pids, the caller's line, jobs' commands."""

    own: frozenset[int]
    ancestors: frozenset[int]
    argv_of: Mapping[str, Sequence[str]]


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
    commands = [call.argv] if isinstance(call, Run) else []
    if isinstance(call, Start | Restart | Schedule):
        commands += [around.argv_of.get(target.name, []) for target in targets if isinstance(target, JobTarget)]
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


def dangers(argv: Sequence[str]) -> list[str]:
    """What a command does that destroys, opens the machine, or hides what it does; empty when nothing is known of it."""
    found = []
    for words in _commands(argv):
        program = PurePath(words[0]).name
        if program in _DESTROYS or program.split(".")[0] in _DESTROYS:
            found.append(f"destroys ({program})")
        elif program in _OPENS:
            found.append(f"opens the machine or changes who may do what ({program})")
    text = " ".join(argv)
    found += [what for pattern, what in _COMPILED if pattern.search(text)]
    return list(dict.fromkeys(found))


def _commands(argv: Sequence[str]) -> list[list[str]]:
    """The simple commands in an argv: itself, what a wrapper wraps, and what a shell is given."""
    words = list(argv)
    while words and PurePath(words[0]).name in _WRAPPERS:
        words = words[1:]
        while words and _WRAPPER_ARGUMENT.match(words[0]):
            words = words[1:]
    if not words:
        return []
    found = [words]
    if PurePath(words[0]).name in _SHELLS:
        for script in words[1:]:
            for piece in re.split(r"[;&|\n()]+", script):
                found += _commands(piece.split())
    return found


def _needed(target: Resolved, settings: PolicySettings, around: Surroundings) -> str:
    """Why the machine, or llmos, or the caller's own session needs a target; empty when nothing is known to."""
    if not isinstance(target, ProcessTarget):
        return ""
    pid = target.pid
    if pid == 1:
        return "pid 1 is the init of this machine"
    if (stat := procfs.read_stat(pid)) is not None and stat.kernel_thread:
        return f"{target.name} ({pid}) is a thread of the kernel"
    if pid in around.own:
        return f"{target.name} ({pid}) is llmos itself"
    if pid in around.ancestors:
        return f"{target.name} ({pid}) is what this request comes from"
    if target.name in NEEDED_NAMES or target.name in settings.protected:
        return f"{target.name} ({pid}) is something this machine needs"
    return ""
