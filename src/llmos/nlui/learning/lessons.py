"""Lessons: what a person's feedback says that a request means. The newest word on a request counts."""

import json
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmos.errors import BadInput
from llmos.nlui.dataset.pair import normalised, stable_unit
from llmos.plan.language import parse_plan, print_plan

HELD_OUT_SHARE = 0.2
"""Of the corrections, kept for measuring."""
ENOUGH = 10
"""Corrections from which on some are held out; of fewer each is needed to learn from."""


@dataclass(frozen=True, slots=True)
class Lesson:
    """A request and the lines of the plan that it means; `corrected`: the model had given another."""

    request: str
    plan: tuple[str, ...]
    corrected: bool

    @property
    def lang(self) -> str:
        """en, or zh where there is a Chinese character."""
        return "zh" if any("\u4e00" <= char <= "\u9fff" for char in self.request) else "en"


def read_feedback(path: Path) -> list[dict[str, Any]]:
    """The records of a file of feedback, oldest first; lines that are none are left out."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    except FileNotFoundError:
        return []
    return [record for line in lines if (record := _record(line))]


def _record(line: str) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
        return record if record.keys() >= {"uid", "request", "given", "verdict", "wanted"} else None
    except (ValueError, AttributeError):
        return None


def read_lessons(feedback: Iterable[Mapping[str, Any]]) -> list[Lesson]:
    """The lessons of feedback, which comes oldest first; a rejection that names no plan takes back what was accepted."""
    lessons: dict[str, Lesson] = {}
    for record in feedback:
        key = normalised(record["request"]) or record["request"]
        lessons.pop(key, None)
        wanted = record["given"] if record["verdict"] == "accepted" else record["wanted"]
        if not wanted:
            continue
        try:
            plan = tuple(print_plan(parse_plan(wanted)))
        except BadInput:  # written for another version of the language
            continue
        lessons[key] = Lesson(record["request"], plan, record["verdict"] != "accepted")
    return list(lessons.values())


def require_corrections(lessons: Sequence[Lesson]) -> None:
    """Raise `BadInput` where there is nothing to learn."""
    if not any(lesson.corrected for lesson in lessons):
        raise BadInput(
            "there is nothing to learn yet: no plan was corrected; when asked whether to run one, answer e to edit it"
        )


def split(lessons: Sequence[Lesson], taught: Mapping[Lesson, Sequence[Hashable]]) -> tuple[list[Lesson], list[Lesson]]:
    """The lessons to learn and those to measure on, the same ones for the same feedback.

    Only corrections are held out, and only those whose taught values (`taught`, by lesson) other lessons teach as well,
    those first that most do: nothing can be known of a word that was never seen. None are held out of fewer than
    `ENOUGH` corrections.
    """
    corrections = [lesson for lesson in lessons if lesson.corrected]
    teachers = Counter(value for lesson in lessons for value in taught[lesson])
    left = [one for one in corrections if taught[one]] if len(corrections) >= ENOUGH else []
    held_out: list[Lesson] = []

    def known(lesson: Lesson) -> tuple[int, float]:
        return min(teachers[value] for value in taught[lesson]), stable_unit(lesson.request)

    while left and len(held_out) < HELD_OUT_SHARE * len(corrections):
        lesson = max(left, key=known)
        if known(lesson)[0] < 2:
            break
        left.remove(lesson)
        held_out.append(lesson)
        teachers.subtract(taught[lesson])
    return [lesson for lesson in lessons if lesson not in held_out], held_out
