"""Who is given which cards, in numbers."""

import random
from dataclasses import replace

import pytest

from llmos.scheduler.gpu.admission import (
    BEST_FIT,
    FIFO,
    SHORTEST,
    STARVING_SECONDS,
    WHOLE,
    Card,
    Rules,
    Start,
    Want,
    admit,
)

GIB = 1 << 30


def want(key: str, cards: int = 1, *, came: float = 0.0, expected: float = 100.0, share: int = WHOLE) -> Want:
    return Want(key, cards, came, expected, share)


def cards(*free: int) -> list[Card]:
    return [Card(f"card {number}", share) for number, share in enumerate(free)]


def given(starts: list[Start]) -> dict[str, list[int]]:
    return {start.want.key: [int(name.removeprefix("card ")) for name in start.cards] for start in starts}


def test_fifo_lets_nobody_pass() -> None:
    wants = [want("a"), want("wide", 2), want("b")]
    assert given(admit(wants, cards(WHOLE, WHOLE), {}, 0.0, FIFO)) == {"a": [0]}
    assert given(admit(wants, cards(WHOLE, WHOLE), {}, 0.0, BEST_FIT)) == {"a": [0], "b": [1]}


def test_the_tightest_card_is_taken() -> None:
    free = cards(1000, 700, 400, 300)
    assert given(admit([want("a", share=350)], free, {}, 0.0, BEST_FIT)) == {"a": [2]}
    assert given(admit([want("a", share=350)], free, {}, 0.0, FIFO)) == {"a": [0]}
    assert given(admit([want("a", 2, share=350)], free, {}, 0.0)) == {"a": [2, 1]}
    assert given(admit([want("a", 4, share=350)], free, {}, 0.0)) == {}


def test_what_is_expected_to_be_short_goes_first_until_another_has_waited_for_long() -> None:
    long, short = want("long", expected=1000.0), want("short", came=500.0, expected=100.0)
    assert given(admit([long, short], cards(WHOLE), {}, 500.0)) == {"short": [0]}
    waited = replace(long, came=-12_000.0)
    assert given(admit([waited, short], cards(WHOLE), {}, 500.0)) == {"long": [0]}


def test_what_a_person_put_ahead_goes_ahead_but_not_of_who_starves() -> None:
    high, short, low = replace(want("high"), level=-1), want("short", expected=1.0), replace(want("low"), level=1)
    assert given(admit([low, short, high], cards(WHOLE, WHOLE), {}, 5000.0)) == {"high": [0], "short": [1]}
    assert given(admit([low, short, high], cards(WHOLE), {}, STARVING_SECONDS + 1)) == {"low": [0]}


def test_who_starves_is_kept_the_cards_that_come_free_first() -> None:
    now = STARVING_SECONDS + 1
    wide = want("wide", 2, expected=50.0)
    brief, long = want("brief", came=now, expected=60.0), want("long", came=now, expected=500.0)
    running = {"card 0": [10.0, 300.0], "card 1": [5000.0]}
    free = cards(0, 0, WHOLE)
    assert given(admit([wide, brief, long], free, running, now)) == {"brief": [2]}  # done before 300 s have passed
    assert given(admit([wide, long], free, running, now)) == {}
    assert given(admit([replace(wide, came=10.0), long], free, running, now)) == {"long": [2]}
    vast = replace(wide, expected=STARVING_SECONDS)  # will hold them for longer than it has waited
    assert given(admit([vast, long], free, running, now)) == {"long": [2]}
    assert given(admit([wide, long], cards(0, 0, WHOLE, WHOLE), running, now)) == {"wide": [2, 3]}


def test_cards_whose_memory_others_use_are_kept_for_nobody() -> None:
    now = STARVING_SECONDS + 1
    full = Card("card 0", WHOLE, 24 * GIB, GIB)
    hungry = replace(want("hungry"), memory_bytes=8 * GIB)
    assert given(admit([hungry, want("other", came=now)], [full], {}, now)) == {"other": [0]}


def test_memory() -> None:
    small, large, idle = (
        Card("card 0", WHOLE, 24 * GIB, 9 * GIB),
        Card("card 1", WHOLE, 80 * GIB, 70 * GIB),
        Card("card 2"),
    )
    known = replace(want("known"), memory_bytes=8 * GIB)
    assert given(admit([known], [small, large], {}, 0.0)) == {"known": [0]}  # leaves the large one to who needs it
    assert given(admit([want("unknown")], [small, large], {}, 0.0)) == {"unknown": [1]}
    assert given(admit([replace(known, memory_bytes=10 * GIB)], [small], {}, 0.0)) == {}
    assert idle.has_room(500 * GIB)  # nothing is known of it
    took_all = replace(known, memory_bytes=24 * GIB)
    assert given(admit([took_all], [Card("card 0", WHOLE, 24 * GIB, 23 * GIB)], {}, 0.0)) == {"known": [0]}


@pytest.mark.parametrize("rules", [FIFO, BEST_FIT, SHORTEST])
def test_no_card_is_given_out_twice(rules: Rules) -> None:
    draw = random.Random(7)
    for _ in range(500):
        free = cards(*(draw.choice([0, 300, 500, WHOLE]) for _ in range(draw.randint(1, 6))))
        wants = [
            want(
                str(number),
                draw.randint(1, 4),
                came=draw.uniform(-2 * STARVING_SECONDS, 0),
                expected=draw.expovariate(1e-3),
                share=draw.choice([100, 333, 500, WHOLE]),
            )
            for number in range(draw.randint(0, 8))
        ]
        wants.sort(key=lambda each: each.came)
        running = {card.name: [draw.expovariate(1e-4)] for card in free if card.free < WHOLE}
        starts = admit(wants, free, running, 0.0, rules)
        assert len({start.want.key for start in starts}) == len(starts)
        for card in free:
            taken = [start.want.share for start in starts if card.name in start.cards]
            assert sum(taken) <= card.free
        for start in starts:
            assert len(set(start.cards)) == start.want.cards
