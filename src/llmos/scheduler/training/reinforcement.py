"""Proximal policy optimisation (Schulman et al., 2017) of the network that moves ranks, with stable-baselines3.

The torch network is that of `llmos.scheduler.policy_network`, layer by layer, with a value of the whole set beside it. Its
last layer begins at zero, so the first policy is the one that moves nothing. The noise of exploration is fixed: a slot
without a job then counts for nothing.
"""

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.policies import ActorCriticPolicy
from torch import nn

from llmos.scheduler.policy_network import FEATURES, FIRST, LIMIT, PolicyNetwork, Reranked
from llmos.scheduler.simulator import Starvation, simulate
from llmos.scheduler.training.scheduling_environment import Problem, SchedulingEnvironment, saved

_WIDTH = 24
_NOISE = 0.3
"""Nats by which a move is varied."""
_STEPS = 4096
"""Steps between two updates."""
_CHECKED_EVERY = 8
"""Updates between two looks at the problems for choosing."""


class SetNetwork(nn.Module):
    """Jobs with a mask, flat, to the move of each and to the pooled codes, from which the value is read."""

    latent_dim_pi, latent_dim_vf = FIRST, 2 * _WIDTH

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(FEATURES, _WIDTH), nn.Linear(_WIDTH, _WIDTH)
        self.third, self.last = nn.Linear(3 * _WIDTH, _WIDTH), nn.Linear(_WIDTH, 1)
        self.act = nn.SiLU()

    def codes(self, seen: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Codes of the jobs, the pooled codes, and the mask."""
        seen = seen.view(-1, FIRST, FEATURES + 1)
        mask = seen[:, :, FEATURES:]
        codes = self.act(self.second(self.act(self.first(seen[:, :, :FEATURES]))))
        mean = (codes * mask).sum(1) / mask.sum(1).clamp(min=1.0)
        most = torch.where(mask > 0, codes, -1e9).amax(1)
        return codes, torch.cat([mean, torch.where(most > -1e8, most, 0.0)], 1), mask

    def moves(self, codes: torch.Tensor, pooled: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Shape (batch, FIRST)."""
        both = torch.cat([codes, pooled[:, None].expand(-1, FIRST, -1)], 2)
        return (LIMIT * torch.tanh(self.last(self.act(self.third(both)))) * mask)[:, :, 0]

    def forward(self, seen: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """For the policy, and for the value."""
        codes, pooled, mask = self.codes(seen)
        return self.moves(codes, pooled, mask), pooled

    def forward_actor(self, seen: torch.Tensor) -> torch.Tensor:
        """For the policy alone."""
        return self.moves(*self.codes(seen))

    def forward_critic(self, seen: torch.Tensor) -> torch.Tensor:
        """For the value alone."""
        return self.codes(seen)[1]

    def arrays(self) -> dict[str, np.ndarray]:
        """The weights as `PolicyNetwork` takes them."""
        found = {}
        for number, layer in enumerate((self.first, self.second, self.third, self.last)):
            found[f"w{number}"] = layer.weight.detach().numpy().T.copy()
            found[f"b{number}"] = layer.bias.detach().numpy().copy()
        return found


class SetPolicy(ActorCriticPolicy):
    """An actor and a critic on a set of jobs."""

    def _build_mlp_extractor(self) -> None:
        self.mlp_extractor = SetNetwork()

    def _build(self, lr_schedule: Callable[[float], float]) -> None:
        super()._build(lr_schedule)
        self.action_net = nn.Identity()
        self.log_std = nn.Parameter(torch.full((FIRST,), math.log(_NOISE)), requires_grad=False)
        nn.init.zeros_(self.mlp_extractor.last.weight)
        nn.init.zeros_(self.mlp_extractor.last.bias)
        wanted = [parameter for parameter in self.parameters() if parameter.requires_grad]
        self.optimizer = self.optimizer_class(wanted, lr=lr_schedule(1), **self.optimizer_kwargs)


def measured(network: PolicyNetwork, problems: Sequence[Problem]) -> list[tuple[str, float, float]]:
    """For each problem its name, and what `saved` gives for the network."""
    found = []
    for problem in problems:
        policy = Reranked(problem.experience, network)
        outcome = simulate(problem.jobs, policy, processors=problem.processors, starvation=Starvation())
        found.append((problem.name, *saved(problem, outcome)))
    return found


def gain(rows: Sequence[tuple[str, float, float]]) -> float:
    """The mean over the problems of both logarithms; below 0 is better."""
    return fmean(0.5 * (row[1] + row[2]) for row in rows)


class _Progress(BaseCallback):
    """After each update a line; now and then a look at the problems for choosing, and a checkpoint."""

    def __init__(
        self,
        total: int,
        minutes: float,
        folder: Path,
        choosing: Sequence[Problem],
        say: Callable[[dict[str, Any]], None],
    ) -> None:
        super().__init__()
        self._total, self._until, self._folder = total, time.monotonic() + 60.0 * minutes, folder
        self._choosing, self._say = choosing, say
        self._begun, self._updates = time.monotonic(), 0
        self._from = 0
        self._best = 0.0  # of the policy that moves nothing

    def _on_training_start(self) -> None:
        self._from = self.num_timesteps
        best = self._folder / "policy.npz"
        if best.is_file():
            self._best = min(0.0, gain(measured(PolicyNetwork.read(str(best)), self._choosing)))

    def _on_step(self) -> bool:
        return time.monotonic() < self._until

    def _on_rollout_end(self) -> None:
        self._updates += 1
        seconds = time.monotonic() - self._begun
        rate = (self.num_timesteps - self._from) / max(seconds, 1e-3)
        left = min((self._total - self.num_timesteps) / max(rate, 1e-3), self._until - time.monotonic())
        line: dict[str, Any] = {
            "steps": self.num_timesteps,
            "seconds": round(seconds),
            "seconds_left": round(max(0.0, left)),
        }
        infos = self.model.ep_info_buffer
        if infos:
            line["saved"] = round(fmean(info["r"] for info in infos) / 1000.0, 4)
        if self._updates % _CHECKED_EVERY == 0:
            self.keep()
            network = self.model.policy.mlp_extractor
            rows = measured(PolicyNetwork(network.arrays()), self._choosing)
            line["chosen_by"] = round(gain(rows), 5)
            self.logger.record("rollout/chosen_by", line["chosen_by"])
            if gain(rows) < self._best:
                self._best = gain(rows)
                np.savez(self._folder / "policy.npz", **network.arrays())
        self._say(line)

    def keep(self) -> None:
        """Write the checkpoint; whole or not at all."""
        fresh = self._folder / "checkpoint.new.zip"
        self.model.save(fresh)
        fresh.replace(self._folder / "checkpoint.zip")


def learn(
    problems: Sequence[Problem],
    choosing: Sequence[Problem],
    folder: Path,
    *,
    steps: int,
    minutes: float,
    seed: int,
    say: Callable[[dict[str, Any]], None],
) -> int:
    """Train, going on from the folder's checkpoint where there is one; returns the steps altogether.

    The folder then holds checkpoint.zip, TensorBoard events, and policy.npz if any state of the network did better on
    `choosing` than moving nothing.
    """
    environment = SchedulingEnvironment(problems, seed)
    checkpoint = folder / "checkpoint.zip"
    if checkpoint.is_file():
        model = PPO.load(checkpoint, env=environment, device="cpu", tensorboard_log=str(folder))
    else:
        every = min(_STEPS, steps)
        model = PPO(
            SetPolicy, environment, learning_rate=5e-4, n_steps=every, batch_size=min(256, every), n_epochs=4, gamma=0.99,
            gae_lambda=0.95, target_kl=0.1, seed=seed, device="cpu", tensorboard_log=str(folder),
        )  # fmt: skip
    progress = _Progress(steps, minutes, folder, choosing, say)
    left = steps - model.num_timesteps
    if left > 0:
        model.learn(left, callback=progress, reset_num_timesteps=False, tb_log_name="events")
        progress.keep()
    return int(model.num_timesteps)
