"""The generator: authored pairs with other values and phrase grammars, mixed, spoken in many ways, without repeats.

The same seed gives the same data. Whole authors, and some phrasings of each grammar of whole requests, are only in
`heldout`. Requests in `reserved.txt`, kept to measure on as fingerprints, are never made.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache
from importlib import resources
from pathlib import Path
from random import Random
from typing import Literal

from llmos.errors import BadInput
from llmos.nlui.dataset import authored, compose, register, template
from llmos.nlui.dataset.commands import Commands
from llmos.nlui.dataset.draws import Draws
from llmos.nlui.dataset.pair import Pair, Skeleton, filled, fingerprint, normalised
from llmos.nlui.dataset.template import Phrasing
from llmos.nlui.dataset.typos import mistyped

Split = Literal["train", "heldout", "all"]
MAX_REQUEST = 400
MAX_LINES = 4
_AUTHORED_SHARE = 0.58
_LANGS = ("en", "zh")
_ENGLISH_SHARE = 0.56
_TYPO_SHARE = 0.08
_TALK = ("ask", "refuse")
_PARTS = ("run", "watch", "lookups", "it")
"""Grammars of parts that are always said together with others; both splits have all of them."""
_GRAMMAR_MIX = {
    "run": 0.17,
    "watch": 0.12,
    "followed": 0.09,
    "joined": 0.08,
    "corrected": 0.07,
    "talk": 0.18,
    "plain": 0.29,
}
_CHINESE = "\u4e00-\u9fff，。：；！？、"
_INSIDE_CHINESE = re.compile(f"(?<=[{_CHINESE}]) +(?=[{_CHINESE}])")
_BESIDE_CHINESE = re.compile(f"(?<=[{_CHINESE}]) (?=\\w)|(?<=[A-Za-z0-9%]) (?=[{_CHINESE}])")
_FLAT_VERBS = 0.5
"""Of the plain grammar requests, the share that is drawn verb by verb, so that rare verbs are not rare."""


@cache
def _grammar(lang: str, name: str) -> tuple[Phrasing, ...]:
    text = resources.files(__package__).joinpath("grammars", f"{lang}_{name}.txt").read_text(encoding="utf-8")
    return template.read_grammar(text, lang)


@cache
def _reserved() -> frozenset[str]:
    return frozenset(resources.files(__package__).joinpath("reserved.txt").read_text(encoding="utf-8").split())


def generate(
    seed: int,
    size: int,
    *,
    split: Split = "train",
    folder: Path = authored.FOLDER,
    commands: Sequence[str] = (),
    accept: Callable[[Pair], bool] = lambda pair: True,
) -> Iterator[Pair]:
    """Pairs of request and plan, in an order that the seed decides.

    The authored pairs of the split stand among the rest as they are; `commands` are command lines from
    outside to draw from. A pair that `accept` turns down is left out and another is made. Raises `AuthoredError` when the
    authored pairs cannot be read.
    """
    maker = _Maker(Random(f"{seed} {split}"), split, folder, Commands(tuple(commands)))
    seen: set[str] = set()
    made = 0
    for pair in maker.pairs(size):
        key = normalised(pair.request)
        if made == size:
            return
        if key in seen or len(pair.request) > MAX_REQUEST or fingerprint(pair.request) in _reserved():
            continue
        seen.add(key)
        if accept(pair):
            made += 1
            yield pair


class _Maker:
    """Draws skeletons from both sources and fills them."""

    def __init__(self, rng: Random, split: Split, folder: Path, commands: Commands) -> None:
        self.rng, self.split = rng, split
        self.draws = Draws(rng, commands)
        pairs = [pair for pair in authored.read_authored(folder) if self._takes(pair.source in authored.HELD_OUT)]
        self.originals = pairs
        skeletons = [authored.take_apart(pair) for pair in pairs]
        self.skeletons = {lang: [found for found in skeletons if found.lang == lang] for lang in _LANGS}
        self.grammars = {
            (lang, name): [
                phrasing for phrasing in _grammar(lang, name) if name in _PARTS or self._takes(phrasing.held_out)
            ]
            for lang in _LANGS
            for name in ("reads", "actions", "compounds", "ask", "refuse", *_PARTS)
        }

    def _takes(self, held_out: bool) -> bool:
        return self.split == "all" or held_out == (self.split == "heldout")

    def pairs(self, size: int) -> Iterator[Pair]:
        """Pairs without end, the authored ones among the first `size`."""
        originals = self.originals.copy()
        self.rng.shuffle(originals)
        share = min(0.5, len(originals) / max(size, 1))
        while True:
            if originals and self.rng.random() < share:
                yield originals.pop()
                continue
            try:
                yield self._pair()
            except BadInput:
                continue  # values that do not go together, such as a day that no month has

    def _pair(self) -> Pair:
        rng = self.rng
        lang = "en" if rng.random() < _ENGLISH_SHARE else "zh"
        skeleton = self._authored(lang) if rng.random() < _AUTHORED_SHARE else self._made(lang)
        if rng.random() < 0.45:
            skeleton = register.spoken(skeleton, rng)
        if rng.random() < _TYPO_SHARE:
            skeleton = replace(skeleton, request=mistyped(skeleton.request, lang, rng, skeleton.copied))
        pair = filled(skeleton, self.draws.all(skeleton.slots, lang))
        return replace(pair, request=self._spaced(pair.request, skeleton)) if lang == "zh" else pair

    def _spaced(self, request: str, skeleton: Skeleton) -> str:
        """Chinese with the spaces that its writers put: none inside, and not always one beside Latin letters."""
        request = _INSIDE_CHINESE.sub("", request)
        commands = any(slot.kind in ("cmd", "text") for slot in skeleton.slots) or "run" in skeleton.verbs
        return request if commands or self.rng.random() < 0.6 else _BESIDE_CHINESE.sub("", request)

    def _authored(self, lang: str) -> Skeleton:
        """An authored request, sometimes joined with another or with a slip in it."""
        rng, pool = self.rng, self.skeletons[lang]
        skeleton = rng.choice(pool)
        draw = rng.random()
        if draw < 0.08:
            return self._joined(lambda: rng.choice(pool)) or skeleton
        if draw < 0.14:
            return compose.corrected(skeleton, rng) or skeleton
        return skeleton

    def _made(self, lang: str) -> Skeleton:
        rng = self.rng
        kind = rng.choices(list(_GRAMMAR_MIX), list(_GRAMMAR_MIX.values()))[0]
        match kind:
            case "run":
                return compose.run(rng, lang, self.grammars[lang, "run"])
            case "watch":
                return compose.watch(rng, lang, self.grammars[lang, "watch"], self._commands(lang))
            case "followed":
                return self._followed(lang)
            case "joined":
                return self._joined(lambda: self._plain(lang)) or self._plain(lang)
            case "corrected":
                whole = self._plain(lang) if rng.random() < 0.75 else compose.run(rng, lang, self.grammars[lang, "run"])
                return compose.corrected(whole, rng) or whole
            case "talk":
                return template.skeleton(rng.choice(self.grammars[lang, rng.choice(_TALK)]), rng)
        return self._plain(lang)

    def _followed(self, lang: str) -> Skeleton:
        """Something looked up or started, and what to do with it."""
        rng, acts = self.rng, self.grammars[lang, "it"]
        if rng.random() < 0.4:
            return compose.followed(template.skeleton(rng.choice(self.grammars[lang, "lookups"]), rng), acts, rng)
        acts = [act for act in acts if act.command]
        if rng.random() < 0.7:
            return compose.followed(compose.run(rng, lang, self.grammars[lang, "run"]), acts, rng)
        heads = [phrasing for phrasing in self._commands(lang) if phrasing.plan == "start {job}"]
        return compose.followed(template.skeleton(rng.choice(heads), rng), acts, rng) if heads else self._plain(lang)

    def _commands(self, lang: str) -> list[Phrasing]:
        return [phrasing for phrasing in self.grammars[lang, "actions"] if phrasing.command] or list(
            _grammar(lang, "actions")
        )

    def _plain(self, lang: str) -> Skeleton:
        """One phrasing of the grammars, either any or any of a verb drawn first."""
        phrasings = [phrasing for name in ("reads", "actions", "compounds") for phrasing in self.grammars[lang, name]]
        if self.rng.random() < _FLAT_VERBS:
            verb = self.rng.choice(sorted({phrasing.verb for phrasing in phrasings}))
            phrasings = [phrasing for phrasing in phrasings if phrasing.verb == verb]
        return template.skeleton(self.rng.choice(phrasings), self.rng)

    def _joined(self, draw: Callable[[], Skeleton]) -> Skeleton | None:
        """Two or three requests in one, where that keeps their meaning; None when the draw does not fit."""
        parts = [draw() for _ in range(self.rng.choice((2, 2, 2, 3)))]
        for part in parts:
            if (
                part.verbs[0] in (*_TALK, "wait")
                or "\n" in part.request
                or len(part.request) > 90
                or "?" in part.request
            ):
                return None
            if "？" in part.request or any(" after=" in text or then for text, then in part.plan):
                return None
        if sum(len(part.plan) for part in parts) > MAX_LINES:
            return None
        whole = parts[0]
        for part in parts[1:]:
            whole = compose.joined(whole, part, self.rng)
        return whole


def _joinable(part: Skeleton) -> bool:
    """Whether a request keeps its meaning beside another: short, no question, and nothing that it makes wait."""
    waits = "wait" in part.verbs or any(" after=" in text or then for text, then in part.plan)
    return not (waits or part.verbs[0] in _TALK or len(part.request) > 90 or re.search(r"[\n?？]|\. |。", part.request))
