"""process-compose.yaml. https://f1bonacc1.github.io/process-compose/configuration/"""

import re
import signal
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

import yaml

from llmos.importers.source import NO_GROUPS, NOT_BY_ITSELF, OWN_LOG, Source, duration_text, shell_argv
from llmos.jobfile import Table

MAX_REPLICAS = 1000
MAX_VALUES = 100_000
_VARIABLE = re.compile(r"\$(?:(\$)|\{(\w+)(?::?-([^{}]*))?\}|(\w+))")
_TEMPLATE = re.compile(r"\{\{-?\s*(?:\.(\w+))?\s*-?\}\}|\{\{.*?\}\}")
_UNEXPANDED = re.compile(r"^disable_env_expansion:\s*true\b", re.MULTILINE)
_RESTART = {
    "no": "never",
    "never": "never",
    "always": "always",
    "unless-stopped": "always",
    "on_failure": "on-failure",
    "exit_on_failure": "never",
}
_STARTED = "process_started"
_ENDED_WELL, _READY = {"process_completed_successfully"}, {"process_healthy", "process_log_ready"}
_HANDLED_TOP = {"processes", "environment", "env_file", "vars", "shell", "version", "disable_env_expansion"}
_HANDLED = {
    "command", "entrypoint", "working_dir", "environment", "env_file", "availability", "depends_on", "shutdown",
    "readiness_probe", "liveness_probe", "ready_log_line", "replicas", "disabled", "is_foreground", "vars",
    "is_dotenv_disabled", "schedule",
}  # fmt: skip
_WHY = {
    "namespace": NO_GROUPS,
    "log_location": OWN_LOG,
    "log_configuration": OWN_LOG,
    "is_daemon": "a job is its own process; let the program stay in the foreground",
    "is_tty": "a job has no terminal",
    "description": "a job has no description",
    "is_strict": "an unknown field of a job file is always an error",
}
_NOT_UNLESS_TRUE = {"is_daemon", "is_tty", "is_interactive", "is_elevated", "disable_ansi_colors"}
_WHY_SCHEDULE = {
    "interval": "write every = DUR",
    "timezone": "times are those of the zone that llmosd runs in (TZ)",
    "run_on_start": "a job with a schedule waits for its time",
    "max_concurrent": 'a job runs once at a time; overlap = "queue" or "replace" says what follows otherwise',
}
_NOT_ASKED = {
    "ready": dict.fromkeys(
        ["initial_delay_seconds", "period_seconds", "timeout_seconds", "success_threshold", "failure_threshold"],
        "a job that is not ready is probed again at once, then every second at most, for a minute",
    ),
    "health": {
        "initial_delay_seconds": "a job is checked once it is ready",
        "success_threshold": "one check that goes well is enough",
    },
}


@dataclass(slots=True)
class _File:
    """The whole file: what its processes share, and what is known of the others by each."""

    source: Source
    document: dict[str, Any]
    processes: dict[str, dict[str, Any]]
    shell: tuple[str, str]
    left_out: set[str] = field(default_factory=set)
    probes: dict[str, Table] = field(default_factory=dict)


def read(source: Source) -> None:
    """Take down each replica of each process as a job.

    :raises BadInput: it is no YAML, has no processes, or a part of it has not the form it needs.
    """
    text = source.text if _UNEXPANDED.search(source.text) else _with_variables(source)
    try:
        document = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problem = f"it is no YAML: {error.problem or error.context}"
        raise source.bad(problem, mark.line + 1 if mark is not None else None) from None
    except yaml.YAMLError as error:
        raise source.bad(f"it is no YAML: {error}") from None
    except RecursionError:
        raise source.bad("it is nested too deep") from None
    _require_few(source, document)
    processes = _mapping(source, "the file", document).get("processes")
    if not processes:
        raise source.bad("it has no `processes`; is it of process-compose?")
    for key in _rest(document, _HANDLED_TOP):
        source.lost(key, _WHY.get(key, "it is about process-compose itself"))
    shell = _mapping(source, "shell", document.get("shell") or {})
    file = _File(
        source,
        document,
        {name: _mapping(source, name, each) for name, each in _mapping(source, "processes", processes).items()},
        (str(shell.get("shell_command", "bash")), str(shell.get("shell_argument", "-c"))),
    )
    for name, process in list(file.processes.items()):
        if by_hand := [key for key in ("disabled", "is_foreground") if process.get(key)]:
            source.lost(f"{name}: {by_hand[0]}", NOT_BY_ITSELF)
            file.left_out.add(name)
    taken = {name: process for name, process in file.processes.items() if name not in file.left_out}
    file.probes = {name: _probes(source, name, process) for name, process in taken.items()}
    for name, process in taken.items():
        _take(file, name, process)
    source.lost("environment", "process-compose passes its own on; a job gets what env and env_files say, and PATH")


