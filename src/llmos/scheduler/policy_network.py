"""The learned policy with a network on top, which sees all jobs that are there and moves each job's rank.

The network takes the jobs as a set (Zaheer et al., Deep Sets, 2017): each is encoded by itself, the mean and the maximum
of all codes are what it knows of the others, and from both comes the logarithm by which a job's rank is moved, within
bounds. So the order in which jobs are told does not matter, and a network whose last layer is zero leaves the ranks
as they are: training begins from the Gittins index. It is asked when a job comes or ends. Inference is NumPy.
"""

import heapq
import math
from collections.abc import Iterable
from functools import cache
from importlib.resources import files
from typing import Self

import numpy as np

from llmos.scheduler.history import EDGES, Array, bin_of
from llmos.scheduler.learned import MIX, Experience, Learned
from llmos.scheduler.workload import Job

FEATURES = 15
FIRST = 64
"""Jobs that are moved at a time, the first by rank; those behind them keep theirs."""
LIMIT = 1.5
"""The most by which the logarithm of a rank is moved."""
_NOTICED = 0.02
"""A move that differs by less from the one before leaves a job where it is."""
_OWN = 10
"""Features of a job by itself; the others say how it stands among all."""
_LEVELS = np.log1p(-np.array([0.1, 0.5, 0.9]))
_LOG_EDGES = np.log1p(EDGES)


class PolicyNetwork:
    """Weights by name: two layers a job, one from its code and the pooled codes, and the last; each `w` is (in, out)."""

    def __init__(self, weights: dict[str, Array]) -> None:
        self._weights = weights
        width = weights["w1"].shape[1]
        if weights["w0"].shape[0] != FEATURES or weights["w2"].shape[0] != 3 * width:
            raise ValueError(f"the policy network sees {weights['w0'].shape[0]} features, not {FEATURES}")
        self._own, self._pooled = weights["w2"][:width], weights["w2"][width:]

    @classmethod
    def read(cls, path: str) -> Self:
        """Read weights that `llmos.scheduler.train --stage policy` wrote.

        :raises ValueError: they are for other features.
        """
        with np.load(path) as arrays:
            return cls({name: np.ascontiguousarray(arrays[name], np.float32) for name in arrays.files})

    def __call__(self, seen: Array) -> Array:
        """By how much the logarithm of each rank is moved: shape (N,), from features of shape (N, FEATURES)."""
        weights = self._weights
        codes = _silu(_silu(seen @ weights["w0"] + weights["b0"]) @ weights["w1"] + weights["b1"])
        all_ = np.concatenate([codes.mean(axis=0), codes.max(axis=0)])
        hidden = _silu(codes @ self._own + (all_ @ self._pooled + weights["b2"]))
        moves: Array = LIMIT * np.tanh((hidden @ weights["w3"] + weights["b3"])[:, 0])
        return moves


def _silu(values: Array) -> Array:
    return (values / (1.0 + np.exp(-values))).astype(np.float32, copy=False)


@cache
def shipped_policy() -> PolicyNetwork | None:
    """The policy network that comes with llmos, if one does."""
    path = files("llmos.scheduler") / "trained" / "policy.npz"
    return PolicyNetwork.read(str(path)) if path.is_file() else None


class Reranked(Learned):
    """Ranks as Learned does, moved by a network; with none, nothing is moved."""

    def __init__(
        self, experience: Experience, network: PolicyNetwork | None, *, mix: float = MIX, guarded: bool = True
    ) -> None:
        super().__init__(experience, mix=mix, guarded=guarded)
        self._network = network
        self._moves: dict[int, float] = {}
        self._ranks: dict[int, float] = {}  # unmoved, as of the last time that each was asked for
        self._came: dict[int, float] = {}
        self._own: dict[int, list[float]] = {}

    def submitted(self, position: int, job: Job, now: float) -> Iterable[int]:
        """See it, and look at all anew."""
        super().submitted(position, job, now)
        self._came[position], self._moves[position] = now, 0.0
        self.rank(position, 0.0, now)
        return [other for other in self._look(now) if other != position]

    def rank(self, position: int, served: float, now: float) -> tuple[float, float]:
        """Its rank by the index, in seconds an end, times what the network makes of it."""
        rank, review = super().rank(position, served, now)
        self._ranks[position] = rank
        self._own[position] = self._seen(position, served, rank, now)
        return rank * math.exp(self._moves[position]), review

    def finished(self, position: int, runtime: float, now: float) -> Iterable[int]:
        """Learn from it, and look at all anew."""
        changed = set(super().finished(position, runtime, now))
        for of in (self._moves, self._ranks, self._came, self._own):
            of.pop(position)
        return changed.union(self._look(now))

    def _look(self, now: float) -> Iterable[int]:
        """Ask the network; returns those whose move has changed."""
        if self._network is None or not self._ranks:
            return ()
        first, seen = self.features(now)
        return self.move(first, self._network(seen))

    def features(self, now: float) -> tuple[list[int], Array]:
        """The jobs that stand first, at most FIRST, and what the network sees of each: shape (N, FEATURES)."""
        first = heapq.nsmallest(FIRST, self._ranks, key=lambda position: (self._ranks[position], position))
        seen = np.empty((len(first), FEATURES), np.float32)
        if not first:
            return first, seen
        seen[:, :_OWN] = [self._own[position] for position in first]
        age = np.log1p(np.array([now - self._came[position] for position in first]))
        scale = self._scale()
        widths = np.array([self._jobs[position][0].processors for position in first], np.float32)
        seen[:, 10] = (age - scale) / 4.0
        seen[:, 11] = (age - scale) / 4.0 - seen[:, 0]  # how much longer it has been here than it was served
        seen[:, 12] = np.arange(len(first)) / FIRST
        seen[:, 13] = (np.cumsum(widths) - widths) / widths.sum()
        seen[:, 14] = math.log1p(len(self._ranks)) / 5.0
        return first, seen

    def move(self, positions: Iterable[int], moves: Iterable[float] | Array) -> list[int]:
        """Move ranks; returns those that are moved otherwise than before."""
        changed = []
        wanted = {position: float(move) for position, move in zip(positions, moves, strict=True)}
        for position, before in self._moves.items():
            now = wanted.get(position, 0.0)
            if abs(now - before) > _NOTICED or (now == 0.0) != (before == 0.0):
                changed.append(position)
        for position in changed:
            self._moves[position] = wanted.get(position, 0.0)
        return changed

    def _scale(self) -> float:
        """Times are seen against the mean runtime, so that one network serves all machines."""
        return math.log1p(self._experience.mean)

    def _seen(self, position: int, served: float, rank: float, now: float) -> list[float]:
        """A job by itself: service, ranks, percentiles of what it will come to, width."""
        scale = self._scale()
        table = self._table(position, now)
        bin_ = bin_of(served)
        by_network = table.ranks[bin_]
        by_runs = rank * rank / by_network if self._informed else by_network  # the rank is their geometric mean
        outlived = np.concatenate([[0.0], np.cumsum(np.log1p(-table.hazards[bin_:]))])
        at = np.minimum(bin_ + np.searchsorted(-outlived, -_LEVELS), len(EDGES) - 1)
        low, middle, high = ((_LOG_EDGES[at] - scale) / 4.0).tolist()
        return [
            (math.log1p(served) - scale) / 4.0,
            (math.log1p(rank) - scale) / 4.0,
            (math.log1p(by_network) - scale) / 4.0,
            (math.log1p(by_runs) - scale) / 4.0,
            float(self._informed),
            low,
            middle,
            high,
            high - low,
            math.log2(self._jobs[position][0].processors) / 8.0,
        ]
