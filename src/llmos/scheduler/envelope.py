"""The envelope: rules on top of whatever a policy wants. Symbolic, always on, and each names itself where it bounds.

Somebody who waits keeps a floor of the processors; nobody goes without for longer than a bound; a place is kept for a
while once it was given; places do not change more often than a bound. Whom a person has set, or the machine needs, is
not brought before it at all.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

USUAL = 100
"""The weight of what is not put behind, as a group is born with."""

FLOOR = 0.05
"""The part of the processors that those who wait have together, while those ahead want all of them."""
SHARES = (10, 5, 2, 1)
"""What somebody behind may weigh, of USUAL: few values, so that few changes are made."""
SLICE_SECONDS = 5.0
"""How long somebody who starved goes first."""
LEAST_DWELL = 2.0
MOST_DWELL = 30.0
"""Bounds on how long a place is kept once it was given, between which the policy chooses."""
MAX_CHANGES = 20
"""Changes of place of one job in a minute."""


@dataclass(frozen=True, slots=True)
class Wish:
    """Somebody who wants the processor, as the policy and the samples see it. Seconds; `width` in processors."""

    key: str
    rank: float
    review: float
    """Seconds of service until the rank may be another."""
    width: int
    starved: float
    """For how long it has wanted the processor and had none."""
    first_always: str = ""
    """Why it is never put behind; empty where it may be."""
    fresh: bool = False
    """Whether it has just come, and so may take the place of somebody who has just been given it."""


@dataclass(frozen=True, slots=True)
class Place:
    """What is to be: ahead or behind, with which share of USUAL, and the rules that made it differ from the wish."""

    first: bool
    share: int
    rules: tuple[str, ...] = ()
    wished: bool = True
    """Whether the policy alone would have it ahead."""


@dataclass(slots=True)
class _Past:
    first: bool
    since: float
    changes: "deque[float]"
    sliced_until: float = 0.0


class Envelope:
    """Places for all who want the processor, with a memory of those it gave."""

    def __init__(self, starvation_seconds: float) -> None:
        self._starvation = starvation_seconds
        self._past: dict[str, _Past] = {}

    def forget(self, key: str) -> None:
        """It has ended, or wants no more."""
        self._past.pop(key, None)

    def places(self, wishes: Sequence[Wish], cores: int, now: float) -> dict[str, Place]:
        """A place for each. `now` in seconds of a clock that only goes forward."""
        order = sorted(wishes, key=lambda wish: (not wish.first_always, wish.rank))
        wished = _fill(order, cores, {})
        held, rules = self._rules(wishes, wished, now)
        chosen = _fill(order, cores, held)
        places: dict[str, Place] = {}
        ahead = sum(wish.width for wish in wishes if wish.key in chosen)
        share, floor = _share(ahead, len(wishes) - len(chosen))
        for wish in wishes:
            first = wish.key in chosen
            because = list(rules.get(wish.key, ()))
            if first != (wish.key in wished) and not because:
                because.append("another keeps the place that the policy would give it")
            if not first and floor:
                because.append(floor)
            self._note(wish.key, first, now)
            places[wish.key] = Place(first, USUAL if first else share, tuple(because), wish.key in wished)
        return places

    def _rules(
        self, wishes: Sequence[Wish], wished: set[str], now: float
    ) -> tuple[dict[str, bool], dict[str, list[str]]]:
        """Whose place is not the policy's to choose now: ahead or behind, and why."""
        held: dict[str, bool] = {}
        rules: dict[str, list[str]] = {}
        newcomer = any(wish.fresh and wish.key in wished for wish in wishes)
        for wish in wishes:
            past = self._past.get(wish.key)
            want = wish.key in wished
            if wish.first_always:
                held[wish.key] = True
                rules[wish.key] = [wish.first_always]
            elif wish.starved >= self._starvation or (past is not None and past.sliced_until > now):
                if past is not None and past.sliced_until <= now:
                    past.sliced_until = now + SLICE_SECONDS
                held[wish.key] = True
                if not want:
                    rules[wish.key] = [f"nobody goes without the processor for longer than {self._starvation:g} s"]
            elif past is not None and past.first != want:
                dwell = min(MOST_DWELL, max(LEAST_DWELL, wish.review))
                if past.first and now - past.since < dwell and not newcomer:
                    held[wish.key] = past.first
                    rules[wish.key] = [f"a place is kept for {dwell:.0f} s once it was given"]
                elif len(past.changes) >= MAX_CHANGES and now - past.changes[0] < 60:
                    held[wish.key] = past.first
                    rules[wish.key] = [f"a place changes at most {MAX_CHANGES} times a minute"]
        return held, rules

    def _note(self, key: str, first: bool, now: float) -> None:
        past = self._past.get(key)
        if past is None:
            self._past[key] = _Past(first, now, deque(maxlen=MAX_CHANGES))
        elif past.first != first:
            past.first, past.since = first, now
            past.changes.append(now)


def _fill(order: Sequence[Wish], cores: int, held: dict[str, bool]) -> set[str]:
    """Who goes ahead: those who are held there, then by rank as long as a processor is left."""
    chosen = {key for key, first in held.items() if first}
    free = cores - sum(wish.width for wish in order if wish.key in chosen)
    for wish in order:
        if free <= 0:
            break
        if wish.key not in held:
            chosen.add(wish.key)
            free -= wish.width
    if not chosen and order:
        chosen.add(order[0].key)
    return chosen


def _share(ahead: int, behind: int) -> tuple[int, str]:
    """What each of those behind weighs against USUAL of one ahead, and the floor where it is what decides."""
    if not behind:
        return USUAL, ""
    least = USUAL * max(1, ahead) * FLOOR / (1.0 - FLOOR) / behind
    share = next((each for each in reversed(SHARES) if each >= least), SHARES[0])
    return share, f"those behind keep {FLOOR:.0%} of the processors together" if share > SHARES[-1] else ""
