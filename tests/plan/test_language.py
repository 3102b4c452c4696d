"""The plan language: every plan prints and parses back exactly, and what is no plan says so and why."""

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from llmos.errors import BadInput, PlanSyntaxError
from llmos.plan.language import (
    MAX_CHARACTERS,
    MAX_PLAN_LINES,
    from_json,
    parse_line,
    parse_plan,
    plan_from_wire,
    print_line,
    print_plan,
)
from llmos.syscalls import SYSCALLS, Argument, Kind, Risk, Syscall

HOSTILE = [
    "--", "-- ps", "a -- b", "=", "a=b", 'say "hi"', "it's", "back\\slash", "\\", "'", '"', "$1x", "`id`", "$(id)",
    "#no", "新 名字", "\u2028", "\u00a0", "\x85", "a\tb", "a\nb", "a\r\nb", " lead", "trail ", "!", "*", "%", "\x7f",
    "\u202e", "🦀", "none", "for=", "-", "signal=KILL", "\\n", '\\"', "ps\nkill 1", "~", "$HOME",
]  # fmt: skip
texts = st.one_of(
    st.sampled_from(HOSTILE), st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
)
filled = texts.filter(lambda text: bool(text.strip()))
names = filled.filter(lambda text: not text.startswith("$"))
job_names = names.filter(lambda text: text.isprintable() and "/" not in text and not text.isdigit())
numbers = st.one_of(
    st.integers(1, 10**6).map(str), st.sampled_from(["0.5", "00012.50", "7.0", "007", "10%", "0.000001", "12.300"])
)
sizes = st.builds("{}{}".format, st.integers(1, 10**6), st.sampled_from(["K", "M", "G", "T", "m", "Gi", "gb", "MiB"]))
durations = st.builds("{}{}".format, st.integers(1, 10**6), st.sampled_from("smhdSMHD"))
times = st.builds("{}:{:02d}".format, st.integers(0, 23), st.integers(0, 59))

BY_KIND: dict[Kind, st.SearchStrategy[Any]] = {
    Kind.TARGET: st.one_of(names, st.integers(1, 4194304)),
    Kind.JOB: names,
    Kind.WATCH: st.one_of(names, st.integers(1, 99)),
    Kind.NEW_NAME: job_names,
    Kind.PROCESS_NAME: filled,
    Kind.USER: filled,
    Kind.NODE: filled,
    Kind.PORT: st.integers(1, 65535),
    Kind.PATH: filled,
    Kind.SIZE: sizes,
    Kind.CORES: numbers,
    Kind.COUNT: st.integers(1, 1_000_000),
    Kind.DURATION: durations,
    Kind.TIME: times,
    Kind.MOMENT: st.one_of(times, durations),
    Kind.CRON: st.sampled_from(["0 9 * * 1", "*/5  * * * *", "@Daily", "0 0 1 JAN *", "0 0 L * *", "0 0 * * 1#2"]),
    Kind.THRESHOLD: st.one_of(numbers, sizes),
    Kind.TEXT: texts,
    Kind.SENTENCE: filled,
    Kind.ARGV: st.builds(lambda first, rest: [first, *rest], filled, st.lists(texts, max_size=5)),
}


def value_of(argument: Argument, lines: st.SearchStrategy[str]) -> st.SearchStrategy[Any]:
    if argument.choices:
        return st.sampled_from(argument.choices)
    if argument.kind is Kind.LINE:
        return lines
    values = BY_KIND[argument.kind]
    return st.one_of(values, st.just("none")) if argument.liftable else values


