"""Shows what a plan would touch, and asks the person: yes, no, or edit it first; or which of two plans was meant."""

import os
import shlex
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

from rich.console import Group, RenderableType
from rich.text import Text

from llmos.cli.layout import table
from llmos.cli.render import drawn
from llmos.cli.session import Session
from llmos.cli.terminal_text import plain
from llmos.client_types import Answer, Check
from llmos.errors import Ambiguous, BadInput, LlmosError, NeedsConfirmation, PlanChanged

_RISK_STYLES = {"read": "green", "change": "yellow", "destroy": "bold red"}


def run_confirmed(session: Session, needed: NeedsConfirmation, request: str | None = None) -> Answer:
    """Ask about the plan that the error carries, and run exactly what was confirmed.

    What the person makes of a plan that came of a `request` in words is kept, to learn from.

    Raises:
        NeedsConfirmation: there is nobody to ask, or the person declined.
    """
    if "plan" not in needed.data:
        raise needed
    check = cast(Check, needed.data)
    given = list(check["plan"])
    if not session.may_ask:
        if not session.json:
            session.err.print(check_shown(check))
        raise _without_person(needed)
    while True:
        session.err.print(check_shown(check))
        match _choice(session, "run this? [y/N/e] "):
            case "y":
                try:
                    answer = _run(session, check)
                    _tell(session, request, given, check["plan"])
                    return answer
                except PlanChanged as changed:
                    session.say(f"{changed.message}; look again:", "yellow")
                    check = session.client.plan_check(check["plan"])
            case "e":
                try:
                    check = session.client.plan_check(_edited(check["plan"]))
                except LlmosError as error:
                    session.say(error.message, "red")
            case _:
                _tell(session, request, given, None)
                raise NeedsConfirmation("nothing was done", plan=list(check["plan"]), risk=check["risk"])


def run_chosen(session: Session, unclear: Ambiguous, request: str) -> Answer:
    """Let the person choose one of the readings that the error carries, by number, and run it; the choice is kept, to
    learn from.

    Raises:
        Ambiguous: there is nobody to ask, or the person chose none.
    """
    readings = [cast(Check, reading) for reading in cast(list[Any], unclear.data["readings"])]
    if not session.json or session.may_ask:
        for number, reading in enumerate(readings, 1):
            session.err.print(Text(f"{number})", style="bold cyan"))
            session.err.print(check_shown(reading))
    if not session.may_ask:
        raise unclear
    given = list(readings[0]["plan"])
    numbers = "/".join(map(str, range(1, len(readings) + 1)))
    choice = _choice(session, f"which did you mean? [{numbers}/N] ")
    if not choice.isdecimal() or not 1 <= int(choice) <= len(readings):
        _tell(session, request, given, None)
        raise Ambiguous("nothing was done")
    chosen = readings[int(choice) - 1]
    try:
        answer = _run(session, chosen)
    except PlanChanged as changed:
        session.say(f"{changed.message}; look again:", "yellow")
        return run_confirmed(session, NeedsConfirmation(changed.message, **changed.data))
    _tell(session, request, given, chosen["plan"])
    return answer


def _run(session: Session, check: Check) -> Answer:
    return session.waiting(
        "running", lambda: session.client.plan_run(check["plan"], confirm=check["hash"]), after_seconds=1
    )


def _tell(session: Session, request: str | None, given: list[str], plan: list[str] | None) -> None:
    """Let llmosd keep what became of the plan that it gave: run as it was, run otherwise, or not run (None)."""
    if request is None:
        return
    with suppress(LlmosError):  # it is no part of what was asked
        if plan is None:
            session.client.feedback(request, given, "rejected")
        elif plan == given:
            session.client.feedback(request, given, "accepted")
        else:
            session.client.feedback(request, given, "edited", plan)


def check_shown(check: Check) -> RenderableType:
    """The plan, its risk and why, and the processes that it would touch."""
    risk = check["risk"]
    width = len(str(len(check["plan"])))
    parts: list[RenderableType] = [
        *(Text.assemble((f"{n:>{width}}  ", "dim"), plain(line)) for n, line in enumerate(check["plan"], 1)),
        Text.assemble("risk: ", (risk, _RISK_STYLES.get(risk, ""))),
        *(Text(f"  - {plain(reason)}") for reason in check.get("reasons", ())),
    ]
    if targets := check.get("targets"):
        parts.append(drawn(table([_target_row(dict(target)) for target in targets], "targets")))
    return Group(*parts)


def _target_row(target: dict[str, Any]) -> dict[str, Any]:
    if target.get("resolved"):
        return target
    return {"line": target.get("line"), "name": target.get("name"), "command": "(not there yet)"}


def _choice(session: Session, question: str) -> str:
    session.err.print(Text(question), end="")
    answer = sys.stdin.readline()
    if not answer:
        session.err.print()
    return answer.strip().lower()[:1]


def _edited(plan: list[str]) -> list[str]:
    """The plan as the person's editor leaves it."""
    editor = shlex.split(os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi")
    with tempfile.NamedTemporaryFile("w+", prefix="llmos-", suffix=".plan", encoding="utf-8") as file:
        file.write("\n".join(plan) + "\n\n# Lines that begin with # are left out. An empty plan changes nothing.\n")
        file.flush()
        try:
            status = subprocess.run([*editor, file.name], check=False).returncode
        except OSError as error:
            raise BadInput(f"the editor {editor[0]!r} cannot be run ({error.strerror}); set EDITOR to one") from None
        if status != 0:
            raise BadInput(f"the editor ended with status {status}; the plan is as it was")
        # Read by name: many editors put another file in its place.
        text = Path(file.name).read_text(encoding="utf-8", errors="replace")
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    if not lines:
        raise BadInput("the edited plan is empty; the plan is as it was")
    return lines


def _without_person(needed: NeedsConfirmation) -> NeedsConfirmation:
    risk = needed.data.get("risk", "destroy")
    return NeedsConfirmation(f"{needed.message}; to run it without being asked: --allow {risk}", **needed.data)
