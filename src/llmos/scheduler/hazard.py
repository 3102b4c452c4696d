"""From a job's history to the distribution of its runtime: a small network gives, for each bin of service, the
probability that a job which reached the bin ends in it.

One network for all bins and all machines: what it learned is how far to trust which kind's counts. Inference is NumPy.
Discrete-time survival by a network: Gensheimer and Narasimhan, PeerJ 2019.
"""

import math
from functools import cache
from importlib.resources import files
from typing import Self

import numpy as np
from numpy.typing import NDArray

from llmos.scheduler.history import BINS, EDGES, INPUTS, Array, bin_of

_MOST = 4.0
"""Bound on the logit of a hazard: 0.982, so that a bin can always be outlived."""


class HazardNetwork:
    """Weights of the layers, each (out, in) and (out,)."""

    def __init__(self, layers: list[tuple[Array, Array]]) -> None:
        self._layers = [(np.ascontiguousarray(weight.T), bias) for weight, bias in layers]
        if layers[0][0].shape[1] != INPUTS:
            raise ValueError(f"the network sees {layers[0][0].shape[1]} inputs, not {INPUTS}")

    @classmethod
    def read(cls, path: str) -> Self:
        """Read weights that `llmos.scheduler.train` wrote."""
        with np.load(path) as arrays:
            count = len(arrays.files) // 2
            return cls([(arrays[f"w{n}"].astype(np.float32), arrays[f"b{n}"].astype(np.float32)) for n in range(count)])

    def __call__(self, inputs: Array) -> NDArray[np.float64]:
        """Hazards of the bins: shape (…, BINS), from inputs of shape (…, BINS, INPUTS)."""
        values = inputs
        for weight, bias in self._layers[:-1]:
            values = values @ weight + bias
            values /= 1.0 + np.exp(-values)  # SiLU
        weight, bias = self._layers[-1]
        logits = np.minimum(np.maximum((values @ weight + bias)[..., 0].astype(np.float64), -12.0), _MOST)
        hazards: NDArray[np.float64] = 1.0 / (1.0 + np.exp(-logits))
        hazards[..., -1] = 0.5
        return hazards


@cache
def shipped() -> HazardNetwork:
    """The network that comes with llmos."""
    return HazardNetwork.read(str(files("llmos.scheduler") / "trained" / "hazard.npz"))


def quantile(hazards: NDArray[np.float64], level: float, served: float = 0.0) -> float:
    """The runtime in seconds that a job which was served stays below with a probability; log-linear within bins."""
    first = bin_of(served)
    survival, edge = 1.0, max(served, 1.0)
    for at in range(first, BINS):
        upper = float(EDGES[at + 1])
        lower = max(float(EDGES[at]), served, 1.0)
        hazard = float(hazards[at])
        if at == first and served > 0 and upper > lower:  # what is left of the bin
            hazard = 1.0 - (1.0 - hazard) ** (math.log(upper / lower) / math.log(upper / max(float(EDGES[at]), 1.0)))
        if survival * (1.0 - hazard) <= 1.0 - level:
            part = (survival - (1.0 - level)) / max(survival * hazard, 1e-12)
            inside: float = lower * (upper / lower) ** min(1.0, max(0.0, part))
            return inside
        survival *= 1.0 - hazard
        edge = upper
    return edge
