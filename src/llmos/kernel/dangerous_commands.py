"""What a command does that destroys, opens the machine, or hides what it does, as far as its words tell.

A command is taken apart the way a shell would: wrappers (sudo, timeout, xargs …) are opened, scripts of `sh -c` are cut
into their simple commands and unquoted. Then each program is looked up, and each text is searched for what no program's
name tells. A list can never be whole: it is a reason to ask a person, not a wall.
"""

import re
import shlex
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import PurePath

MAX_DEPTH = 8
MAX_CHARACTERS = 16 * 1024
"""Of a command that is read; nobody would look through a longer one either."""
_SHELLS = frozenset([
    "sh", "bash", "zsh", "dash", "ksh", "mksh", "fish", "ash", "su", "runuser", "eval",
])  # fmt: skip
_TAKE_SCRIPTS = frozenset([
    "ssh", "watch", "parallel", "script", "nix-shell", "tmux", "screen", "docker", "podman",
])  # fmt: skip
_CONTAINERS = frozenset(["docker", "podman", "nerdctl"])
_DOWNLOADERS = r"(?:curl|wget|fetch|aria2c|lynx)"
_INTERPRETERS = r"(?:(?:ba|da|z|k|mk|fi|a)?sh|perl|ruby|node|php|python[\d.]*)"

_WRAPPERS: dict[str, tuple[str, int]] = {
    "sudo": ("ugpCTUDRhrt", 0), "doas": ("uC", 0), "pkexec": ("", 0), "env": ("uC", 0), "nice": ("n", 0),
    "ionice": ("cnpt", 0), "nohup": ("", 0), "timeout": ("sk", 1), "stdbuf": ("ioe", 0), "setsid": ("", 0),
    "xargs": ("InPLdasE", 0), "time": ("fo", 0), "chroot": ("", 1), "taskset": ("", 1), "chrt": ("", 1),
    "flock": ("wE", 1),
    "unshare": ("", 0), "nsenter": ("t", 0), "systemd-run": ("pu", 0), "numactl": ("NmCi", 0), "busybox": ("", 0),
    "command": ("", 0), "exec": ("a", 0), "builtin": ("", 0), "watch": ("n", 0), "ssh": ("bcDEeFIiJLlmOopQRSWw", 1),
    "parallel": ("jIS", 0), "then": ("", 0), "do": ("", 0), "else": ("", 0), "if": ("", 0), "while": ("", 0),
    "!": ("", 0),
    "strace": ("eopu", 0), "catchsegv": ("", 0), "proxychains4": ("f", 0), "firejail": ("", 0),
    "dbus-run-session": ("", 0),
}  # fmt: skip
"""Programs that run another: their options that take a value of their own, and how many words stand before it."""

_DESTROYS = frozenset([
    "rm", "rmdir", "unlink", "mkfs", "mke2fs", "wipefs", "shred", "fdisk", "sfdisk", "cfdisk", "parted", "gdisk",
    "sgdisk", "mkswap", "blkdiscard", "srm", "wipe", "shutdown", "reboot", "poweroff", "halt", "userdel",
    "groupdel", "deluser", "delgroup", "vgremove", "lvremove", "pvremove", "lvreduce", "zpool", "cryptsetup",
    "hdparm", "nvme", "flash_erase", "kill", "killall", "killall5", "pkill", "skill", "telinit", "kexec",
    "truncate", "dropdb", "dropuser", "debugfs", "tune2fs", "badblocks",
])  # fmt: skip
_OPENS = frozenset([
    "passwd", "chpasswd", "useradd", "adduser", "usermod", "groupadd", "gpasswd", "visudo", "vipw", "chsh",
    "iptables", "ip6tables", "nft", "ufw", "firewall-cmd", "setenforce", "modprobe", "insmod", "rmmod", "setcap",
    "setfacl", "ngrok", "cloudflared", "crontab", "at", "batch", "ssh-copy-id", "swapoff",
])  # fmt: skip
_LOOKS: dict[str, str] = {
    "fdisk": r"-l|--list", "sfdisk": r"-l|-d|--dump", "parted": r"-l|print", "gdisk": r"-l", "sgdisk": r"-p",
    "zpool": r"status|list|iostat|history|get", "cryptsetup": r"status|luksDump|isLuks", "hdparm": r"-[iItT]+",
    "nvme": r"list|smart-log|id-ctrl|version", "kill": r"-l|-0", "tune2fs": r"-l", "wipefs": r"-n|--no-act",
    "passwd": r"-S", "iptables": r"-[LSnv]+", "ip6tables": r"-[LSnv]+", "nft": r"list|-a", "ufw": r"status",
    "firewall-cmd": r"--(?:list-.*|state|get-.*)", "crontab": r"-l", "modprobe": r"-n|--dry-run|-c", "at": r"-l",
    "shutdown": r"-c|--show",
}  # fmt: skip
"""The first argument with which a program of the lists above only looks."""

