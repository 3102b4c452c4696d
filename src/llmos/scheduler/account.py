"""What the journal holds of a change of place and of what came of it, for `llmos why`."""

from collections.abc import Mapping, Sequence
from typing import Any

from llmos.scheduler.envelope import USUAL, Place
from llmos.scheduler.forecasts import Expected
from llmos.scheduler.ranking import Ranking
from llmos.scheduler.run_history import PastRun
from llmos.scheduler.task import RECENT_SECONDS, Task

_NAMED = 5
"""Of those who go first, how many are named."""


def of_place(
    each: Task,
    before: Place | None,
    lever: str,
    ranking: Ranking,
    ours: Sequence[Task],
    places: Mapping[str, Place],
    beside: bool,
    seen: Mapping[str, Any],
) -> dict[str, Any]:
    """A change of place: what was seen and predicted, what bounded it, and what the runner-up would have done.

    :param beside: whether the runner-up would have it first.
    :param seen: of the machine.
    """
    place = places[each.key]
    used, waited, _ = each.watched.rates(RECENT_SECONDS)
    ahead = [other.name for other in ours if other is not each and places[other.key].first]
    expected = each.order.expected if each.order is not None else None
    return {
        "place": "first" if place.first else "behind",
        "share": place.share,
        "before": before.share if before is not None else USUAL,
        "lever": lever,
        "policy": ranking.name,
        "stands_in": ranking.standing_in or ranking.fallen_back or None,
        "rank": round(each.rank, 3),
        "seen": {
            "cpu_seconds": round(each.served, 2),
            "cores": round(used, 2),
            "waiting": round(waited, 2),
            "wanting": len(ours),
            **seen,
        },
        "ahead": ahead[:_NAMED],
        "predicted": expected.as_json() if expected is not None else None,
        "contributions": each.contributions,
        "rules": list(place.rules),
        "policy_alone": "first" if place.wished else "behind",
        "runner_up": {"policy": ranking.runner_up, "place": "first" if beside else "behind"},
    }


def of_outcome(each: Task, run: PastRun, expected: Expected | None) -> dict[str, Any]:
    """What came of the changes of a run; `expected` is what was expected of the whole of it at first."""
    return {
        "runtime": round(run.runtime, 2),
        "cpu_seconds": round(run.cpu_seconds or 0.0, 2),
        "slowdown": round(max(1.0, run.runtime / max(run.cpu_seconds or 0.0, 10.0)), 2),
        "times_behind": each.placed_behind,
        "predicted": expected.as_json() if expected is not None else None,
    }
