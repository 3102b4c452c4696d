"""systemd's .service files. systemd.service(5), systemd.exec(5), systemd.kill(5), systemd.resource-control(5)"""

import os
import pwd
import re
import shlex
import signal
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

from llmos.importers import unit_file
from llmos.importers.source import OWN_LOG, Source, duration_text, size_text
from llmos.importers.unit_file import Setting, Specifiers
from llmos.jobfile import Table

_RESTART = {"no": "never", "on-failure": "on-failure", "always": "always"}
_NEAR_RESTART = {"on-abnormal": "on-failure", "on-abort": "on-failure", "on-watchdog": "on-failure"}
_PREFIXES = {
    "-": "its failure counts as one",
    "@": "a program is called by its own name",
    "+": "it runs as the user of the job",
    "!": "it runs as the user of the job",
}
_EXPANSION = re.compile(r"\$\$|\$\{(\w+)\}")
_LONE_VARIABLE = re.compile(r"\$[A-Za-z_]\w*")
_DEPENDENCY = "jobs wait for jobs alone; import the other units too, and write after = [NAME]"
_FOLDER = "no folder is made for a job; make it before"
_WHY = {
    **dict.fromkeys(
        ["After", "Before", "Requires", "Wants", "BindsTo", "PartOf", "Requisite", "Upholds", "Conflicts",
         "DefaultDependencies"], _DEPENDENCY),
    **dict.fromkeys(["WantedBy", "RequiredBy", "Alias", "Also"], "llmosd takes its jobs up again when it starts"),
    **dict.fromkeys(["Description", "Documentation"], "a job has no description"),
    **dict.fromkeys(["ExecStartPre", "ExecStartPost", "ExecCondition", "ExecStopPost"],
                    "a job is one command; put both in a script"),
    "ExecStop": "a job is stopped by a signal",
    "ExecReload": "a signal reloads a job: llmos kill NAME --signal HUP",
    **dict.fromkeys(["StandardOutput", "StandardError", "SyslogIdentifier"], OWN_LOG),
    **dict.fromkeys(["Group", "SupplementaryGroups"], "a job has the groups of its user"),
    **dict.fromkeys(["RuntimeDirectory", "StateDirectory", "CacheDirectory", "LogsDirectory", "ConfigurationDirectory",
                     "RuntimeDirectoryMode", "StateDirectoryMode"], _FOLDER),
    "DynamicUser": "a job runs as a user that there is",
    "RestartSec": "retries go on with growing delays",
    "WatchdogSec": "health = {…} checks a job",
    "MemoryHigh": "memory is a hard limit",
    "OnFailure": 'a watch does it: llmos watch exit --target NAME --then "LINE"',
    "PIDFile": "a job is its own process; let the program stay in the foreground",
    "Sockets": "no socket is opened for a job; let the program open its own",
    "RestartForceExitStatus": "restart_on = [CODE] is near: on-failure then answers those alone",
    "RemainAfterExit": "a job that has ended well is stopped; what comes after it starts then",
    "SendSIGKILL": "what is left of a job is always killed, after stop_timeout",
    "PassEnvironment": "a job gets what env and env_files say; write it there",
}  # fmt: skip
_SANDBOX = re.compile(
    r"(Protect|Private|Restrict|Capability|AmbientCap|NoNewPriv|SystemCall|ReadOnly|ReadWrite|Inaccessible|MemoryDeny|"
    r"Lock|Bind|Device|Keyring|Secure|RemoveIPC|IPAddress|Root|Mount|TemporaryFile)"
)


