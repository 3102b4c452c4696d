"""What the scheduler did to a target, in words: the newest of its events, with what was seen, expected and bounded."""

import time
from collections.abc import Callable, Sequence
from typing import Any

Event = dict[str, Any]
_NAMED = 3
_ALIKE = 0.8
"""Medians whose ratio lies between this and its inverse are about the same."""


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
    words += f"; {_predicted(body['predicted'])}{_because(body.get('contributions'))}"
    if body["rules"]:
        words += f"; bounded: {'; '.join(body['rules'])}"
    beside = body["runner_up"]
    other = "put there too" if beside["place"] == body["place"] else f"put {beside['place']}"
    words = f"{words}. By {beside['policy']} it would have been {other}."
    return (
        f"{words} The policy is {body['policy']}, for {stands_in}." if (stands_in := body.get("stands_in")) else words
    )


def _predicted(expected: dict[str, Any] | None) -> str:
    if expected is None:
        return "no earlier run says how much it still needs"
    runs = expected["runs"]
    by = "the network" if expected.get("by") == "network" else f"{runs} earlier run{'s' if runs != 1 else ''}"
    return (
        f"by {by} it still needs {expected['middle']:.1f} s of it "
        f"({expected['low']:.1f} to {expected['high']:.1f} s in 8 of 10)"
    )


def _because(contributions: dict[str, Any] | None) -> str:
    """What moved the expectation most, away from that of a job of which nothing is known."""
    if contributions is None:
        return ""
    median, usual = contributions["median"], contributions["of_any_job"]
    if _ALIKE < median / max(usual, 0.1) < 1 / _ALIKE:
        return ", about what any job would"
    longer = median > usual
    towards = [part for part in contributions["inputs"] if (part["factor"] > 1.0) == longer]
    return f", mostly because {towards[0]['says']}" if towards else ""


def _outcome(body: dict[str, Any], at: str) -> str:
    return (
        f"The scheduler had put its last run behind {body['times_behind']} "
        f"time{'s' if body['times_behind'] != 1 else ''}: it took {body['runtime']:.1f} s for "
        f"{body['cpu_seconds']:.1f} s of processor time, a slowdown of {body['slowdown']:.2f}"
        + (f"; {expected['middle']:.1f} s had been expected." if (expected := body.get("predicted")) else ".")
    )


def _admitted(body: dict[str, Any], at: str) -> str:
    words = (
        f"The scheduler gave it {body['places']} at {at}, after {body['waited']:.0f} s: {body['wanting']} wanted a GPU"
    )
    if (expected := body["predicted"]) is not None:
        words += f", and by {expected['runs']} earlier runs it takes {expected['seconds']:.0f} s"
    beside = body["runner_up"]
    other = "have been given one too" if beside["given"] else "have gone on to wait"
    return f"{words}. In the {beside['policy']} it would {other}."


_WORDS: dict[str, Callable[[dict[str, Any], str], str]] = {
    "scheduler.placed": _placed,
    "scheduler.outcome": _outcome,
    "scheduler.admitted": _admitted,
    "scheduler.put_back": lambda body, at: f"The scheduler gave it its usual share again at {at}: {body['reason']}.",
    "scheduler.respected": lambda body, at: f"The scheduler leaves it alone since {at}: {body['reason']}.",
    "scheduler.restored": lambda body, at: f"The scheduler put back what it had changed at {at}: {body['reason']}.",
    "scheduler.held": lambda body, at: f"The scheduler held it still at {at}: {body['reason']}.",
    "scheduler.let_go": lambda body, at: f"The scheduler let it go on at {at}: {body['reason']}.",
}


def _clock(at: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(at))
