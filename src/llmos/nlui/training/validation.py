"""Exact-plan accuracy of the network in training on held-out pairs."""

import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from llmos.nlui.plan_match import plan_matches
from llmos.nlui.training.batches import Pair
from llmos.nlui.training.generation import generate
from llmos.nlui.training.network import Network
from llmos.nlui.training.vocabulary import Vocabulary


@dataclass(frozen=True, slots=True)
class Answer:
    """What the network made of a pair's request, and whether that was accepted."""

    pair: Pair
    plan: str
    right: bool


def sample(pairs: Sequence[Pair], count: int, seed: int) -> list[Pair]:
    """At most `count` of the pairs, the same ones for the same seed."""
    return random.Random(seed).sample(list(pairs), min(count, len(pairs)))


def answers(network: Network, vocabulary: Vocabulary, pairs: Sequence[Pair]) -> list[Answer]:
    """Generate the plan of each pair's request, greedily and without a grammar."""
    generated = generate(network, [pair.prompt for pair in pairs], vocabulary.end)
    plans = [vocabulary.text(tokens) for tokens in generated]
    return [Answer(pair, plan, plan_matches(plan, pair.accepted)) for pair, plan in zip(pairs, plans, strict=True)]


def accuracy(results: Sequence[Answer]) -> dict[str, float]:
    """Share of right answers: of all ("all"), by language ("language/en") and by verb ("verb/kill")."""
    groups: defaultdict[str, list[bool]] = defaultdict(list)
    for result in results:
        for group in ("all", f"language/{result.pair.language}", f"verb/{result.pair.verb}"):
            groups[group].append(result.right)
    return {group: sum(right) / len(right) for group, right in sorted(groups.items())}