class _Unit:
    """One unit on its way to a job."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.specifiers = Specifiers(source)
        self.settings = unit_file.settings(source)
        self.table: Table = {"cwd": self.specifiers.home}
        self.oneshot = any((each.key, each.value) == ("Type", "oneshot") for each in self.settings)
        self.commands: list[tuple[Setting, list[str], bool]] = []

    def text(self, setting: Setting) -> str:
        return self.specifiers.put_in(setting, setting.value)

    def words(self, setting: Setting) -> list[str]:
        split = unit_file.words(self.source, setting, setting.value)
        return [self.specifiers.put_in(setting, word) for word in split]

    def lost(self, setting: Setting, why: str) -> None:
        self.source.lost(f"[{setting.section}] {setting.key}", why, setting.value)

    def bad(self, setting: Setting, problem: str) -> Exception:
        return self.source.bad(f"{setting.key}={setting.value}: {problem}", setting.line)


def read(source: Source) -> None:
    """Take the service down as a job.

    :raises BadInput: it is no unit file, has no ExecStart, or a setting is malformed.
    """
    unit = _Unit(source)
    for setting in unit.settings:
        if setting.section == "Service" and (take := _TAKES.get(setting.key)):
            take(unit, setting)
        elif setting.key in ("StartLimitBurst", "StartLimitIntervalSec", "StartLimitInterval"):
            _start_limit(unit, setting)
        else:
            why = "a job has no sandbox" if _SANDBOX.match(setting.key) else "it has no equivalent"
            if setting.key.startswith(("Condition", "Assert")):
                why = "no condition is looked at"
            unit.lost(setting, _WHY.get(setting.key, why))
    if not unit.commands:
        raise source.bad("it has no [Service] ExecStart=; is it a service?")
    if len(unit.commands) > 1 and not unit.oneshot:
        raise unit.bad(unit.commands[1][0], "only a unit of Type=oneshot has more than one")
    drop_ins = source.path.with_name(f"{source.path.name}.d")
    if drop_ins.is_dir():
        source.lost(drop_ins.name, "drop-ins are not read; put what they say in the file")
    _drop_what_stands_alone(unit)
    source.add(unit.specifiers.name, {**unit.table, "argv": _argv(unit.commands)})


def _drop_what_stands_alone(unit: _Unit) -> None:
    """Take fields away that mean nothing without another setting; what is lost by that is listed."""
    table = unit.table
    last = {setting.key: setting for setting in unit.settings}
    if "restarts" not in table.get("restart_limit", {"restarts": 0}):
        del table["restart_limit"]
    if "notify" not in table.get("ready", {"notify": True}):
        del table["ready"]
        unit.lost(
            last.get("TimeoutStartSec") or last["TimeoutSec"], "a job that does not say when it is ready has started"
        )
    if table.get("restart", "never") in ("never", None) and table.pop("restart_prevent", None):
        unit.lost(last["RestartPreventExitStatus"], "a job is not restarted unless restart says so")


def _exec_start(unit: _Unit, setting: Setting) -> None:
    words = unit.words(setting)
    at = [0, *(number + 1 for number, word in enumerate(words) if word == ";"), len(words) + 1]
    for begin, end in pairwise(at):
        command = [";" if word == "\\;" else word for word in words[begin : end - 1]]
        expanded = True
        while command and command[0][:1] in (*_PREFIXES, ":"):
            prefix, command[0] = command[0][0], command[0][1:]
            if prefix == ":":
                expanded = False
            else:
                unit.source.lost(f"[Service] ExecStart={prefix}", _PREFIXES[prefix])
            if prefix == "@":
                del command[1:2]
        if not command or not command[0]:
            raise unit.bad(setting, "the command is empty")
        unit.commands.append((setting, command, expanded))


def _argv(commands: Sequence[tuple[Setting, list[str], bool]]) -> list[str]:
    """What runs the commands: the one as it is, or a shell where there are more, or variables to put in."""
    plain = all(not expanded or not any(map(_refers, command)) for _, command, expanded in commands)
    if plain and len(commands) == 1:
        _, command, expanded = commands[0]
        return [word.replace("$$", "$") for word in command] if expanded else command
    lines = [
        " ".join(_shell_word(word) if expanded else shlex.quote(word) for word in command)
        for _, command, expanded in commands
    ]
    lines[-1] = f"exec {lines[-1]}"
    return ["/bin/sh", "-c", f"set -f; {' && '.join(lines)}"]  # -f, for systemd knows no globs


def _refers(word: str) -> bool:
    return bool(_LONE_VARIABLE.fullmatch(word)) or any(match[1] for match in _EXPANSION.finditer(word))


def _shell_word(word: str) -> str:
    """A word for a shell that means what systemd means: ${NAME} is put in, $NAME by itself is put in and split."""
    if _LONE_VARIABLE.fullmatch(word):
        return word
    pieces, at = [], 0
    for match in _EXPANSION.finditer(word):
        pieces += [word[at : match.start()], f"${{{match[1]}}}" if match[1] else "$"]
        at = match.end()
    pieces.append(word[at:])
    if not _refers(word):
        return shlex.quote("".join(pieces))
    return "".join(
        f'"{piece}"' if number % 2 and piece != "$" else shlex.quote(piece)
        for number, piece in enumerate(pieces)
        if piece
    )


def _type(unit: _Unit, setting: Setting) -> None:
    match setting.value:
        case "simple" | "exec" | "oneshot":
            pass
        case "notify" | "notify-reload":
            unit.table["ready"] = {"notify": True, **unit.table.get("ready", {})}
        case "forking":
            unit.lost(setting, "a job is its own process; give the program the option that keeps it in the foreground")
        case _:
            unit.lost(setting, "a job is ready from its start on, or as `ready` says")


def _restart(unit: _Unit, setting: Setting) -> None:
    word = setting.value
    unit.table["restart"] = _RESTART.get(word) or _NEAR_RESTART.get(word)
    if word in _NEAR_RESTART:
        unit.lost(setting, "on-failure is near, and is taken; restart_on says which codes and signals count")
    elif word not in _RESTART:
        unit.lost(setting, "a job is restarted never, on-failure or always")


def _environment(unit: _Unit, setting: Setting) -> None:
    for word in unit.words(setting):
        name, equals, value = word.partition("=")
        if not equals or not name:
            raise unit.bad(setting, f"{word!r} is no NAME=VALUE; quote the whole of it where it holds spaces")
        unit.table.setdefault("env", {})[name] = value


def _environment_file(unit: _Unit, setting: Setting) -> None:
    path = unit.text(setting)
    if path.startswith("-"):
        unit.lost(setting, "a file that is not there keeps the job from starting; make an empty one")
    unit.table.setdefault("env_files", []).append(path.removeprefix("-"))


def _working_directory(unit: _Unit, setting: Setting) -> None:
    path = unit.text(setting)
    if path.startswith("-"):
        unit.lost(setting, "a folder that is not there keeps the job from starting")
    path = path.removeprefix("-")
    if path == "~":
        user = next((each.value for each in unit.settings if each.key == "User"), None)
        try:
            path = pwd.getpwnam(user).pw_dir if user else unit.specifiers.put_in(setting, "%h")
        except KeyError:
            raise unit.bad(setting, f"there is no user {user!r} on this machine; write the folder itself") from None
    unit.table["cwd"] = path


def _text(field: str) -> Callable[[_Unit, Setting], None]:
    def take(unit: _Unit, setting: Setting) -> None:
        unit.table[field] = unit.text(setting)

    return take


def _whole(field: str) -> Callable[[_Unit, Setting], None]:
    def take(unit: _Unit, setting: Setting) -> None:
        soft, _, hard = setting.value.partition(":")
        if not re.fullmatch(r"[+-]?[0-9]{1,9}", soft) or hard not in ("", soft):
            unit.lost(setting, f"{field} is one whole number")
            return
        unit.table[field] = int(soft)

    return take


def _span(field: str) -> Callable[[_Unit, Setting], None]:
    def take(unit: _Unit, setting: Setting) -> None:
        seconds = unit_file.span_seconds(setting.value)
        if seconds is None and setting.value != "infinity":
            raise unit.bad(setting, "it is no time span such as 90 or 1min 30s")
        if not seconds:
            unit.lost(setting, f"{field} is a time, at most so long as it is given")
            return
        unit.table[field] = duration_text(seconds)

    return take


def _start_timeout(unit: _Unit, setting: Setting) -> None:
    if seconds := unit_file.span_seconds(setting.value):
        unit.table["ready"] = {**unit.table.get("ready", {}), "timeout": duration_text(seconds)}
    else:
        unit.lost(setting, "a job has 60 s to be ready; ready = { timeout = DUR } gives it more")


def _timeouts(unit: _Unit, setting: Setting) -> None:
    _span("stop_timeout")(unit, setting)
    if unit_file.span_seconds(setting.value):
        _start_timeout(unit, setting)


def _exits(field: str) -> Callable[[_Unit, Setting], None]:
    """Exit codes, their names of sysexits.h, and signals."""

    def take(unit: _Unit, setting: Setting) -> None:
        for word in setting.value.split():
            code = int(word) if word.isdigit() else getattr(os, f"EX_{word}", None)
            name = word if word in signal.Signals.__members__ else None
            end = code if code is not None and code <= 255 else name
            if end is None:
                unit.lost(setting, f"{word} is neither a code, a name of sysexits.h, nor a signal")
            elif end not in (already := unit.table.setdefault(field, [])) and (end != 0 or field != "success_exit"):
                already.append(end)

    return take


def _memory(unit: _Unit, setting: Setting) -> None:
    size = unit_file.size_bytes(setting.value)
    if not size:
        unit.lost(setting, "memory is a size in K, M, G or T")
        return
    unit.table["memory"] = size_text(size)


def _cpu(unit: _Unit, setting: Setting) -> None:
    if not re.fullmatch(r"[0-9]{1,6}%", setting.value) or setting.value.strip("0%") == "":
        raise unit.bad(setting, "it is no share of one processor such as 150%")
    unit.table["cpu"] = f"{int(setting.value[:-1]) / 100:g}"


def _signal(unit: _Unit, setting: Setting) -> None:
    unit.table["stop_signal"] = setting.value.removeprefix("SIG")


def _kill_mode(unit: _Unit, setting: Setting) -> None:
    if setting.value != "control-group":
        unit.lost(setting, "the whole tree of a job is signalled")


def _start_limit(unit: _Unit, setting: Setting) -> None:
    limit: dict[str, Any] = unit.table.setdefault("restart_limit", {"within": "10s"})
    if setting.key == "StartLimitBurst":
        limit["restarts"] = int(setting.value) if setting.value.isdigit() else setting.value
        return
    seconds = unit_file.span_seconds(setting.value)
    if seconds:
        limit["within"] = duration_text(seconds)
    else:
        unit.lost(setting, "a job is restarted for ever unless restart_limit says otherwise")


_TAKES: dict[str, Callable[[_Unit, Setting], None]] = {
    "ExecStart": _exec_start,
    "Type": _type,
    "Restart": _restart,
    "Environment": _environment,
    "EnvironmentFile": _environment_file,
    "WorkingDirectory": _working_directory,
    "User": _text("user"),
    "UMask": _text("umask"),
    "Nice": _whole("nice"),
    "LimitNOFILE": _whole("open_files"),
    "TasksMax": _whole("pids"),
    "MemoryMax": _memory,
    "MemoryLimit": _memory,
    "CPUQuota": _cpu,
    "RuntimeMaxSec": _span("timeout"),
    "TimeoutStopSec": _span("stop_timeout"),
    "TimeoutSec": _timeouts,
    "TimeoutStartSec": _start_timeout,
    "SuccessExitStatus": _exits("success_exit"),
    "RestartPreventExitStatus": _exits("restart_prevent"),
    "KillSignal": _signal,
    "KillMode": _kill_mode,
}
