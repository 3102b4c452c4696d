"""How to train: the figures that were found to work, and the schedule of the learning rate."""

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Recipe:
    """Figures of a training run.

    Attributes:
        minutes: time to spend, validations included; the schedule follows the clock. None: `epochs` decide.
        rank, alpha: of the adapter; what it adds is scaled by alpha / rank.
        warmup: share of the run in which the learning rate rises; then it falls along half a cosine to `floor`.
        validation_pairs: held-out pairs that are generated at each validation.
        patience: validations without a better one before the run ends early.
    """

    minutes: float | None = None
    epochs: float = 1.0
    batch: int = 32
    rank: int = 16
    alpha: float = 32.0
    learning_rate: float = 4e-4
    floor: float = 0.05
    warmup: float = 0.04
    dropout: float = 0.05
    weight_decay: float = 0.01
    clip: float = 1.0
    seed: int = 1
    validation_pairs: int = 150
    validation_minutes: float = 10.0
    checkpoint_minutes: float = 3.0
    patience: int = 5

    def rate(self, progress: float) -> float:
        """The learning rate when a share `progress` (0 to 1) of the run is done."""
        if progress < self.warmup:
            return self.learning_rate * progress / self.warmup
        fall = min(1.0, (progress - self.warmup) / (1 - self.warmup))
        return self.learning_rate * (self.floor + (1 - self.floor) * 0.5 * (1 + math.cos(math.pi * fall)))
