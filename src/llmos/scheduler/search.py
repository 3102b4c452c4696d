"""Search among a few actions by trying each out in a model, within a budget of time or of trials.

The tree is one level deep: below the first action the model goes on with the policy's own rule (a rollout algorithm:
Bertsekas, Tsitsiklis and Wu, 1997), and which action is tried next is decided as in UCT (Kocsis and Szepesvári, 2006) by
an upper confidence bound. Within 20 ms Python tries out a hundred courses of events or so, which is enough to tell a
handful of first actions from one another and leaves no visits for second ones. The nth trial of every action meets the
same chance, so that actions are compared in pairs; the first action is what would be done without a search, and
another one is taken only if it is better beyond chance.
"""

import math
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

SECONDS = 0.02
"""What a search may take."""
_SURE = 2.0
"""Standard errors by which another action must be better than the first."""
_ROUNDS = 2
"""How often each is tried before the bound decides."""
_LEAST = 8
"""Trials in pairs from which on a difference counts."""
_ENDED = 1e-9


@dataclass(frozen=True, slots=True)
class Found:
    """The action to take, by its number; for each, how often it was tried and the mean cost; and how long it took."""

    action: int
    trials: Sequence[int]
    costs: Sequence[float]
    seconds: float


def search(
    actions: int,
    trial: Callable[[int, random.Random], float],
    *,
    trials: int | None = None,
    seconds: float = SECONDS,
    seed: int = 0,
) -> Found:
    """Find the action of the least mean cost; there is one action at least.

    :param trial: tries an action once, with a source of chance, and returns what it costs. Must itself be short.
    :param trials: how many, whatever the time; what is found is then the same for the same seed. None: until the time
        is over, and in any case each action once.
    """
    begun = time.monotonic()
    seen: list[list[float]] = [[] for _ in range(actions)]
    sums = [0.0] * actions
    total, squares = 0.0, 0.0
    for done in range(trials if trials is not None else 1_000_000):
        if actions == 1 or (trials is None and done >= actions and time.monotonic() - begun >= seconds):
            break
        if done < _ROUNDS * actions:
            action = done % actions
        else:
            spread = math.sqrt(max(0.0, squares / done - (total / done) ** 2))
            sure = spread * math.sqrt(2.0 * math.log(done))
            action = min(
                range(actions), key=lambda each: sums[each] / len(seen[each]) - sure / math.sqrt(len(seen[each]))
            )
            if len(seen[0]) < len(seen[action]):
                action = 0  # which the others are compared with
        cost = trial(action, random.Random(seed * 1_000_003 + len(seen[action])))
        seen[action].append(cost)
        sums[action] += cost
        total, squares = total + cost, squares + cost * cost
    costs = [sums[each] / len(tried) if tried else math.inf for each, tried in enumerate(seen)]
    best, gained = 0, 0.0
    for action in range(1, actions):
        gain, error = _gain(seen[0], seen[action])
        if gain > _SURE * error and gain > gained:
            best, gained = action, gain
    return Found(best, [len(tried) for tried in seen], costs, time.monotonic() - begun)


def _gain(first: Sequence[float], other: Sequence[float]) -> tuple[float, float]:
    """By how much the other costs less than the first, trial by trial, and the standard error of that."""
    gains = [before - after for before, after in zip(first, other, strict=False)]
    if len(gains) < _LEAST:
        return 0.0, math.inf
    mean = sum(gains) / len(gains)
    variance = sum((gain - mean) ** 2 for gain in gains) / (len(gains) - 1)
    return mean, math.sqrt(variance / len(gains))


@dataclass(frozen=True, slots=True)
class Contender:
    """One who is there: its width in processors, what it was served, and equally likely values of what remains, in
    seconds; the costs of its waiting for a second are `weight`."""

    width: int
    served: float
    remaining: Sequence[float]
    weight: Callable[[float], float]
    """By its whole size in seconds."""


def course(order: Sequence[int], there: Sequence[Contender], processors: int, chance: random.Random) -> float:
    """What it costs when those who are there run in an order until the first of them ends, and from then on in the
    order that they are told in: the sum of completion times by weight.

    Who does not fit is passed by who does; each would fit by itself. Nobody else comes.
    """
    left = [each.remaining[int(chance.random() * len(each.remaining))] for each in there]
    weights = [each.weight(each.served + remaining) for each, remaining in zip(there, left, strict=True)]
    waiting, cost = sum(weights), 0.0
    while order:
        free, running, step = processors, [], math.inf
        for each in order:
            if there[each].width <= free:
                free -= there[each].width
                running.append(each)
                step = min(step, left[each])
                if not free:
                    break
        cost += waiting * step
        for each in running:
            left[each] -= step
            if left[each] <= _ENDED:
                waiting -= weights[each]
        order = [each for each in range(len(there)) if left[each] > _ENDED]
    return cost
