"""The training data: reproducible, valid, reachable, apart from what is measured, and true to the words."""

import json
from collections import Counter
from pathlib import Path
from random import Random

import pytest

from llmos.nlui.dataset import __main__ as command
from llmos.nlui.dataset import authored, compose, draws, quantity_phrases, register, template
from llmos.nlui.dataset.authored import AuthoredError, read_authored, take_apart
from llmos.nlui.dataset.commands import Commands
from llmos.nlui.dataset.generate import generate
from llmos.nlui.dataset.pair import Pair, Slot, filled, fingerprint, normalised
from llmos.nlui.dataset.typos import mistyped
from llmos.nlui.grammar import reachable
from llmos.nlui.quantities import candidates
from llmos.plan.language import parse_plan, print_plan
from llmos.syscalls import SYSCALLS, Kind

DEV_HASHES = Path(__file__).parents[1] / "data" / "dev_hashes.txt"
SIZE = 12_000


@pytest.fixture(scope="module")
def train() -> list[Pair]:
    return list(generate(7, SIZE))


@pytest.fixture(scope="module")
def heldout() -> list[Pair]:
    return list(generate(7, 1500, split="heldout"))


def test_same_seed_gives_the_same_data() -> None:
    assert list(generate(3, 300)) == list(generate(3, 300))
    assert list(generate(3, 300)) != list(generate(4, 300))


def test_no_request_comes_twice(train: list[Pair]) -> None:
    assert len(train) == SIZE
    assert len({normalised(pair.request) for pair in train}) == SIZE


def test_no_request_of_the_dev_set_is_made(train: list[Pair], heldout: list[Pair]) -> None:
    reserved = set(DEV_HASHES.read_text().split())
    assert len(reserved) == 160
    assert reserved.isdisjoint(fingerprint(pair.request) for pair in train + heldout)
    assert reserved.isdisjoint(fingerprint(pair.request) for pair in generate(1, 8000, split="all"))


def test_plans_are_canonical(train: list[Pair]) -> None:
    for pair in train[:3000]:
        assert print_plan(parse_plan(pair.plan)) == list(pair.plan)


def test_nearly_every_plan_can_be_reached(train: list[Pair]) -> None:
    sample = Random(1).sample(train, 400)
    unreached = [pair for pair in sample if not reachable(pair.plan, pair.request)]
    assert len(unreached) <= 8, unreached


def test_every_verb_and_option_is_there_in_both_languages(train: list[Pair]) -> None:
    for lang in ("en", "zh"):
        seen: Counter[tuple[str, str, str]] = Counter()
        for pair in train:
            if pair.lang == lang:
                for call in parse_plan(pair.plan):
                    for argument in call.given():
                        choice = str(call.value(argument)) if argument.kind is Kind.CHOICE else ""
                        seen[call.verb, argument.name, choice] += 1
                    seen[call.verb, "", ""] += 1
        for verb, syscall in SYSCALLS.items():
            assert seen[verb, "", ""] >= 10, (lang, verb)
            for name, argument in syscall.arguments.items():
                wanted = [choice for choice in argument.choices if choice != argument.default] or [""]
                assert all(seen[verb, name, choice] for choice in wanted), (lang, verb, name)


def test_compounds_and_talk_are_there(train: list[Pair]) -> None:
    lines = Counter(len(pair.plan) for pair in train)
    assert all(lines[count] > 50 for count in (1, 2, 3, 4))
    assert sum("then=" in line for pair in train for line in pair.plan) > 500
    verbs = Counter(verb for pair in train for verb in pair.verbs)
    assert verbs["ask"] > 300 and verbs["refuse"] > 300


def test_held_out_wordings_are_not_trained_on(train: list[Pair], heldout: list[Pair]) -> None:
    sources = {source for pair in train for source in pair.source.split("+")}
    assert sources.isdisjoint(authored.HELD_OUT)
    assert {source for pair in heldout for source in pair.source.split("+")} == {
        *authored.HELD_OUT,
        "grammar_en",
        "grammar_zh",
    }
    both = {normalised(pair.request) for pair in train} & {normalised(pair.request) for pair in heldout}
    assert len(both) < 0.02 * len(heldout)  # the shortest requests are everybody's words


