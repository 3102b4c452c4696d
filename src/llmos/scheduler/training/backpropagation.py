"""Fitting the hazard network to samples in NumPy, by maximum likelihood (cross-entropy of the bins that were reached).

The network is small enough that this takes no longer than PyTorch does on a processor. AdamW: Loshchilov and Hutter,
2019; the rate rises over the first tenth of the steps and falls with a cosine. `anchor` pulls the weights back to where
they began (L2-SP, https://arxiv.org/abs/1802.01483), so that what few runs tell does not undo what many told.
"""

import math
import time
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from llmos.scheduler.history import INPUTS, Array
from llmos.scheduler.training.samples import Samples

_HIDDEN = (32, 16)
_BATCH = 4096
_RATE = 4e-3
_DECAY = 1e-3
_FIRST, _SECOND, _TINY = 0.9, 0.999, 1e-8
"""AdamW's fading of the gradient's moments, and what keeps it from dividing by nothing."""
_WARM_UP = 0.1

Layers = list[tuple[Array, Array]]
"""Weights (out, in) and biases (out,) of each layer."""


def untrained(seed: int) -> Layers:
    """45 inputs a bin, two hidden layers, the logit of the hazard; uniform in 1 / sqrt(inputs) (LeCun et al., 1998)."""
    draw = np.random.default_rng(seed)
    sizes = (INPUTS, *_HIDDEN, 1)
    layers = []
    for count, wide in pairwise(sizes):
        bound = 1.0 / math.sqrt(count)
        weight = draw.uniform(-bound, bound, (wide, count)).astype(np.float32)
        layers.append((weight, draw.uniform(-bound, bound, wide).astype(np.float32)))
    return layers


def fit(
    layers: Layers,
    data: Sequence[Samples],
    *,
    epochs: int,
    minutes: float,
    seed: int,
    rate: float = _RATE,
    anchor: float = 0.0,
) -> Iterator[dict[str, float]]:
    """Train in place; yields the loss in nats a bin and the seconds, after each epoch. Stops early at the time limit.

    :param anchor: the share by which a step, for each unit of its rate, takes the weights back to where they began.
    """
    inputs = np.concatenate([part.inputs for part in data])
    ended = np.concatenate([part.ended for part in data])
    weights = np.concatenate([np.full(len(part.ended), part.weight, np.float32) for part in data])
    draw = np.random.default_rng(seed)
    batch = min(_BATCH, len(ended))
    steps = epochs * (len(ended) // batch)
    optimiser = _AdamW([array for layer in layers for array in layer], anchor)
    begun, step = time.monotonic(), 0
    for epoch in range(epochs):
        order = draw.permutation(len(ended))
        total = 0.0
        for at in range(0, len(ended) - batch + 1, batch):
            rows = order[at : at + batch]
            loss, gradients = _gradients(layers, inputs[rows].astype(np.float32), ended[rows], weights[rows])
            step += 1
            optimiser.step(gradients, rate * _share(step / steps))
            total += loss
        seconds = time.monotonic() - begun
        yield {"epoch": epoch + 1, "loss": total / (len(ended) // batch), "seconds": round(seconds, 1)}
        if seconds > 60.0 * minutes:
            return


def loss(layers: Layers, data: Sequence[Samples]) -> float:
    """Nats a look at which the end is seen: the losses of all bins over the ends."""
    total = sum(
        float(_losses(_forward(layers, part.inputs.astype(np.float32))[0], part.ended).sum(dtype=np.float64))
        for part in data
    )
    return total / max(1.0, sum(float(part.ended.sum()) for part in data))


def read(path: Path) -> Layers:
    """Weights as `write` wrote them."""
    with np.load(path) as arrays:
        count = len(arrays.files) // 2
        return [(arrays[f"w{n}"].astype(np.float32), arrays[f"b{n}"].astype(np.float32)) for n in range(count)]


def write(layers: Layers, path: Path) -> None:
    """Write the weights as `HazardNetwork.read` reads them."""
    arrays = {}
    for number, (weight, bias) in enumerate(layers):
        arrays[f"w{number}"], arrays[f"b{number}"] = weight, bias
    np.savez(path, **arrays)  # type: ignore[arg-type]


def _share(done: float) -> float:
    """The part of the full rate, by the part of the steps that are done."""
    if done < _WARM_UP:
        return done / _WARM_UP
    return 0.5 * (1.0 + math.cos(math.pi * (done - _WARM_UP) / (1.0 - _WARM_UP)))


def _sigmoid(values: Array) -> Array:
    result: Array = 0.5 * (1.0 + np.tanh(0.5 * values))  # which overflows nowhere
    return result


def _forward(layers: Layers, inputs: Array) -> tuple[Array, list[tuple[Array, Array, Array]]]:
    """Logits (N,), and of each hidden layer its input, sums and sigmoids."""
    kept = []
    values = inputs
    for weight, bias in layers[:-1]:
        sums = values @ weight.T + bias
        gate = _sigmoid(sums)
        kept.append((values, sums, gate))
        values = sums * gate  # SiLU
    weight, bias = layers[-1]
    kept.append((values, values, values))
    return (values @ weight.T + bias)[:, 0], kept


def _losses(logits: Array, ended: Array) -> Array:
    losses: Array = np.maximum(logits, 0.0) - logits * ended + np.log1p(np.exp(-np.abs(logits)))
    return losses


def _gradients(layers: Layers, inputs: Array, ended: Array, weights: Array) -> tuple[float, list[Array]]:
    """The mean loss, and its gradients in the order of the layers: weight, bias, weight, …"""
    logits, kept = _forward(layers, inputs)
    mean = float((_losses(logits, ended) * weights).mean())
    back = ((_sigmoid(logits) - ended) * weights / np.float32(len(ended)))[:, None]
    gradients: list[Array] = []
    for number in range(len(layers) - 1, -1, -1):
        weight, _ = layers[number]
        gradients[:0] = [(back.T @ kept[number][0]).astype(np.float32), back.sum(axis=0)]
        if number:
            _, sums, gate = kept[number - 1]
            back = (back @ weight) * gate * (1.0 + sums * (1.0 - gate))
    return mean, gradients


class _AdamW:
    def __init__(self, parameters: list[Array], anchor: float) -> None:
        self._parameters, self._anchor = parameters, anchor
        self._begun_from = [parameter.copy() for parameter in parameters]
        self._mean: list[NDArray[np.float32]] = [np.zeros_like(parameter) for parameter in parameters]
        self._square: list[NDArray[np.float32]] = [np.zeros_like(parameter) for parameter in parameters]
        self._steps = 0

    def step(self, gradients: Sequence[Array], rate: float) -> None:
        self._steps += 1
        first, second = 1.0 - _FIRST**self._steps, 1.0 - _SECOND**self._steps
        for parameter, begun_from, mean, square, gradient in zip(
            self._parameters, self._begun_from, self._mean, self._square, gradients, strict=True
        ):
            mean += (1.0 - _FIRST) * (gradient - mean)
            square += (1.0 - _SECOND) * (gradient * gradient - square)
            if self._anchor:
                parameter -= rate * self._anchor * (parameter - begun_from)
            else:
                parameter *= 1.0 - rate * _DECAY
            parameter -= rate * (mean / first) / (np.sqrt(square / second) + _TINY)