_BY_PROGRAM: tuple[tuple[str, str, str], ...] = (
    (r"find|fd|fdfind", r"\s-delete\b|-(?:exec|execdir|ok|x|X)\s+(?:\S*/)?(?:rm|shred|unlink)\b",
     "deletes what it finds"),
    (r"dd", r"\bof=", "overwrites a file or a device"),
    (r"rsync", r"\s--del(?:ete\S*)?(?:\s|$)|--remove-source-files", "deletes files"),
    (r"rclone", r"\s(?:sync|delete|purge)\b", "deletes files"),
    (r"cp|mv|tee|cat|install|ln", r"\s/dev/(?:sd|nvme|vd|hd|xvd|mapper|mmcblk|disk|loop|md|mem)", "writes to a device"),
    (r"mv", r"\s/dev/null$", "deletes files"),
    (r"git", r"\s(?:clean\s+(?:\S+\s+){0,20}-\w*f|reset\s+(?:\S+\s+){0,20}--hard"
             r"|push\s+(?:\S+\s+){0,20}(?:-f\b|--force|--mirror|--delete)"
             r"|branch\s+(?:\S+\s+){0,20}-D|filter-branch|stash\s+(?:drop|clear)|reflog\s+expire|update-ref\s+-d)",
     "throws work away"),
    (r"chmod", r"\s0?[0-7]?(?:777|666)\b|[ao][ugo]*\+\w*w|\s[ugoa]*\+\w*s|\s[2467][0-7]{3}\b|\s-\w*R|--recursive",
     "changes rights"),
    (r"chown|chgrp", r"\s-\w*R|--recursive", "changes rights"),
    (r"nc|ncat|netcat|socat", r"\s-\w*[lec]|(?i:exec:|listen|system:)", "opens the machine"),
    (r"ssh", r"\s-\w*R|RemoteForward", "opens the machine"),
    (r"systemctl|service|rc-service|sv|launchctl|initctl",
     r"\s(?:stop|disable|mask|isolate|poweroff|reboot|halt|kexec|kill|suspend|hibernate|emergency|rescue|down)\b",
     "stops what the machine runs"),
    (r"ip|ifconfig|nmcli|ifdown|route|tc", r"\s(?:down|off|flush|del|delete)\b|^ifdown", "cuts the network"),
    (r"sysctl", r"\s-\w*w|\s--write|\S=", "changes the kernel"),
    (r"docker|podman|nerdctl", r"--privileged|\s(?:-v|--volume)[= ]?/:|/docker\.sock|--pid[= ]host|--cap-add",
     "opens the machine"),
    (r"docker|podman|nerdctl|docker-compose",
     r"^\S+\s+(?:\w+\s+)?(?:prune|rm|rmi|kill)\b|\sdown\s.*(?:-v\b|--volumes)", "removes containers or their data"),
    (r"kubectl|oc|helm", r"\s(?:delete|drain|uninstall)\b", "removes what a cluster runs"),
    (r"terraform|tofu|pulumi|vagrant", r"\s(?:destroy|down)\b", "destroys machines"),
    (r"aws|gsutil|gcloud|az|s3cmd|mc", r"\s(?:rm|rb|delete|del|terminate-\S+|delete-\S+)\b",
     "deletes what a cloud holds"),
    (r"apt|apt-get|dnf|yum|zypper|apk|snap|flatpak|pkg|brew", r"\s(?:remove|purge|autoremove|erase|del|uninstall)\b",
     "removes programs"),
    (r"dpkg", r"\s(?:-r|-P|--remove|--purge)\b", "removes programs"),
    (r"pacman", r"\s-R", "removes programs"),
    (r"redis-cli", r"\bflush(?:all|db)\b", "drops data"),
    (r"btrfs|zfs|lvm", r"\s(?:delete|destroy|rollback|lvremove|vgremove|pvremove)\b", "destroys volumes"),
    (r"mount", r"\sremount|\s--bind", "changes what is mounted"),
    (r"fallocate", r"\s-\w*[pczd]|--(?:punch|collapse|zero|dig)", "cuts files"),
)  # fmt: skip
"""Program, what its arguments look like, and what it then does."""

