"""Fitting the hazard network to samples by maximum likelihood (cross-entropy of the bins that were reached)."""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from llmos.scheduler.history import INPUTS
from llmos.scheduler.training.samples import Samples

_HIDDEN = (32, 16)
_BATCH = 4096
_RATE = 4e-3
_DECAY = 1e-3


def network() -> nn.Sequential:
    """Untrained: 45 inputs a bin, two hidden layers, the logit of the hazard."""
    first, second = _HIDDEN
    return nn.Sequential(nn.Linear(INPUTS, first), nn.SiLU(), nn.Linear(first, second), nn.SiLU(), nn.Linear(second, 1))


def fit(net: nn.Sequential, data: Sequence[Samples], *, epochs: int, minutes: float) -> Iterator[dict[str, float]]:
    """Train in place; yields the loss in nats a bin and the seconds, after each epoch. Stops early at the time limit."""
    inputs = torch.from_numpy(np.concatenate([part.inputs for part in data]))
    ended = torch.from_numpy(np.concatenate([part.ended for part in data]))
    weights = torch.from_numpy(np.concatenate([np.full(len(part.ended), part.weight, np.float32) for part in data]))
    count = len(ended)
    batch = min(_BATCH, count)
    steps = epochs * (count // batch)
    optimiser = torch.optim.AdamW(net.parameters(), lr=_RATE, weight_decay=_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, _RATE, total_steps=steps + 1)
    begun = time.monotonic()
    for epoch in range(epochs):
        order = torch.randperm(count)
        total = 0.0
        for at in range(0, count - batch + 1, batch):
            rows = order[at : at + batch]
            logits = net(inputs[rows].float())[:, 0]
            losses = nn.functional.binary_cross_entropy_with_logits(logits, ended[rows], reduction="none")
            loss = (losses * weights[rows]).mean()
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            schedule.step()
            total += float(loss.detach())
        seconds = time.monotonic() - begun
        yield {"epoch": epoch + 1, "loss": total / (count // batch), "seconds": seconds}
        if seconds > 60.0 * minutes:
            return


def write(net: nn.Sequential, path: Path) -> None:
    """Write the weights as `HazardNetwork.read` reads them."""
    layers = [layer for layer in net if isinstance(layer, nn.Linear)]
    arrays = {}
    for number, layer in enumerate(layers):
        arrays[f"w{number}"] = layer.weight.detach().numpy()
        arrays[f"b{number}"] = layer.bias.detach().numpy()
    np.savez(path, **arrays)
