"""The states of a job and the one function that moves between them. Imports nothing of the project but its errors.

                 ┌──────────── SCHEDULE ◀── any state at rest
                 ▼
    ┌────── scheduled ──┐
    │                   │ START
    │    waiting ───────┤
    │  (after=JOB)      ▼
    │                starting ──SPAWNED──▶ running ◀──RESUME── paused
    │                 ▲   │                 │  │ │────PAUSE──▶   │
    │           START │   │ BROKE           │  │                │
    │                 │   ▼                 │  │ STOP           │ STOP
    │               backoff ◀───RETRY───────┤  ▼                ▼
    │                 │                     │ stopping ◀────────┘
    │                 │ STOP                │  │
    │                 ▼                     │  │ ENDED or BROKE
    └──────────▶ stopped ◀──────ENDED───────┤  ▼
                 failed  ◀──────BROKE───────┘ stopped

At rest are scheduled, waiting, stopped and failed: no process, and none will come by itself but by its timer or
dependency. `START` leads to starting from every state without a process.
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
    Move.PAUSE: {State.RUNNING: State.PAUSED},
    Move.RESUME: {State.PAUSED: State.RUNNING},
    Move.STOP: {
        **dict.fromkeys([State.STARTING, State.RUNNING, State.PAUSED, State.STOPPING], State.STOPPING),
        **dict.fromkeys([State.BACKOFF, State.WAITING, State.STOPPED, State.FAILED], State.STOPPED),
    },
    Move.ENDED: dict.fromkeys(ALIVE, State.STOPPED),
    Move.BROKE: {**dict.fromkeys([*ALIVE, State.WAITING], State.FAILED), State.STOPPING: State.STOPPED},
    Move.RETRY: dict.fromkeys([State.STARTING, State.RUNNING, State.PAUSED], State.BACKOFF),
    Move.SCHEDULE: dict.fromkeys(AT_REST, State.SCHEDULED),
    Move.WAIT: dict.fromkeys(AT_REST, State.WAITING),
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
