"""What a confidence is worth: how well it tells right plans from wrong ones, and how near it comes to their share.

All functions take what was observed: a confidence, 0 to 1, and whether the plan was right.
"""

import math
from collections.abc import Sequence

Observed = Sequence[tuple[float, bool]]
_BINS = 10


def accuracy_at(observed: Observed, coverage: float) -> float:
    """The share of right plans among the most confident `coverage` of all; of equal confidences the wrong come first."""
    ranked = sorted(observed, key=lambda one: (-one[0], one[1]))
    taken = ranked[: max(1, math.ceil(coverage * len(ranked) - 1e-9))]
    return sum(right for _, right in taken) / len(taken)


def auroc(observed: Observed) -> float | None:
    """How likely a right plan has more confidence than a wrong one, equal counting half; None without both sorts."""
    right = [confidence for confidence, good in observed if good]
    wrong = [confidence for confidence, good in observed if not good]
    if not right or not wrong:
        return None
    above = sum((one > other) + 0.5 * (one == other) for one in right for other in wrong)
    return above / (len(right) * len(wrong))


def calibration_error(observed: Observed) -> float:
    """Expected calibration error: in ten equal bins of confidence, its mean distance from the share of right plans
    (Guo et al. 2017, https://arxiv.org/abs/1706.04599)."""
    bins: list[list[tuple[float, bool]]] = [[] for _ in range(_BINS)]
    for confidence, right in observed:
        bins[min(int(confidence * _BINS), _BINS - 1)].append((confidence, right))
    gaps = (abs(sum(confidence for confidence, _ in one) - sum(right for _, right in one)) for one in bins)
    return sum(gaps) / len(observed)
