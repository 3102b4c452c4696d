"""The states of a job: every pair of state and move, and that the drawn table is the one that holds."""

from itertools import product

import pytest

from llmos.errors import Conflict
from llmos.kernel import states
from llmos.kernel.states import ALIVE, AT_REST, Move, State, transition


def documented() -> dict[tuple[State, Move], State]:
    """The moves as the module's docstring draws them."""
    found = {}
    for line in (states.__doc__ or "").splitlines():
        word, _, rest = line.strip().partition(" ")
        if word in Move.__members__:
            for part in rest.split(";"):
                sources, target = part.split("──▶")
                for source in sources.split(","):
                    found[State(source.strip()), Move[word]] = State(target.strip())
    return found


@pytest.mark.parametrize(("state", "move"), list(product(State, Move)))
def test_every_state_and_move(state: State, move: Move) -> None:
    wanted = documented().get((state, move))
    if wanted is not None:
        assert transition(state, move) is wanted
        return
    with pytest.raises(Conflict, match=f"it is {state}, and {move} needs it to be "):
        transition(state, move)


def test_an_error_says_what_would_do() -> None:
    with pytest.raises(Conflict, match="it is stopped, and pause needs it to be running"):
        transition(State.STOPPED, Move.PAUSE)
    with pytest.raises(Conflict, match="needs it to be paused, running or starting"):
        transition(State.STOPPED, Move.RETRY)


def test_every_state_is_reached_from_a_new_job_and_can_be_left() -> None:
    reached = {State.STOPPED}
    while more := {after for (before, _), after in documented().items() if before in reached} - reached:
        reached |= more
    assert reached == set(State)
    assert {before for (before, _), after in documented().items() if after is not before} == set(State)


def test_at_rest_alive_and_backoff_are_all_and_apart() -> None:
    assert AT_REST | ALIVE | {State.BACKOFF} == set(State)
    assert not AT_REST & ALIVE


def test_whatever_has_no_process_can_be_started_and_whatever_has_one_can_be_stopped() -> None:
    for state in State:
        if state in ALIVE:
            assert transition(state, Move.STOP) is State.STOPPING
        else:
            assert transition(state, Move.START) is State.STARTING
