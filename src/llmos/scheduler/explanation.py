"""What the scheduler did to a target, in words: the newest of its events, with what was seen, expected and bounded."""

import time
from collections.abc import Callable, Sequence
from typing import Any

Event = dict[str, Any]
_NAMED = 3


def explain(events: Sequence[Event]) -> str:
    """One or two sentences about the newest event of the scheduler's among these; empty where there is none."""
    ours = [event for event in events if event["kind"].startswith("scheduler.")]
    for event in reversed(ours):
        if (words := _WORDS.get(event["kind"])) is not None:
            return words(event["body"], _clock(event["at"]))
    return ""


def _placed(body: dict[str, Any], at: str) -> str:
    seen = body["seen"]
    first = body["place"] == "first"
    had = f"it had had {seen['cpu_seconds']:.1f} s of processor time"
    words = f"The scheduler put it {'first again' if first else 'behind'} at {at}"
    words += f" ({body['lever']} for a share of {body['share']} in 100, before {body['before']}): "
    words += f"{seen['wanting']} wanted the {seen['processors']} processors and {had}"
    if not first and body["ahead"]:
        more = len(body["ahead"]) - _NAMED
        words += f", so that {body['policy']} ran {', '.join(body['ahead'][:_NAMED])} first"
        words += f" and {more} more" if more > 0 else ""
    words += f"; {_predicted(body['predicted'])}"
    if body["rules"]:
        words += f"; bounded: {'; '.join(body['rules'])}"
    beside = body["runner_up"]
    other = "put there too" if beside["place"] == body["place"] else f"put {beside['place']}"
    return f"{words}. By {beside['policy']} it would have been {other}."


def _predicted(expected: dict[str, float] | None) -> str:
    if expected is None:
        return "no earlier run says how much it still needs"
    return (
        f"by {expected['runs']:.0f} earlier runs it still needs {expected['middle']:.1f} s of it "
        f"({expected['low']:.1f} to {expected['high']:.1f} s in 8 of 10)"
    )


def _outcome(body: dict[str, Any], at: str) -> str:
    return (
        f"The scheduler had put its last run behind {body['times_behind']} "
        f"time{'s' if body['times_behind'] != 1 else ''}: it took {body['runtime']:.1f} s for "
        f"{body['cpu_seconds']:.1f} s of processor time, a slowdown of {body['slowdown']:.2f}."
    )


_WORDS: dict[str, Callable[[dict[str, Any], str], str]] = {
    "scheduler.placed": _placed,
    "scheduler.outcome": _outcome,
    "scheduler.put_back": lambda body, at: f"The scheduler gave it its usual share again at {at}: {body['reason']}.",
    "scheduler.respected": lambda body, at: f"The scheduler leaves it alone since {at}: {body['reason']}.",
    "scheduler.restored": lambda body, at: f"The scheduler put back what it had changed at {at}: {body['reason']}.",
    "scheduler.held": lambda body, at: f"The scheduler held it still at {at}: {body['reason']}.",
    "scheduler.let_go": lambda body, at: f"The scheduler let it go on at {at}: {body['reason']}.",
}


def _clock(at: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(at))
