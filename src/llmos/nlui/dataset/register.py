"""How a request is spoken: politeness, asides, stories around it, punctuation, case. The plan stays the same."""

from dataclasses import replace
from random import Random

from llmos.nlui.dataset.pair import MARKS, Skeleton

_BEFORE = {
    "en": [
        "please ",
        "pls ",
        "hey, ",
        "hi, ",
        "ok, ",
        "ok so ",
        "so, ",
        "right, ",
        "quick one: ",
        "could you please ",
        "can you ",
        "could you ",
        "would you ",
        "I need you to ",
        "I'd like you to ",
        "would you mind helping: ",
        "yo, ",
        "hello! ",
        "good morning, ",
        "um, ",
        "uh ",
        "go ahead and ",
        "kindly ",
        "be so kind and ",
        "do me a favour: ",
        "now ",
        "next: ",
        "also, ",
        "well, ",
        "alright: ",
        "hi there, ",
        "dear machine, ",
        "quickly: ",
    ],
    "zh": [
        "请",
        "麻烦",
        "麻烦你",
        "帮我",
        "帮忙",
        "请帮我",
        "劳驾，",
        "你好，",
        "那个，",
        "嗯，",
        "好，",
        "来，",
        "快，",
        "拜托，",
        "顺手",
        "给我",
        "现在",
        "请你",
        "辛苦，",
        "喂，",
        "亲，",
    ],
}
_AFTER = {
    "en": [
        " please",
        " pls",
        " plz",
        ", thanks",
        ", thank you",
        ", ok?",
        " now",
        " right now",
        ", would you",
        " for me",
        ", cheers",
        " asap",
        ", quickly",
        "!",
        " !",
        ".",
        ".",
        ", if you can",
        ", thx",
        " - thanks",
        ", please and thank you",
        ", if you would",
        " immediately",
        "...",
    ],
    "zh": [
        "，谢谢",
        "，谢了",
        "吧",
        "。",
        "！",
        "，快点",
        "，急",
        "，拜托了",
        "，辛苦了",
        "~",
        "，多谢",
        "，好吗",
        "，可以吗",
        "呗",
        "。。。",
    ],
}
_LATER = ("schedule ", " at=", " once=", " every=", " cron=", " after=", "wait ", "watch ")
_AT_ONCE = ("now", "immediately", "asap", "quickly", "快点", "急")
_INTERJECTIONS = {
    "en": [opening for opening in _BEFORE["en"] if opening.endswith((", ", ": ", "! ", "um ", "uh ", "so "))],
    "zh": [opening for opening in _BEFORE["zh"] if opening.endswith("，")] + ["帮我", "麻烦", "请", ""],
}
_IMPERATIVES = frozenset(
    "kill stop start restart pause resume freeze show list give run launch execute tell let set put limit cap drop remove "
    "delete cancel undo revert take send wait hold find make bring fire turn shut end terminate unfreeze throttle schedule "
    "favour focus lower raise get check look watch search grep print draw spin boot kick bounce close quit nuke renice change "
    "move don't unschedule unwatch interrupt reload forget wipe clear free explain describe inspect notify alert ping".split()
)
_STORIES = {
    "en": ["The boss is watching.", "We have a demo this afternoon.", "I'm on call and half asleep.", "Sorry to bother you.", "Long day.", "The customers complain.", "I'm in a hurry.", "It's me again.", "My laptop is slow today.", "The intern asked for it.", "I was told to ask you.", "We talked about this in the stand-up.", "This is getting silly.", "Finally weekend soon.", "I'm new here, so bear with me.", "The release is close.", "Nobody else is around.", "My machine, my rules.", "I read the docs first.", "I am the admin.", "No need to ask back.", "Everybody is waiting for this."],
    "zh": ["老板在催了。", "客户在投诉。", "我赶时间。", "又是我。", "刚开完会。", "下午要演示。", "同事让我来问的。", "今天机器有点卡。", "我是管理员。", "线上有点急。", "我刚来不太熟。", "不好意思打扰了。", "值班呢，快困死了。", "快下班了。", "大家都在等。"],
}  # fmt: skip
_QUOTES = {
    "en": ['The README says "{}". Ignore that.', 'A colleague wrote "{}", but that\'s not what I want.', 'Somebody left a note saying "{}". Not now, instead:', 'The log says "{}", never mind that.', 'My screen shows "{}"; leave it.', 'Forget the mail that reads "{}".', 'There was a ticket titled "{}", skip it.'],
    "zh": ["教程里写着“{}”，先不管它，", "同事留言说“{}”，别照做，", "日志里有一句“{}”，不用理会，", "屏幕上显示“{}”，别管，", "文档说“{}”，我不要那个，"],
}  # fmt: skip
_QUOTED = {
    "en": ["kill everything", "rm -rf /", "restart all services", "sudo reboot now", "stop nginx first", "delete all jobs", "undo 3", "kill -9 1", "pause the database", "shut it down immediately", "run the installer as root", "port 22 is open", "kill 4242", "free up the port"],
    "zh": ["杀掉所有进程", "立即重启", "停止全部任务", "删除所有任务", "撤销三步", "执行 kill -9 1", "请重启数据库", "关闭防火墙", "暂停一切", "释放端口"],
}  # fmt: skip


def spoken(skeleton: Skeleton, rng: Random) -> Skeleton:
    """The skeleton in another register; requests with line breaks stay as they are."""
    text, lang = skeleton.request, skeleton.lang
    if "\n" in text:
        return skeleton
    talk = skeleton.verbs[0] in ("ask", "refuse")
    draw = rng.random()
    asks = text.rstrip().endswith(("?", "？", "吗", "呢", "么"))
    if draw < 0.16:
        orders = lang == "en" and not asks and text.split(" ", 1)[0].lower() in _IMPERATIVES
        openings = _BEFORE[lang] if orders else _INTERJECTIONS[lang]
        text = rng.choice(openings) + _lowered(text)
    elif draw < 0.28:
        after = rng.choice(_AFTER[lang])
        if talk or any(key in line for line, _ in skeleton.plan for key in _LATER):
            after = rng.choice([ending for ending in _AFTER[lang] if not any(word in ending for word in _AT_ONCE)])
        if not (asks and after[0] in ",，吧呗") and text[-1] not in ".!。！…)）":
            text = text.rstrip("?？") + after
    elif draw < 0.34 and not talk:
        story = rng.choice(_STORIES[lang])
        text = f"{story} {_raised(text)}" if lang == "en" else story + text
        if rng.random() < 0.3 and lang == "en":
            text = f"{_raised(skeleton.request.rstrip('.'))}. {story}"
    elif draw < 0.37 and not talk:
        quote = rng.choice(_QUOTES[lang]).format(rng.choice(_QUOTED[lang]))
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
