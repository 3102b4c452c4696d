"""The prompt's examples are plans, and cover the language."""

import pytest

from llmos.nlui.prompt import EXAMPLES, conversation
from llmos.plan.language import parse_plan, print_plan
from llmos.syscalls import SYSCALLS


@pytest.mark.parametrize(("request_text", "plan"), EXAMPLES)
def test_example_is_in_canonical_form(request_text: str, plan: str) -> None:
    assert "\n".join(print_plan(parse_plan(plan))) == plan


def test_every_verb_stands_in_an_example() -> None:
    used = {call.verb for _, plan in EXAMPLES for call in parse_plan(plan)}
    assert used == set(SYSCALLS)


def test_conversation_alternates_and_can_be_shortened() -> None:
    turns = conversation()
    assert [role for role, _ in turns] == ["system", *["user", "assistant"] * len(EXAMPLES)]
    assert conversation(2) == [turns[0], *turns[-4:]]
    assert conversation(0) == [turns[0]]