_ANYWHERE: tuple[tuple[str, str], ...] = (
    (r"(?<![\w.-])rm\s+(?:\S+\s+){0,20}(?:-\w*[rRf]|--(?:recursive|force|no-preserve-root))", "deletes without asking"),
    (r"\b(?:rmtree|os\.(?:remove|unlink|rmdir|removedirs)|unlinkSync|rmSync|FileUtils\.rm\w*)\s*\(", "deletes files"),
    (r">\s*/dev/(?:sd|nvme|vd|hd|xvd|mapper|mmcblk|mem|kmem)", "writes to a device"),
    (r">\s*/(?:proc/sys|sys)/", "changes the kernel"),
    (r"\b(?:drop\s+(?:database|table|schema|user)|truncate\s+table|delete\s+from\s+\w+\s*(?:;|$))|dropDatabase\(",
     "drops data"),
    (rf"\|\s*(?:sudo\s+(?:-\S+\s+)*|env\s+)?(?:\S*/)?{_INTERPRETERS}(?:\s+-s?)?\s*(?:$|[;&|)\"'])",
     "runs what it is piped"),
    (rf"(?:^|[\s/;&|(]){_INTERPRETERS}\b[^;&|]{{0,300}}(?:<\(|\$\(|`)\s*{_DOWNLOADERS}\b", "runs what it downloads"),
    (rf"(?:\beval|\bsource|(?:^|[;&|]\s*)\.)\s.{{0,100}}{_DOWNLOADERS}\b", "runs what it downloads"),
    (rf"(?:^|[;&|]|-\w*c)\s*[\"']?\$\(\s*{_DOWNLOADERS}\b", "runs what it downloads"),
    (r"/dev/(?:tcp|udp)/", "opens a connection from a shell"),
    (r"\bb(?:ase)?64_?decode\b.{0,500}\b(?:exec|eval)\b"
     r"|\b(?:exec|eval)\b\s*\(.{0,500}(?:b64decode|base64|fromhex|decompress|chr\()",
     "hides what it does"),
    (r"\b(?:exec|eval)\s*\(\s*[\"']?(?:\\\\?x[0-9a-f]{2}|\\\\?u[0-9a-f]{4})", "hides what it does"),
    (r":\s*\(\s*\)\s*\{", "forks without end"),
    (r"\bhistory\s+-c\b|\bunset\s+HISTFILE\b|\bHISTFILE=/dev/null|\bHISTSIZE=0", "hides what it does"),
    (r"LD_PRELOAD=|/etc/ld\.so\.preload", "puts itself into other programs"),
    (r"authorized_keys", "touches who may do what"),
    (r"(?:>|\btee\b|\b(?:cp|mv|sed\s+-i|install|ln|nano|vi|vim|dd)\b[^;&|]{0,300})\s*\S*"
     r"/etc/(?:passwd|shadow|group|sudoers|crontab|ssh|cron|pam|profile|ld\.so)", "touches who may do what"),
    (r"/etc/(?:g?shadow|sudoers)", "touches who may do what"),
)  # fmt: skip


def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.IGNORECASE | re.DOTALL)


