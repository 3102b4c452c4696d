"""`llmos ask` and `llmos do`: words and plan lines, run as far as they are allowed, and asked about above that."""

from typing import Annotated, cast

import typer

from llmos.cli.anchor import anchored
from llmos.cli.answer import show_answer
from llmos.cli.command import add_command
from llmos.cli.confirm import run_chosen, run_confirmed
from llmos.cli.session import Session
from llmos.client_types import Allow, Answer
from llmos.errors import Ambiguous, BadInput, NeedsConfirmation
from llmos.plan.language import parse_plan, print_plan

ALLOWED = ("read", "change", "destroy")


def allow_option(ctx: typer.Context, param: typer.CallbackParam, value: str | None) -> str | None:
    """Check --allow.

    Raises:
        BadInput: it is none of the three tiers.
    """
    if value is not None and value not in ALLOWED and not ctx.resilient_parsing:
        raise BadInput(f"--allow is {', '.join(ALLOWED)}, not {value!r}", field="allow")
    return value


AllowOption = Annotated[
    str,
    typer.Option(
        "--allow",
        metavar="|".join(ALLOWED),
        help="The risk that may run without asking.",
        callback=allow_option,
        autocompletion=lambda: list(ALLOWED),
    ),
]

SettingsAllowOption = Annotated[
    str | None,
    typer.Option(
        "--allow",
        metavar="|".join(ALLOWED),
        help="The risk that may run without asking; else what the settings say.",
        callback=allow_option,
        autocompletion=lambda: list(ALLOWED),
        show_default=False,
    ),
]


def ask(
    session: Session,
    request: Annotated[
        list[str], typer.Argument(metavar="REQUEST", help="What is wanted, in words.", show_default=False)
    ],
    allow: AllowOption = "read",
) -> None:
    """Say in words what is wanted."""
    words = " ".join(request)
    try:
        answer = session.waiting(
            "thinking", lambda: session.client.ask(words, allow=cast(Allow, allow), dry_run=session.dry_run)
        )
    except NeedsConfirmation as needed:
        answer = run_confirmed(session, needed, words)
    except Ambiguous as unclear:
        answer = run_chosen(session, unclear, words)
    show_answer(session, answer)


def do(
    session: Session,
    lines: Annotated[list[str], typer.Argument(metavar="LINE", help="Lines of a plan, each one word of the shell.")],
    allow: AllowOption = "change",
) -> None:
    """Run lines of the plan language."""
    plan = print_plan([anchored(call) for call in parse_plan("\n".join(lines))])
    if session.dry_run:
        show_answer(session, cast(Answer, session.client.plan_check(plan)))
        return
    try:
        answer = session.waiting(
            "running", lambda: session.client.plan_run(plan, allow=cast(Allow, allow)), after_seconds=1
        )
    except NeedsConfirmation as needed:
        answer = run_confirmed(session, needed)
    show_answer(session, answer)


def add_to(app: typer.Typer) -> None:
    """Add both commands."""
    for function in (ask, do):
        add_command(app, function.__name__, function, help=function.__doc__ or "")
