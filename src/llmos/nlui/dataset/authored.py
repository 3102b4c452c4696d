"""The authored pairs: read, mended, checked, and taken apart into skeletons so that each can be had with other values.

Each file of the folder is one author, a JSON object a line with `lang`, `request` and `plan`. `mends.tsv` beside them
corrects single labels: author, request, and the plan as it should be (lines joined by ` ¦ `, or `-` to drop the pair).
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path

from llmos.errors import BadInput
from llmos.nlui.dataset.draws import wordings
from llmos.nlui.dataset.pair import Line, Pair, Skeleton, Slot, mark
from llmos.nlui.dataset.quantity_phrases import part_of_day
from llmos.plan.language import argument_text, parse_line, parse_plan, print_line, print_plan, quote_value
from llmos.plan.values import LIFT
from llmos.syscalls import Argument, Kind, Risk, Syscall

FOLDER = Path(__file__).resolve().parents[4] / "data" / "nl" / "authored"
MENDS = "mends.tsv"
HELD_OUT = ("en_sre", "zh_pro")
"""Authors whose pairs and wordings are kept for measuring."""

_NEAR = r"[A-Za-z0-9_]"
_STICKY_WORDS = frozenset(
    [
        "limit",
        "watch",
        "kill",
        "stop",
        "start",
        "run",
        "pause",
        "resume",
        "logs",
        "log",
        "history",
        "wait",
        "focus",
        "port",
        "files",
        "tree",
        "system",
        "usage",
        "jobs",
        "job",
        "schedule",
        "undo",
        "show",
        "ask",
        "remove",
        "cpu",
        "memory",
        "disk",
        "gpu",
        "exit",
        "load",
        "all",
        "idle",
        "low",
        "high",
        "none",
        "process",
        "name",
        "backup",
        "build",
        "dump",
        "render",
        "train",
        "sync",
        "export",
        "import",
        "test",
        "deploy",
        "report",
        "download",
        "index",
        "mirror",
        "search",
        "feed",
        "render",
        "update",
        "monitor",
        "scan",
    ]
)
_ARTICLED = re.compile(
    r"\b(?:the|its|last|past|next|every|each|another|a|an|of|other|my|first|few)[ -]$", re.IGNORECASE
)
_DAY_PARTS = re.compile(
    r"morning|evening|night|noon|afternoon|lunch|dawn|dinner|bed|early|late|[ap]\.?m\b|[早晚夜午晨]", re.IGNORECASE
)
_NAME_KINDS = {Kind.TARGET: "target", Kind.JOB: "job", Kind.NEW_NAME: "new", Kind.PROCESS_NAME: "proc",
               Kind.USER: "user", Kind.NODE: "node", Kind.WATCH: "target"}  # fmt: skip
_QUANTITY_KINDS = {Kind.SIZE: "size", Kind.DURATION: "dur", Kind.TIME: "time", Kind.MOMENT: "dur", Kind.CORES: "cores",
                   Kind.COUNT: "num", Kind.THRESHOLD: "pct"}  # fmt: skip
_COUNTS = {"gpu": "1..8", "lines": "5..500"}


class AuthoredError(ValueError):
    """Raised when a file of authored pairs cannot be read, or holds what is no plan."""


def read_authored(folder: Path = FOLDER) -> Iterator[Pair]:
    """The pairs of every author in a folder, labels mended; raises `AuthoredError` naming file and line."""
    files = sorted(folder.glob("*.jsonl"))
    if not files:
        raise AuthoredError(f"there are no authored pairs in {folder}; give the folder that holds them")
    mends = _read_mends(folder / MENDS)
    for file in files:
        for number, text in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
            try:
                row = json.loads(text)
                lines = mends.get((file.stem, row["request"]), row["plan"])
                if lines:
                    yield Pair(row["request"], tuple(print_plan(parse_plan(lines))), row["lang"], file.stem)
            except (KeyError, TypeError, ValueError, BadInput) as error:
                raise AuthoredError(f"{file.name} line {number}: {error}") from None


def _read_mends(file: Path) -> dict[tuple[str, str], list[str]]:
    if not file.exists():
        return {}
    rows = [line.split("\t") for line in file.read_text(encoding="utf-8").splitlines() if line and line[0] != "#"]
    return {(author, request): [] if plan == "-" else plan.split(" ¦ ") for author, request, plan in rows}


def take_apart(pair: Pair) -> Skeleton:
    """The pair as a skeleton: what stands both in its plan and in its words becomes a slot."""
    return _TakingApart(pair).skeleton()


class _TakingApart:
    """Finds each value of the plan in the request, the longest first, and puts marks in both places."""

    def __init__(self, pair: Pair) -> None:
        self.pair = pair
        self.request = pair.request
        self.slots: list[Slot] = []
        self.values: dict[tuple[str, str], str] = {}

    def skeleton(self) -> Skeleton:
        calls = [parse_line(line) for line in self.pair.plan]
        then = [self._then(call) for call in calls]
        for call in sorted([*calls, *filter(None, then)], key=lambda call: call.verb != "run"):
            if call.risk is not Risk.TALK:
                for argument in sorted(call.given(), key=_order):
                    self._find(call, argument)
        plan: list[Line] = [(self._printed(call), self._printed(line) if line else "") for call, line in
                            zip(calls, then, strict=True)]  # fmt: skip
        return Skeleton(self.request, tuple(plan), tuple(self.slots), self.pair.lang, self.pair.source)

    def _then(self, call: Syscall) -> Syscall | None:
        for argument in call.given():
            if argument.kind is Kind.LINE:
                return parse_line(call.value(argument))
        return None

    def _printed(self, call: Syscall) -> str:
        words, argv = [call.verb], ""
        for argument in call.given():
            value = str(call.value(argument))
            if argument.kind is Kind.LINE:
                continue
            if argument.kind is Kind.ARGV:
                argv = " -- " + self.values.get(("argv", print_line(call).partition(" -- ")[2]),
                                                print_line(call).partition(" -- ")[2])  # fmt: skip
                continue
            marked = self.values.get((_group(argument, value), value))
            text = argument_text(argument, value)
            words.append(text.removesuffix(quote_value(value)) + marked if marked else text)
        return " ".join(words) + argv

    def _find(self, call: Syscall, argument: Argument) -> None:
        """Make a slot of one argument when its value stands in the request."""
        value = str(call.value(argument))
        key = (_group(argument, value), value)
        if key in self.values or (value.startswith("$") and argument.kind is not Kind.TEXT):
            return
        match argument.kind:
            case Kind.ARGV:
                printed = print_line(call).partition(" -- ")[2]
                if ("argv", printed) not in self.values:
                    self._argv(call.value(argument), printed)
            case _ if key[0] == "PATH":
                self._path(value, key)
            case kind if kind in _NAME_KINDS:
                self._name(_NAME_KINDS[kind], value, key)
            case Kind.PORT:
                self._literal(rf"(?<![\w.])(?<!\d-){value}(?![\w:%-]|\.\d)", Slot("port", "", value, value), key)
            case Kind.TEXT:
                self._text(value, key)
            case kind if kind in _QUANTITY_KINDS:
                self._quantity(argument, value, key)

    def _argv(self, argv: list[str], printed: str) -> None:
        words = " ".join(f"(?:{word}|\"{word}\"|'{word}')" for word in map(re.escape, argv))
        if len(argv) > 1 or len(argv[0]) > 4:
            self._literal(rf"(?<![^\s\"'`“「（(：:，,]){words}(?![^\s\"'`”」）),.，。；;：:?!？！…])", Slot("cmd"),
                          ("argv", printed))  # fmt: skip

    def _name(self, kind: str, value: str, key: tuple[str, str]) -> None:
        if value.isascii() and value.isdigit():
            if len(value) > 2:
                self._literal(rf"(?<![\w.:/-]){value}(?![\w:%/-]|\.\d)", Slot("pid", "", value, value), key)
            return
        if len(value) < 2 or value.lower() in _STICKY_WORDS:
            return
        near = rf"(?<!{_NEAR})(?<!{_NEAR}[./-])(?<![/~])" if value.isascii() else ""
        after = rf"(?!{_NEAR})(?![./-]{_NEAR})(?!/)" if value.isascii() else ""
        form = "named" if kind == "target" else ""
        self._literal(near + re.escape(value) + after, Slot(kind, form, value, value), key, many=True)

    def _path(self, value: str, key: tuple[str, str]) -> None:
        if len(value) < 4:
            return
        kind = "dir"
        if value.startswith("/dev/"):
            kind = "dev"
        elif value.startswith(("/mnt/", "/media/", "/run/media")):
            kind = "mount"
        elif re.search(r"/[^/]+\.\w+$", value):
            kind = "file"
        self._literal(rf"(?<![\w/.~]){re.escape(value)}(?![\w/-]|\.\w)", Slot(kind, "", value, value), key, many=True)

    def _text(self, value: str, key: tuple[str, str]) -> None:
        quoted = re.search(rf"[\"'“「`]{re.escape(value)}[\"'”」`]", self.request)
        if quoted:
            self._literal(re.escape(value), Slot("text", "quoted", value, value), key)
        elif re.fullmatch(r"[A-Z]\w+", value):
            self._literal(rf"(?<!\w){re.escape(value)}(?![A-Za-z0-9_])", Slot("text", "word", value, value), key)

    def _quantity(self, argument: Argument, value: str, key: tuple[str, str]) -> None:
        kind = _QUANTITY_KINDS[argument.kind]
        if argument.kind is Kind.MOMENT and ":" in value:
            kind = "time"
        if argument.kind is Kind.THRESHOLD and value[-1:].isalpha():
            kind = "size"
        if value == LIFT or (value == "1" and kind != "cores"):
            return
        if argument.name == "io":
            kind = "rate"
        offered = list(wordings(kind, value, self.pair.lang))
        if kind == "pct":
            offered += [(phrase, f"bare{form}") for phrase, form in wordings("num", value, self.pair.lang)]
        for phrase, form in sorted(offered, key=lambda wording: -len(wording[0])):
            if self._occurrences(self._bounded(phrase)) == 1:
                slot = self._slot(kind, form, phrase, value, argument)
                self._literal(self._bounded(phrase), slot, key)
                return

    def _bounded(self, phrase: str) -> str:
        left = rf"(?<!{_NEAR})(?<![$/.:-])" if phrase[0].isascii() else "(?<![零一二三四五六七八九十百千两半点第])"
        right = rf"(?!{_NEAR})(?![.:]\d)(?!-)" if phrase[-1].isascii() else "(?![零一二三四五六七八九十百千两半刻成])"
        if phrase[-1].isdigit():
            right += r"(?! ?(?:[:/%点]|[ap]\.?m\b))" if not phrase.endswith(("%",)) else ""
        return left + re.escape(phrase) + right

    def _slot(self, kind: str, form: str, phrase: str, value: str, argument: Argument) -> Slot:
        """The slot of a quantity: which wordings fit where this one stands."""
        before = self.request[: re.search(self._bounded(phrase), self.request).start()]  # type: ignore[union-attr]
        if kind == "num" or (form.startswith("bare") and kind == "pct"):
            spelled = form.removeprefix("bare") in ("num", "plain")
            span = _COUNTS.get(argument.name, "2..20") if kind == "num" else "5..98"
            forms = "num+plain" if form.endswith("plain") else "tight+num"
            return Slot("num", f"{forms if self.pair.lang == 'en' or not spelled else form.removeprefix('bare')}+{span}",
                        phrase, value)  # fmt: skip
        if kind == "time" and not form.startswith("bare"):
            part = part_of_day(int(value[:2]))
            around = self.request.replace(phrase, "")
            allowed = f"clock+in {part}" if _DAY_PARTS.search(around) else "num+clock"
        elif form in ("adj", "art") or form.startswith("bare"):
            allowed = form if form != "art" else "art+num"
        else:
            allowed = "tight+num" if _ARTICLED.search(before) or self.pair.lang == "zh" else "tight+num+art"
        return Slot(kind, allowed, phrase, value)

    def _occurrences(self, pattern: str) -> int:
        return len(re.findall(pattern, self.request))

    def _literal(self, pattern: str, slot: Slot, key: tuple[str, str], many: bool = False) -> None:
        """Put a mark for each occurrence; without `many` it must be the only one."""
        count = self._occurrences(pattern)
        if count == 0 or (count > 1 and not many):
            return
        found = mark(len(self.slots))
        self.request = re.sub(pattern, found, self.request)
        self.slots.append(slot)
        self.values[key] = found


def _group(argument: Argument, value: str) -> str:
    """Values of one group that are equal are one slot: a name is the same whatever it is named for."""
    if argument.kind is Kind.PATH or (argument.kind in _NAME_KINDS and value.startswith(("/", "~"))):
        return "PATH"
    if argument.kind in _NAME_KINDS:
        return "name"
    return argument.kind.name if argument.kind is not Kind.COUNT else f"COUNT {argument.name}"


def _order(argument: Argument) -> int:
    last = (Kind.THRESHOLD, Kind.COUNT)  # bare numbers, which may also be the head of "2 days"
    kinds = (Kind.ARGV, Kind.TEXT, Kind.PATH)
    return kinds.index(argument.kind) if argument.kind in kinds else len(kinds) + (argument.kind in last)
