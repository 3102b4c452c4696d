"""Lessons: the newest word counts, and what is held out is taught elsewhere."""

import json
from pathlib import Path

import pytest

from llmos.errors import BadInput
from llmos.nlui.learning.lessons import ENOUGH, Lesson, read_feedback, read_lessons, require_corrections, split
from nlui.learning.corrections import record


def test_the_newest_word_on_a_request_counts() -> None:
    feedback = [
        record("Start it", "accepted", "start a"),
        record("start it!", "edited", "start a", "start b"),
        record("other", "accepted", "start c"),
    ]
    assert read_lessons(feedback) == [
        Lesson("start it!", ("start b",), True),
        Lesson("other", ("start c",), False),
    ]


def test_a_rejection_takes_back_and_may_teach() -> None:
    feedback = [
        record("start it", "accepted", "start a"),
        record("start it", "rejected", "start a"),
        record("end it", "rejected", "kill a", "stop a timeout=60s"),
    ]
    assert read_lessons(feedback) == [Lesson("end it", ("stop a timeout=60s",), True)]


def test_what_is_no_plan_any_more_teaches_nothing() -> None:
    assert read_lessons([record("fly", "edited", wanted="fly away")]) == []


def test_damaged_lines_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "feedback.jsonl"
    assert read_feedback(path) == []
    whole = record("a line\u2028 in two", "accepted")
    path.write_text('{"half\n[]\n7\n{}\n' + json.dumps(whole, ensure_ascii=False) + "\n")
    assert read_feedback(path) == [whole]


def test_without_a_correction_there_is_nothing_to_learn() -> None:
    require_corrections([Lesson("a", ("jobs",), True)])
    with pytest.raises(BadInput, match="nothing to learn"):
        require_corrections([Lesson("a", ("jobs",), False)])


def test_only_what_others_teach_too_is_held_out() -> None:
    lessons = [Lesson(f"request {number}", ("start a",), True) for number in range(ENOUGH)]
    lessons += [Lesson("accepted", ("start a",), False)]
    taught = {lesson: ["a"] if number < 8 else [] for number, lesson in enumerate(lessons)}
    taught[lessons[7]] = ["b"]
    learned, held_out = split(lessons, taught)
    assert len(held_out) == 2 and all(taught[lesson] == ["a"] for lesson in held_out)
    assert sorted([*learned, *held_out], key=lessons.index) == lessons
    assert split(lessons, taught) == (learned, held_out)


def test_of_few_corrections_none_is_held_out() -> None:
    lessons = [Lesson(f"request {number}", ("start a",), True) for number in range(ENOUGH - 1)]
    assert split(lessons, dict.fromkeys(lessons, ("a",))) == (lessons, [])
