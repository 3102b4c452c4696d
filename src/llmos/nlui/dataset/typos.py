"""Slips of the finger and of the ear, in words that no plan copies: letters swapped, dropped, doubled; homophones."""

import re
from random import Random

from llmos.nlui.dataset.pair import MARKS

_WORD = re.compile(rf"(?<![\w/.$@='\"{MARKS}-])[A-Za-z]{{4,}}(?![\w/.$@='\"{MARKS}-])")
_QUOTED = re.compile(r"\"[^\"]*\"|'[^']*'|`[^`]*`|“[^”]*”")
_KEYS = {
    left: right for row in ("qwertyuiop", "asdfghjkl", "zxcvbnm") for left, right in zip(row, row[1:], strict=False)
}
_KEPT = re.compile(
    r"(?:one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|\w+teen|\w+ty|hundred|half|quarter|noon|midnight|"
    r"midday|second|minute|hour|day|week|month|fortnight|monday|tuesday|wednesday|thursday|friday|saturday|sunday|nightly|"
    r"hourly|daily|weekly|monthly|weekday|weekend|workday|gig|meg|megabyte|gigabyte|kilobyte|terabyte|past|percent|core|first|"
    r"last|morning|evening|afternoon|night|tonight|today|tomorrow|secs|mins|TERM|KILL|QUIT|USR1|every|each|root|disk|free)s?",
    re.IGNORECASE,
)
_HOMOPHONES = {
    "进程": ("进城", "近程"), "端口": ("端囗", "短口"), "内存": ("内纯", "内寸"), "日志": ("日至", "日制"), "任务": ("任物", "认务"),
    "优先级": ("优先及", "优先极"), "重启": ("从启", "重起"), "暂停": ("暂听", "占停"), "监控": ("监空", "监拱"), "程序": ("程续", "成序"),
    "文件": ("文建",), "恢复": ("回复",), "停掉": ("听掉",), "启动": ("起动", "启东"), "限制": ("限止",), "显卡": ("现卡",),
    "通知": ("通只",), "占用": ("战用",), "磁盘": ("瓷盘",), "强制": ("强致",), "告诉": ("告述",), "提醒": ("题醒",), "运行": ("运形",),
    "撤销": ("撤消",), "继续": ("继序",), "结束": ("结速",), "看看": ("看坎",), "帮我": ("邦我",), "最近": ("最进",), "任务列表": ("任务例表",),
}  # fmt: skip


def mistyped(text: str, lang: str, rng: Random) -> str:
    """The text with one to three slips; what stands in quotes, marks and words of time and quantity keep their letters."""
    if lang == "zh":
        return _misheard(text, rng)
    kept = [match.span() for match in _QUOTED.finditer(text)]
    words = [match for match in _WORD.finditer(text) if not _KEPT.fullmatch(match.group())]
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
    found = [word for word in _HOMOPHONES if word in text]
    for word in rng.sample(found, min(len(found), rng.choice((1, 1, 2)))):
        text = text.replace(word, rng.choice(_HOMOPHONES[word]), 1)
    return text
