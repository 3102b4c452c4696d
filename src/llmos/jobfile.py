"""The job file: jobs as TOML, a table `[job.NAME]` each.

Its fields are the arguments of `run`, by the same names and in the same forms, those for programs too, and `env`. They
are read off the syscall, so that what `run` learns a job file knows. `argv` may be one string, split as a shell splits;
it is run without a shell.

    [job.web]
    argv = "python -m http.server 8000"
    restart = "always"
    memory = "512M"

    [job.web.env]
    PYTHONUNBUFFERED = "1"
"""

import json
import re
import shlex
import tomllib
from collections.abc import Iterator, Mapping
from datetime import date, time
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError

from llmos.errors import BadInput
from llmos.plan import values
from llmos.syscalls.job import Run
from llmos.syscalls.registry import Kind, Text

MAX_JOBS = 1000
"""Jobs in one file."""

Table = dict[str, Any]
"""The fields of one job, as TOML and JSON have them."""


def _variable(name: str) -> str:
    if "=" in values.filled(name):
        raise ValueError(f"{values.shown(name)} is no name of a variable, for it holds =")
    return name


class JobSpec(BaseModel):
    """One job as a file declares it: a call of `run`, and the variables of its environment."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    run: Run
    env: dict[Annotated[str, AfterValidator(_variable)], Text] = {}


FIELDS = ("argv", *(name for name in Run.model_fields if name not in ("argv", "name", "on")), "env")
"""Every field that a job of a file may have."""
_PATHS = [
    argument.name
    for argument in (*Run.arguments.values(), *Run.api_arguments.values())
    if argument.kind is Kind.PATH and argument.name in FIELDS
]
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


def spec_of(name: str, table: Mapping[str, Any]) -> JobSpec:
    """The job of that name from its table.

    :raises BadInput: a field is unknown, missing, or has not the form it needs; the message names job and field.
    """
    for unknown in (field for field in table if field not in FIELDS):
        near = get_close_matches(str(unknown), FIELDS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"it may have {', '.join(FIELDS)}"
        raise BadInput(f"job.{name}: this llmosd knows no field {values.shown(str(unknown))}; {hint}", field=name)
    given = {field: value for field, value in table.items() if field != "env"}
    if isinstance(argv := given.get("argv"), str):
        try:
            given["argv"] = shlex.split(argv)
        except ValueError as error:
            raise BadInput(f"job.{name}.argv is not quoted as a shell quotes: {error}", field=f"{name}.argv") from None
    try:
        return JobSpec(run=Run.model_validate({**given, "name": name}), env=table.get("env", {}))
    except ValidationError as error:
        raise _explained(name, error) from None


def table_of(spec: JobSpec) -> Table:
    """The table of a job in its canonical form: defaults left out, fields in one order."""
    table = {**spec.run.as_json()["args"], **({"env": spec.env} if spec.env else {})}
    return {field: table[field] for field in FIELDS if field in table}


def _explained(name: str, error: ValidationError) -> BadInput:
    first = error.errors(include_url=False)[0]
    where = ".".join(["job", name, *(str(part) for part in first["loc"] if part not in ("name", "[key]"))])
    if first["type"] == "missing":
        return BadInput(f"job.{name} needs {first['loc'][-1]}", field=where)
    return BadInput(f"{where}: {str(first['msg']).removeprefix('Value error, ')}", field=where)


def read(path: Path) -> dict[str, Table]:
    """The tables of a job file by the name of their job, paths in them made absolute from the folder of the file.

    :raises BadInput: it cannot be read, is no TOML, or holds something else than jobs.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadInput(f"cannot read {path}: {error.strerror}", field="file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadInput(f"{path} is no TOML file: {error}", field="file") from None
    jobs = document.pop("job", {})
    if document or not isinstance(jobs, dict) or not all(isinstance(table, dict) for table in jobs.values()):
        what = f" and not {next(iter(document))!r}" if document else ""
        raise BadInput(f"{path}: a job file holds tables [job.NAME]{what}", field="file")
    for where, value in _leaves(jobs):
        if isinstance(value, date | time):
            raise BadInput(f'{path}: job.{where}: write dates and times in quotes, such as at = "02:00"', field=where)
    return {name: anchored(table, path.absolute().parent) for name, table in jobs.items()}


def anchored(table: Table, folder: Path) -> Table:
    """The table with absolute paths; a job without `cwd` runs in `folder`. `~` is left to llmosd."""

    def absolute(path: Any) -> Any:
        if isinstance(path, list):
            return [absolute(each) for each in path]
        return path if not isinstance(path, str) or path.startswith("~") else str(folder / path)

    return {"cwd": str(folder), **table, **{name: absolute(table[name]) for name in _PATHS if name in table}}


def _leaves(value: Any, where: str = "") -> Iterator[tuple[str, Any]]:
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in pairs:
        yield from _leaves(inner, f"{where}.{key}".removeprefix("."))
    if not isinstance(value, dict | list):
        yield where, value


def write(jobs: Mapping[str, Table]) -> str:
    """The job file of these tables; what `read` gives back from it is equal to them."""
    return "\n".join(_table(f"job.{_key(name)}", table) for name, table in jobs.items())


def _table(heading: str, table: Table) -> str:
    lines = [f"{_key(name)} = {_value(value)}\n" for name, value in table.items() if not isinstance(value, dict)]
    within = [
        f"\n{_table(f'{heading}.{_key(name)}', value)}" for name, value in table.items() if isinstance(value, dict)
    ]
    return f"[{heading}]\n" + "".join([*lines, *within])


def _key(name: str) -> str:
    return name if _BARE_KEY.fullmatch(name) else _value(name)


def _value(value: Any) -> str:
    match value:
        case list():
            return f"[{', '.join(map(_value, value))}]"
        case dict():
            return "{ " + ", ".join(f"{_key(name)} = {_value(inner)}" for name, inner in value.items()) + " }"
        case _:  # JSON's strings, numbers and booleans are TOML's, but for DEL, which TOML wants escaped
            return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
