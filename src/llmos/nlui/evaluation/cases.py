"""What a model is measured on: requests with the plans that are right, of a file or of the generator's held-out wordings.

A file has one JSON object a line: `{"id", "lang", "request", "accept": [[line, …], …], "tags": […]}`, or a pair as
`llmos.nlui.dataset` writes it, with `plan` in place of `accept`. `id` and `tags` may be left out.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from llmos.errors import BadInput
from llmos.nlui.dataset.authored import AuthoredError
from llmos.nlui.dataset.generate import generate
from llmos.nlui.dataset.pair import normalised, stable_unit
from llmos.nlui.plan_match import plan_matches

TALK = ("ask", "refuse")
"""Verbs whose wording is free: in a pair that asks or refuses, any text is right."""
_SEED = 2
_NO_PLAN = ["jobs"]


@dataclass(frozen=True, slots=True)
class Case:
    """A request, its language, the plans that are right, and what it is an example of."""

    id: str
    lang: str
    request: str
    accept: tuple[tuple[str, ...], ...]
    tags: tuple[str, ...] = ()

    @property
    def verbs(self) -> frozenset[str]:
        """The verbs that an accepted plan begins with."""
        return frozenset(verb_of(plan) for plan in self.accept)


def verb_of(plan: Sequence[str]) -> str:
    """The verb of a plan's first line; empty when there is no line."""
    return plan[0].partition(" ")[0] if plan else ""


def read_cases(path: Path) -> list[Case]:
    """The cases of a file.

    :raises BadInput: it cannot be read, holds no case, or a line is none; names file and line.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    cases = [_case(line, path, number) for number, line in enumerate(lines, 1) if line.strip()]
    if not cases:
        raise BadInput(f"{path} holds no case; write one JSON object a line")
    return cases


def heldout_cases(size: int, part: Literal["measure", "calibrate"] = "measure") -> list[Case]:
    """So many of the wordings that training does not see, the same each time; the parts have no request in common.

    :raises BadInput: `size` is not above 0, or the authored pairs, which only a checkout has, are not there.
    """
    if size < 1:
        raise BadInput(f"{size} held-out wordings cannot be made; ask for 1 at least")
    pairs = generate(
        _SEED,
        size,
        split="heldout",
        accept=lambda pair: (stable_unit(normalised(pair.request)) < 0.5) == (part == "measure"),
    )
    try:
        return [_of_row(pair.as_json(), f"heldout-{number:04d}") for number, pair in enumerate(pairs, 1)]
    except AuthoredError as error:
        raise BadInput(f"held-out wordings need a checkout of llmos: {error}") from None


def _case(line: str, path: Path, number: int) -> Case:
    where = f"{path} line {number}"
    try:
        case = _of_row(json.loads(line), f"{path.stem}-{number}")
    except json.JSONDecodeError as error:
        raise BadInput(f"{where} is no JSON: {error.msg}") from None
    except (KeyError, TypeError, AttributeError):
        raise BadInput(f'{where} is no case; it needs "lang", "request" and "accept", a list of plans') from None
    for plan in case.accept:
        try:
            plan_matches(_NO_PLAN, [plan])
        except (KeyError, ValueError, IndexError):
            raise BadInput(f"{where} accepts what is not in the plan language: {list(plan)}") from None
    return case


def _of_row(row: Mapping[str, Any], default_id: str) -> Case:
    accept = row["accept"] if "accept" in row else [_any_wording(row["plan"])]
    texts = [row["lang"], row["request"], *(line for plan in accept for line in plan), *row.get("tags", [])]
    if not (all(accept) and accept and all(isinstance(text, str) for text in texts)):
        raise TypeError
    return Case(
        id=str(row.get("id", default_id)),
        lang=row["lang"],
        request=row["request"],
        accept=tuple(tuple(plan) for plan in accept),
        tags=tuple(row.get("tags", ())),
    )


def _any_wording(plan: Sequence[str]) -> list[str]:
    return [f"{verb} *" if (verb := verb_of([line])) in TALK else line for line in plan]
