"""supervisord.conf, with the files that it includes. http://supervisord.org/configuration.html"""

import platform
import re
import shlex
from collections.abc import Iterator
from configparser import Error, MissingSectionHeaderError, ParsingError, RawConfigParser
from dataclasses import dataclass, field
from glob import glob
from pathlib import Path
from typing import Any

from llmos.importers.source import NO_GROUPS, NOT_BY_ITSELF, OWN_LOG, Source, duration_text, text_of

MAX_PROCESSES = 1000
"""Of one program."""
_TOO_WIDE = re.compile(r"%\([^)]*\)[^a-zA-Z]*[0-9]{3}")
_TRUE, _FALSE = {"true", "yes", "on", "1"}, {"false", "no", "off", "0"}
_RESTART = {"unexpected": "on-failure"} | dict.fromkeys(_TRUE, "always") | dict.fromkeys(_FALSE, "never")
_HANDLED = {
    "command", "process_name", "numprocs", "numprocs_start", "directory", "user", "umask", "environment", "autostart",
    "autorestart", "stopsignal", "stopwaitsecs", "exitcodes",
}  # fmt: skip
_MEANS_THE_SAME = {"redirect_stderr": _TRUE, "stopasgroup": _TRUE, "killasgroup": _TRUE}
"""Options that say, with these values, what holds for every job."""
_OF_ALL_PROCESSES = {"autostart", "numprocs", "numprocs_start", "exitcodes", "stopwaitsecs"}
"""Options that are the same for each process of a program."""
_ITSELF = "it is about supervisord itself; llmosd has its own settings"
_WHY = {
    "redirect_stderr": "both streams go to one log",
    "stopasgroup": "the whole tree of a job is signalled",
    "killasgroup": "the whole tree of a job is killed",
    "priority": "jobs start in no fixed order; `after` makes one wait for another",
    "startsecs": "a job runs from its start on; `ready` says when it is ready",
    "startretries": "retries go on with growing delays; restart_limit = { restarts = N } ends them",
    "serverurl": "there is no HTTP server",
}


@dataclass(slots=True)
class _Program:
    """One section [program:NAME], and the file that it stands in."""

    name: str
    options: dict[str, str]
    file: Path
    group: str
    expansions: dict[str, Any] = field(default_factory=dict)


def read(source: Source) -> None:
    """Take down each process of each program as a job.

    :raises BadInput: it is no supervisord.conf, or an option is malformed.
    """
    sections = dict(_sections(source, source.path, source.text))
    programs: dict[str, _Program] = {}
    shared: dict[str, str] = {}
    for name, (options, file) in sections.items():
        kind, _, of = name.partition(":")
        match kind:
            case "program":
                programs[of.strip()] = _Program(of.strip(), options, file, of.strip())
            case "supervisord":
                shared = options
            case "group":
                for option, value in options.items():
                    source.lost(f"[{name}] {option}", NO_GROUPS if option == "programs" else _WHY["priority"], value)
            case "include":
                pass
            case "fcgi-program":
                source.lost(f"[{name}]", "no socket is opened for a job; let the program open its own")
            case "eventlistener":
                source.lost(f"[{name}]", "events are read from the socket: llmos events")
            case _:
                source.lost(f"[{name}]", _ITSELF)
    for name, (options, _) in sections.items():
        if name.startswith("group:"):
            for member in map(str.strip, options.get("programs", "").split(",")):
                if member not in programs:
                    raise source.bad(f"[{name}] names the program {member!r}, which is nowhere")
                programs[member].group = name.partition(":")[2].strip()
    if not programs:
        raise source.bad("it has no section [program:NAME], nor has a file that it includes")
    for option in shared:
        if option not in ("environment", "user", "umask"):
            source.lost(f"[supervisord] {option}", _ITSELF)
    for program in programs.values():
        _take(source, program, shared)
    source.lost("environment", "supervisord passes its own on; a job gets what env says, and PATH")


def _sections(source: Source, file: Path, text: str) -> Iterator[tuple[str, tuple[dict[str, str], Path]]]:
    """Each section of the file and of those that it includes: its name, its options, and where it stands."""
    parser = RawConfigParser(inline_comment_prefixes=(";", "#"), strict=False)
    within = Source(file, text, source.environ)
    try:
        parser.read_string(text)
    except MissingSectionHeaderError as error:
        raise within.bad("an option stands before the first [section]", error.lineno) from None
    except ParsingError as error:
        line, what = error.errors[0]
        raise within.bad(f"{what} is neither a [section] nor an option = value", line) from None
    except Error as error:
        raise within.bad(str(error)) from None
    for name in parser.sections():
        yield name, (dict(parser.items(name)), file)
    if file is source.path and parser.has_option("include", "files"):
        patterns = _expanded(source, "[include] files", parser.get("include", "files"), {"here": _here(file)})
        for pattern in patterns.split():
            for found in sorted(glob(str(file.parent / pattern))):
                yield from _sections(source, Path(found), text_of(Path(found)))


