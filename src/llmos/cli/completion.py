"""Completes arguments in the shell: choices from the registry, names of jobs from the daemon if it runs."""

from collections.abc import Callable

import typer

from llmos.client import Client
from llmos.errors import LlmosError
from llmos.syscalls import Argument, Kind

_PATIENCE_SECONDS = 1.0  # a person waits on the Tab key

Completer = Callable[[typer.Context], list[str]]


def completer(argument: Argument) -> Completer | None:
    """What completes this argument, if anything does."""
    if argument.choices:
        return lambda ctx: list(argument.choices)
    if argument.kind in (Kind.JOB, Kind.TARGET):
        return job_names
    return watch_ids if argument.kind is Kind.WATCH else None


def job_names(ctx: typer.Context) -> list[str]:
    """The names of the jobs; none when nothing answers, as completion starts no daemon."""
    return _column(ctx, "jobs", "name")


def watch_ids(ctx: typer.Context) -> list[str]:
    """The ids of the watches."""
    return _column(ctx, "watches", "id")


def _column(ctx: typer.Context, method: str, field: str) -> list[str]:
    try:
        with Client(ctx.params.get("socket"), timeout=_PATIENCE_SECONDS) as client:
            return [str(row[field]) for row in client.call(method)]
    except LlmosError:
        return []