_PROGRAM_RULES = [(re.compile(program), re.compile(pattern, re.DOTALL), what) for program, pattern, what in _BY_PROGRAM]
_TEXT_RULES = [(_compiled(pattern), what) for pattern, what in _ANYWHERE]
_LOOKING = {program: re.compile(pattern) for program, pattern in _LOOKS.items()}


def dangers(argv: Sequence[str]) -> list[str]:
    """What a command does that destroys, opens the machine, or hides what it does; empty where nothing is known."""
    text = " ".join(argv)
    if len(text) > MAX_CHARACTERS:
        return ["is too long to be read"]
    found: list[str] = []
    for words in _commands(list(argv)):
        found += _of_program(words)
    found += [what for pattern, what in _TEXT_RULES if pattern.search(text)]
    return list(dict.fromkeys(found))


def _of_program(words: list[str]) -> Iterator[str]:
    program = PurePath(words[0]).name
    family = "mkfs" if program.startswith("mkfs.") else program
    looks = len(words) > 1 and program in _LOOKING and _LOOKING[program].fullmatch(words[1])
    if family in _DESTROYS and not looks:
        yield f"destroys ({program})"
    elif family in _OPENS and not looks:
        yield f"opens the machine or changes who may do what ({program})"
    line = " ".join([program, *words[1:]])
    for name, pattern, what in _PROGRAM_RULES:
        if name.fullmatch(program) and pattern.search(line):
            yield f"{what} ({program})"


def _commands(words: list[str], depth: int = 0) -> Iterator[list[str]]:
    """The simple commands in an argv: itself, what a wrapper wraps, and what a shell is given."""
    while words and "=" in words[0] and not words[0].startswith("="):
        words = words[1:]
    if not words or depth > MAX_DEPTH:
        return
    yield words
    program = PurePath(words[0]).name
    if program == "env":
        for at, word in enumerate(words):  # `env -S "a b"` splits its argument itself
            if word.startswith(("-S", "--split-string")):
                yield from _script(" ".join([word.partition("=")[2] or word[2:], *words[at + 1 :]]), depth)
    if program in _WRAPPERS:
        yield from _commands(_wrapped(words, *_WRAPPERS[program]), depth + 1)
    if program == "eval":
        yield from _script(" ".join(words[1:]), depth)
    elif program in _SHELLS:
        for option, script in pairwise(words):
            if re.fullmatch(r"-\w*c|--command", option):
                yield from _script(script, depth)
    elif program in _TAKE_SCRIPTS:
        for script in words[1:]:
            if " " in script:
                yield from _script(script, depth)
    if program in _CONTAINERS and words[1:2] == ["exec"]:
        yield from _commands(_wrapped(words[1:], "uwen", 1), depth + 1)


def _wrapped(words: list[str], valued: str, before: int) -> list[str]:
    """What a wrapper runs: its own options and their values, and the words that stand before, left out."""
    rest = words[1:]
    while rest and (rest[0].startswith("-") or ("=" in rest[0] and words[0].endswith("env"))):
        takes = len(rest[0]) == 2 and rest[0][1] in valued
        if rest[0] == "--":
            rest = rest[1:]
            break
        rest = rest[2 if takes else 1 :]
    return rest[before:]


def _script(script: str, depth: int) -> Iterator[list[str]]:
    """The simple commands of a shell script, those in `$(…)` and backticks among them."""
    script = script.replace("`", "$(")
    lexer = shlex.shlex(script, posix=True, punctuation_chars=";&|()<>\n{}")
    lexer.whitespace, lexer.whitespace_split, lexer.commenters = " \t\r", True, ""
    try:
        words = list(lexer)
    except ValueError:
        words = script.replace(";", " ; ").split()
    command: list[str] = []
    for word in [*words, ";"]:
        if word and not set(word) - set(";&|()\n{}"):
            yield from _commands(command, depth + 1)
            command = []
        else:
            command.append(word)
    for word in words:  # what is quoted whole
        for inner in word.split("$(")[1:] if depth < MAX_DEPTH else ():
            yield from _script(inner, depth + 1)
