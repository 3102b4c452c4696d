"""The states of a job and the one function that moves between them. Imports nothing of the project but its errors.

    scheduled ─┐                      ┌──▶ paused ─┐
    waiting ───┼──▶ starting ──▶ running           ├──▶ stopping ──▶ stopped
    backoff ───┘       ▲              └────────────┘
                       └── stopped, failed

    START     scheduled, waiting, stopped, failed, backoff ──▶ starting
    SPAWNED   starting ──▶ running; stopping ──▶ stopping
    READY     starting ──▶ running
    PAUSE     running ──▶ paused
    RESUME    paused ──▶ running
    STOP      starting, running, paused, stopping ──▶ stopping; backoff, waiting, scheduled, stopped, failed ──▶ stopped
    ENDED     starting, running, paused, stopping ──▶ stopped
    BROKE     starting, running, paused, waiting ──▶ failed; stopping ──▶ stopped
    RETRY     starting, running, paused ──▶ backoff
    SCHEDULE  scheduled, waiting, stopped, failed ──▶ scheduled
    WAIT      scheduled, waiting, stopped, failed, backoff, starting ──▶ waiting

At rest are scheduled, waiting, stopped and failed: no process, and none will come by itself but by its timer, its
dependency or a GPU that comes free. `START` leads to starting from every state without a process. A job that says how it
is found ready stays starting until `READY`, with a process; any other is running once it is `SPAWNED`.
"""

from enum import StrEnum

from llmos.errors import Conflict


class State(StrEnum):
    """Where a job is."""

    WAITING = "waiting"
    SCHEDULED = "scheduled"
    STARTING = "starting"
    RUNNING = "running"
    PAUSED = "paused"
    STOPPING = "stopping"
    BACKOFF = "backoff"
    STOPPED = "stopped"
    FAILED = "failed"


class Move(StrEnum):
    """What happens to a job."""

    START = "start"
    SPAWNED = "spawned"
    READY = "ready"
    PAUSE = "pause"
    RESUME = "resume"
    STOP = "stop"
    ENDED = "ended"
    """It ended, well or because it was told to."""
    BROKE = "broke"
    """It ended badly, or could not be started, and will not be tried again."""
    RETRY = "retry"
    """It ended and its policy starts it again after a delay."""
    SCHEDULE = "schedule"
    WAIT = "wait"


AT_REST = frozenset({State.WAITING, State.SCHEDULED, State.STOPPED, State.FAILED})
"""States without a process, that only a timer, a dependency or a person leaves."""

ALIVE = frozenset({State.STARTING, State.RUNNING, State.PAUSED, State.STOPPING})
"""States with a process, or one about to be."""

_MOVES: dict[Move, dict[State, State]] = {
    Move.START: dict.fromkeys([*AT_REST, State.BACKOFF], State.STARTING),
    Move.SPAWNED: {State.STARTING: State.RUNNING, State.STOPPING: State.STOPPING},
    Move.READY: {State.STARTING: State.RUNNING},
    Move.PAUSE: {State.RUNNING: State.PAUSED},
    Move.RESUME: {State.PAUSED: State.RUNNING},
    Move.STOP: {
        **dict.fromkeys(ALIVE, State.STOPPING),
        **dict.fromkeys([State.BACKOFF, *AT_REST], State.STOPPED),
    },
    Move.ENDED: dict.fromkeys(ALIVE, State.STOPPED),
    Move.BROKE: {**dict.fromkeys([*ALIVE, State.WAITING], State.FAILED), State.STOPPING: State.STOPPED},
    Move.RETRY: dict.fromkeys([State.STARTING, State.RUNNING, State.PAUSED], State.BACKOFF),
    Move.SCHEDULE: dict.fromkeys(AT_REST, State.SCHEDULED),
    Move.WAIT: dict.fromkeys([*AT_REST, State.BACKOFF, State.STARTING], State.WAITING),
}


def transition(state: State, move: Move) -> State:
    """Where `move` leads from `state`.

    :raises Conflict: it leads nowhere from there.
    """
    try:
        return _MOVES[move][state]
    except KeyError:
        raise Conflict(f"it is {state}, and {move} needs it to be {_or(_MOVES[move])}") from None


def _or(states: dict[State, State]) -> str:
    names = sorted(states)
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"
