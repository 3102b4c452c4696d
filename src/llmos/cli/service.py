"""Commands about llmosd itself: start and stop it, its state, what the machine offers, its events and its methods."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from llmos.cli.command import add_command
from llmos.cli.launch import answers, ensure_running
from llmos.cli.layout import cell
from llmos.cli.session import Session
from llmos.cli.terminal_text import plain
from llmos.client import Client


def up(
    session: Session,
    state_dir: Annotated[
        Path | None, typer.Option("--state-dir", metavar="DIR", help="Where the journal and the logs lie.")
    ] = None,
) -> None:
    """Start llmosd, unless it runs."""
    if session.would(f"start llmosd on {session.socket_path}, unless it runs"):
        return
    started = ensure_running(session, state_dir)
    status = session.client.status()
    session.show({"started": started, "pid": status.get("pid"), "socket": str(session.socket_path)})


def down(
    session: Session,
    jobs: Annotated[bool, typer.Option("--jobs", help="End the managed jobs too; else they run on.")] = False,
) -> None:
    """Stop llmosd; its jobs run on unless --jobs is given."""
    what = f"stop llmosd on {session.socket_path}" + (" and end its jobs" if jobs else "; its jobs run on")
    if session.would(what):
        return
    if not answers(session.socket_path):
        session.show({"stopping": False, "reason": f"llmosd does not run on {session.socket_path}"})
        return
    with Client(session.socket_path) as client:
        session.show(client.shutdown(jobs=jobs))


def status(session: Session) -> None:
    """State of llmosd, its reaper and its model."""
    if session.would("ask llmosd for its state"):
        return
    with Client(session.socket_path) as client:  # asking whether it runs must not start it
        session.show(client.status())


def doctor(session: Session) -> None:
    """What this machine offers: cgroups, autogroup, pressure, GPU, sensors, the model."""
    if not session.would("look at what this machine offers"):
        session.show(session.client.doctor(), "doctor")


def discover(session: Session) -> None:
    """The methods of the socket, as an OpenRPC document."""
    if session.would("ask llmosd for its methods"):
        return
    document = session.client.discover()
    if session.json:
        session.show_json(document)
    else:
        print(json.dumps(document, indent=2))


def events(
    session: Session,
    kind: Annotated[
        list[str] | None, typer.Option("--kind", metavar="KIND", help="Only events of this kind; may be repeated.")
    ] = None,
    since: Annotated[
        int | None, typer.Option("--since", metavar="ID", min=0, help="First those after this id.")
    ] = None,
) -> None:
    """Follow what happens: transitions, watches, decisions. One event a line, until interrupted."""
    if session.would("follow the events"):
        return
    for event in session.client.events(kind, since):
        if session.json:
            session.show_json(event)
            continue
        session.print(
            Text.assemble(
                (cell("at", event.get("at")), "dim"),
                "  ",
                (plain(str(event.get("kind"))), "cyan"),
                "  ",
                (plain(str(event.get("subject"))), "bold"),
                "  ",
                cell("body", event.get("body")),
            )
        )


def add_to(app: typer.Typer) -> None:
    """Add these commands."""
    for function in (up, down, status, events, doctor, discover):
        add_command(app, function.__name__, function, help=function.__doc__ or "")
