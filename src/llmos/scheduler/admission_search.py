"""Which of those who do not all fit are to run: the order of ranks, or one of a few others, by a search.

Taken in the order of their ranks, jobs that need many processors may be passed again and again by those that need few, or
may keep many from running. So where somebody is passed, the search tries out to put one who was passed first (which
preempts who is in its way), and to put one of the widest who run last. What was found stands until somebody comes or ends.
"""

from collections.abc import Sequence

from llmos.scheduler.learned import Learned
from llmos.scheduler.search import SECONDS, Contender, course, search

_CONSIDERED = 20
"""Who stands behind so many is not considered."""
_EACH = 3
"""Who was passed and who is wide: so many of each are tried out."""


class AdmissionSearch:
    """Orders those who are there, by what a policy expects of them. `trials` and `seconds` as in `search`."""

    def __init__(self, policy: Learned, *, trials: int | None = None, seconds: float = SECONDS) -> None:
        self._policy, self._trials, self._seconds = policy, trials, seconds
        self._composition: int | None = None
        self._moved: tuple[int, bool] | None = None
        self.searched, self.changed = 0, 0
        """How often there was something to search, and how often another order than that of the ranks was found."""

    def order(
        self, ranked: Sequence[int], widths: Sequence[int], served: Sequence[float], processors: int, now: float
    ) -> Sequence[int]:
        """The order in which they are to be taken, from the order of their ranks.

        :param widths: by position, as `served`, in processors and seconds.
        """
        composition = hash(frozenset(ranked))
        if composition != self._composition:
            self._composition = composition
            self._moved = self._search(ranked[:_CONSIDERED], widths, served, processors, now)
        if self._moved is None:
            return ranked
        position, ahead = self._moved
        others = [other for other in ranked if other != position]
        return [position, *others] if ahead else [*others[: _CONSIDERED - 1], position, *others[_CONSIDERED - 1 :]]

    def _search(
        self, first: Sequence[int], widths: Sequence[int], served: Sequence[float], processors: int, now: float
    ) -> tuple[int, bool] | None:
        """Who is to be moved, and whether ahead of all or behind them; None where nobody is."""
        free, running, passed = processors, [], []
        for at, position in enumerate(first):
            if widths[position] <= free:
                free -= widths[position]
                running.append(at)
            else:
                passed.append(at)
        if not running or not passed or passed[0] > running[-1]:
            return None  # nobody is passed by another
        widest = sorted(running, key=lambda at: -widths[first[at]])[:_EACH]
        moves = [(at, True) for at in passed[:_EACH]] + [(at, False) for at in widest if widths[first[at]] > 1]
        plain = list(range(len(first)))
        orders = [plain]
        for at, ahead in moves:
            others = [*plain[:at], *plain[at + 1 :]]
            orders.append([at, *others] if ahead else [*others, at])
        there = [
            Contender(
                min(widths[position], processors),  # while a starving job holds the others, it is narrower
                served[position],
                self._policy.remaining(position, served[position], now),
                self._policy.weight,
            )
            for position in first
        ]
        self.searched += 1
        found = search(
            len(orders),
            lambda action, chance: course(orders[action], there, processors, chance),
            trials=self._trials,
            seconds=self._seconds,
            seed=self.searched,
        )
        if found.action == 0:
            return None
        self.changed += 1
        at, ahead = moves[found.action - 1]
        return first[at], ahead
