"""Requests put together from parts: `run` with any options in any order, watches, several requests in one, corrections."""

from collections.abc import Sequence
from dataclasses import replace
from random import Random

from llmos.nlui.dataset import template
from llmos.nlui.dataset.pair import Skeleton, mark, marks_of
from llmos.nlui.dataset.template import Phrasing, built, expanded

_ORDER = ("name", "cwd", "restart", "memory", "cpu", "gpu", "priority", "timeout", "when", "after", "on")
_OPTION_VALUES = {
    "name": "name={new}", "cwd": "cwd={dir}", "memory": "memory={size}", "cpu": "cpu={cores}", "gpu": "gpu={num}",
    "timeout": "timeout={dur}", "when": "{when}", "after": "after={job}", "on": "on={node}",
}  # fmt: skip
_RUN = {
    "en": "run {cmd}|start {cmd}|launch {cmd}|execute {cmd}|{cmd}|kick off {cmd}|fire up {cmd}|spin up {cmd}|get {cmd} going|"
          "I want {cmd} to run|have {cmd} run|I need {cmd} running|do a {cmd}|set up a job that runs {cmd}|please run {cmd}|"
          "can you run `{cmd}`|run `{cmd}`|go ahead with {cmd}|let {cmd} run|put {cmd} to work|set {cmd} off|bring up {cmd}|"
          "create a job for {cmd}|command: {cmd}|run this: {cmd}|start up {cmd}|begin {cmd}|make {cmd} run",
    "zh": "跑 {cmd}|运行 {cmd}|执行 {cmd}|启动 {cmd}|起一个 {cmd}|跑一下 {cmd}|把 {cmd} 跑起来|帮我跑 {cmd}|{cmd} 跑一下|{cmd}|"
          "执行一下 {cmd}|开一个 {cmd}|用 {cmd} 起个任务|新建任务跑 {cmd}|把 {cmd} 挂后台跑|起个 {cmd}|来一个 {cmd}|跑下这个：{cmd}|"
          "后台执行 {cmd}|拉起 {cmd}|我要跑 {cmd}|运行 `{cmd}`",
}  # fmt: skip
_CONDITIONS = {
    "en": ("if {c}, {a}", "when {c}, {a}", "once {c}, {a}", "whenever {c}, {a}", "as soon as {c}, {a}", "{a} if {c}",
           "{a} when {c}", "{a} as soon as {c}", "{a} once {c}", "in case {c}, {a}", "the moment {c}, {a}", "{c} => {a}",
           "{a} whenever {c}", "{c}? {a}", "watch out: if {c}, {a}", "I want you to {a} when {c}", "from now on, when {c}, {a}",
           "each time {c}, {a}", "{c}: {a}", "if at some point {c}, please {a}"),
    "zh": ("如果{c}，就{a}", "当{c}时，{a}", "{c}就{a}", "一旦{c}，{a}", "只要{c}就{a}", "要是{c}，{a}", "{c}的话{a}", "{c}，{a}",
           "{c}的时候{a}", "等{c}，就{a}", "若{c}，则{a}", "万一{c}，{a}", "{c}时{a}", "什么时候{c}了，{a}", "盯着点，{c}就{a}"),
}  # fmt: skip
_NOTICES = {
    "en": ["tell me", "let me know", "notify me", "alert me", "ping me", "warn me", "shout", "message me", "give me a shout", "I want to know", "send me a notification", "raise an alarm", "inform me", "give me a heads-up", "flag it", "holler", "wake me"],
    "zh": ["告诉我", "通知我", "提醒我", "叫我", "喊我一声", "报警", "告警", "给我发个通知", "说一声", "提醒我一下", "告诉我一声", "跟我说"],
}  # fmt: skip
_JOINS = {
    "en": ("{0} and {1}", "{0}, then {1}", "{0} and then {1}", "first {0}, then {1}", "{0}. Then {1}", "{0}; {1}", "{0}, {1}",
           "{0}. Also {1}", "{0} and also {1}", "{0}. After that {1}", "{0} & {1}", "1) {0} 2) {1}", "{0} plus {1}", "{0}\n{1}",
           "two things: {0}, and {1}", "{0}, and while you're at it {1}", "- {0}\n- {1}"),
    "zh": ("{0}，然后{1}", "先{0}，再{1}", "{0}，再{1}", "{0}，{1}", "{0}，顺便{1}", "{0}；{1}", "{0}，接着{1}", "{0}，同时{1}",
           "{0}。另外{1}", "{0}，之后{1}", "{0}\n{1}", "1. {0} 2. {1}", "两件事：{0}，{1}", "{0}，还有{1}"),
}  # fmt: skip
_CORRECTIONS = {
    "en": ("{r}, no, {n}", "{r}... no wait, {n}", "{r}. Sorry, I meant {n}", "{r}, I mean {n}", "{r}, scratch that, {n}",
           "{r} - make that {n}", "{r}. Correction: {n}", "{r}, er, {n}", "{r}, not {o} but {n}, sorry", "{r}. No, not {o}, {n}",
           "{r}. Oops, wrong one: {n}", "{r} (typo, {n})", "{r}, hang on, it's {n}", "{r}. Hmm, rather {n}",
           "{r}, well actually {n}", "{r}; sorry, {n} it is, not {o}", "{r}. Wait: {n} instead of {o}", "{r}, oh no, {n}"),
    "zh": ("{r}，不对，{n}", "{r}，说错了，是 {n}", "{r}，哦不，{n}", "{r}，不是 {o}，是 {n}", "{r}……等等，应该是 {n}", "{r}，打错了，{n}",
           "{r}，更正：{n}", "{r}，不不，改成 {n}", "{r}，口误，{n}", "{r}。搞错了，是 {n} 不是 {o}", "{r}，还是 {n} 吧", "{r}，啊不对，我说的是 {n}"),
}  # fmt: skip
_NOT_THIS = {
    "en": ("not {o}, {n}: {r}", "{r}, not {o}", "leave {o} alone, but {r}", "{r} (not {o}!)", "{r} and don't touch {o}",
           "don't touch {o}, only {r}", "{r}, but keep your hands off {o}", "{r}. {o} stays as it is", "it's not about {o}: {r}"),
    "zh": ("{r}，不是 {o}", "别动 {o}，{r}", "{r}，不要碰 {o}", "{r}，{o} 不用管", "不是 {o}，{r}", "{o} 先留着，{r}"),
}  # fmt: skip
CORRECTABLE = ("job", "proc", "target", "pid", "port", "size", "num", "pct", "rate", "user", "new", "dur", "time", "dir", "cmd",
               "mount", "node")  # fmt: skip
