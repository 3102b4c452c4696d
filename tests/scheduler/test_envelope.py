"""The envelope: what it grants whatever a policy wants, and the rules that it names."""

from hypothesis import given
from hypothesis import strategies as st

from llmos.scheduler.envelope import FLOOR, LEAST_DWELL, MAX_CHANGES, USUAL, Envelope, Place, Wish


def wish(key: str, rank: float, **given: float | str) -> Wish:
    return Wish(
        key,
        rank,
        review=float(given.get("review", 1.0)),
        width=int(given.get("width", 1)),
        starved=float(given.get("starved", 0.0)),
        first_always=str(given.get("always", "")),
        fresh=bool(given.get("fresh", False)),
    )


def ahead(places: dict[str, Place]) -> set[str]:
    return {key for key, place in places.items() if place.first}


def test_as_many_go_ahead_as_there_are_processors() -> None:
    places = Envelope(60).places([wish("a", 3), wish("b", 1), wish("c", 2)], 2, 0.0)
    assert ahead(places) == {"b", "c"}
    assert places["a"].share < USUAL and not places["a"].wished
    assert ahead(Envelope(60).places([wish("a", 3, width=2), wish("b", 1, width=2)], 2, 0.0)) == {"b"}


def test_a_service_is_always_ahead_and_says_why() -> None:
    places = Envelope(60).places([wish("a", 1), wish("web", 9, always="a service is not put behind")], 1, 0.0)
    assert ahead(places) == {"web"} and places["web"].rules == ("a service is not put behind",)


def test_a_place_is_kept_for_a_while_and_a_newcomer_does_not_wait_for_that() -> None:
    envelope = Envelope(60)
    assert ahead(envelope.places([wish("a", 1), wish("b", 2)], 1, 0.0)) == {"a"}
    kept = envelope.places([wish("a", 3), wish("b", 2)], 1, LEAST_DWELL / 2)
    assert ahead(kept) == {"a"} and "kept" in kept["a"].rules[0]
    assert ahead(envelope.places([wish("a", 3), wish("b", 2)], 1, LEAST_DWELL + 0.1)) == {"b"}
    now = LEAST_DWELL + 0.2
    assert ahead(envelope.places([wish("a", 3), wish("b", 2), wish("c", 1, fresh=True)], 1, now)) == {"c"}


def test_nobody_goes_without_for_longer_than_the_bound() -> None:
    envelope = Envelope(60)
    wishes = [wish("a", 1), wish("b", 2, starved=59)]
    assert ahead(envelope.places(wishes, 1, 0.0)) == {"a"}
    places = envelope.places([wish("a", 1), wish("b", 2, starved=61)], 1, 10.0)
    assert ahead(places) == {"b"} and "60 s" in places["b"].rules[0]
    assert ahead(envelope.places([wish("a", 1), wish("b", 2)], 1, 12.0)) == {"b"}  # for a slice
    assert ahead(envelope.places([wish("a", 1), wish("b", 2)], 1, 20.0)) == {"a"}


def test_places_change_at_most_so_often() -> None:
    envelope = Envelope(60)
    changes, now, before = 0, 0.0, None
    while now < 59:
        first = ahead(envelope.places([wish("a", 1 if int(now) % 4 < 2 else 3), wish("b", 2)], 1, now))
        changes += before is not None and first != before
        before = first
        now += 0.5
    assert changes <= MAX_CHANGES + 1


@given(st.lists(st.tuples(st.floats(-1e6, 1e6), st.integers(1, 8)), min_size=1, max_size=60), st.integers(1, 16))
def test_those_behind_keep_their_floor_together(ranked: list[tuple[float, int]], cores: int) -> None:
    wishes = [wish(str(at), rank, width=min(width, cores)) for at, (rank, width) in enumerate(ranked)]
    places = Envelope(60).places(wishes, cores, 0.0)
    assert ahead(places)
    slow = [place.share for place in places.values() if not place.first]
    fast = sum(each.width for each in wishes if places[each.key].first) * USUAL
    if slow and min(slow) > 0:
        assert sum(slow) / (sum(slow) + fast) >= FLOOR * 0.5 or max(slow) == 10
    assert all(1 <= place.share <= USUAL for place in places.values())
