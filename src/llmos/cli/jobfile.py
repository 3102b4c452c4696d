"""`llmos apply`, `export` and `import`: jobs as a file declares them, as a file, and from files of other supervisors."""

import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.text import Text

from llmos import jobfile
from llmos.cli.ask import SettingsAllowOption
from llmos.cli.command import add_command
from llmos.cli.layout import cell
from llmos.cli.session import Session
from llmos.cli.terminal_text import plain
from llmos.errors import BadInput, NeedsConfirmation, PlanChanged, from_json
from llmos.importers import formats

File = Annotated[Path, typer.Argument(metavar="FILE", show_default=False)]
_SIGNS = {"add": ("+", "green"), "change": ("~", "yellow"), "remove": ("-", "red")}
_HOW = {"live": ", without a restart", "restart": ", with a restart", "start": ", and starts it"}


def apply(
    session: Session,
    file: File,
    prune: Annotated[
        bool, typer.Option("--prune", help="Remove the jobs that were applied before and are no longer in the file.")
    ] = False,
    allow: SettingsAllowOption = None,
) -> None:
    """Make the jobs be as a job file says.

    The difference is shown as a plan and done; a second time there is none. With --dry-run it is shown alone.
    """
    _apply(session, jobfile.read(file), str(file), prune=prune, allow=allow)


def export(
    session: Session,
    names: Annotated[
        list[str] | None, typer.Argument(metavar="NAME", help="Only these jobs.", show_default=False)
    ] = None,
) -> None:
    """Print jobs as a job file; applying it changes nothing."""
    if session.would("print the jobs as a job file"):
        return
    jobs = session.client.call("jobs.export", names=names or None)
    if session.json:
        session.show_json(jobs)
    else:
        print(jobfile.write(jobs), end="")


def import_(
    session: Session,
    file: File,
    format: Annotated[
        str | None,
        typer.Option(
            "--format",
            metavar="|".join(formats.FORMATS),
            help="The format; else what the name of the file says.",
            autocompletion=lambda: list(formats.FORMATS),
            show_default=False,
        ),
    ] = None,
    apply: Annotated[bool, typer.Option("--apply", help="Apply it, too.")] = False,
    allow: SettingsAllowOption = None,
) -> None:
    """Print a file of another supervisor as a job file, and on standard error what has no equivalent.

    Read are supervisord.conf, Procfile, process-compose.yaml, PM2's ecosystem file and a systemd .service file.
    """
    source = formats.read(file, format)
    for where, why in source.no_equivalent:
        session.say(f"no equivalent: {where}: {why}", "yellow")
    if apply:
        _apply(session, source.jobs, str(file), prune=False, allow=allow)
    elif session.json:
        no_equivalent = [{"where": where, "why": why} for where, why in source.no_equivalent]
        session.show_json({"jobs": source.jobs, "no_equivalent": no_equivalent})
    else:
        print(jobfile.write(source.jobs), end="")


def add_to(app: typer.Typer) -> None:
    """Add these commands."""
    for function in (apply, export, import_):
        add_command(app, function.__name__.strip("_"), function, help=function.__doc__ or "")


def _apply(session: Session, jobs: dict[str, jobfile.Table], file: str, *, prune: bool, allow: str | None) -> None:
    def call(**how: Any) -> Any:
        return session.client.call("jobs.apply", jobs=jobs, prune=prune, **how)

    try:
        if session.dry_run:
            answer = call(dry_run=True)
        else:
            answer = session.waiting("applying", lambda: call(allow=allow), after_seconds=1)
    except NeedsConfirmation as needed:
        answer = _confirmed(session, needed, call)
    except BadInput as error:
        raise BadInput(f"{file}: {error.message}", **error.data) from None
    if session.json:
        session.show_json(answer)
    else:
        session.print(Group(*_shown(answer)))
    for result in answer.get("results", ()):
        if "error" in result:
            raise typer.Exit(from_json(result["error"]).exit_code)


def _confirmed(session: Session, needed: NeedsConfirmation, call: Callable[..., Any]) -> Any:
    """Show the difference that the error carries, ask about it, and do exactly that.

    Raises:
        NeedsConfirmation: there is nobody to ask, or the person declined.
    """
    shown: dict[str, Any] = needed.data
    while True:
        if not session.json:
            reasons = [Text(f"  - {plain(reason)}") for reason in shown["reasons"]]
            session.err.print(Group(*_shown(shown), Text(f"risk: {shown['risk']}", style="bold red"), *reasons))
        if not session.may_ask:
            message = f"{needed.message}; to do it without being asked: --allow {shown['risk']}"
            raise NeedsConfirmation(message, **needed.data)
        session.err.print(Text("do this? [y/N] "), end="")
        if sys.stdin.readline().strip().lower()[:1] != "y":
            raise NeedsConfirmation("nothing was done")
        try:
            return call(confirm=shown["hash"])
        except PlanChanged as changed:
            session.say(f"{changed.message}:", "yellow")
            shown = changed.data


def _shown(answer: Mapping[str, Any]) -> Iterator[RenderableType]:
    """Each change: its job, its lines with what failed, and the fields that differ."""
    if not answer["changes"]:
        yield Text("nothing to change: the jobs are as declared", style="dim")
    results = iter(answer.get("results", ()))
    for change in answer["changes"]:
        sign, style = _SIGNS[change["change"]]
        yield Text(f"{sign} {plain(change['job'])}{_HOW.get(change.get('how'), '')}", style=style)
        for line in change["lines"]:
            yield Text(f"    {plain(line)}")
            result: dict[str, Any] = next(results, {"ok": True})
            if "error" in result:
                yield Text(f"      failed: {plain(from_json(result['error']).message)}", style="red")
            elif not result["ok"]:
                yield Text(f"      skipped: {plain(result['skipped'])}", style="yellow")
        for name, was, is_ in _differences(change["fields"]):
            yield Text(f"      {plain(name)}: {cell('', was)} → {cell('', is_)}", style="dim")


def _differences(fields: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Each field that differs with what it was and what it is to be; of variables, each one."""
    for name, field in fields.items():
        was, is_ = field["from"], field["to"]
        if name != "env":
            yield name, was, is_
            continue
        for key in sorted({*was, *is_}):
            if was.get(key) != is_.get(key):
                yield f"env.{key}", was.get(key), is_.get(key)
