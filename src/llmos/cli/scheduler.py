"""`llmos scheduler`: what the scheduler sees and does, whether it may, and what it learns."""

from pathlib import Path
from typing import Annotated, Any

import typer

from llmos.cli.command import add_command
from llmos.cli.session import Session
from llmos.errors import LlmosError

Follow = Annotated[
    bool, typer.Option("--follow/--detach", help="Show what it does until it ends, or leave it to itself.")
]


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


def train(session: Session, follow: Follow = True) -> None:
    """Adapt the learned policy to past runs, as a job at idle priority; what wins is tried on runs to come."""
    if session.would("adapt the learned policy to past runs, as the job llmos-scheduler-train"):
        return
    started = session.client.call("scheduler.train")
    if not follow:
        session.show(started)
        return
    session.follow_job(
        started["name"],
        "it goes on; `llmos scheduler status` says how it went, `llmos stop llmos-scheduler-train` ends it",
    )
    came = session.client.call("scheduler.status").get("learned") or {}
    session.show(came)
    if came.get("training") == "failed":
        raise typer.Exit(LlmosError.exit_code)


def rollback(session: Session) -> None:
    """Go back to the weights that were in use before, at last to the shipped ones."""
    if not session.would("go back to the weights that were in use before"):
        session.show(session.client.call("scheduler.rollback"))


def record(
    session: Session,
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="For TensorBoard's event files.")],
) -> None:
    """Write what it decides as TensorBoard events, the newest of the journal and those to come, until interrupted."""
    if session.would(f"write what the scheduler decides into {folder}"):
        return
    from llmos.scheduler.event_file import EventFile

    with EventFile(folder) as events:
        session.say(f"recording into {folder}; tensorboard --logdir {folder} shows it")
        for event in session.client.events(["scheduler."], since=0):
            events.scalars(_numbers(event["subject"], event["body"]), event["id"], event["at"])
            if events.full:
                session.say(f"the file in {folder} has reached its limit; record into another folder to go on")
                break


def _numbers(tag: str, body: dict[str, Any]) -> dict[str, float]:
    """The numbers of an event, by the names that lead to them."""
    found: dict[str, float] = {}
    for name, value in body.items():
        if isinstance(value, dict):
            found |= _numbers(f"{tag}/{name}", value)
        elif isinstance(value, int | float):
            found[f"{tag}/{name}"] = float(value)
    return found


def build() -> typer.Typer:
    """The command group."""
    app = typer.Typer(
        help="Who gets how much of the machine while it is short.", no_args_is_help=True, rich_markup_mode=None
    )
    for function in (status, on, off, train, rollback, record):
        add_command(app, function.__name__, function, help=function.__doc__ or "")
    return app
