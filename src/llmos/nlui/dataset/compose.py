"""Requests put together from parts: `run` with any options in any order, watches, several requests in one, corrections."""

from collections.abc import Sequence
from dataclasses import replace
from random import Random

from llmos.nlui.dataset import template
from llmos.nlui.dataset.pair import Skeleton, mark, marks_of
from llmos.nlui.dataset.template import Phrasing, built, expanded
from llmos.nlui.dataset.wordlists import phrases

_ORDER = ("name", "cwd", "restart", "memory", "cpu", "gpu", "priority", "timeout", "when", "after", "on")
_OPTION_VALUES = {
    "name": "name={new}", "cwd": "cwd={dir}", "memory": "memory={size}", "cpu": "cpu={cores}", "gpu": "gpu={num}",
    "timeout": "timeout={dur}", "when": "{when}", "after": "after={job}", "on": "on={node}",
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
    command = rng.choice(phrases(f"{lang}_run_frames"))
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
    frame = rng.choice(phrases(f"{lang}_condition_frames"))
    if rng.random() < 0.3:
        return replace(said, request=frame.format(c=said.request, a=rng.choice(phrases(f"{lang}_notices"))))
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


def followed(head: Skeleton, acts: Sequence[Phrasing], rng: Random) -> Skeleton:
    """A request, and one or two more on what it found or started: by its name where it has one, else by reference."""
    names = "new" if head.verbs == ("run",) else "job"
    named = [at for at, slot in enumerate(head.slots) if slot.kind == names]
    it, whole = mark(named[0]) if named else "$1", head
    for phrasing in rng.sample(acts, rng.choice((1, 1, 1, 2))):
        act = template.skeleton(replace(phrasing, plan=phrasing.plan.replace("@", "{target#9}")), rng)
        at = next(at for at, slot in enumerate(act.slots) if slot.kind == "target")
        moved = act.shifted(len(whole.slots), 0)
        gone = mark(at + len(whole.slots))
        plan = tuple((text.replace(gone, it), then.replace(gone, it)) for text, then in moved.plan)
        request = rng.choice(phrases(f"{head.lang}_followups")).format(_open_ended(whole.request), moved.request)
        whole = replace(whole, request=request, plan=whole.plan + plan, slots=whole.slots + moved.slots)
    return whole


def joined(first: Skeleton, second: Skeleton, rng: Random) -> Skeleton:
    """Two requests in one."""
    more = second.shifted(len(first.slots), len(first.plan))
    frame = rng.choice(phrases(f"{first.lang}_joins"))
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
    fit = [
        at
        for at, slot in enumerate(skeleton.slots)
        if slot.kind in CORRECTABLE and not slot.form.startswith(("bare", "adj")) and at in used
        and marks_of(skeleton.request).count(at) == 1
    ]  # fmt: skip
    if not fit or "\n" in skeleton.request or skeleton.verbs[0] in ("ask", "refuse"):
        return None
    at = rng.choice(fit)
    wrong = mark(len(skeleton.slots))
    text = _open_ended(skeleton.request)
    named = [at for at in fit if skeleton.slots[at].kind in _SINGLE_NAMES]
    if named and rng.random() < 0.4:
        at = rng.choice(named)
        request = rng.choice(phrases(f"{skeleton.lang}_not_this")).format(r=text, o=wrong, n=mark(at))
    else:
        request = rng.choice(phrases(f"{skeleton.lang}_corrections")).format(
            r=text.replace(mark(at), wrong), o=wrong, n=mark(at)
        )
    return replace(skeleton, request=request, slots=(*skeleton.slots, skeleton.slots[at]))