@pytest.mark.parametrize(
    ("request_", "plan", "slots"),
    [
        ("kill 4021 please", ["kill 4021"], ["pid"]),
        ("limit api to 2 gigs and half a core", ["limit api memory=2G cpu=0.5"], ["size", "cores", "target"]),
        ("limit the limit job to 2 GB", ["limit limit memory=2G"], ["size"]),
        ("stop web in ninety seconds at most", ["stop web timeout=90s"], ["dur", "target"]),
        ("run make -j8 in /srv/app as build", ["run name=build cwd=/srv/app -- make -j8"], ["cmd", "dir"]),
        ("run make -j8 in /srv/app as crust", ["run name=crust cwd=/srv/app -- make -j8"], ["cmd", "dir", "new"]),
        ("tail 50 lines of web", ["logs web lines=50"], ["num", "job"]),
        ("用两张卡跑 ./fit.sh，跑满两天就停", ["run gpu=2 timeout=2d -- ./fit.sh"], ["cmd", "dur", "num"]),
        ("把 nginx 停了", ["stop nginx"], ["target"]),
    ],
)
def test_taking_apart(request_: str, plan: list[str], slots: list[str]) -> None:
    lang = "zh" if any(ord(letter) > 0x3000 for letter in request_) else "en"
    skeleton = take_apart(Pair(request_, tuple(plan), lang, "test"))
    assert sorted("target" if slot.kind == "job" else slot.kind for slot in skeleton.slots) == sorted(
        "target" if kind == "job" else kind for kind in slots
    )


def test_a_skeleton_filled_with_what_stood_there_is_the_pair() -> None:
    for pair in list(read_authored())[::25]:
        skeleton = take_apart(pair)
        original = draws.Draws(Random(1), Commands())
        if all(slot.value for slot in skeleton.slots):
            values = [(slot.phrase, original_value(slot)) for slot in skeleton.slots]
            assert filled(skeleton, values).plan == pair.plan
            assert filled(skeleton, values).request == pair.request
        assert filled(skeleton, original.all(skeleton.slots, pair.lang)).verbs == pair.verbs


def original_value(slot: Slot) -> str:
    return json.dumps(slot.value, ensure_ascii=False) if " " in slot.value else slot.value


@pytest.mark.parametrize("lang", ["en", "zh"])
@pytest.mark.parametrize(
    ("kind", "values", "group"),
    [
        ("size", ["512M", "1536M", "2G", "48G", "300M", "1T"], "sizes"),
        ("dur", ["30s", "90s", "1m", "15m", "45m", "90m", "2h", "150m", "1d", "7d"], "durations"),
        ("time", ["00:00", "02:30", "07:45", "09:00", "12:00", "18:45", "21:15", "23:40"], "times"),
        ("pct", ["5", "20", "85", "90", "92"], "numbers"),
        ("num", ["2", "3", "12", "40", "200"], "numbers"),
        ("cores", ["0.5", "1", "1.5", "2", "2.5", "16"], "numbers"),
    ],
)
def test_every_wording_reads_as_its_value(kind: str, values: list[str], group: str, lang: str) -> None:
    frame = "take {} for it" if lang == "en" else "给它{}的"
    for value in values:
        for phrase, _ in draws.wordings(kind, value, lang):
            assert value in getattr(candidates(frame.format(phrase)), group), (phrase, value)


def test_numbers_in_words() -> None:
    assert [quantity_phrases.words_en(number) for number in (0, 21, 105, 1200)] == [
        "zero", "twenty-one", "one hundred and five", "one thousand two hundred"
    ]  # fmt: skip
    assert [quantity_phrases.words_zh(number) for number in (2, 10, 25, 105, 110, 200)] == [
        "二", "十", "二十五", "一百零五", "一百一十", "两百"
    ]  # fmt: skip
    assert quantity_phrases.words_zh(2, measure=True) == "两"


def test_compounds_move_references() -> None:
    first = template.built("free port {port}", "port {port} ¦ kill $1", "en", "test")
    second = template.built("restart failed jobs", "jobs state=failed ¦ restart $1", "en", "test")
    whole = compose.joined(first, second, Random(2))
    pair = filled(whole, [("80", "80")])
    assert pair.plan == ("port 80", "kill $1", "jobs state=failed", "restart $3")


def test_argv_keeps_its_dollar_signs_in_a_compound() -> None:
    first = template.built("show watches", "watches", "en", "test")
    second = template.built("run it", "run -- awk '$1' ¦ wait $1", "en", "test")
    assert filled(compose.joined(first, second, Random(2)), []).plan == ("watches", "run -- awk '$1'", "wait $2")


