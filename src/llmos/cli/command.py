"""How a function becomes a command: each takes --socket, --json and --dry-run, and is given them as a `Session`."""

import inspect
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
        session = Session(socket or before.socket, json or before.json, dry_run or before.dry_run)
        if code := session.carry_out(lambda: function(session, **given)):
            raise typer.Exit(code)

    signature = inspect.Signature([context, *own, *_COMMON])
    run.__signature__ = signature  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in signature.parameters.values()}
    settings = {} if options_anywhere else {"allow_interspersed_args": False}
    app.command(name, help=help, context_settings=settings)(run)
