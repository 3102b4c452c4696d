"""The command line as a whole: its commands, and how every error becomes a message and an exit code."""

import sys
from typing import Annotated, NoReturn

import typer

from llmos import __version__
from llmos.cli import ask, jobfile, learn, model, service, verbs
from llmos.cli.command import BROKEN_PIPE, DryRun, Json, Socket
from llmos.cli.session import Session
from llmos.errors import BY_CODE, BadInput, LlmosError

INTERRUPTED = 130  # as a shell counts a program that SIGINT ended


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


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command line and end the process with its exit code."""
    words = sys.argv[1:] if arguments is None else arguments
    sys.exit(run(words))


def run(words: list[str]) -> int:
    """Run the command line; returns the exit code."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        code = build()(args=words, prog_name="llmos", standalone_mode=False)
    except LlmosError as error:
        return _fail(error, words)
    except typer.TyperException as error:
        return _fail(BadInput(f"{error.format_message()} Try: llmos {_command(words)}--help"), words)
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    return code if isinstance(code, int) else 0


def _fail(error: LlmosError, words: list[str]) -> int:
    session = Session(json="--json" in _before_argv(words))
    if session.json:
        session.show_json({"error": error.as_json()})
    else:
        session.say(f"llmos: {error.message}", "red")
        tail = error.data.get("log_tail")
        for line in tail if isinstance(tail, list) else ():
            session.say(f"  {line}")
    return error.exit_code


def _before_argv(words: list[str]) -> list[str]:
    return words[: words.index("--")] if "--" in words else words


def _command(words: list[str]) -> str:
    named = [word for word in words if not word.startswith("-")]
    return f"{named[0]} " if named else ""
