"""Pairs of request and plan as batches of tokens: of about one length each, so that little is padded."""

import hashlib
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from llmos.errors import BadInput
from llmos.nlui.training.vocabulary import Vocabulary

BUCKET = 64
"""Batches whose pairs are sorted by length together: more pads less, fewer mixes better."""
TALK = ("ask", "refuse")


@dataclass(frozen=True, slots=True)
class Pair:
    """A request and its plans as text; tokens of the request in its frame, and of the first plan with its end."""

    request: str
    accepted: tuple[tuple[str, ...], ...]
    language: str
    prompt: tuple[int, ...]
    completion: tuple[int, ...]

    @property
    def verb(self) -> str:
        """The verb of the plan's first line."""
        return self.accepted[0][0].split(" ", 1)[0]


@dataclass(frozen=True, slots=True)
class Batch:
    """Token ids (rows, tokens) padded on the right, where in them (flattened) a plan's token comes next, and which."""

    tokens: torch.Tensor
    positions: torch.Tensor
    picked: torch.Tensor
    targets: torch.Tensor

    @property
    def token_count(self) -> int:
        """Tokens that are computed, padding included."""
        return self.tokens.numel()


def read_pairs(path: Path, vocabulary: Vocabulary) -> list[Pair]:
    """Read JSON lines of `{"request", "plan": [line, …]}`, or with the accepted plans as "accept"; "lang" may be given.

    Where only one plan is given and it asks or refuses, any wording of that counts as right.

    Raises:
        BadInput: the file cannot be read, or a line is not of this form.
    """
    try:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        return [_pair(row, vocabulary) for row in rows]
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise BadInput(f"{path} is not JSON lines of request and plan: {error!r}") from None


def fingerprint(pairs: Sequence[Pair]) -> str:
    """A short hash of what is trained on: other pairs, order or tokens give another."""
    digest = hashlib.sha256()
    for pair in pairs:
        digest.update(repr((pair.prompt, pair.completion)).encode())
    return digest.hexdigest()[:16]


def cut_batches(pairs: Sequence[Pair], size: int, *, seed: int, epoch: int) -> list[list[Pair]]:
    """All pairs in batches of `size`, in an order that seed and epoch decide; the last may be smaller."""
    chance = random.Random(f"{seed} {epoch}")
    order = chance.sample(list(pairs), len(pairs))
    batches = []
    for start in range(0, len(order), BUCKET * size):
        bucket = sorted(order[start : start + BUCKET * size], key=lambda pair: len(pair.prompt) + len(pair.completion))
        cut = [bucket[n : n + size] for n in range(0, len(bucket), size)]
        batches += chance.sample(cut, len(cut))
    return batches


def collate(pairs: Sequence[Pair], device: torch.device) -> Batch:
    """Make the tensors of a batch; only plans are learned, the request is given."""
    sequences = [[*pair.prompt, *pair.completion[:-1]] for pair in pairs]
    width = max(map(len, sequences))
    picked: list[int] = []
    targets: list[int] = []
    for row, pair in enumerate(pairs):
        start = row * width + len(pair.prompt) - 1
        picked += range(start, start + len(pair.completion))
        targets += pair.completion
    return Batch(
        torch.tensor([sequence + [0] * (width - len(sequence)) for sequence in sequences], device=device),
        torch.arange(width, device=device).expand(len(pairs), width),
        torch.tensor(picked, device=device),
        torch.tensor(targets, device=device),
    )


def _pair(row: dict[str, Any], vocabulary: Vocabulary) -> Pair:
    request, plans = str(row["request"]), row.get("accept") or [row["plan"]]
    completion = vocabulary.completion(plans[0])
    accepted = plans if "accept" in row else [_any_wording(plan) for plan in plans]
    language = str(row.get("lang") or ("en" if request.isascii() else "zh"))
    return Pair(request, tuple(map(tuple, accepted)), language, tuple(vocabulary.prompt(request)), tuple(completion))


def _any_wording(plan: Sequence[str]) -> list[str]:
    return [f"{verb} *" if (verb := line.split(" ", 1)[0]) in TALK else line for line in plan]
