"""Who is given which cards: one decision over all that wait, the same in llmosd and in the replay.

What is expected to be short goes first, and the longer something has waited the more so, by its response ratio (Brinch
Hansen 1971). Who has waited for too long is kept the cards that are expected to be free first: only what is expected to
end before that may still use them (backfilling by predictions: Tsafrir, Etsion and Feitelson, TPDS 2007). A card is never
given out beyond what is left of it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

WHOLE = 1000
"""A card, in thousandths."""
STARVING_SECONDS = 24 * 3600.0
"""Who has waited for this long, and for as long as it is expected to hold cards, is kept some."""
_ALL_MEMORY = 0.9
"""Of a card's memory; who once used more is content with this, for it may have taken all there was."""


@dataclass(frozen=True, slots=True)
class Card:
    """One card: the thousandths that no job holds, and its memory in bytes; None where memory does not count."""

    name: str
    free: int = WHOLE
    total_bytes: int | None = None
    free_bytes: int | None = None

    def has_room(self, memory_bytes: int) -> bool:
        """Whether so much of its memory is free."""
        if self.total_bytes is None or self.free_bytes is None:
            return True
        return min(memory_bytes, _ALL_MEMORY * self.total_bytes) <= self.free_bytes


@dataclass(frozen=True, slots=True)
class Want:
    """What somebody waits for: this many cards, so many thousandths and bytes of memory of each (0 is not known).

    `came` and `expected`, how long it will take, are in seconds. A lower `level` goes first, whatever is expected.
    """

    key: str
    cards: int
    came: float
    expected: float
    share: int = WHOLE
    memory_bytes: int = 0
    level: int = 0

    def starves(self, now: float) -> bool:
        """Whether it has waited for too long: what will hold many cards for long may wait for longer."""
        return now - self.came > max(STARVING_SECONDS, self.expected * self.cards)


@dataclass(frozen=True, slots=True)
class Start:
    """Somebody is given cards, by their names."""

    want: Want
    cards: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Rules:
    """How cards are given out.

    `shortest`: in the order of ranks, else of arrival. `passing`: what does not fit is passed by what does. `tightest`: on
    the cards of which the least is left, else on the first. `keeping`: who starves is kept cards.
    """

    shortest: bool
    passing: bool
    tightest: bool
    keeping: bool


FIFO = Rules(shortest=False, passing=False, tightest=False, keeping=False)
BEST_FIT = Rules(shortest=False, passing=True, tightest=True, keeping=False)
SHORTEST = Rules(shortest=True, passing=True, tightest=True, keeping=True)


def admit(
    wants: Sequence[Want],
    cards: Sequence[Card],
    running: Mapping[str, Sequence[float]],
    now: float,
    rules: Rules = SHORTEST,
) -> list[Start]:
    """Who starts now, and on which cards.

    :param wants: in the order of their arrival.
    :param running: for how long each job is expected to go on that holds a part of a card, in seconds, by card.
    """
    free = {card.name: card.free for card in cards}
    starving = next((want for want in wants if want.starves(now)), None) if rules.keeping else None
    kept: frozenset[str] = frozenset()
    until = math.inf
    starts = []
    for want in _ordered(wants, starving, now) if rules.shortest else wants:
        fitting = [
            card
            for card in cards
            if free[card.name] >= want.share
            and card.has_room(want.memory_bytes)
            and (card.name not in kept or want.expected <= until)
        ]
        if len(fitting) >= want.cards:
            if rules.tightest:
                fitting.sort(key=lambda card: (card.name in kept, free[card.name], _spare(card, want)))
            chosen = tuple(card.name for card in fitting[: want.cards])
            for name in chosen:
                free[name] -= want.share
            starts.append(Start(want, chosen))
        elif not rules.passing:
            break
        elif want is starving:
            kept, until = _keep(want, {card.name: card in fitting for card in cards}, running)
    return starts


def _ordered(wants: Sequence[Want], starving: Want | None, now: float) -> list[Want]:
    def rank(want: Want) -> tuple[bool, int, float]:
        ratio = 1.0 + max(0.0, now - want.came) / max(want.expected, 1.0)
        return want is not starving, want.level, want.expected / ratio

    return sorted(wants, key=rank)


def _spare(card: Card, want: Want) -> int:
    """Memory for whoever comes next: the least is best where the need is known, else the most for this one."""
    free = card.free_bytes or 0
    return free if want.memory_bytes else -free


def _keep(want: Want, fits: Mapping[str, bool], running: Mapping[str, Sequence[float]]) -> tuple[frozenset[str], float]:
    """The cards that are expected to be free for it first, and in how many seconds the last of them is.

    A card that nobody's end makes free, for its memory is used by others, is free at no time.
    """
    free_in = {name: 0.0 if fit else max(running.get(name, ()), default=math.inf) for name, fit in fits.items()}
    first = sorted(free_in, key=lambda name: free_in[name])[: want.cards]
    return frozenset(first), max((free_in[name] for name in first), default=math.inf)