_SINGLE_NAMES = ("job", "target", "proc", "pid")


def run(rng: Random, lang: str, options: Sequence[Phrasing]) -> Skeleton:
    """A `run` with up to five options, each said its own way, in any order."""
    chosen = rng.sample(_ORDER, rng.choice((0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 4, 5)))
    if "when" in chosen and "after" in chosen:
        chosen.remove("after")
    style = rng.choice(("clause", "clause", "sentence", "terse"))
    said: list[tuple[str, Phrasing]] = []
    for option in chosen:
        found = [phrasing for phrasing in options if phrasing.plan.partition("=")[0].split()[0] == option]
        like = [phrasing for phrasing in found if style in phrasing.plan.split()] or found
        weights = [2 if rng.random() < 0.8 or "=" not in phrasing.plan else 1 for phrasing in like]
        said.append((option, rng.choices(like, weights)[0]))
    values = {option: phrasing.plan.split()[0] if "=" in phrasing.plan else _OPTION_VALUES[option]
              for option, phrasing in said}  # fmt: skip
    plan = " ".join(["run", *(values[option] for option in _ORDER if option in values), "-- {cmd}"])
    command = rng.choice(_RUN[lang].split("|"))
    request = _arranged(
        command, [(phrasing, expanded(phrasing.request, rng)) for _, phrasing in said], style, lang, rng
    )
    return built(request, plan, lang, f"grammar_{lang}")


