"""How a request is spoken: politeness, asides, stories around it, punctuation, case. The plan stays the same."""

from dataclasses import replace
from random import Random

from llmos.nlui.dataset.pair import MARKS, Skeleton
from llmos.nlui.dataset.wordlists import phrases

_LATER = ("schedule ", " at=", " once=", " every=", " cron=", " after=", "wait ", "watch ")
_AT_ONCE = ("now", "immediately", "asap", "quickly", "快点", "急")
_BEFORE_ANYTHING = (",", ":", "!", "um", "uh", "so", "，", "帮我", "麻烦", "请")
"""How openings end that may stand before what is no order."""
_IMPERATIVES = frozenset(
    "kill stop start restart pause resume freeze show list give run launch execute tell let set put limit cap drop remove "
    "delete cancel undo revert take send wait hold find make bring fire turn shut end terminate unfreeze throttle schedule "
    "favour focus lower raise get check look watch search grep print draw spin boot kick bounce close quit nuke renice change "
    "move don't unschedule unwatch interrupt reload forget wipe clear free explain describe inspect notify alert ping".split()
)


def spoken(skeleton: Skeleton, rng: Random) -> Skeleton:
    """The skeleton in another register; requests with line breaks stay as they are."""
    text, lang = skeleton.request, skeleton.lang
    if "\n" in text or text.split(" ", 1)[0].lower() in {word.lower() for word in skeleton.copied}:
        return skeleton  # its first word is copied, and would change case
    talk = skeleton.verbs[0] in ("ask", "refuse")
    draw = rng.random()
    asks = text.rstrip().endswith(("?", "？", "吗", "呢", "么"))
    if draw < 0.16:
        orders = lang == "en" and not asks and text.split(" ", 1)[0].lower() in _IMPERATIVES
        openings = [opening for opening in phrases(f"{lang}_openings") if orders or opening.endswith(_BEFORE_ANYTHING)]
        text = rng.choice(openings) + (" " if lang == "en" else "") + _lowered(text)
    elif draw < 0.28:
        after = rng.choice(phrases(f"{lang}_endings"))
        if talk or any(key in line for line, _ in skeleton.plan for key in _LATER):
            after = rng.choice(
                [ending for ending in phrases(f"{lang}_endings") if not any(word in ending for word in _AT_ONCE)]
            )
        if not (asks and after[0] in ",，吧呗") and text[-1] not in ".!。！…)）":
            text = text.rstrip("?？") + after
    elif draw < 0.34 and not talk:
        story = rng.choice(phrases(f"{lang}_stories"))
        text = f"{story} {_raised(text)}" if lang == "en" else story + text
        if rng.random() < 0.3 and lang == "en":
            text = f"{_raised(skeleton.request.rstrip('.'))}. {story}"
    elif draw < 0.37 and not talk:
        quote = rng.choice(phrases(f"{lang}_quote_frames")).format(rng.choice(phrases(f"{lang}_quoted_orders")))
        text = f"{quote} {_raised(text)}" if lang == "en" else quote + text
    elif draw < 0.43:
        text = _raised(text) + (
            "" if text[-1] in ".?!。？！" else ("?" if lang == "en" else "？") if asks else _stop(lang)
        )
    elif draw < 0.48:
        text = _lowered(text).rstrip(".?!。？！") if lang == "en" else text.replace("，", " ").rstrip("。？！")
    return replace(skeleton, request=text)


def _stop(lang: str) -> str:
    return "." if lang == "en" else "。"


def _lowered(text: str) -> str:
    """Without a capital at its start, where that is only one of a sentence."""
    first = text.split(" ", 1)[0]
    plain = (
        first[:1].isupper() and first[1:].islower() and len(first) > 1 and first not in ("Monday", "Sunday", "Friday")
    )
    return text[0].lower() + text[1:] if plain and text[0] not in MARKS else text


def _raised(text: str) -> str:
    first = text.split(" ", 1)[0]
    return text[0].upper() + text[1:] if first.isalpha() and first.islower() and first.isascii() else text
