"""Phrases of a person's own are found, and put into other sentences without a change of meaning."""

from random import Random

import pytest

from llmos.nlui.dataset.generate import generate
from llmos.nlui.dataset.pair import Pair
from llmos.nlui.grammar import reachable
from llmos.nlui.learning.aliases import Alias, RequestModel, find_aliases
from llmos.nlui.learning.augmentation import ALIAS_PAIRS, ALIAS_REPEATS, LONGEST, mixed, said_again, with_alias
from llmos.nlui.learning.lessons import Lesson, read_lessons
from llmos.nlui.learning.taught import taught_in
from llmos.syscalls import Kind
from nlui.learning.corrections import PHRASES, records

LESSONS = read_lessons(records())
USUAL = Alias("the usual", "nightly-etl", Kind.TARGET)
NIGHT = Alias("晚上那套", "bash nightly.sh --all", Kind.ARGV)


@pytest.fixture(scope="module")
def pairs() -> list[Pair]:
    return list(generate(3, 2500))


@pytest.fixture(scope="module")
def aliases(pairs: list[Pair]) -> dict[Lesson, Alias]:
    return find_aliases(LESSONS, {lesson: taught_in(lesson) for lesson in LESSONS}, RequestModel(pairs))


def test_the_phrases_that_stand_for_values_are_found(aliases: dict[Lesson, Alias]) -> None:
    assert {alias.phrase: alias.value for alias in aliases.values()} == PHRASES
    assert [lesson.request for lesson in LESSONS if lesson not in aliases] == ["pause web for me"]


def test_one_value_may_have_two_phrases(pairs: list[Pair]) -> None:
    lessons = [
        Lesson(request, ("pause legacy-billing",), True)
        for request in ("pause grandma", "please pause grandma", "pause the dinosaur", "please pause the dinosaur")
    ]
    found = find_aliases(lessons, {lesson: taught_in(lesson) for lesson in lessons}, RequestModel(pairs))
    assert {alias.phrase for alias in found.values()} == {"grandma", "the dinosaur"}


def test_a_lesson_with_two_taught_values_has_no_alias(pairs: list[Pair]) -> None:
    lesson = Lesson("the usual box for the elephant", ("limit postgres memory=512M",), True)
    taught = {lesson: taught_in(lesson)}
    assert len(taught[lesson]) == 2
    assert find_aliases([lesson], taught, RequestModel(pairs)) == {}


@pytest.mark.parametrize("alias", [USUAL, NIGHT, Alias("grandma", "legacy-billing", Kind.TARGET)])
def test_an_alias_is_said_in_place_of_its_value(alias: Alias, pairs: list[Pair]) -> None:
    made = with_alias(alias, pairs, Random(1), 15)
    assert len(made) == 15
    assert alias.kind is Kind.ARGV or len({pair.verbs[0] for pair in made}) > 3
    for pair in made:
        assert alias.phrase in pair.request and any(alias.value in line for line in pair.plan)
        assert len(pair.request) <= 2 * LONGEST and "the the " not in pair.request
        # The alias aside, the plan names what the request says.
        assert reachable(pair.plan, f"{pair.request} “{alias.value}”", [alias.value]), pair


def test_chinese_phrases_stand_in_chinese_and_single_english_words_in_both(pairs: list[Pair]) -> None:
    assert {pair.lang for pair in with_alias(NIGHT, pairs, Random(1), 30)} == {"zh"}
    assert {pair.lang for pair in with_alias(USUAL, pairs, Random(1), 30)} == {"en"}
    assert {pair.lang for pair in with_alias(Alias("grandma", "x", Kind.TARGET), pairs, Random(1), 60)} == {"en", "zh"}


def test_a_time_takes_the_place_of_times_and_a_duration_of_durations(pairs: list[Pair]) -> None:
    for value, kind in (("20:00", Kind.TIME), ("15m", Kind.DURATION)):
        made = with_alias(Alias("teatime", value, kind), pairs, Random(1), 10)
        assert made and all(value in " ".join(pair.plan) for pair in made)


def test_a_lesson_is_said_in_other_ways_of_the_same_meaning() -> None:
    lesson = Lesson("put web to bed for me", ("pause web",), True)
    made = said_again(lesson, None, Random(4), 30)
    assert (made[0].request, made[0].plan) == (lesson.request, lesson.plan) and len(made) == 30
    assert len({pair.plan for pair in made}) > 3  # other names than web
    assert all(pair.plan[0].split()[1] in pair.request for pair in made)
    assert len({pair.request for pair in made}) > 15


def test_all_is_mixed_the_same_way_each_time(aliases: dict[Lesson, Alias], pairs: list[Pair]) -> None:
    made = mixed(LESSONS, aliases, lambda count: iter(pairs), Random(7))
    assert made == mixed(LESSONS, aliases, lambda count: iter(pairs), Random(7))
    requests = {pair.request for pair in made}
    assert requests >= {lesson.request for lesson in LESSONS}
    of_aliases = sum(any(phrase in pair.request for phrase in PHRASES) for pair in made)
    assert ALIAS_REPEATS * len(PHRASES) <= of_aliases <= ALIAS_PAIRS + 200
    replayed = sum(pair in set(pairs) for pair in made)
    assert 0.4 < replayed / len(made) < 0.6