def calls_with(lines: st.SearchStrategy[str]) -> st.SearchStrategy[Syscall]:
    """Any call that the registry allows; combinations that exclude each other are dropped."""

    def of(syscall: type[Syscall]) -> st.SearchStrategy[Syscall | None]:
        arguments = syscall.arguments.values()
        required = {each.name: value_of(each, lines) for each in arguments if each.required}
        optional = {each.name: value_of(each, lines) for each in arguments if not each.required}

        def build(values: dict[str, Any]) -> Syscall | None:
            try:
                return syscall.build(values)
            except BadInput:
                return None

        return st.fixed_dictionaries(required, optional=optional).map(build)

    built = st.one_of([of(syscall) for syscall in SYSCALLS.values()])
    return built.filter(lambda call: call is not None)  # type: ignore[return-value]


calls = calls_with(calls_with(st.just("ps")).filter(lambda call: call.risk is not Risk.TALK).map(print_line))
plans = st.lists(calls, min_size=1, max_size=6)
RELAXED = settings(max_examples=300, suppress_health_check=list(HealthCheck), deadline=None)


@RELAXED
@given(plans)
def test_any_plan_prints_and_parses_back_exactly(plan: list[Syscall]) -> None:
    lines = print_plan(plan)
    assert parse_plan("\n".join(lines)) == plan
    assert parse_plan("\r\n".join(lines) + "\n\n") == plan
    assert parse_plan(lines) == plan
    assert print_plan(parse_plan(lines)) == lines
    wire = json.loads(json.dumps([call.as_json() for call in plan]))
    assert plan_from_wire(wire) == plan
    assert plan_from_wire([*lines[:1], *wire[1:]]) == plan
    assert all("\n" not in line or " -- " in line for line in lines)


@pytest.mark.parametrize("verb", SYSCALLS)
def test_every_verb_and_every_argument_is_reached_by_the_generator(verb: str) -> None:
    for argument in SYSCALLS[verb].arguments.values():
        assert argument.choices or argument.kind is Kind.LINE or argument.kind in BY_KIND


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_texts_stand_anywhere_a_text_may(text: str) -> None:
    plan = [
        from_json({"call": "holders", "args": {"path": f"./{text}"}}),
        from_json({"call": "logs", "args": {"target": "web", "grep": text}}),
        from_json({"call": "run", "args": {"cwd": f"./{text}", "argv": ["echo", text, ""]}}),
        from_json({"call": "ask", "args": {"question": f"{text}?"}}),
    ]
    assert parse_plan("\n".join(print_plan(plan))) == plan


ACCEPTED = [
    ("ps", "ps"),
    ("  ps   name=node  ", "ps name=node"),
    ("ps limit=007", "ps limit=7"),
    ("ps limit=3 name=node", "ps name=node limit=3"),
    ("kill 3121 signal=TERM", "kill 3121"),
    ('kill "3121"', "kill 3121"),
    ("kill\tweb\tsignal=KILL", "kill web signal=KILL"),
    ('show "my job"', 'show "my job"'),
    ('show "\\u006eode"', "show node"),
    ("tree", "tree"),
    ("tree nginx", "tree nginx"),
    ("undo 1", "undo"),
    ("undo 3", "undo 3"),
    ("usage ~/x limit=5", "usage ~/x limit=5"),
    ("limit web memory=2g cpu=00.50", "limit web memory=2G cpu=0.5"),
    ("limit web memory=NONE io=10MiB", "limit web memory=none io=10M"),
    ("run -- make -j4", "run -- make -j4"),
    ("run --  sh -c 'a; b'", 'run -- sh -c "a; b"'),
    ('run -- echo "$HOME" \'it"s\' ""', "run -- echo '$HOME' 'it\"s' ''"),
    ("run restart=never name=web -- python -m http.server", "run name=web -- python -m http.server"),
    ("run at=2:00 every=1d -- backup", "run at=02:00 every=1d -- backup"),
    ("run once=10M -- date", "run once=10m -- date"),
    ("run cron=@Daily -- date", "run cron=@daily -- date"),
    ('run cron="0  9 * * MON" -- date', 'run cron="0 9 * * MON" -- date'),
    ("run -- -- x", "run -- -- x"),
    ("run -- grep -- -v f", "run -- grep -- -v f"),
    ("watch memory above=90%", "watch memory above=90"),
    ("watch memory above=8gb for=1M", "watch memory above=8G for=1m"),
    ('watch exit target=web then="kill  db signal=TERM"', 'watch exit target=web then="kill db"'),
    (
        "watch exit target=web then=\"run -- sh -c 'a; b'\"",
        'watch exit target=web then="run -- sh -c \\"a; b\\""',
    ),
    ("schedule web at=9:05", "schedule web at=09:05"),
    ("unfocus", "unfocus"),
    ("focus web for=5400s", "focus web for=5400s"),
]


