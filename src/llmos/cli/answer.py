"""Prints what a plan gave, line by line, and ends with the exit code of the first line that failed."""

import typer
from rich.text import Text

from llmos.cli.confirm import check_shown
from llmos.cli.layout import layout
from llmos.cli.render import drawn
from llmos.cli.session import Session
from llmos.cli.terminal_text import plain
from llmos.client_types import Answer, LineResult
from llmos.errors import LlmosError, from_json


def show_answer(session: Session, answer: Answer) -> None:
    """Print the plan and what each line gave.

    Raises:
        typer.Exit: a line failed.
    """
    if session.json:
        session.show_json(answer)
    elif answer.get("answer"):
        session.print(Text(plain(str(answer["answer"]))))
    elif "results" not in answer:
        session.print(check_shown(answer))
    else:
        for result in answer["results"]:
            _show_line(session, result)
    if failure := _failure(answer):
        raise typer.Exit(failure.exit_code)


def show_value(session: Session, answer: Answer) -> None:
    """Print the value of a plan of one line alone; a longer one as `show_answer` does."""
    results = answer.get("results", [])
    if len(results) != 1:
        show_answer(session, answer)
        return
    if failure := _failure(answer):
        raise failure
    session.show(results[0].get("value"), results[0]["line"].partition(" ")[0])


def _show_line(session: Session, result: LineResult) -> None:
    session.print(Text(f"› {plain(result['line'])}", style="bold cyan"))
    if result["ok"]:
        session.print(drawn(layout(result.get("value"), result["line"].partition(" ")[0])))
    elif "error" in result:
        session.print(Text(plain(from_json(result["error"]).message), style="red"))
    else:
        session.print(Text(f"skipped: {plain(result.get('skipped', ''))}", style="yellow"))


def _failure(answer: Answer) -> LlmosError | None:
    """The error of the first line that failed."""
    errors = (result["error"] for result in answer.get("results", ()) if not result["ok"] and "error" in result)
    return next(map(from_json, errors), None)