def _require_few(source: Source, document: Any) -> None:
    """Aliases of aliases can stand for more than any memory holds."""
    left, count = [document], 0
    while left:
        value = left.pop()
        count += 1
        if count > MAX_VALUES:
            raise source.bad(f"it stands for more than {MAX_VALUES} values, with its aliases written out")
        left += value.values() if isinstance(value, dict) else value if isinstance(value, list) else []


def _take(file: _File, name: str, process: dict[str, Any]) -> None:
    source, document = file.source, file.document
    for key in _rest(process, _HANDLED):
        if process[key] is False and key in _NOT_UNLESS_TRUE:
            continue
        source.lost(f"{name}: {key}", _WHY.get(key, "it has no equivalent"), process[key])
    variables = {
        **_mapping(source, "vars", document.get("vars") or {}),
        **_mapping(source, f"{name}: vars", process.get("vars") or {}),
    }
    table: Table = {
        "cwd": process.get("working_dir"),
        "env": {
            **_environment(source, "environment", document.get("environment")),
            **_environment(source, f"{name}: environment", process.get("environment")),
        },
        "env_files": [
            *([] if process.get("is_dotenv_disabled") else source.dotenv()),
            *_texts(document.get("env_file")),
            *_texts(process.get("env_file")),
        ],
        **_restarts(source, name, process),
        **_shutdown(source, name, process),
        **file.probes[name],
        **_schedule(source, name, process),
        "after": _after(file, name, process),
    }
    for number, replica in enumerate(_replicas(source, name, process)):
        known = {**variables, "PC_REPLICA_NUM": number}
        filled = {key: _filled(source, name, value, known) for key, value in table.items()}
        if process.get("entrypoint"):
            filled["argv"] = _texts(_filled(source, name, process["entrypoint"], known))
        elif process.get("command"):
            filled["argv"] = shell_argv(str(_filled(source, name, process["command"], known)).rstrip("\n"), file.shell)
        else:
            raise source.bad(f"{name} has neither a command nor an entrypoint")
        source.add(replica, filled)


def _replicas(source: Source, name: str, process: dict[str, Any]) -> list[str]:
    """The names of its replicas: its own where it is one."""
    count = process.get("replicas") or 1
    if not isinstance(count, int) or not 1 <= count <= MAX_REPLICAS:
        raise source.bad(f"{name}: replicas: write a number from 1 to {MAX_REPLICAS}, not {count!r}")
    return [name] if count == 1 else [f"{name}-{number:0{len(str(count))}d}" for number in range(count)]


def _restarts(source: Source, name: str, process: dict[str, Any]) -> Table:
    availability = _mapping(source, f"{name}: availability", process.get("availability") or {})
    word = availability.get("restart") or "no"  # YAML reads a bare `no` as false
    if word not in _RESTART:
        raise source.bad(f"{name}: restart: {word!r} is none of {', '.join(_RESTART)}")
    if word == "exit_on_failure" or availability.get("exit_on_end"):
        source.lost(f"{name}: exit_on_end", "the end of one job ends no other")
    if (most := availability.get("max_restarts")) is not None:
        source.lost(
            f"{name}: max_restarts",
            'it counts for ever; restart_limit = { restarts = N, within = "1h" } is near',
            most,
        )
    if (pause := availability.get("backoff_seconds")) is not None:
        source.lost(f"{name}: backoff_seconds", "retries go on with growing delays", pause)
    return {"restart": _RESTART[word]}


def _shutdown(source: Source, name: str, process: dict[str, Any]) -> Table:
    shutdown = _mapping(source, f"{name}: shutdown", process.get("shutdown") or {})
    table: Table = {}
    if "signal" in shutdown:
        try:
            table["stop_signal"] = signal.Signals(shutdown["signal"]).name.removeprefix("SIG")
        except ValueError:
            raise source.bad(f"{name}: shutdown: {shutdown['signal']!r} is no number of a signal") from None
    if "timeout_seconds" in shutdown:
        table["stop_timeout"] = _seconds(source, f"{name}: shutdown", shutdown["timeout_seconds"])
    for key in _rest(shutdown, {"signal", "timeout_seconds"}):
        why = "the whole tree is signalled" if key == "parent_only" else "a job is stopped by a signal"
        source.lost(f"{name}: shutdown.{key}", why, shutdown[key])
    return table


def _probes(source: Source, name: str, process: dict[str, Any]) -> Table:
    table: Table = {}
    if (text := process.get("ready_log_line")) is not None:
        table["ready"] = {"log": str(text)}
    for key, field_of_job in (("readiness_probe", "ready"), ("liveness_probe", "health")):
        probe = _mapping(source, f"{name}: {key}", process.get(key) or {})
        if not probe:
            continue
        where = f"{name}: {key}"
        if (way := _way(source, where, probe)) is None:
            continue
        table[field_of_job] = way
        for timing in [key for key in probe if key in _NOT_ASKED[field_of_job]]:
            source.lost(f"{where}.{timing}", _NOT_ASKED[field_of_job][timing], probe[timing])
        if field_of_job == "health":
            table[field_of_job] |= {
                "interval": _seconds(source, where, probe.get("period_seconds", 10)),
                "timeout": _seconds(source, where, probe.get("timeout_seconds", 1)),
                "failures": probe.get("failure_threshold", 3),
            }
    return table


