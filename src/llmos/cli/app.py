"""The command line as a whole: its commands, their options, and what its exit codes mean."""

from typing import Annotated

import typer

from llmos import __version__
from llmos.cli import ask, jobfile, learn, model, scheduler, service, verbs
from llmos.cli.command import DryRun, Json, Socket
from llmos.cli.session import BROKEN_PIPE, INTERRUPTED, Session
from llmos.errors import BY_CODE, BadInput


def exit_codes() -> dict[int, str]:
    """Every exit code and what it means."""
    codes = {0: "done"}
    for kind in BY_CODE.values():
        codes.setdefault(kind.exit_code, kind.code.replace("-", " "))
    return {**codes, INTERRUPTED: "interrupted", BROKEN_PIPE: "the reader of the output went away"}


def build() -> typer.Typer:
    """Make the application."""
    codes = ", ".join(f"{code} {meaning}" for code, meaning in exit_codes().items())
    app = typer.Typer(
        name="llmos",
        help="A process supervisor that is spoken to in words.",
        epilog=f"Exit codes: {codes}.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_root)
    ask.add_to(app)
    verbs.add_to(app)
    jobfile.add_to(app)
    service.add_to(app)
    app.add_typer(model.build(), name="model")
    app.add_typer(learn.build(), name="learn")
    app.add_typer(scheduler.build(), name="scheduler")
    return app


def _version(value: bool) -> None:
    if value:
        print(f"llmos {__version__}")
        raise typer.Exit


def _root(
    ctx: typer.Context,
    socket: Socket = None,
    json: Json = False,
    dry_run: DryRun = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    ctx.obj = Session(socket, json, dry_run)


def run_app(words: list[str]) -> int:
    """Parse the whole command line and run it; returns the exit code.

    Raises:
        LlmosError: what went wrong.
    """
    try:
        code = build()(args=words, prog_name="llmos", standalone_mode=False)
    except typer.TyperException as error:
        raise BadInput(f"{error.format_message()} Try: llmos {_command(words)}--help") from None
    except typer.Abort:
        return INTERRUPTED
    return code if isinstance(code, int) else 0


def _command(words: list[str]) -> str:
    named = [word for word in words if not word.startswith("-")]
    return f"{named[0]} " if named else ""