def _take(source: Source, program: _Program, shared: dict[str, str]) -> None:
    where = f"[program:{program.name}]"
    for option in _OF_ALL_PROCESSES & program.options.keys():
        text = _expanded(source, f"{where} {option}", program.options[option], _expansions(program))
        program.options[option] = text
    options = program.options
    if not _flag(source, where, options, "autostart", True):
        source.lost(f"{where} autostart", NOT_BY_ITSELF, options["autostart"])
        return
    for option, value in options.items():
        if option in _HANDLED or value.lower() in _MEANS_THE_SAME.get(option, ()):
            continue
        why = OWN_LOG if option.startswith(("stdout_", "stderr_")) else _WHY.get(option, "it has no equivalent")
        source.lost(f"{where} {option}", why, value)
    processes = _number(source, where, options, "numprocs", 1)
    first = _number(source, where, options, "numprocs_start", 0)
    if not 1 <= processes <= MAX_PROCESSES:
        raise source.bad(f"{where} numprocs={processes}: write a number from 1 to {MAX_PROCESSES}")
    if processes > 1 and "%(process_num)" not in options.get("process_name", ""):
        raise source.bad(f"{where} numprocs={processes} needs %(process_num)d in process_name")
    if "0" not in _codes(options):
        source.lost(f"{where} exitcodes", "exit code 0 always counts as ended well", options["exitcodes"])
    for number in range(first, first + processes):
        _take_process(source, program, shared, number, processes)


def _take_process(source: Source, program: _Program, shared: dict[str, str], number: int, of: int) -> None:
    where = f"[program:{program.name}]"
    expansions = {**_expansions(program), "process_num": number, "numprocs": of}

    def get(option: str, otherwise: str = "") -> str:
        return _expanded(source, f"{where} {option}", program.options.get(option, otherwise), expansions)

    if not get("command"):
        raise source.bad(f"{where} has no command")
    restart = get("autorestart", "unexpected").lower()
    if restart not in _RESTART:
        raise source.bad(f"{where} autorestart={restart}: write true, false or unexpected")
    codes = dict.fromkeys(_codes(program.options))
    common = _expanded(source, "[supervisord] environment", shared.get("environment", ""), expansions)
    table = {
        "argv": _words(source, f"{where} command", get("command")),
        "cwd": get("directory"),
        "restart": _RESTART[restart],
        "success_exit": [_number(source, where, {"exitcodes": code}, "exitcodes", 0) for code in codes if code != "0"],
        "user": get("user") or shared.get("user"),
        "umask": get("umask") or shared.get("umask"),
        "env": {
            **_pairs(source, "[supervisord] environment", common),
            **_pairs(source, f"{where} environment", get("environment")),
        },
    }
    if "stopsignal" in program.options:
        table["stop_signal"] = get("stopsignal").upper().removeprefix("SIG")
    if "stopwaitsecs" in program.options:
        table["stop_timeout"] = duration_text(_number(source, where, program.options, "stopwaitsecs", 10))
    source.add(get("process_name", "%(program_name)s"), table)


def _expansions(program: _Program) -> dict[str, Any]:
    return {
        "here": _here(program.file), "program_name": program.name, "host_node_name": platform.node(),
        "group_name": program.group,
    }  # fmt: skip


def _codes(options: dict[str, str]) -> list[str]:
    """The exit codes that are expected."""
    return [code.strip() for code in options.get("exitcodes", "0").split(",")]


def _here(file: Path) -> str:
    return str(file.absolute().parent)


def _expanded(source: Source, where: str, text: str, expansions: dict[str, Any]) -> str:
    """The text with each %(NAME)s put in, those of the environment as %(ENV_NAME)s."""
    if _TOO_WIDE.search(text):
        raise source.bad(f"{where}: a number is written with at most 99 digits, unlike in {text!r}")
    known = {**{f"ENV_{name}": value for name, value in source.environ.items()}, **expansions}
    try:
        return text % known
    except KeyError as error:
        name = str(error.args[0])
        hint = f"; set {name[4:]} in the environment of this import" if name.startswith("ENV_") else ""
        raise source.bad(f"{where}: %({name})s is not known{hint}") from None
    except (ValueError, TypeError) as error:
        raise source.bad(f"{where}: {error} in {text!r}; a percent sign by itself is written %%") from None


def _pairs(source: Source, where: str, text: str) -> dict[str, str]:
    """KEY="value",KEY=value as supervisord reads it."""
    lexer = shlex.shlex(text, posix=False)
    lexer.wordchars += "/.+-():@%"
    found: dict[str, str] = {}
    try:
        tokens = list(lexer)
    except ValueError as error:
        raise source.bad(f"{where}: {error} in {text!r}") from None
    for at in range(0, len(tokens), 4):
        name, equals, value = (*tokens[at : at + 3], "", "", "")[:3]
        if equals != "=" or not value or tokens[at + 3 : at + 4] not in ([","], []):
            raise source.bad(f'{where}: {text!r} is no list of KEY="value", KEY="value"')
        found[name] = value.strip("'\"")
    return found


def _words(source: Source, where: str, text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError as error:
        raise source.bad(f"{where} is not quoted as a shell quotes: {error}") from None


def _number(source: Source, where: str, options: dict[str, str], option: str, otherwise: int) -> int:
    text = options.get(option, str(otherwise)).strip()
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise source.bad(f"{where} {option}={text} is no whole number")
    return int(text)


def _flag(source: Source, where: str, options: dict[str, str], option: str, otherwise: bool) -> bool:
    text = options.get(option, str(otherwise)).lower()
    if text not in _TRUE | _FALSE:
        raise source.bad(f"{where} {option}={text}: write true or false")
    return text in _TRUE