def _way(source: Source, where: str, probe: dict[str, Any]) -> dict[str, Any] | None:
    """How a probe asks: by a command, or by HTTP; None where it cannot be asked so."""
    if asks := _mapping(source, where, probe.get("exec") or {}):
        if asks.get("working_dir"):
            source.lost(f"{where}.exec.working_dir", "a probe runs in the folder of its job", asks["working_dir"])
        return {"exec": ["bash", "-c", str(asks.get("command", ""))]}
    if asks := _mapping(source, where, probe.get("http_get") or {}):
        for key in [key for key in ("headers", "status_code") if key in asks]:
            source.lost(f"{where}.http_get.{key}", "any answer from 200 to 399 counts as well", asks[key])
        if asks.get("scheme") == "https":
            source.lost(f"{where}.http_get.scheme", "a probe speaks http alone; use exec with curl", "https")
            return None
        port = f":{asks['port']}" if asks.get("port") else ""
        return {
            "http": f"{asks.get('scheme') or 'http'}://{asks.get('host') or '127.0.0.1'}{port}{asks.get('path') or '/'}"
        }
    raise source.bad(f"{where} has neither exec nor http_get")


def _schedule(source: Source, name: str, process: dict[str, Any]) -> Table:
    schedule = _mapping(source, f"{name}: schedule", process.get("schedule") or {})
    for key in _rest(schedule, {"cron"}):
        source.lost(f"{name}: schedule.{key}", _WHY_SCHEDULE.get(key, "it has no equivalent"), schedule[key])
    return {"cron": schedule["cron"]} if "cron" in schedule else {}


def _after(file: _File, name: str, process: dict[str, Any]) -> list[str]:
    """The jobs that it waits for: until they have ended well or, where they have a readiness, are ready."""
    source, found = file.source, []
    for other, asked in _mapping(source, f"{name}: depends_on", process.get("depends_on") or {}).items():
        if other not in file.processes:
            raise source.bad(f"{name}: depends_on: there is no process {other!r}")
        condition = str(_mapping(source, f"{name}: depends_on {other}", asked or {}).get("condition", _STARTED))
        if other in file.left_out:
            source.lost(f"{name}: depends_on {other}", "it is left out, so nothing waits for it")
        elif condition in (_READY if "ready" in file.probes[other] else _ENDED_WELL):
            found += _replicas(source, other, file.processes[other])
        else:
            source.lost(
                f"{name}: depends_on {other}: {condition}", "`after` waits until a job is ready, or has ended well"
            )
    return found


def _rest(mapping: dict[str, Any], handled: Collection[str]) -> list[str]:
    return [key for key in mapping if key not in handled]


def _filled(source: Source, name: str, value: Any, known: dict[str, Any]) -> Any:
    """The value with each {{.NAME}} put in."""
    if isinstance(value, dict):
        return {key: _filled(source, name, inner, known) for key, inner in value.items()}
    if isinstance(value, list):
        return [_filled(source, name, inner, known) for inner in value]
    if not isinstance(value, str):
        return value

    def fill(match: re.Match[str]) -> str:
        if match[1] not in known:
            raise source.bad(
                f"{name}: {match[0]} is neither a variable of `vars` nor PC_REPLICA_NUM; write what it gives"
            )
        return str(known[match[1]])

    return _TEMPLATE.sub(fill, value)


def _with_variables(source: Source) -> str:
    """The text with ${NAME}, ${NAME:-DEFAULT} and $NAME put in from the environment; $$ is a plain $."""
    unset: set[str] = set()

    def put_in(match: re.Match[str]) -> str:
        if match[1]:
            return "$"
        name = match[2] or match[4]
        if name not in source.environ and match[3] is None:
            unset.add(name)
        return source.environ.get(name) or match[3] or ""

    text = _VARIABLE.sub(put_in, source.text)
    for name in sorted(unset):
        source.lost(
            f"${{{name}}}", "it is not set here, so it is empty, as for process-compose; $${NAME} is left to the shell"
        )
    return text


def _environment(source: Source, where: str, value: Any) -> dict[str, str]:
    if isinstance(value, dict):
        return {str(name): "" if each is None else str(each) for name, each in value.items()}
    pairs = [str(each).partition("=") for each in value or []]
    if not all(name and equals for name, equals, _ in pairs):
        raise source.bad(f"{where}: write each entry as NAME=VALUE")
    return {name: each for name, _, each in pairs}


def _mapping(source: Source, where: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise source.bad(f"{where} is to be a mapping, not {value!r}")
    return {str(key): each for key, each in value.items()}


def _texts(value: Any) -> list[str]:
    return [] if value is None else [str(each) for each in (value if isinstance(value, list) else [value])]


def _seconds(source: Source, where: str, value: Any) -> str:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise source.bad(f"{where}: {value!r} is no number of seconds")
    return duration_text(value)
