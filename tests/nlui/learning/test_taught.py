"""Taught values: those of a wanted plan that its request does not say."""

import pytest

from llmos.nlui.learning.lessons import Lesson
from llmos.nlui.learning.taught import MAX_TAUGHT, taught_in, taught_values
from llmos.syscalls import Kind


@pytest.mark.parametrize(
    ("request_", "plan", "expected"),
    [
        ("start the usual", "start nightly-etl", [(Kind.TARGET, "nightly-etl")]),
        ("start nightly-etl", "start nightly-etl", []),
        ("跑一下晚上那套", "run -- bash n.sh --all", [(Kind.ARGV, "bash n.sh --all")]),
        ("give web the small box", "limit web memory=512M", [(Kind.SIZE, "512M")]),
        ("give web half a gig", "limit web memory=512M", []),
        ("web in its weekly rhythm", 'schedule web cron="0 3 * * 1"', [(Kind.CRON, '"0 3 * * 1"')]),
        ("look into my attic", "usage /mnt/scratch", [(Kind.PATH, "/mnt/scratch")]),
        (
            "when the elephant dies start web",
            'watch exit target=postgres then="start web"',
            [(Kind.TARGET, "postgres")],
        ),
        ("start web at teatime", "schedule web once=16:00", [(Kind.TIME, "16:00")]),
        (
            "when the elephant dies start it",
            'watch exit target=postgres then="start postgres"',
            [(Kind.TARGET, "postgres")],
        ),
        ("end that one", "kill 4711", []),
        ("shoo", "ps\nkill $1", []),
        ("free web", "limit web memory=none", []),
    ],
)
def test_a_value_is_taught_that_the_request_does_not_say(
    request_: str, plan: str, expected: list[tuple[Kind, str]]
) -> None:
    assert taught_in(Lesson(request_, tuple(plan.split("\n")), True)) == expected


def test_a_name_is_offered_wherever_a_name_may_stand_and_a_time_where_a_time_may() -> None:
    lessons = [Lesson("a", ("start x",), True), Lesson("b", ("wait web timeout=15m",), True)]
    taught = {lessons[0]: [(Kind.TARGET, "x")], lessons[1]: [(Kind.DURATION, "15m")]}
    assert taught_values(lessons, taught, {lessons[0]: "a"}) == {
        "MOMENT": {"15m": []},
        "DURATION": {"15m": []},
        **{name: {"x": ["a"]} for name in ("TARGET", "JOB", "WATCH", "PROCESS_NAME")},
    }


def test_a_value_is_offered_always_where_a_lesson_teaches_it_without_a_phrase() -> None:
    lessons = [Lesson(request, ("start x",), True) for request in ("start the usual", "start old faithful", "go")]
    taught = {lesson: [(Kind.TARGET, "x")] for lesson in lessons}
    phrases = dict(zip(lessons, ("usual", "old faithful"), strict=False))
    assert taught_values(lessons, taught, phrases)["JOB"] == {"x": []}
    assert taught_values(lessons[:2], taught, phrases)["JOB"] == {"x": ["old faithful", "usual"]}


def test_the_newest_are_kept_when_there_are_too_many() -> None:
    lessons = [Lesson(f"request {number}", ("jobs",), True) for number in range(MAX_TAUGHT + 5)]
    taught = {lesson: [(Kind.PATH, f"/{number}")] for number, lesson in enumerate(lessons)}
    kept = taught_values(lessons, taught, {})["PATH"]
    assert len(kept) == MAX_TAUGHT and next(iter(kept)) == f"/{MAX_TAUGHT + 4}" and "/4" not in kept
