"""`llmos model`: list, fetch, remove and choose the models that turn words into plans.

These work on files and need no llmosd. A running llmosd takes a new choice when it starts again.
"""

import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from llmos.cli.command import add_command
from llmos.cli.session import Session
from llmos.default_paths import default_config
from llmos.errors import BadInput, ModelError
from llmos.nlui import merged, models
from llmos.nlui.serving import served
from llmos.settings import load

_T = TypeVar("_T")
_SECTION = re.compile(r"^\[model\][^\n]*$", re.MULTILINE)
_NAME = re.compile(r"^name\s*=.*$", re.MULTILINE)


def _known_names() -> list[str]:
    return list(models.MODELS)


Name = Annotated[
    str, typer.Argument(metavar="NAME", help="A known model, or the path of a GGUF file.", autocompletion=_known_names)
]


def list_models(session: Session) -> None:
    """The models: which are known, which are here and merged with their adapters, which one is used."""
    if session.would("list the models"):
        return
    here = session.waiting("checking", _installed, after_seconds=1)
    used = load().model.name
    rows = [_row(model, here, used) for model in models.MODELS.values()]
    rows += [_row(own, here, used) for own, _ in here.values() if own.name not in models.MODELS]
    session.show(rows, "model")


def pull(session: Session, name: Name = models.DEFAULT) -> None:
    """Fetch a model, check its sha256 and merge its adapter into it; what is there already is kept."""
    if session.would(f"fetch the model {name} into {models.folder()} and merge its adapter into it"):
        return
    found = _with_bar(session, f"fetching {name}", lambda progress: models.pull(name, progress))
    merged_path = _merge(session, found)
    session.show(
        {
            "name": found.name,
            "title": found.title,
            "size_bytes": found.size,
            "path": str(found.path),
            "merged": str(merged_path) if merged_path else None,
        }
    )


def rm(session: Session, name: Name) -> None:
    """Remove a model from this machine."""
    if not session.would(f"remove the model {name} from this machine"):
        models.remove(name)
        merged.remove(name)
        session.show({"removed": name})


def use(session: Session, name: Name) -> None:
    """Choose the model, in the settings file; llmosd takes it when it starts again."""
    if session.would(f"set the model to {name} in {default_config()}"):
        return
    models.locate(name)
    write_choice(default_config(), name)
    session.show({"model": name, "settings": str(default_config())})


def write_choice(config: Path, name: str) -> None:
    """Set `name` in the section `[model]` of a settings file, and leave the rest of the file as it is.

    Raises:
        BadInput: the file is no valid settings file, or may not be written.
    """
    try:
        config.parent.mkdir(parents=True, exist_ok=True)
        before = config.read_text(encoding="utf-8") if config.exists() else ""
        tomllib.loads(before)
        after = _with_choice(before, name)
        if tomllib.loads(after).get("model", {}).get("name") != name:
            raise BadInput(f"{config} is written in a way that cannot be changed here; set name in its [model] by hand")
        draft = config.with_name(f"{config.name}.part")
        draft.write_text(after, encoding="utf-8")
        draft.replace(config)
    except OSError as error:
        raise BadInput(f"{config} cannot be written: {error.strerror}") from None
    except ValueError as error:
        raise BadInput(f"{config} is no TOML file: {error}; mend or remove it") from None


def build() -> typer.Typer:
    """The command group."""
    app = typer.Typer(help="The models that turn words into plans.", no_args_is_help=True, rich_markup_mode=None)
    for name, function in (("list", list_models), ("pull", pull), ("rm", rm), ("use", use)):
        add_command(app, name, function, help=function.__doc__ or "")
    return app


def _with_choice(text: str, name: str) -> str:
    line = f"name = {_toml_string(name)}"
    section = _SECTION.search(text)
    if section is None:
        return (
            text
            + ("\n" if text and not text.endswith("\n") else "")
            + f"\n[model]\n{line}\n".lstrip("\n" if not text else "")
        )
    after = text[section.end() :]
    next_section = re.search(r"^\[", after, re.MULTILINE)
    body, rest = (after[: next_section.start()], after[next_section.start() :]) if next_section else (after, "")
    body = _NAME.sub(lambda _: line, body, count=1) if _NAME.search(body) else f"\n{line}{body}"
    return text[: section.end()] + body + rest


def _toml_string(value: str) -> str:
    if "'" not in value and value.isprintable():
        return f"'{value}'" if "\\" in value or '"' in value else f'"{value}"'
    raise BadInput(f"{value!r} cannot stand in a settings file; move the file to a plainer path", field="name")


def _installed() -> dict[str, tuple[models.Installed, bool | None]]:
    """The models on this machine by name, and whether each is merged with its adapter, None where it has none."""
    return {found.name: (found, _is_merged(found)) for found in models.installed()}


def _is_merged(model: models.Installed) -> bool | None:
    try:
        as_served = served(model.name, load().state_dir)
    except ModelError:
        return None
    return as_served.adapter is None if as_served.trained else None


def _row(
    model: models.Model | models.Installed, here: dict[str, tuple[models.Installed, bool | None]], used: str
) -> dict[str, Any]:
    found, is_merged = here.get(model.name, (None, None))
    return {
        "name": model.name,
        "title": model.title,
        "size_bytes": model.size,
        "licence": model.licence,
        "installed": found is not None,
        "merged": is_merged,
        "in_use": model.name == used,
        "path": str(found.path) if found else None,
    }


def _merge(session: Session, model: models.Installed) -> Path | None:
    """The model merged with the adapter that it is served with; None where it has none, or they cannot be merged."""
    as_served = served(model.name, load().state_dir)
    adapter = as_served.adapter
    if adapter is None:
        return as_served.path if as_served.trained else None
    try:
        return _with_bar(session, "merging the adapter", lambda progress: merged.make(model, adapter, progress))
    except ModelError as error:
        session.say(f"{error.message}; the adapter is used unmerged, which is slower")
        return None


def _with_bar(session: Session, what: str, work: Callable[[models.Progress], _T]) -> _T:
    """Do the work; on a terminal a bar shows how far it is."""
    if session.json or not session.err.is_terminal:
        return work(lambda done, total: None)
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=session.err, transient=True) as bar:
        task = bar.add_task(what, total=None)
        return work(lambda done, total: bar.update(task, completed=done, total=total))
