"""PM2's ecosystem file: JSON, or a `.config.js` that holds data alone.

https://pm2.keymetrics.io/docs/usage/application-declaration/
"""

import re
import shlex
from pathlib import PurePosixPath
from typing import Any

from llmos.importers import javascript
from llmos.importers.source import NO_GROUPS, OWN_LOG, Source, duration_text
from llmos.jobfile import Table

MAX_INSTANCES = 1000
_INTERPRETERS = {
    ".js": "node", ".cjs": "node", ".mjs": "node", ".py": "python3", ".sh": "bash", ".rb": "ruby", ".php": "php",
    ".pl": "perl", ".ts": "bun", ".tsx": "bun",
}  # fmt: skip
"""As PM2 has them (lib/API/interpreter.json)."""
_HANDLED = {
    "name", "script", "args", "cwd", "interpreter", "exec_interpreter", "interpreter_args", "node_args", "exec_mode",
    "instances", "instance_var", "env", "autorestart", "cron_restart", "cron", "kill_timeout", "uid", "user",
    "wait_ready", "stop_exit_codes", "max_memory_restart", "watch",
}  # fmt: skip
_WHY = {
    "watch": "files are not watched",
    "ignore_watch": "files are not watched",
    "watch_delay": "files are not watched",
    "watch_options": "files are not watched",
    "max_restarts": "retries go on with growing delays; restart_limit = { restarts = N } ends them",
    "min_uptime": "a job that ran 30 s starts its delays anew (healthy_seconds of the settings)",
    "restart_delay": "retries go on with growing delays",
    "exp_backoff_restart_delay": "retries go on with growing delays",
    "namespace": NO_GROUPS,
    "gid": "a job has the groups of its user",
    "treekill": "the whole tree of a job is always signalled",
    "source_map_support": "it is of Node.js; set NODE_OPTIONS in env",
    "shutdown_with_message": "a job is stopped by a signal",
    "post_update": "nothing is deployed",
    "listen_timeout": "`ready` says when a job is ready, and by when",
    "append_env_to_name": "jobs are named as they are",
}
_LOGS = {"log", "log_file", "out_file", "error_file", "output", "error", "out", "merge_logs", "combine_logs", "time",
         "log_date_format", "log_type", "disable_logs"}  # fmt: skip
_SIZE = re.compile(r"(\d+)([KMG]?)", re.IGNORECASE)


def read(source: Source) -> None:
    """Take down each instance of each app as a job.

    :raises BadInput: it is no data, holds no apps, or an app has not the form it needs.
    """
    try:
        document, unset = javascript.parse(source.text, str(source.path.absolute().parent), source.environ)
    except javascript.NotData as error:
        remedy = f"node -p 'JSON.stringify(require(\"./{source.path.name}\"))' > ecosystem.json"
        hint = "" if source.path.suffix == ".json" else f"; only data is read, so run it and import that: {remedy}"
        raise source.bad(f"{error}{hint}", error.line) from None
    for name in dict.fromkeys(unset):
        source.lost(f"process.env.{name}", "it is not set here, so it is undefined, as it would be for PM2")
    if isinstance(document, dict) and "apps" in document:
        for key in document:
            if key != "apps":
                source.lost(key, "nothing is deployed" if key == "deploy" else "it has no equivalent")
        document = document["apps"]
    apps = document if isinstance(document, list) else [document]
    if not apps or not all(isinstance(app, dict) and app.get("script") for app in apps):
        raise source.bad('it holds no apps; each is an object with a "script"')
    for app in apps:
        _take(source, app)
    source.lost("environment", "PM2 passes its own on; a job gets what env says, and PATH")


def _take(source: Source, app: dict[str, Any]) -> None:
    script = str(app["script"])
    name = str(app.get("name") or PurePosixPath(script).stem)
    for key, value in app.items():
        if key in _LOGS:
            source.lost(f"{name}: {key}", OWN_LOG, value)
        elif key.startswith("env_"):
            source.lost(
                f"{name}: {key}",
                "a job has one env; copy what it needs",
                sorted(value) if isinstance(value, dict) else value,
            )
        elif key not in _HANDLED or (key == "watch" and value):
            source.lost(f"{name}: {key}", _WHY.get(key, "it has no equivalent"), value)
    if app.get("max_memory_restart") is not None:
        _say_memory(source, name, app["max_memory_restart"])
    restart = "never" if app.get("autorestart") is False else "always"
    table: Table = {
        "argv": _argv(source, name, app, script),
        "cwd": app.get("cwd"),
        "env": _environment(source, name, app.get("env") or {}),
        "restart": restart,
        **_cron(source, name, app.get("cron_restart") or app.get("cron"), restart),
        "restart_prevent": _codes(source, name, app.get("stop_exit_codes")) if restart == "always" else None,
        "user": str(user) if (user := app.get("uid") or app.get("user")) is not None else None,
        "stop_signal": "INT",
        "stop_timeout": duration_text(
            _milliseconds(source, name, "kill_timeout", app.get("kill_timeout", 1600)) / 1000
        ),
    }
    if app.get("wait_ready"):
        source.lost(f"{name}: wait_ready", "a job does not say it to its parent with process.send; see `ready`", True)
    instances = _instances(source, name, app)
    for number in range(instances):
        env = (
            {**table["env"], str(app.get("instance_var") or "NODE_APP_INSTANCE"): str(number)}
            if instances > 1
            else table["env"]
        )
        source.add(f"{name}-{number}" if instances > 1 else name, {**table, "env": env})