@pytest.mark.parametrize(("line", "canonical"), ACCEPTED)
def test_a_line_prints_in_its_one_form(line: str, canonical: str) -> None:
    assert print_line(parse_line(line)) == canonical
    assert print_line(parse_line(canonical)) == canonical


REJECTED = [
    ("", "empty"),
    ("kil 3", "did you mean kill"),
    ("KILL 3", "there is no verb 'KILL'"),
    ("xyzzy rm", "the verbs are"),
    ("kill", "kill needs target"),
    ("kill 1 2", "no place for '2'; usage: kill TARGET signal="),
    ("kill web signal=kill", "'TERM', 'KILL'"),
    ("kill web signal=KILL signal=TERM", "stands twice"),
    ("kill target=web", "has no key target="),
    ("kill web force=1", "has no key force=; it has signal="),
    ("kill a=b", "no key a="),
    ("kill a-b=c", "put 'a-b=c' in double quotes"),
    ('kill "web', "does not end"),
    ('kill "a\\x"', "no JSON string"),
    ('kill "a"b', "in double quotes"),
    ("kill it's", "in double quotes"),
    ("kill $0", "no reference"),
    ("kill $1", "must name a line above"),
    ("kill $x", "write $1"),
    ("kill web -- x", "no argument 'argv'"),
    ('kill ""', "empty"),
    ('kill "a\\u0000b"', "NUL"),
    ('kill "\\ud800"', "surrogate"),
    ("port 0", "greater than or equal to 1"),
    ("port 65536", "less than or equal to 65535"),
    ("port http", "not a whole number"),
    ("port ٣", "not a whole number"),
    ("ps limit=0", "greater than or equal to 1"),
    ("ps limit=1.5", "not a whole number"),
    ("ps sort=name", "'cpu'"),
    ("system", "system needs aspect"),
    ("renice web", "renice needs priority"),
    ("renice web 5", "'idle', 'low'"),
    ("limit web", "say what to limit"),
    ("limit web memory=2", "is no size"),
    ("limit web memory=1.5G", "is no size"),
    ("limit web memory=0M", "more than zero"),
    ("limit web cpu=0.0", "more than zero"),
    ("limit web cpu=-1", "is no number"),
    ("limit web cpu=٣.5", "is no number"),
    ("run", "run needs argv"),
    ("run --", "at least 1 item"),
    ("run make", "no place for 'make'; usage: run"),
    ("run -- ''", "the command is empty"),
    ("run -- echo 'x", "No closing quotation"),
    ("run name=12 -- x", "numbers are process ids"),
    ("run name=a/b -- x", "slash"),
    ('run name="a\\nb" -- x', "such as print"),
    ('run name="a\\u202eb" -- x', "such as print"),
    ("run at=25:00 -- x", "HH:MM"),
    ("run once=soon -- x", "is no duration"),
    ("run every=0s -- x", "never end"),
    ("run at=02:00 every=5m -- x", "exclude each other"),
    ("run after=a at=02:00 -- x", "exclude each other"),
    ('run cron="* * * *" -- x', "five fields"),
    ('run cron="* * * * * *" -- x', "five fields"),
    ('run cron="61 * * * *" -- x', "Bad minute"),
    ('run cron="0 0 30 2 *" -- x', "day"),
    ('run cron="0 0 * * 1#²" -- x', "cron"),
    ('run cron="0 0 * * ²L" -- x', "cron"),
    ('run cron="0 0 1#2/2 * *" -- x', "cron"),
    ('run cron="0 0 * * 1#2/2" -- x', "cron"),
    ("run cron=@reboot -- x", "cron"),
    ("watch cpu", "above=NUM or below=NUM"),
    ("watch cpu above=5M", "only memory"),
    ("watch exit", "target=TARGET"),
    ("watch log target=web", "match=STR"),
    ("watch load above=3 target=web", "of the machine"),
    ('watch exit target=web then="kil x"', "watch: then: there is no verb 'kil'; did you mean kill"),
    ('watch exit target=web then="ask \\"why\\""', "cannot stand in then="),
    ('watch exit target=web then="ps\\nkill 3"', "more than one line"),
    ('watch exit target=web then=""', "empty"),
    ("schedule web", "say when"),
    ("undo 0", "greater than or equal to 1"),
]


