"""The training loop: steps, validations, checkpoints, and an end by time, epochs, a signal or when nothing gains."""

import logging
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional
from torch.utils.tensorboard import SummaryWriter

from llmos.errors import Conflict, ModelError
from llmos.nlui.training import validation
from llmos.nlui.training.batches import Batch, Pair, collate, cut_batches, fingerprint
from llmos.nlui.training.gguf_weights import Weights
from llmos.nlui.training.network import Adapter, Network
from llmos.nlui.training.progress import Display
from llmos.nlui.training.recipe import Recipe
from llmos.nlui.training.vocabulary import Vocabulary

log = logging.getLogger(__name__)

SPARE_TOKENS = 2048
"""Tokens that no pair holds which a plan's tokens must win against in training; the others are left out of the product
with the vocabulary, which would otherwise be a fifth of the work."""


@dataclass(slots=True)
class State:
    """Where a run stands."""

    step: int = 0
    seconds: float = 0.0
    pairs: int = 0
    best_step: int = 0
    best_accuracy: float = -1.0
    best: dict[str, torch.Tensor] = field(default_factory=dict)
    accuracy: dict[str, float] = field(default_factory=dict)
    since_best: int = 0


class Trainer:
    """One run in a folder that holds its checkpoint and its TensorBoard events.

    A folder with a checkpoint goes on from it.

    Args:
        anchor: pull towards the adapter that training begins from: the share by which a step takes it back, for each
            unit of the learning rate (L2-SP, https://arxiv.org/abs/1802.01483, decoupled from the gradient as AdamW has
            weight decay).

    Raises:
        Conflict: the checkpoint there is of another recipe, model or data.
    """

    def __init__(
        self,
        network: Network,
        vocabulary: Vocabulary,
        recipe: Recipe,
        pairs: Sequence[Pair],
        held_out: Sequence[Pair],
        folder: Path,
        *,
        anchor: float = 0.0,
    ) -> None:
        self._network, self._vocabulary, self._recipe, self._folder = network, vocabulary, recipe, folder
        self._pairs = pairs
        self._held_out = validation.sample(held_out, recipe.validation_pairs, recipe.seed)
        self._parameters = list(network.adapter.parameters())
        self._anchor = anchor
        self._begun_from = [parameter.detach().clone() for parameter in self._parameters] if anchor else []
        self._optimiser = torch.optim.AdamW(
            self._parameters, lr=0.0, betas=(0.9, 0.98), weight_decay=recipe.weight_decay, fused=True
        )
        self._output, self._index = self._trained_vocabulary()
        self._identity = {"recipe": asdict(recipe), "data": fingerprint(pairs), "held_out": fingerprint(held_out)}
        self._stop = threading.Event()
        self.state = State()
        folder.mkdir(parents=True, exist_ok=True)
        if self._checkpoint.is_file():
            self._resume()

    def train(self) -> State:
        """Train until the end of the schedule or a signal; the adapter is then the best one validated.

        Whoever is interrupted by SIGTERM or SIGINT leaves a checkpoint; `stopped` says so.
        """
        state, recipe = self.state, self._recipe
        torch.manual_seed(recipe.seed + state.step)
        saved = validated = time.monotonic()
        began_at = saved - state.seconds
        with (
            self._signals(),
            SummaryWriter(str(self._folder), purge_step=state.step + 1) as events,
            Display() as display,
        ):
            for batch in self._batches():
                progress = self._progress()
                if self._stop.is_set() or progress >= 1 or state.since_best >= recipe.patience:
                    break
                began = time.monotonic()
                loss = self._step(collate(batch, self._output.device), recipe.rate(progress))
                state.step, state.pairs = state.step + 1, state.pairs + len(batch)
                now = time.monotonic()
                state.seconds = now - began_at
                events.add_scalar("train/loss", loss, state.step)
                events.add_scalar("train/learning_rate", recipe.rate(progress), state.step)
                events.add_scalar("train/pairs_per_second", len(batch) / (now - began), state.step)
                display.show(self._progress(), state.seconds, state.step, loss, state.best_accuracy)
                if now - validated >= recipe.validation_minutes * 60:
                    self._validate(events)
                    validated = time.monotonic()
                if now - saved >= recipe.checkpoint_minutes * 60:
                    self._save()
                    saved = time.monotonic()
            if not self._stop.is_set() and state.best_step != state.step:
                self._validate(events)
        self._save()
        if state.best and not self._stop.is_set():
            self._network.adapter.load_state_dict(state.best)
        return state

    @property
    def stopped(self) -> bool:
        """Whether a signal ended the run before its time."""
        return self._stop.is_set()

    @property
    def _checkpoint(self) -> Path:
        return self._folder / "checkpoint.pt"

    def _progress(self) -> float:
        recipe, state = self._recipe, self.state
        if recipe.minutes:
            return state.seconds / (recipe.minutes * 60)
        return state.pairs / (recipe.epochs * len(self._pairs))

    def _batches(self) -> Iterator[list[Pair]]:
        """Batches of one epoch after the other, from where the state stands."""
        size = self._recipe.batch
        an_epoch = -(-len(self._pairs) // size)
        epoch, start = divmod(self.state.step, an_epoch)
        while True:
            yield from cut_batches(self._pairs, size, seed=self._recipe.seed, epoch=epoch)[start:]
            epoch, start = epoch + 1, 0

    def _step(self, batch: Batch, rate: float) -> float:
        """One step down the gradient; returns the mean loss of a plan's tokens in nats."""
        hidden = self._network.hidden(batch.tokens, batch.positions, batch.picked, dropout=self._recipe.dropout)
        loss = functional.cross_entropy((hidden @ self._output.T).float(), self._index[batch.targets])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self._parameters, self._recipe.clip)
        for group in self._optimiser.param_groups:
            group["lr"] = rate
        self._optimiser.step()
        with torch.no_grad():
            for parameter, begun in zip(self._parameters, self._begun_from, strict=False):
                parameter.lerp_(begun, rate * self._anchor)
        self._optimiser.zero_grad(set_to_none=True)
        if not torch.isfinite(loss):
            raise ModelError(f"the loss of step {self.state.step} is not finite; train with a lower learning rate")
        return float(loss.detach())

    def _validate(self, events: SummaryWriter) -> None:
        state = self.state
        results = validation.answers(self._network, self._vocabulary, self._held_out)
        state.accuracy = validation.accuracy(results)
        for group, share in state.accuracy.items():
            events.add_scalar(f"validation/{group}", share, state.step)
        events.flush()
        total = state.accuracy["all"]
        state.since_best = 0 if total > state.best_accuracy else state.since_best + 1
        if total >= state.best_accuracy:  # of two that are as good, the one trained longer
            state.best_accuracy, state.best_step = total, state.step
            state.best = {key: value.detach().clone() for key, value in self._network.adapter.state_dict().items()}
        log.info("step %d, %d pairs, %.1f min: %.1f %% of %d plans exact",
                 state.step, state.pairs, state.seconds / 60, 100 * total, len(results))  # fmt: skip

    def _trained_vocabulary(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Rows of the output matrix that are trained against, and the row of each token."""
        weights = self._network.weights
        chance = torch.Generator().manual_seed(self._recipe.seed)
        tokens = {token for pair in self._pairs for token in (*pair.prompt, *pair.completion)}
        tokens |= set(torch.randperm(len(weights.output), generator=chance)[:SPARE_TOKENS].tolist())
        kept = torch.tensor(sorted(tokens), device=weights.output.device)
        index = torch.full((len(weights.output),), -1, device=kept.device)
        index[kept] = torch.arange(len(kept), device=kept.device)
        return weights.output[kept].contiguous(), index

    def _save(self) -> None:
        """Write the checkpoint, all or nothing."""
        state = {name: getattr(self.state, name) for name in State.__dataclass_fields__}
        everything = {
            "identity": self._identity,
            "state": state,
            "adapter": self._network.adapter.state_dict(),
            "optimiser": self._optimiser.state_dict(),
        }
        partial = self._checkpoint.with_suffix(".part")
        torch.save(everything, partial)
        partial.replace(self._checkpoint)

    def _resume(self) -> None:
        saved: dict[str, Any] = torch.load(
            self._checkpoint, map_location=self._network.weights.output.device, weights_only=True
        )
        if saved["identity"] != self._identity:
            raise Conflict(f"{self._checkpoint} is of another recipe or other data; give another folder, or remove it")
        self._network.adapter.load_state_dict(saved["adapter"])
        self._optimiser.load_state_dict(saved["optimiser"])
        self.state = State(**saved["state"])
        log.info("going on at step %d, %.1f min", self.state.step, self.state.seconds / 60)

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Let SIGTERM and SIGINT end the run after the step under way."""
        before = {
            number: signal.signal(number, lambda *_: self._stop.set()) for number in (signal.SIGTERM, signal.SIGINT)
        }
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def new_network(weights: Weights, recipe: Recipe) -> Network:
    """A network with a fresh adapter on the device of its weights; the seed decides how it begins."""
    torch.manual_seed(recipe.seed)
    adapter = Adapter(weights, recipe.rank, recipe.alpha)
    return Network(weights, adapter.to(weights.output.device))