def _arranged(command: str, said: list[tuple[Phrasing, str]], style: str, lang: str, rng: Random) -> str:
    """The command and what is said about it, some of it in front."""
    clauses = [text for phrasing, text in said if "clause" in phrasing.plan.split()]
    rest = [text for phrasing, text in said if "clause" not in phrasing.plan.split()]
    front = [clauses.pop()] if clauses and rng.random() < 0.3 else []
    if lang == "zh":
        if rest and rng.random() < 0.2:
            front.append(rest.pop())
        lead = "".join(f"{text}{rng.choice((' ', '，'))}" for text in [*clauses, *front])
        joint = rng.choice(("，", "，", " ", "；")) if style == "terse" else "，"
        return joint.join([lead + command, *rest])
    if style == "terse":
        parts = [command, *clauses, *rest]
        if rng.random() < 0.15:
            parts = [*clauses, *rest, command.removeprefix("command: ")]
        return rng.choice((", ", ", ", "; ", " ; ", " | ")).join([*front, *parts])
    text = command
    for clause in clauses:
        text += rng.choice((" ", " ", ", ")) + clause
    if front:
        text = f"{front[0]}{rng.choice((', ', ', ', ': ', ' '))}{text}"
    if rest and rng.random() < 0.15:
        return " ".join(
            [rest[0], text[0].upper() + text[1:] if text[0].islower() and text[:1] != "{" else text, *rest[1:]]
        )
    return text + rng.choice((". ", ". ", ", ", "; ", " - ")) + " ".join(rest) if rest else text


def watch(rng: Random, lang: str, conditions: Sequence[Phrasing], commands: Sequence[Phrasing]) -> Skeleton:
    """A condition, and what happens then: a command of one line, or that the person is told."""
    condition = rng.choice(conditions)
    said = built(expanded(condition.request, rng), f"watch {condition.plan}", lang, f"grammar_{lang}")
    frame = rng.choice(_CONDITIONS[lang])
    if rng.random() < 0.3:
        return replace(said, request=frame.format(c=said.request, a=rng.choice(_NOTICES[lang])))
    then = template.skeleton(rng.choice(commands), rng).shifted(len(said.slots), 0)
    ((line, _),), ((action, _),) = said.plan, then.plan
    slots = (*said.slots, *then.slots)
    text = then.request
    named = [at for at, slot in enumerate(said.slots) if slot.kind in ("target", "job")]
    acted = [at + len(said.slots) for at, slot in enumerate(then.slots) if slot.kind in ("target", "job")]
    if named and acted and rng.random() < 0.45 and "exit" not in condition.plan:
        text = text.replace(
            mark(acted[0]),
            rng.choice(("it", "it", mark(named[0]))) if lang == "en" else rng.choice(("它", mark(named[0]))),
        )
        action = action.replace(mark(acted[0]), mark(named[0]))
    return replace(said, request=frame.format(c=said.request, a=text), plan=((line, action),), slots=slots)


def joined(first: Skeleton, second: Skeleton, rng: Random) -> Skeleton:
    """Two requests in one."""
    more = second.shifted(len(first.slots), len(first.plan))
    frame = rng.choice(_JOINS[first.lang])
    texts = [_open_ended(first.request), _open_ended(more.request)]
    if not frame.startswith(("- ", "{0}\n", "1")):
        texts[1] = _small(texts[1])
    source = first.source if first.source == second.source else f"{first.source}+{second.source}"
    return Skeleton(frame.format(*texts), first.plan + more.plan, first.slots + more.slots, first.lang, source)


def _open_ended(text: str) -> str:
    return text.rstrip(" .!。！")


def _small(text: str) -> str:
    first = text.split(" ", 1)[0]
    return text[0].lower() + text[1:] if first[:1].isupper() and first[1:].islower() else text


def corrected(skeleton: Skeleton, rng: Random) -> Skeleton | None:
    """The request with a slip in one slot that is put right at once; None where nothing can be put right."""
    used = marks_of("".join(text + then for text, then in skeleton.plan))
    fit = [at for at, slot in enumerate(skeleton.slots)
           if slot.kind in CORRECTABLE and not slot.form.startswith(("bare", "adj")) and at in used and marks_of(skeleton.request).count(at) == 1]  # fmt: skip
    if not fit or "\n" in skeleton.request or skeleton.verbs[0] in ("ask", "refuse"):
        return None
    at = rng.choice(fit)
    wrong = mark(len(skeleton.slots))
    text = _open_ended(skeleton.request)
    named = [at for at in fit if skeleton.slots[at].kind in _SINGLE_NAMES]
    if named and rng.random() < 0.4:
        at = rng.choice(named)
        request = rng.choice(_NOT_THIS[skeleton.lang]).format(r=text, o=wrong, n=mark(at))
    else:
        request = rng.choice(_CORRECTIONS[skeleton.lang]).format(r=text.replace(mark(at), wrong), o=wrong, n=mark(at))
    return replace(skeleton, request=request, slots=(*skeleton.slots, skeleton.slots[at]))
