"""English words made ready for patterns: slips mended, days marked, number words and fractions as digits.

Number words are read by `text_to_num`. A day of the week becomes `<0>` (Sunday) to `<6>`.
"""

import re

from text_to_num import alpha2digit

_DAYS = ["sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"]
_DAY_FORMS = [
    "sun(?:day)?s?", "mon(?:day)?s?", "tue(?:s|sday)?s?", "wed(?:nesday)?s?",
    "thu(?:r|rs|rsday)?s?", "fri(?:day)?s?", "sat(?:urday)?s?",
]  # fmt: skip
_MONTHS = [
    "january", "february", "march", "april", "june", "july", "august", "september", "october", "november", "december",
]  # fmt: skip
_SPELLED = {
    "one", "two", "three", "four", "five", "seven", "eight", "nine", "eleven", "twelve", "thirteen", "fourteen",
    "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty", "thirty", "forty", "fifty", "sixty", "seventy",
    "eighty", "ninety", "hundred", "thousand", "second", "seconds", "minute", "minutes", "hour", "hours", "days",
    "week", "weeks", "fortnight", "month", "months", "nightly", "daily", "hourly", "weekly", "monthly", "quarter",
    "half", "past", "midnight", "midday", "noon", "morning", "mornings", "afternoon", "afternoons", "evening",
    "evenings", "night", "nights", "tonight", "weekday", "weekdays", "weekend", "weekends", "weeknights", "percent",
    "megabyte", "megabytes", "gigabyte", "gigabytes", "first", *_DAYS, *(f"{day}s" for day in _DAYS), *_MONTHS,
}  # fmt: skip
_LOOK_ALIKE = {
    "there", "these", "right", "might", "light", "weight", "height", "fight", "house", "houses", "forth", "paste",
    "yours", "tours", "never", "sever", "server", "fiesta", "mouth", "niche", "there's", "threes",
}  # fmt: skip
"""English words one slip away from those above that are no slips."""


def _one_edit_away(word: str) -> set[str]:
    """Deletions of one letter and swaps of two neighbours: what the word shares with a form one slip away."""
    return {word[:at] + word[at + 1 :] for at in range(len(word))} | {word}


def _slips() -> dict[str, str]:
    index: dict[str, str] = {}
    for word in sorted(_SPELLED):
        if len(word) >= 5:
            for form in _one_edit_away(word):
                index.setdefault(form, word)
    return index


