"""How a function becomes a command: each takes --socket, --json and --dry-run, and is given them as a `Session`."""

import inspect
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from llmos.cli.session import Session

Socket = Annotated[
    Path | None,
    typer.Option(
        "--socket",
        metavar="PATH",
        help="The socket of llmosd; else LLMOS_SOCKET, else the default.",
        show_default=False,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would be done, and do nothing.")]

BROKEN_PIPE = 141  # as a shell counts a program that SIGPIPE ended

_COMMON = [
    inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
    for name, default, annotation in (("socket", None, Socket), ("json", False, Json), ("dry_run", False, DryRun))
]


def add_command(
    app: typer.Typer,
    name: str,
    function: Callable[..., None],
    *,
    help: str,
    parameters: Sequence[inspect.Parameter] | None = None,
    options_anywhere: bool = True,
) -> None:
    """Add `function(session, **parameters)` as a command; the parameters are those of its signature unless given."""
    if parameters is None:
        parameters = list(inspect.signature(function).parameters.values())[1:]
    own = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in parameters]
    context = inspect.Parameter("ctx", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)

    def run(ctx: typer.Context, *, socket: Path | None, json: bool, dry_run: bool, **given: Any) -> None:
        before = ctx.obj if isinstance(ctx.obj, Session) else Session()
        options = Session(socket or before.socket, json or before.json, dry_run or before.dry_run)
        try:
            with options as session:
                function(session, **given)
            sys.stdout.flush()
        except BrokenPipeError:
            # The reader of our output has gone; the flush at exit must not find out again.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(BROKEN_PIPE) from None

    signature = inspect.Signature([context, *own, *_COMMON])
    run.__signature__ = signature  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in signature.parameters.values()}
    settings = {} if options_anywhere else {"allow_interspersed_args": False}
    app.command(name, help=help, context_settings=settings)(run)
