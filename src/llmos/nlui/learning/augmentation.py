"""Makes many pairs of few lessons, for words are learned from being met in many sentences.

The phrases that stand for values are put where the generator's pairs have a value of that kind, in all verbs and
wordings; the lessons themselves are said with other values beside, in other registers, with slips.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from random import Random

from llmos.errors import BadInput
from llmos.nlui.dataset import register
from llmos.nlui.dataset.authored import take_apart
from llmos.nlui.dataset.commands import Commands
from llmos.nlui.dataset.draws import Draws, Filling
from llmos.nlui.dataset.pair import Pair, Skeleton, Slot, filled
from llmos.nlui.dataset.typos import mistyped
from llmos.nlui.learning.aliases import DETERMINER, Alias
from llmos.nlui.learning.lessons import Lesson
from llmos.syscalls import Kind

_SLOTS: dict[Kind, tuple[str, ...]] = {
    Kind.TARGET: ("job", "target", "proc"),
    Kind.NEW_NAME: ("new",),
    Kind.USER: ("user",),
    Kind.NODE: ("node",),
    Kind.PORT: ("port",),
    Kind.PATH: ("dir", "file", "mount", "dev", "path"),
    Kind.SIZE: ("size", "rate"),
    Kind.CORES: ("cores",),
    Kind.COUNT: ("num",),
    Kind.THRESHOLD: ("pct",),
    Kind.TEXT: ("text",),
    Kind.ARGV: ("cmd",),
    Kind.DURATION: ("dur",),
    Kind.TIME: ("time",),
}
"""The slots of the generator that a value of a kind may fill."""
_BOUND_FORMS = ("adj", "quoted")
"""Forms of slots whose words around them ask for the value itself."""
_TWO_DETERMINERS = re.compile(rf"\b{DETERMINER} (?={DETERMINER}\b)", re.IGNORECASE)
_SPOKEN, _MISTYPED = 0.6, 0.08

LESSON_PAIRS, LESSON_REPEATS = 160, 10
"""Pairs of corrections in all, and of one of them."""
ALIAS_PAIRS, ALIAS_REPEATS = 440, 60
"""Pairs with aliases in all, and with one of them."""
ACCEPTED_PAIRS = 100
REPLAY_SHARE, LEAST_REPLAYED = 0.5, 160
"""Of all pairs, those of the generator against forgetting."""
POOL = 6000
"""Pairs of the generator to choose from."""
LONGEST = 70
"""Characters of a request that an alias is put into: words of one's own stand in short sentences."""


def with_alias(alias: Alias, pairs: Sequence[Pair], rng: Random, count: int) -> list[Pair]:
    """At most `count` of the pairs, with the alias in place of a value."""
    draws = Draws(rng, Commands())
    made: list[Pair] = []
    for pair in rng.sample(pairs, len(pairs)):
        if len(made) == count:
            break
        if len(pair.request) > LONGEST or not _speaks(alias, pair.lang):
            continue
        skeleton = take_apart(pair)
        if places := [at for at, slot in enumerate(skeleton.slots) if _fits(alias, slot)]:
            fillings = draws.all(skeleton.slots, pair.lang)
            fillings[rng.choice(places)] = alias.phrase, alias.value
            made += _made(skeleton, fillings)
    return made


def said_again(lesson: Lesson, alias: Alias | None, rng: Random, count: int) -> list[Pair]:
    """The lesson as it is, then said in `count` - 1 other ways; what stands for a value stays, what is a value may be
    another."""
    pair = Pair(lesson.request, lesson.plan, lesson.lang, "feedback")
    draws = Draws(rng, Commands())
    skeleton = take_apart(pair)
    kept = [(slot.phrase, slot.value) if slot.phrase else None for slot in skeleton.slots]
    made = [pair]
    while len(made) < count:
        spoken = register.spoken(skeleton, rng) if rng.random() < _SPOKEN else skeleton
        if rng.random() < _MISTYPED:
            copied = skeleton.copied | frozenset(re.findall(r"[A-Za-z]+", alias.phrase if alias else ""))
            spoken = replace(spoken, request=mistyped(spoken.request, lesson.lang, rng, copied))
        drawn = draws.all(skeleton.slots, lesson.lang)
        fillings = [old if old and rng.random() < 0.5 else new for old, new in zip(kept, drawn, strict=True)]
        made += _made(spoken, fillings) or [pair]
    return made


def mixed(
    lessons: Sequence[Lesson], aliases: dict[Lesson, Alias], generated: Callable[[int], Iterator[Pair]], rng: Random
) -> list[Pair]:
    """What is trained on: lessons, pairs with aliases, and pairs of the generator against forgetting, in chance order."""
    corrections = [lesson for lesson in lessons if lesson.corrected][-LESSON_PAIRS:]
    accepted = [lesson for lesson in lessons if not lesson.corrected]
    again = max(1, min(LESSON_REPEATS, LESSON_PAIRS // max(1, len(corrections))))
    pairs = [pair for one in corrections for pair in said_again(one, aliases.get(one), rng, again)]
    pairs += [pair for one in accepted[-ACCEPTED_PAIRS:] for pair in said_again(one, None, rng, 1)]
    distinct = list(dict.fromkeys(aliases.values()))[-ALIAS_PAIRS:]
    pool = list(generated(POOL))
    for alias in distinct:
        pairs += with_alias(alias, pool, rng, max(1, min(ALIAS_REPEATS, ALIAS_PAIRS // len(distinct))))
    pairs += rng.sample(pool, max(LEAST_REPLAYED, round(REPLAY_SHARE / (1 - REPLAY_SHARE) * len(pairs))))
    return rng.sample(pairs, len(pairs))


def _speaks(alias: Alias, lang: str) -> bool:
    """Whether a phrase may stand in a language: Chinese in Chinese, several English words in English, one in both."""
    chinese = any("\u4e00" <= char <= "\u9fff" for char in alias.phrase)
    return lang == "zh" if chinese else lang == "en" or " " not in alias.phrase


def _fits(alias: Alias, slot: Slot) -> bool:
    return slot.kind in _SLOTS.get(alias.kind, ()) and not slot.form.startswith(_BOUND_FORMS)


def _made(skeleton: Skeleton, fillings: Sequence[Filling]) -> list[Pair]:
    """The pair, or none where the values do not go together."""
    try:
        pair = filled(skeleton, fillings)
    except BadInput:
        return []
    return [replace(pair, request=_TWO_DETERMINERS.sub("", pair.request))]