_SLIPS = _slips()
_LONG_UNIT = (
    r"(?:secs?|seconds?|mins?|minutes?|hrs?|hours?|days?|weeks?|fortnights?|months?|nights?|"
    r"kilobytes?|kb|megs?|megabytes?|mb|gigs?|gigabytes?|gb|teras?|terabytes?|tb|g|cores?|cpus?|gpus?)\b"
)
_REWRITES: list[tuple[re.Pattern[str], str]] = [
    (re.compile(pattern), replacement)
    for pattern, replacement in [
        (r"(\d),(\d{3})\b", r"\1\2"),
        (r"(\d) ?½", r"\1.5"),
        (r"½", "0.5 "),
        (r"\ba (hundred|thousand)\b", r"one \1"),
        (r"\b(?:every|each) (?:other|second|2nd) (?=hour|day|week|night|minute|morning|evening)", "every two "),
        (r"(?<=\d)-(?=[a-z])", " "),
        (r"(\b(?:an?|per|each|every|one|two|three|four|five|ten|\w+teen|\w+ty)|\d) second\b", r"\1 sec"),
        (r"\bhalf (?:a )?dozen\b", "six"),
        (r"\b(?:an? )?couple(?: of)?\b|\ba pair(?: of)?\b|\bboth\b", "two "),
        (r"\ba few\b", "three"),
        (r"\bo'? ?clock\b", "oclock"),
        (r"\b([ap])\. ?m\b\.?", r"\1m"),
        (r"\boh? (one|two|three|four|five|six|seven|eight|nine)\b", r"oh \1"),
        (r"\btwice\b", "2 times"),
        (r"\bthrice\b", "3 times"),
        (r"\bonce (?=an?\b|every|each|per)", "1 times "),
    ]
]
_AFTER_DIGITS: list[tuple[re.Pattern[str], str]] = [
    (re.compile(pattern), replacement)
    for pattern, replacement in [
        (r"\b(every|each) (\d+)(?:st|nd|rd|th) (?=hour|day|week|minute|night)", r"\1 \2 "),
        (r"(?<=\d) (?:whole|full|solid|straight|entire|more|good|long|consecutive) ", " "),
        (r"\b(?:a )?dozen\b", "12"),
        (r"\b(?:zero |0 )?point (\d+)\b", r"0.\1"),
        (r"(?<![\d.])\.(\d+)", r"0.\1"),
        (r"\boh (\d)\b", r"0\1"),
        (r"\b(\d+) and (?:a |1 )?half\b", r"\1.5"),
        (r"\b(\d+) and (?:a |1 )?quarter\b", r"\1.25"),
        (r"\b(\d+) and 3 quarters?\b", r"\1.75"),
        (rf"\b(\d+) ({_LONG_UNIT}) and (?:a |1 )?half\b", r"\1.5 \2"),
        (rf"\b(\d+) ({_LONG_UNIT}) and (?:a |1 )?quarter\b", r"\1.25 \2"),
        (rf"\b(?:an? |one |1 )?({_LONG_UNIT}) and (?:a |1 )?half\b", r"1.5 \1"),
        (rf"\b(?:an? |one |1 )?({_LONG_UNIT}) and (?:a |1 )?quarter\b", r"1.25 \1"),
        (rf"\b(?:an? |one |1 )?({_LONG_UNIT}) and 3 quarters?\b", r"1.75 \1"),
        (rf"\b(?:a )?half (?:of )?(?:an? |1 |the )?({_LONG_UNIT})", r"0.5 \1"),
        (rf"\b3 quarters? (?:of )?(?:an? |1 |the )?({_LONG_UNIT})", r"0.75 \1"),
        (rf"\b(?:an? |1 )?quarter (?:of )?(?:an? |1 |the )?({_LONG_UNIT})", r"0.25 \1"),
        (rf"(?<![\d.] )(?<![\d.])\b(?:an? )?({_LONG_UNIT})", r"1 \1"),
    ]
]


def spelled_out(request: str) -> str:
    """Lower case, slips mended, days as `<1>`, number words as digits."""
    text = request.lower().replace("’", "'")
    text = re.sub(r"[a-z']{5,}", _mend, text)
    text = re.sub(r"\bweek[- ]?(days?|ends?|nights?)\b", r"week\1", text)
    for number, form in enumerate(_DAY_FORMS):
        text = re.sub(rf"(?<![\w.]){form}(?![\w.]*\w)", f"<{number}>", text)
    text = re.sub(r"(?<=[a-z])-(?=[a-z])", " ", text)
    text = re.sub(r"[ \t\r\n]+", " ", text)
    return re.sub(" +", " ", alpha2digit(_rewrite(text, _REWRITES), "en", 0))


def with_fractions(spelled: str) -> str:
    """The text with "half an hour", "an hour and a half" and "an hour" as amounts of a unit."""
    return _rewrite(spelled, _AFTER_DIGITS)


def _mend(match: re.Match[str]) -> str:
    word = match.group()
    if word in _SPELLED or word in _LOOK_ALIKE:
        return word
    for form in (word, *sorted(_one_edit_away(word))):
        if (meant := _SLIPS.get(form)) and abs(len(meant) - len(word)) <= 1:
            return meant
    return word


def _rewrite(text: str, rules: list[tuple[re.Pattern[str], str]]) -> str:
    for pattern, replacement in rules:
        text = pattern.sub(replacement, text)
    return text