def _argv(source: Source, name: str, app: dict[str, Any], script: str) -> list[str]:
    """The command: the interpreter that is named, or that the ending of the script has, its arguments, the script's."""
    interpreter = app.get("interpreter") or app.get("exec_interpreter")
    if interpreter is None:
        interpreter = _INTERPRETERS.get(PurePosixPath(script).suffix, "none")
        if interpreter == "bun":
            source.lost(f"{name}: script", "PM2 runs TypeScript with bun; put another interpreter in argv", script)
    options = [*_words(source, name, app.get("node_args")), *_words(source, name, app.get("interpreter_args"))]
    before = [] if interpreter == "none" else [str(interpreter), *options]
    words = _words(source, name, script) if interpreter == "none" else [script]
    return [*before, *words, *_words(source, name, app.get("args"))]


def _instances(source: Source, name: str, app: dict[str, Any]) -> int:
    wanted = app.get("instances", 1)
    if isinstance(wanted, str) and wanted.lstrip("-").isdigit():
        wanted = int(wanted)
    cluster = str(app.get("exec_mode", "")).startswith("cluster")
    if cluster:
        source.lost(f"{name}: exec_mode", "processes share no port; give each one its own", app["exec_mode"])
    if wanted == "max" or (isinstance(wanted, int) and wanted <= 0):
        source.lost(f"{name}: instances", "jobs are not counted by processors; this is one", wanted)
        return 1
    if not isinstance(wanted, int) or wanted > MAX_INSTANCES:
        raise source.bad(f'{name}: instances: write a number up to {MAX_INSTANCES} or "max", not {wanted!r}')
    return wanted


def _cron(source: Source, name: str, cron: Any, restart: str) -> Table:
    """Its times, where it is not to run all the time as well."""
    if cron in (None, 0, "0"):
        return {}
    if restart == "always" or len(str(cron).split()) != 5:
        why = "cron = … is for what does not run all the time; a watch or a second job does `restart NAME`"
        source.lost(f"{name}: cron_restart", why if restart == "always" else "cron = … has five fields", cron)
        return {}
    source.lost(f"{name}: cron_restart", "it is run at its times alone, not when it is applied as well", cron)
    return {"cron": str(cron), "overlap": "replace"}


def _codes(source: Source, name: str, value: Any) -> list[int]:
    codes = value if isinstance(value, list) else [] if value is None else [value]
    if not all(type(code) is int for code in codes):
        raise source.bad(f"{name}: stop_exit_codes: {value!r} is no list of exit codes")
    return codes


def _say_memory(source: Source, name: str, value: Any) -> None:
    size = _SIZE.fullmatch(str(value))
    if size is None:
        raise source.bad(f"{name}: max_memory_restart: {value!r} is no size such as 300M")
    bound = f"{size[1]}{size[2].upper()}" if size[2] else f"{-(-int(size[1]) // 1024)}K"
    how = f'a watch does it: llmos watch memory --target {name} --above {bound} --then "restart {name}"'
    source.lost(f"{name}: max_memory_restart", f'{how}; memory = "{bound}" would be a hard limit', value)


def _environment(source: Source, name: str, env: Any) -> dict[str, str]:
    if not isinstance(env, dict):
        raise source.bad(f"{name}: env is to be an object")
    for key, value in env.items():
        if isinstance(value, dict | list):
            raise source.bad(f"{name}: env.{key} is to be a text or a number")
    return {key: value if isinstance(value, str) else _text(value) for key, value in env.items() if value is not None}


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else f"{value}"


def _words(source: Source, name: str, value: Any) -> list[str]:
    if isinstance(value, list):
        return [str(word) for word in value]
    try:
        return shlex.split(str(value)) if value else []
    except ValueError as error:
        raise source.bad(f"{name}: {value!r} is not quoted as a shell quotes: {error}") from None


def _milliseconds(source: Source, name: str, key: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
        raise source.bad(f"{name}: {key}: {value!r} is no number of milliseconds")
    return float(value)