@pytest.mark.parametrize(("line", "why"), REJECTED)
def test_a_line_that_is_none_says_why(line: str, why: str) -> None:
    with pytest.raises(PlanSyntaxError) as caught:
        plan_from_wire([line]) if not line or "$1" in line else parse_plan(line)
    assert why in caught.value.message
    assert len(caught.value.message) < 2000


def test_an_error_names_its_line_counted_without_blank_ones() -> None:
    with pytest.raises(PlanSyntaxError, match="line 2: there is no verb") as caught:
        parse_plan("ps\n\n\nfly away\n")
    assert caught.value.data["line"] == 2


@pytest.mark.parametrize(
    "text",
    [
        'run name="a -- b" -- echo hi\nps',
        'watch exit target=x then="run -- echo hi"\nps',
        'run -- echo \'a\nb\' "c\\"\nd"\nps',
        "run -- echo a\\ b\nps",
        "run -- echo \\'\nps",
        'holders "a\'b"\nps',
        "run -- echo #'\n'\nps",
    ],
)
def test_a_newline_ends_a_line_except_inside_quotes_of_argv(text: str) -> None:
    plan = parse_plan(text)
    assert len(plan) == 2
    assert parse_plan("\n".join(print_plan(plan))) == plan


def test_a_quote_that_does_not_end_is_an_error_of_its_own_line() -> None:
    with pytest.raises(PlanSyntaxError, match=r"line 2: .*No closing quotation"):
        parse_plan("ps\nrun -- echo it's\nps")


def test_a_command_does_not_go_on_in_the_next_line() -> None:
    with pytest.raises(PlanSyntaxError, match="at least 1 item"):
        parse_plan("run -- \nps")
    with pytest.raises(PlanSyntaxError, match="more than one line"):
        parse_plan(["run -- echo hi\nkill 1"])


def test_references_point_upwards_also_inside_then() -> None:
    assert parse_plan("port 3000\nkill $1")[1].as_json() == {"call": "kill", "args": {"target": "$1"}}
    assert list(parse_line('watch exit target=$2 then="kill $3"').references()) == [2, 3]
    assert list(parse_line("run -- echo $1").references()) == []
    with pytest.raises(PlanSyntaxError, match=r"line 1: \$1 must name a line above"):
        parse_plan('watch exit target=web then="kill $1"')


@pytest.mark.parametrize(
    "plan",
    [
        None, 3, {}, [], "", " \n ", [[]], [None], [{}], [{"call": 3}], [{"call": "ps", "x": 1}],
        [{"call": "ps", "args": []}],
        [{"call": "kill", "args": {"target": ["web"]}}], [{"call": "kill", "args": {"target": True}}],
        [{"call": "kill", "args": {"target": "x", "": 1}}], [{"call": "ps", "args": {"limit": [[[[1]]]]}}],
        [{"call": "ps", "args": {"limit": 10**5000}}],
        [{"call": "limit", "args": {"target": "x", "cpu": float("nan")}}],
        [{"call": "run", "args": {"argv": "ls"}}], [{"call": "run", "args": {"argv": []}}],
        [{"call": "run", "args": {"argv": ["a", 1]}}], [{"call": "\ud800", "args": {}}], ["\ud800"],
        [{"call": "kill", "args": {"target": "x", "\ud800": 1}}], [{"call": "kill", "args": {"signal": "TERM"}}],
    ],
)  # fmt: skip
def test_what_is_no_plan_on_the_wire_is_refused(plan: object) -> None:
    with pytest.raises(BadInput) as caught:
        plan_from_wire(plan)
    json.dumps(caught.value.as_json(), ensure_ascii=False).encode()


