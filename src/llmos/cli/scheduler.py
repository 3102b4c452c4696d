"""`llmos scheduler`: what the scheduler sees and does, and whether it may."""

import typer

from llmos.cli.command import add_command
from llmos.cli.session import Session


def status(session: Session) -> None:
    """What it sees, by which policy and levers it acts, and where everything that wants a processor stands."""
    if not session.would("ask llmosd what its scheduler does"):
        session.show(session.client.call("scheduler.status"))


def on(session: Session) -> None:
    """Let it act, now and at later starts."""
    if not session.would("let the scheduler act"):
        session.show(session.client.call("scheduler.on"))


def off(session: Session) -> None:
    """Put back all that it changed, and end it, now and at later starts."""
    if not session.would("put back all that the scheduler changed, and end it"):
        session.show(session.client.call("scheduler.off"))


def build() -> typer.Typer:
    """The command group."""
    app = typer.Typer(
        help="Who gets how much of the machine while it is short.", no_args_is_help=True, rich_markup_mode=None
    )
    for function in (status, on, off):
        add_command(app, function.__name__, function, help=function.__doc__ or "")
    return app
