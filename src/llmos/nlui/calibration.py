"""From a plan's confidence to the probability that the plan is right, and when to ask which of two readings is meant.

The confidence, a product of the model's own probabilities, is not that probability. What it is worth was observed on
held-out requests; the map from one to the other stands in the adapter's card:
`"calibration": {"points": [[confidence, probability], …], "threshold": …, "pairs": …}`.
"""

import json
import math
import os
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from llmos.errors import BadInput, ModelError

KEY = "calibration"
MIN_PAIRS = 100
TARGET_ACCURACY = 0.98
"""Share of right plans that is wanted among those at or above the threshold."""
MOST_ASKED = 0.08
"""Share of the requests that may be asked about at most."""
_GROUP = 20
"""Pairs of neighbouring confidence that are counted together."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """What a confidence is worth.

    Attributes:
        points: confidences with their probabilities, both rising; straight lines between them.
        threshold: confidence below which two readings are to be offered.
        pairs: how many held-out pairs it was observed on.
    """

    points: tuple[tuple[float, float], ...]
    threshold: float
    pairs: int

    def probability(self, confidence: float) -> float:
        """The probability, 0 to 1, that a plan of this confidence is right."""
        at = bisect_right(self.points, confidence, key=lambda point: point[0])
        if at == 0:
            return self.points[0][1]
        if at == len(self.points):
            return self.points[-1][1]
        (left, low), (right, high) = self.points[at - 1 : at + 1]
        return low + (high - low) * (confidence - left) / (right - left)

    def doubtful(self, confidence: float) -> bool:
        """Whether another reading is to be offered."""
        return confidence < self.threshold


def load(card: Path) -> Calibration | None:
    """The calibration of an adapter, or None when its card holds none. Reads a file: blocks.

    :raises ModelError: what the card holds is none.
    """
    return of_card(json.loads(card.read_text(encoding="utf-8")), str(card))


def of_card(facts: Mapping[str, Any], name: str) -> Calibration | None:
    """As `load`, of a card that was read already; `name` is for the error."""
    if KEY not in facts:
        return None
    try:
        found = facts[KEY]
        points = tuple((float(confidence), float(probability)) for confidence, probability in found["points"])
        calibration = Calibration(points, float(found["threshold"]), int(found["pairs"]))
    except (KeyError, TypeError, ValueError):
        calibration = None
    if calibration is None or not calibration.points or not _sound(calibration):
        raise ModelError(f"the calibration in {name} is damaged; run: python -m llmos.nlui.calibrate")
    return calibration


def store(calibration: Calibration, card: Path) -> None:
    """Write it into an adapter's card, all or nothing."""
    facts = json.loads(card.read_text(encoding="utf-8"))
    facts[KEY] = {
        "points": [list(point) for point in calibration.points],
        "threshold": calibration.threshold,
        "pairs": calibration.pairs,
    }
    partial = card.with_suffix(f".{os.getpid()}.part")
    partial.write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    partial.replace(card)


def require_enough(pairs: int) -> None:
    """Raise `BadInput` where so many pairs are too few to say anything."""
    if pairs < MIN_PAIRS:
        raise BadInput(f"{pairs} pairs are too few to calibrate on; take {MIN_PAIRS} at least")


def fit(observed: Sequence[tuple[float, bool]]) -> Calibration:
    """The calibration that fits pairs of confidence and whether the plan was right.

    Isotonic regression by pooling adjacent violators (Barlow et al. 1972) over groups of neighbours; each group's share
    has half a right and half a wrong plan added, so that no plan is said to be certain.

    :raises BadInput: there are too few pairs.
    """
    require_enough(len(observed))
    ranked = sorted(observed)
    pools: list[_Pool] = []
    for group in _groups(ranked):
        pool = _Pool(len(group), sum(confidence for confidence, _ in group), sum(right for _, right in group))
        while pools and pools[-1].probability >= pool.probability:
            pool = pools.pop().joined(pool)
        pools.append(pool)
    points = tuple((round(pool.confidences / pool.pairs, 6), round(pool.probability, 6)) for pool in pools)
    return Calibration(points, _threshold(ranked), len(observed))


@dataclass(frozen=True, slots=True)
class _Pool:
    """Pairs that are given one probability: how many, their confidences' sum, how many were right."""

    pairs: int
    confidences: float
    right: int

    @property
    def probability(self) -> float:
        return (self.right + 0.5) / (self.pairs + 1)

    def joined(self, other: "_Pool") -> "_Pool":
        return _Pool(self.pairs + other.pairs, self.confidences + other.confidences, self.right + other.right)


def _groups(ranked: Sequence[tuple[float, bool]]) -> list[list[tuple[float, bool]]]:
    """Neighbours in groups of `_GROUP` at least, equal confidences together."""
    groups: list[list[tuple[float, bool]]] = []
    for _, equal in groupby(ranked, key=lambda pair: pair[0]):
        if not groups or len(groups[-1]) >= _GROUP:
            groups.append([])
        groups[-1].extend(equal)
    return groups


def _threshold(ranked: Sequence[tuple[float, bool]]) -> float:
    """The lowest confidence from which the plans are as accurate as wanted, or the highest that asks no more than may be
    asked."""
    right = sum(good for _, good in ranked)
    for asked in range(math.floor(MOST_ASKED * len(ranked)) + 1):
        confidence, good = ranked[asked]
        if right >= TARGET_ACCURACY * (len(ranked) - asked):
            break
        right -= good
    return confidence if asked else 0.0


def _sound(calibration: Calibration) -> bool:
    """Whether both numbers of the points rise, and all lie between 0 and 1."""
    confidences = [confidence for confidence, _ in calibration.points]
    probabilities = [probability for _, probability in calibration.points]
    ordered = confidences == sorted(set(confidences)) and probabilities == sorted(probabilities)
    return ordered and all(0 <= one <= 1 for one in (*confidences, *probabilities, calibration.threshold))
