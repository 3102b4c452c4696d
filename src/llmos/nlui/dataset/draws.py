"""What may fill a slot: for each kind a fresh (phrase, printed value), in the forms that the words around it allow."""

from collections.abc import Callable, Sequence
from random import Random

from llmos.nlui.dataset import pools, quantity_phrases, timing
from llmos.nlui.dataset.commands import Commands, words_of
from llmos.nlui.dataset.pair import Slot
from llmos.nlui.dataset.wordlists import words
from llmos.plan.language import quote_value, quote_word

Filling = tuple[str, str]
"""A phrase for the request and the value as the plan prints it."""

NAMES = ("job", "proc", "target", "new", "user", "node")
_WORDINGS: dict[str, Callable[[str, str], Sequence[quantity_phrases.Wording]]] = {
    "size": quantity_phrases.size, "rate": quantity_phrases.size, "dur": quantity_phrases.duration,
    "pct": quantity_phrases.percent, "num": quantity_phrases.number, "cores": quantity_phrases.cores,
    "time": quantity_phrases.time,
}  # fmt: skip


def wordings(kind: str, value: str, lang: str) -> Sequence[quantity_phrases.Wording]:
    """Every wording of a value of a kind; none where the kind has no wordings."""
    if kind not in _WORDINGS or (kind in ("pct", "num") and not (value.isdigit() and 0 < int(value) < 10_000)):
        return ()
    if kind == "cores" and float(value) > 128:
        return ()
    return _WORDINGS[kind](value, lang)


class Draws:
    """Draws fillings; one object a data set, for it holds the pool of commands."""

    def __init__(self, rng: Random, commands: Commands) -> None:
        self.rng = rng
        self._commands = commands

    def all(self, slots: Sequence[Slot], lang: str) -> list[Filling]:
        """A filling for each slot; no two of the same kind are alike."""
        fillings: list[Filling] = []
        for slot in slots:
            for _ in range(20):
                filling = self.one(slot, lang)
                if filling[1] not in {value for _, value in fillings}:
                    break
            fillings.append(filling)
        return fillings

    def one(self, slot: Slot, lang: str) -> Filling:
        """A filling of one slot."""
        rng, kind = self.rng, slot.kind
        if kind in _WORDINGS:
            return self._quantity(slot, lang)
        match kind:
            case "job" | "new":
                return _named(pools.job_name(rng, lang))
            case "proc":
                return _named(pools.process_name(rng))
            case "target":
                if not slot.form and rng.random() < 0.2:
                    return _same(_pid(rng))
                return _named(pools.job_name(rng, lang) if rng.random() < 0.5 else pools.process_name(rng))
            case "user":
                return _same(pools.user(rng))
            case "node":
                return _same(pools.node(rng))
            case "pid":
                return _same(_pid(rng))
            case "port":
                usual = (80, 443, 22, 53, 3000, 5000, 5173, 5432, 3306, 6379, 8000, 8080, 8443, 8888, 9000, 9090, 9200)
                return _same(str(rng.choice(usual) if rng.random() < 0.35 else rng.randint(1000, 65000)))
            case "dir":
                return _path(pools.folder(rng))
            case "file":
                return _path(pools.file(rng))
            case "mount":
                return _path(pools.mount(rng))
            case "dev":
                return _path(pools.device(rng))
            case "path":
                return _path(rng.choice((pools.folder, pools.file, pools.mount, pools.device))(rng))
            case "text":
                return self._text(slot.form, lang)
            case "cmd":
                return self._command(slot.form)
            case "when":
                return timing.draw(slot.form, lang, rng)
        raise ValueError(f"no such kind of slot: {kind}")

    def _quantity(self, slot: Slot, lang: str) -> Filling:
        """A wording of a fresh value, in one of the forms that the slot allows (any but `adj` and `bare` when open)."""
        allowed = slot.form.split("+") if slot.form else ["tight", "num", "art", "clock"]
        for _ in range(40):
            value = self._value(slot.kind, allowed)
            found = [phrase for phrase, form in wordings(slot.kind, value, lang) if form in allowed]
            if found:
                return self.rng.choice(found), value
        return slot.phrase, slot.value

    def _value(self, kind: str, allowed: Sequence[str]) -> str:
        rng = self.rng
        match kind:
            case "size":
                if "art" in allowed and rng.random() < 0.1:
                    return rng.choice(("512M", "1536M", "100M", "2560M"))
                small = rng.choice(
                    (64, 100, 128, 200, 250, 256, 300, 400, 500, 512, 600, 700, 750, 768, 800, 900, 1536)
                )
                large = rng.choice(
                    (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 18, 20, 24, 28, 32, 40, 48, 60, 64, 80, 96, 128)
                )
                return f"{small}M" if rng.random() < 0.35 else f"{large}G"
            case "rate":
                return f"{rng.choice((1, 2, 3, 4, 5, 8, 10, 12, 15, 20, 25, 30, 40, 50, 60, 80, 100, 150, 200, 300))}M"
            case "dur":
                return rng.choice(words("durations"))
            case "pct":
                return str(rng.choice((*range(5, 100, 5), *range(70, 100), 2, 3, 8, 12, 18)))
            case "cores":
                return rng.choice(
                    ("0.5", "0.25", "1", "1.5", "2", "2", "2.5", "3", "4", "4", "5", "6", "8", "10", "12", "16")
                )
            case "time":
                bare = [form.split(" ")[1] for form in allowed if " " in form]
                hours = [hour for hour in range(24) if not bare or quantity_phrases.part_of_day(hour) in bare]
                minute = rng.choice((0, 0, 0, 15, 30, 30, 45, rng.randrange(0, 60, 5), rng.randrange(60)))
                return f"{rng.choice(hours):02d}:{minute:02d}"
        ranges = [form for form in allowed if ".." in form]
        low, high = map(int, ranges[0].split("..")) if ranges else (2, 20)
        if high > 40 and rng.random() < 0.6:
            return str(rng.randrange(max(low, 5) // 5 * 5, high, 5) or 5)
        return str(rng.randint(low, high))

    def _text(self, form: str, lang: str) -> Filling:
        """A log text; the form says whether one word, or in quotes already."""
        rng = self.rng
        text = pools.log_text(rng, lang, word=form == "word")
        if form == "word":
            return _same(text)
        if form == "quoted":
            return text, quote_value(text)
        opening, closing = rng.choice(('""', "''", '""', "“”", "''") if lang == "en" else ('""', "“”", "「」", "''"))
        if "'" in text or (" " not in text and text.isascii() and rng.random() < 0.4):
            opening, closing = ('"', '"') if "'" in text else ("", "")
        return opening + text + closing, quote_value(text)

    def _command(self, form: str) -> Filling:
        for _ in range(10):
            typed = self._commands.draw(self.rng)
            if form != "short" or len(typed) < 30:
                break
        return typed, " ".join(map(quote_word, words_of(typed)))


def _pid(rng: Random) -> str:
    return str(rng.randint(*rng.choice(((100, 999), (1000, 9999), (1000, 9999), (10000, 65000), (100000, 4000000)))))


def _same(word: str) -> Filling:
    return word, word


def _named(name: str) -> Filling:
    return name, quote_value(name)


def _path(path: str) -> Filling:
    return path, quote_value(path)
