"""Every verb of the registry as a subcommand: `llmos kill 3121 --signal KILL` runs the line `kill 3121 signal=KILL`."""

import inspect
from collections.abc import Callable
from typing import Annotated, Any

import typer

from llmos.cli.anchor import anchored
from llmos.cli.answer import show_answer, show_value
from llmos.cli.ask import SettingsAllowOption
from llmos.cli.command import add_command
from llmos.cli.completion import completer
from llmos.cli.confirm import run_confirmed
from llmos.cli.session import Session
from llmos.client_source import callable_verbs, python_name
from llmos.errors import NeedsConfirmation
from llmos.plan.language import check_references
from llmos.syscall_help import phrase
from llmos.syscalls import Argument, Kind, Risk, Syscall

_FOLLOW = inspect.Parameter(
    "follow",
    inspect.Parameter.KEYWORD_ONLY,
    default=False,
    annotation=Annotated[bool, typer.Option("--follow", "-f", help="Go on with what comes, until the job ends.")],
)
_STREAM = inspect.Parameter(
    "stream",
    inspect.Parameter.KEYWORD_ONLY,
    default=None,
    annotation=Annotated[
        str | None,
        typer.Option("--stream", metavar="stdout|stderr", help="Only this, of a job whose stderr is kept apart."),
    ],
)
_ALLOW = inspect.Parameter(
    "allow",
    inspect.Parameter.KEYWORD_ONLY,
    default=None,
    annotation=SettingsAllowOption,
)


def add_to(app: typer.Typer) -> None:
    """Add a command for each verb but the answers of the model."""
    for syscall in callable_verbs():
        parameters = [_parameter(argument) for argument in syscall.arguments.values()]
        if syscall.risk is not Risk.READ:
            parameters.append(_ALLOW)
        if syscall.verb == "logs":
            parameters += [_FOLLOW, _STREAM]
        add_command(
            app,
            syscall.verb,
            _runner(syscall),
            help=_help(syscall),
            parameters=parameters,
            options_anywhere=not any(argument.kind is Kind.ARGV for argument in syscall.arguments.values()),
        )


def _runner(syscall: type[Syscall]) -> Callable[..., None]:
    named = (*syscall.arguments.values(), *syscall.api_arguments.values())
    names = {python_name(argument): argument.name for argument in named}

    def run(session: Session, allow: str | None = None, follow: bool = False, **given: Any) -> None:
        arguments = {names[name]: value for name, value in given.items() if value is not None}
        call = anchored(syscall.build(arguments))
        check_references([call])
        if session.dry_run:
            show_answer(session, session.client.call("plan.check", plan=[call.as_json()]))
        elif follow:
            _follow(session, call)
        else:
            _call(session, call, allow)

    return run


def _call(session: Session, call: Syscall, allow: str | None) -> None:
    params = {**call.as_json()["args"], **({"allow": allow} if allow else {})}
    try:
        value = session.waiting("waiting", lambda: session.client.call(call.verb, **params), after_seconds=1)
    except NeedsConfirmation as needed:
        show_value(session, run_confirmed(session, needed))
    else:
        session.show(value, call.verb)


def _follow(session: Session, call: Syscall) -> None:
    arguments = call.as_json()["args"]
    for line in session.client.follow_logs(**arguments):
        if session.json:
            session.show_json({"job": arguments["target"], "line": line})
        else:
            session.show_line(line)


def _help(syscall: type[Syscall]) -> str:
    risk = f"{syscall.risk} ({syscall.risk_note})" if syscall.risk_note else str(syscall.risk)
    undone = f" Taken back by {syscall.inverse}." if syscall.inverse else ""
    return f"{syscall.meaning()}.\n\nRisk: {risk}.{undone}"


def _parameter(argument: Argument) -> inspect.Parameter:
    meta = "|".join(argument.choices) or argument.kind.meta.strip('"')
    help_text = phrase(argument)
    help_text = help_text[0].upper() + help_text[1:] + "."
    if argument.positional:
        info = typer.Argument(metavar=meta, help=help_text, autocompletion=completer(argument), show_default=False)
    else:
        info = typer.Option(
            f"--{argument.name}", metavar=meta, help=help_text, autocompletion=completer(argument), show_default=False
        )
    many = argument.kind is Kind.ARGV
    annotation: Any = list[str] if many else str if argument.required else str | None
    return inspect.Parameter(
        python_name(argument),
        inspect.Parameter.KEYWORD_ONLY,
        default=inspect.Parameter.empty if argument.required else None,
        annotation=Annotated[annotation, info],
    )
