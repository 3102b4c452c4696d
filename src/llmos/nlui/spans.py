"""The spans of a request that may become values of a plan: words, quoted text, phrases and command lines.

A word ends at white space, at brackets and closing punctuation, and where Chinese and Latin script meet; a run of
Chinese may be cut anywhere, for it has no spaces. A phrase or a command line is a contiguous stretch of such words.
"""

import json
import re
import shlex
from collections.abc import Iterator, Sequence
from functools import cached_property

from llmos.plan.language import quote_value, quote_word

MAX_WORDS = 400
MAX_SEGMENTS = 24
MAX_CHUNKS = 800
MAX_ARGV_SPANS = 4

_CJK = "\u3007\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_CJK_PUNCTUATION = "\u3000-\u3006\u3008-\u303f\uff01-\uff0f\uff1a-\uff20\uff3b-\uff40\uff5b-\uff65“”‘’…—·"
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
_QUOTED = re.compile(
    r"\"([^\"]{1,300})\"|(?<!\w)'([^']{1,300})'(?!\w)|`([^`]{1,300})`|“([^“”]{1,300})”|‘([^‘’]{1,300})’|"
    r"「([^」]{1,300})」|『([^』]{1,300})』|《([^》]{1,300})》|«([^»]{1,300})»"
)
_TOKEN = re.compile(r"(?:\"(?:[^\"\\]|\\.)*\"|(?<!\w)'[^']*'|[^\s\"']|[\"'])+")
_LEAD = "([{<\"'`“‘「『《«（【—–#@:*~,;，。；、"
_TRAIL = ".,;:!?)]}>\"'`”’」』》»）】，。；：！？、…—–*"
_CUT = re.compile(rf"[\s{_CJK}{_CJK_PUNCTUATION}]+")
_CUT_CJK = re.compile(rf"[{_CJK}{_CJK_PUNCTUATION}]+")
_CUT_CLAUSE = re.compile(rf"[{_CJK_PUNCTUATION}]+")
_INNER = re.compile(r"[=:,;@|()\[\]{}<>\"'`+&→#!?*]+|->|'s\b|’s\b|/")
_WHOLE_DISK = re.compile(r"\b(?:root|whole|entire|disk|drive|machine|sd card)\b|根|整|全|盘", re.IGNORECASE)
_DIGITS = re.compile(r"[0-9]{1,9}")
_JOINED = re.compile(rf"[^\s{_CJK_PUNCTUATION}]*[{_CJK}][^\s{_CJK_PUNCTUATION}]*")
_PIECE = re.compile(rf"[{_CJK}]|[A-Za-z0-9_]+(?:[.-][A-Za-z0-9_]+)*|\S")
_PHRASE_PIECE = re.compile(rf"\s+|[{_CJK}]|[^\s{_CJK}\w]|[^\W{_CJK}]+(?:[.'’_/-][^\W{_CJK}]+)*")
_VALUE = r"/[^ ](?s:.*) (?s:.*)[^ ]/"


def sanitised(text: str) -> str:
    """The text without what no plan can hold: control characters become spaces, lone surrogates go."""
    return _CONTROL.sub(" ", text).encode("utf-8", "ignore").decode()


