"""`llmos learn`: learn from what was accepted, edited and rejected; look at what came of it, take it back, forget it."""

from pathlib import Path
from typing import Annotated

import typer

from llmos.cli.command import DryRun, Json, Socket, add_command
from llmos.cli.session import Session
from llmos.errors import LlmosError
from llmos.plan.language import parse_plan, print_plan

Dev = Annotated[
    Path | None,
    typer.Option(
        "--dev",
        metavar="FILE",
        help="Cases that must not get worse; else what the settings say, else a sample of generated ones.",
        show_default=False,
    ),
]
Follow = Annotated[
    bool, typer.Option("--follow/--detach", help="Show what it does until it ends, or leave it to itself.")
]


def learn(session: Session, dev: Path | None, follow: bool) -> None:
    """Learn from what was kept, as a job at idle priority; what is better is put to use."""
    if session.would("learn from what was kept, as the job llmos-learn"):
        return
    started = session.client.call("learn.start", dev=str(dev.absolute()) if dev else None)
    if not follow:
        session.show(started)
        return
    session.follow_job(
        started["name"],
        "it is still being learned; `llmos learn status` says how it went, `llmos learn stop` gives it up",
    )
    came = session.client.call("learn.status")
    session.show(came)
    if came["job"] == "failed":
        raise typer.Exit(LlmosError.exit_code)


def status(session: Session) -> None:
    """What was kept, the adapter in use and the one before it, with their figures."""
    if not session.would("ask llmosd what was learned"):
        session.show(session.client.call("learn.status"))


def teach(
    session: Session,
    request: Annotated[str, typer.Argument(metavar="REQUEST", help="What you say, as one word of the shell.")],
    lines: Annotated[list[str], typer.Argument(metavar="LINE", help="Lines of the plan it means, each one word.")],
) -> None:
    """Keep a request and the plan that it means, to learn from."""
    plan = print_plan(parse_plan("\n".join(lines)))
    if not session.would(f"keep that {request!r} means {'; '.join(plan)}"):
        session.show(session.client.feedback(request, [], "edited", plan))


def rollback(session: Session) -> None:
    """Go back to the adapter that was in use before, at last to the shipped one."""
    if not session.would("go back to the adapter that was in use before"):
        session.show(session.client.call("learn.rollback"))


def forget(
    session: Session,
    adapters: Annotated[bool, typer.Option("--adapters", help="Remove what was learned, too.")] = False,
) -> None:
    """Remove what was kept of your requests."""
    if not session.would("remove what was kept" + (", and what was learned" if adapters else "")):
        session.show(session.client.call("learn.forget", adapters=adapters))


def stop(session: Session) -> None:
    """Give up what is being learned."""
    if not session.would("give up what is being learned"):
        session.show(session.client.call("learn.stop"))


def build() -> typer.Typer:
    """The command group; without a subcommand it learns."""
    app = typer.Typer(invoke_without_command=True, rich_markup_mode=None)
    app.callback(help=learn.__doc__)(_learn)
    for function in (teach, status, rollback, forget, stop):
        add_command(app, function.__name__, function, help=function.__doc__ or "")
    return app


def _learn(
    ctx: typer.Context,
    dev: Dev = None,
    follow: Follow = True,
    socket: Socket = None,
    json: Json = False,
    dry_run: DryRun = False,
) -> None:
    before = ctx.obj if isinstance(ctx.obj, Session) else Session()
    ctx.obj = Session(socket or before.socket, json or before.json, dry_run or before.dry_run)
    if ctx.invoked_subcommand is None:
        with ctx.obj as session:
            learn(session, dev, follow)