def test_a_correction_takes_the_last_word() -> None:
    skeleton = template.built("kill {pid}", "kill {pid}", "en", "test")
    for seed in range(30):
        corrected = compose.corrected(skeleton, Random(seed))
        assert corrected is not None
        pair = filled(corrected, [("4012", "4012"), ("4021", "4021")])
        assert pair.plan == ("kill 4012",)
        assert "4021" in pair.request and "4012" in pair.request


def test_typos_spare_quotes_numbers_and_names() -> None:
    text = 'please restart my-job when it says "deadlock detected" for twenty minutes'
    for seed in range(40):
        slipped = mistyped(text, "en", Random(seed))
        assert all(kept in slipped for kept in ("my-job", '"deadlock detected"', "twenty minutes"))
    assert any(mistyped(text, "en", Random(seed)) != text for seed in range(5))
    assert all("restart" in mistyped(text, "en", Random(seed), frozenset({"restart"})) for seed in range(40))
    assert mistyped("把进程停掉", "zh", Random(1)) != "把进程停掉"


def test_register_keeps_the_plan_and_the_slots() -> None:
    skeleton = template.built("stop {job}", "stop {job}", "en", "test")
    spoken = {register.spoken(skeleton, Random(seed)).request for seed in range(200)}
    assert len(spoken) > 30
    assert all("\ue000" in request for request in spoken)


def test_alternations() -> None:
    assert {template.expanded("(a|b|) c", Random(seed)) for seed in range(40)} == {"a c", "b c", "c"}
    phrasings = template.read_grammar("!start {job}\n    start {job}\nps\n    list all\n", "en")
    assert [(phrasing.plan, phrasing.command) for phrasing in phrasings] == [("start {job}", True), ("ps", False)]


def test_authored_pairs_that_cannot_be_read_name_file_and_line(tmp_path: Path) -> None:
    with pytest.raises(AuthoredError, match="no authored pairs"):
        list(read_authored(tmp_path))
    (tmp_path / "me.jsonl").write_text('{"lang": "en", "request": "x", "plan": ["frobnicate"]}\n')
    with pytest.raises(AuthoredError, match=r"me\.jsonl line 1"):
        list(read_authored(tmp_path))


def test_mends_correct_and_drop(tmp_path: Path) -> None:
    rows = [{"lang": "en", "request": f"list {name}", "plan": ["ps"]} for name in ("a", "b", "c")]
    (tmp_path / "me.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "mends.tsv").write_text("# why\nme\tlist a\tjobs ¦ watches\nme\tlist b\t-\n")
    assert [(pair.request, pair.plan) for pair in read_authored(tmp_path)] == [
        ("list a", ("jobs", "watches")),
        ("list c", ("ps",)),
    ]


def test_commands_from_outside(tmp_path: Path) -> None:
    plain, rows = tmp_path / "commands.txt", tmp_path / "more.jsonl"
    plain.write_text("frob --all x\nbad | pipe\n")
    rows.write_text(json.dumps({"bash": "glorp {{path/to file}} -v"}) + "\n")
    assert command.read_commands(rows) == ["glorp path/to_file -v"]
    pool = Commands((*command.read_commands(plain), *command.read_commands(rows)))
    drawn = {pool.draw(Random(seed)) for seed in range(100)}
    assert {"frob --all x", "glorp path/to_file -v"} <= drawn
    assert "bad | pipe" not in drawn


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    out, kept = tmp_path / "train.jsonl", tmp_path / "heldout.jsonl"
    monkeypatch.setattr(
        "sys.argv", ["dataset", "--size", "60", "--out", str(out), "--heldout", str(kept), "--check", "--quiet"]
    )
    assert command.main() == 0
    rows = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert len(rows) == 60 and len(kept.read_text(encoding="utf-8").splitlines()) == 3
    assert set(rows[0]) == {"request", "plan", "lang", "source", "verbs"}
    assert all(reachable(row["plan"], row["request"]) for row in rows)
    assert not {row["request"] for row in rows} & {
        json.loads(line)["request"] for line in kept.read_text(encoding="utf-8").splitlines()
    }
    assert "language" in capsys.readouterr().out


def test_command_line_says_what_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["dataset", "--out", str(tmp_path / "x"), "--authored", str(tmp_path)])
    assert command.main() == 1
    assert "no authored pairs" in capsys.readouterr().err