class RequestSpans:
    """What one sanitised request, and the names known beside it, offer as values, ready for a Lark grammar."""

    def __init__(self, request: str, names: Sequence[str]) -> None:
        self._request = request
        self._names = [name for name in names if name and len(name) <= 128 and not name.startswith("$")]
        self._quotes = [next(filter(None, groups)) for groups in _QUOTED.findall(request)]

    @cached_property
    def _plain_words(self) -> list[str]:
        """Words of the request, whole ones first, with their cuts; no repeats."""
        words: dict[str, None] = dict.fromkeys(quote.strip() for quote in self._quotes if quote.strip())
        for stretch in (self._request, _CUT.sub(" ", self._request)):
            for token in stretch.split()[:MAX_WORDS]:
                words.update(dict.fromkeys(_readings(token)))
        if _WHOLE_DISK.search(self._request):
            words.setdefault("/")
        return [word for word in words if not word.startswith("$")][:MAX_WORDS]

    @cached_property
    def words(self) -> list[str]:
        """Printed values for what is named: any word."""
        return [quote_value(word) for word in self._plain_words]

    @cached_property
    def names(self) -> list[str]:
        """Printed values of the names known beside the request."""
        return [quote_value(name) for name in dict.fromkeys(self._names)]

    @cached_property
    def new_names(self) -> list[str]:
        """Printed values that a new job may be called."""
        words = (word for word in self._plain_words if "/" not in word and len(word) <= 128 and word.isprintable())
        return [quote_value(word) for word in words if not (word.isascii() and word.isdigit())]

    @cached_property
    def digits(self) -> list[str]:
        """Every run of digits, as it stands."""
        return list(dict.fromkeys(_DIGITS.findall(self._request)))[:MAX_WORDS]

    def cjk_words(self) -> list[str]:
        """Terminals for stretches of the parts of the request that hold Chinese."""
        return [f"({run} & /[^$\\s\"'=\\\\][^\\s\"'=\\\\]*/)" for run in self._cjk_runs]

    def cjk_names(self) -> list[str]:
        """The same for new names: no leading digit, no slash."""
        return [f"({run} & /[^$\\/\\s\"'=\\\\0-9-][^\\/\\s\"'=\\\\]*/)" for run in self._cjk_runs]

    @cached_property
    def _cjk_runs(self) -> list[str]:
        runs = dict.fromkeys(filter(str.isprintable, _JOINED.findall(self._request)))
        return [_substring(_PIECE.findall(run)[:MAX_CHUNKS]) for run in list(runs)[:MAX_SEGMENTS]]

    def phrases(self, inside: bool) -> list[str]:
        """Terminals for quoted stretches of two words or more; `inside` the string of `then`, escaped once more."""
        chunks = [
            nested(encoded(" " if chunk.isspace() else chunk)[1:-1], inside)
            for chunk in _PHRASE_PIECE.findall(self._request)
        ]
        if " " not in chunks[1:-1]:
            return []
        quote = json.dumps('\\"' if inside else '"')
        return [f"{quote} ({_substring(chunks[: 2 * MAX_CHUNKS])} & {_VALUE}) {quote}"]

    def argv(self, inside: bool) -> list[str]:
        """One terminal for ` -- ARGV`: up to `MAX_ARGV_SPANS` stretches of command words."""
        if not self._segments:
            return []
        spans = " | ".join(
            f"({_substring([nested(chunk, inside) for chunk in segment])} & / [^ ](?s:.*)/)"
            for segment in self._segments
        )
        return [f'" --" " env"? ({spans}){{1,{MAX_ARGV_SPANS}}}']

    @cached_property
    def argv_needs_escape(self) -> bool:
        """Whether a command line reads otherwise inside a JSON string."""
        return any('"' in chunk or "\\" in chunk for segment in self._segments for chunk in segment)

    @cached_property
    def _segments(self) -> list[tuple[str, ...]]:
        return list(dict.fromkeys(self._read_segments()))[:MAX_SEGMENTS]

    def _read_segments(self) -> Iterator[tuple[str, ...]]:
        """Contiguous command words as chunks: ` word`, then its closing punctuation as a chunk that may stay off."""
        stretches = [self._request, *self._quotes, *_CUT_CLAUSE.split(self._request), *_CUT_CJK.split(self._request)]
        for stretch in dict.fromkeys(stretches):
            segment: list[str] = []
            for token in _TOKEN.findall(stretch)[:MAX_CHUNKS]:
                core = token.lstrip(_LEAD) if not _quoted_whole(token) else token
                if core != token:
                    yield from _finished(segment, _chunks(token))
                    segment = []
                segment += _chunks(core)
            yield from _finished(segment)


def _quoted_whole(token: str) -> bool:
    return (
        len(token) > 1
        and token[0] in "\"'"
        and token.rstrip(_TRAIL.replace('"', "").replace("'", "")).endswith(token[0])
    )


def _finished(segment: list[str], more: Sequence[str] = ()) -> Iterator[tuple[str, ...]]:
    if chunks := (*segment, *more):
        yield chunks


def _chunks(token: str) -> list[str]:
    """One token of a command line, printed as the plan language quotes it."""
    if not token:
        return []
    core = (
        token.rstrip(_TRAIL)
        if not token.rstrip(".,;:!?)，。；：！？、）").endswith(("'", '"'))
        else token.rstrip(".,;:!?)，。；：！？、）")
    )
    words = _unquoted(core) if core else None
    whole = quote_word(token)
    if core == token or not words:
        return [" " + quote_word((_unquoted(token) or [token])[0])]
    printed = quote_word(words[0])
    if whole == token and printed == core:
        return [" " + core, token[len(core) :]]
    return [" " + printed]


def _unquoted(token: str) -> list[str] | None:
    """The words a shell makes of one token, or None when its quotes do not pair."""
    lexer = shlex.shlex(token, posix=True, punctuation_chars="")
    lexer.whitespace_split, lexer.commenters = True, ""
    try:
        return list(lexer)
    except ValueError:
        return None


def _readings(token: str) -> Iterator[str]:
    """A word as it stands, without its punctuation, and its parts between inner separators."""
    yield token
    stripped = token.strip(_LEAD + _TRAIL)
    for word in (token.rstrip(_TRAIL), token.lstrip(_LEAD), stripped):
        if word:
            yield word
    for part in _INNER.split(stripped):
        if part and part != stripped:
            yield part
            if bare := part.strip(_LEAD + _TRAIL):
                yield bare
    if stripped[:1].isupper():
        yield stripped.lower()
    if len(stripped) > 3 and stripped.endswith("s") and stripped.isalnum():
        yield stripped[:-1]


def _substring(chunks: Sequence[str]) -> str:
    return '%regex {"substring_chunks": [' + ", ".join(map(encoded, chunks)) + "]}"


encoded = json.JSONEncoder(ensure_ascii=False).encode
"""Text as a JSON string, which is also how the Lark dialect quotes."""


def nested(printed: str, inside: bool) -> str:
    """Printed text as it stands inside a JSON string, when it does."""
    return encoded(printed)[1:-1] if inside else printed