def test_a_plan_is_bounded() -> None:
    with pytest.raises(PlanSyntaxError, match=f"more than {MAX_PLAN_LINES}; split it"):
        parse_plan("ps\n" * (MAX_PLAN_LINES + 1))
    for plan in (
        "ps\n" * MAX_CHARACTERS,
        [f"run -- echo {'x' * 70_000}"] * 2,
        [{"call": "run", "args": {"argv": ["$'" * 30_000]}}],
        [{"call": "ask", "args": {"question": "x" * MAX_CHARACTERS}}],
    ):
        with pytest.raises(PlanSyntaxError, match=f"longer than {MAX_CHARACTERS} characters"):
            plan_from_wire(plan)
    with pytest.raises(BadInput, match="put it in a script"):
        SYSCALLS["run"].build({"argv": ["x" * 100_000, "y" * 100_000]})


def test_lines_nested_as_deep_as_fits_neither_blow_up_nor_change() -> None:
    line, depth = "port 1", 0
    while len(line := f"watch exit target=x then={json.dumps(line)}") <= MAX_CHARACTERS:
        assert print_line(parse_line(line)) == line
        depth += 1
    assert depth >= 10
    with pytest.raises(PlanSyntaxError, match="longer than"):
        parse_line(line)
    with pytest.raises(BadInput, match="longer than"):
        from_json({"call": "watch", "args": {"metric": "exit", "target": "x", "then": line}})


deep = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.sampled_from(HOSTILE)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=8,
)
pieces = st.lists(
    st.one_of(
        st.sampled_from([*SYSCALLS, *HOSTILE, " ", "\n", " -- ", '"', "then=", "name=", "target=", "$1", "'", "5"]),
        st.text(max_size=4),
    ),
    max_size=12,
)


@RELAXED
@given(pieces.map("".join))
@example("run -- \\")
@example('run " -- " -- \' \n"')
def test_no_text_raises_anything_but_a_syntax_error(text: str) -> None:
    try:
        plan = parse_plan(text)
    except PlanSyntaxError as error:
        assert error.message
        json.dumps(error.as_json(), ensure_ascii=False)
    else:
        assert parse_plan("\n".join(print_plan(plan))) == plan


@RELAXED
@given(
    st.one_of(
        deep,
        st.lists(st.fixed_dictionaries({"call": st.sampled_from([*SYSCALLS])}, optional={"args": deep}), max_size=3),
        st.sampled_from([*SYSCALLS]).flatmap(
            lambda verb: st.fixed_dictionaries({}, optional=dict.fromkeys(SYSCALLS[verb].arguments, deep)).map(
                lambda args: [{"call": verb, "args": args}]
            )
        ),
    )
)
def test_no_json_raises_anything_but_a_syntax_error(plan: object) -> None:
    try:
        calls = plan_from_wire(plan)
    except PlanSyntaxError as error:
        json.dumps(error.as_json(), ensure_ascii=False).encode()
    else:
        assert plan_from_wire([call.as_json() for call in calls]) == calls


@pytest.mark.parametrize(
    "text", ['ps "' + '\\"' * 65_000, "ps " + '"' * 130_000, "run -- " + "'\"" * 65_000, "\n" * 130_000]
)
def test_a_long_text_of_quotes_is_read_in_time(text: str) -> None:
    with pytest.raises(PlanSyntaxError):
        parse_plan(text)
