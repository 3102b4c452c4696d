"""The registry: what a class of a syscall gives to everything that is read off it."""

from typing import Literal

import pytest
from pydantic import ValidationError

from llmos.errors import BadInput, PlanSyntaxError
from llmos.plan.language import from_json, parse_line, print_line, usage
from llmos.syscalls import SYSCALLS, Kind, Risk, Syscall
from llmos.syscalls.registry import REFERABLE, Count, Target, positional

TABLE = {
    "read": "ps show tree port files holders logs system usage jobs watches history why wait",
    "change": "run start restart pause resume renice limit schedule unschedule watch unwatch focus unfocus undo",
    "destroy": "stop kill remove",
    "talk": "ask refuse",
}


def test_every_verb_of_the_language_has_its_tier() -> None:
    tiers = {verb: tier for tier, verbs in TABLE.items() for verb in verbs.split()}
    assert {verb: str(syscall.risk) for verb, syscall in SYSCALLS.items()} == tiers


@pytest.mark.parametrize("verb", SYSCALLS)
def test_every_syscall_is_complete(verb: str) -> None:
    syscall = SYSCALLS[verb]
    assert syscall.meaning()
    assert usage(syscall).startswith(verb)
    assert syscall.risk is Risk.TALK or syscall.act is not Syscall.act
    if syscall.inverse is not None:
        assert syscall.take_back is not Syscall.take_back
    places = [argument.positional for argument in syscall.arguments.values() if argument.kind is not Kind.ARGV]
    assert places == sorted(places, reverse=True), "positional arguments stand first"
    optional = [argument.required for argument in syscall.arguments.values() if argument.positional]
    assert optional == sorted(optional, reverse=True), "what is required stands first"


@pytest.mark.parametrize(
    ("verb", "text"),
    [
        ("kill", "kill TARGET signal=TERM|KILL|INT|HUP|QUIT|USR1|USR2"),
        ("undo", "undo [N]"),
        ("focus", "focus TARGET for=DUR"),
        ("limit", "limit TARGET memory=SIZE cpu=NUM io=SIZE"),
        ("usage", "usage PATH limit=N"),
        ("ask", 'ask "SENTENCE"'),
        ("watches", "watches"),
    ],
)
def test_usage_reads_as_the_table(verb: str, text: str) -> None:
    assert usage(SYSCALLS[verb]) == text


def test_what_may_be_lifted_is_known_of_the_argument() -> None:
    assert {name for name, each in SYSCALLS["limit"].arguments.items() if each.liftable} == {"memory", "cpu", "io"}
    assert not any(each.liftable for each in SYSCALLS["run"].arguments.values())


def test_what_may_be_a_reference_is_named() -> None:
    call = parse_line("run after=build -- make")
    assert [(argument.name, text) for argument, text in call.named()] == [("after", "build")]
    assert {argument.kind for verb in SYSCALLS.values() for argument in verb.arguments.values()} >= REFERABLE


def test_what_is_for_programs_alone_is_in_the_wire_form_and_printed_but_in_no_table() -> None:
    run = SYSCALLS["run"]
    assert run.api_arguments.keys() >= {"ready", "health", "pids"}
    assert not run.arguments.keys() & run.api_arguments.keys()
    assert "ready" not in usage(run)
    args = {"after": ["a", "b"], "argv": ["x"], "ready": {"tcp": 80}, "pids": 5}
    call = from_json({"call": "run", "args": args})
    assert call.as_json() == {"call": "run", "args": args}
    assert print_line(call) == r"""run after="[\"a\", \"b\"]" ready="{\"tcp\": 80}" pids=5 -- x"""
    assert call.named() == []  # several jobs are the handler's to look up
    for line in (print_line(call), "run pids=5 -- x"):
        with pytest.raises(PlanSyntaxError):
            parse_line(line)


@pytest.mark.parametrize(("given", "kept"), [([], None), (["a"], "a"), (["a", "a"], "a"), ("a", "a"), (None, None)])
def test_a_list_of_one_job_is_that_job(given: object, kept: object) -> None:
    assert SYSCALLS["run"].build({"argv": ["x"], "after": given}).as_json()["args"].get("after") == kept


def test_a_call_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        parse_line("kill web").target = "db"  # type: ignore[attr-defined]


def test_an_error_names_the_field_and_the_usage() -> None:
    with pytest.raises(BadInput, match=r"focus: for: '5' is no duration.*; usage: focus TARGET for=DUR") as caught:
        SYSCALLS["focus"].build({"target": "web", "for": "5"})
    assert caught.value.data == {"field": "for"}


def test_the_field_of_an_unknown_argument_is_not_what_was_sent() -> None:
    with pytest.raises(BadInput, match="kill has no argument") as caught:
        SYSCALLS["kill"].build({"target": "web", "x" * 5000: 1})
    assert caught.value.data == {"field": "args"}
    assert len(caught.value.message) < 300


def test_a_second_syscall_of_a_verb_and_an_argument_without_a_kind_are_mistakes_of_the_programmer() -> None:
    before = dict(SYSCALLS)
    with pytest.raises(TypeError, match="two syscalls are called 'ps'"):
        type("Other", (Syscall,), {"__doc__": "Other.", "__module__": __name__}, verb="ps", risk=Risk.READ)
    with pytest.raises(TypeError, match="neither a kind nor choices"):

        class Odd(Syscall, verb="odd", risk=Risk.READ):
            """Odd."""

            word: str

    assert before == SYSCALLS


def test_one_class_is_all_that_a_new_syscall_needs() -> None:
    try:

        class Greet(Syscall, verb="greet", risk=Risk.READ):
            """Say hello."""

            target: Target
            how: Literal["loudly", "softly"] = "softly"
            times: Count = positional(1)

        assert usage(Greet) == "greet TARGET how=loudly|softly [N]"
        assert parse_line("greet web 3 how=loudly") == Greet(target="web", times=3, how="loudly")
    finally:
        SYSCALLS.pop("greet", None)
