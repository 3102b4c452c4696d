"""Slips of the finger and of the ear, in words that no plan copies: letters swapped, dropped, doubled; homophones."""

import re
from itertools import pairwise
from random import Random

from llmos.nlui.dataset.pair import MARKS
from llmos.nlui.dataset.wordlists import phrases

_WORD = re.compile(rf"(?<![\w/.$@='\"{MARKS}-])[A-Za-z]{{4,}}(?![\w/.$@='\"{MARKS}-])")
_QUOTED = re.compile(r"\"[^\"]*\"|'[^']*'|`[^`]*`|“[^”]*”")
_KEYS = {left: right for row in ("qwertyuiop", "asdfghjkl", "zxcvbnm") for left, right in pairwise(row)}
_KEPT = re.compile(
    r"(?:one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|\w+teen|\w+ty|hundred|half|quarter|noon|midnight|"
    r"midday|second|minute|hour|day|week|month|fortnight|monday|tuesday|wednesday|thursday|friday|saturday|sunday|nightly|"
    r"hourly|daily|weekly|monthly|weekday|weekend|workday|gig|meg|megabyte|gigabyte|kilobyte|terabyte|past|percent|core|first|"
    r"last|morning|evening|afternoon|night|tonight|today|tomorrow|secs|mins|TERM|KILL|QUIT|USR1|every|each|root|disk|free)s?",
    re.IGNORECASE,
)


def mistyped(text: str, lang: str, rng: Random, copied: frozenset[str] = frozenset()) -> str:
    """The text with one to three slips; quotes, marks, `copied` words and those of time and quantity keep their letters."""
    if lang == "zh":
        return _misheard(text, rng)
    kept = [match.span() for match in _QUOTED.finditer(text)]
    words = [
        match for match in _WORD.finditer(text) if not _KEPT.fullmatch(match.group()) and match.group() not in copied
    ]
    words = [word for word in words if not any(start <= word.start() < end for start, end in kept)]
    for word in sorted(rng.sample(words, min(len(words), rng.choice((1, 1, 2, 3)))), key=lambda word: -word.start()):
        text = text[: word.start()] + _slipped(word.group(), rng) + text[word.end() :]
    return text


def _slipped(word: str, rng: Random) -> str:
    at = rng.randrange(1, len(word) - 1)
    match rng.randrange(5):
        case 0 | 1:
            return word[:at] + word[at + 1] + word[at] + word[at + 2 :]
        case 2:
            return word[:at] + word[at + 1 :]
        case 3:
            return word[:at] + word[at] + word[at:]
    return word[:at] + _KEYS.get(word[at], word[at]) + word[at + 1 :]


def _misheard(text: str, rng: Random) -> str:
    found = [line.split() for line in phrases("homophones") if line.split()[0] in text]
    for word, *misheard in rng.sample(found, min(len(found), rng.choice((1, 1, 2)))):
        text = text.replace(word, rng.choice(misheard), 1)
    return text
