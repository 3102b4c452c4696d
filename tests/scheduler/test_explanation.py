"""Why: what the scheduler did, in a sentence; and what ranks know of earlier runs."""

from typing import Any

import pytest

from llmos.scheduler.explanation import explain
from llmos.scheduler.ranking import Ranking
from llmos.scheduler.run_history import PastRun
from llmos.scheduler.workload import Job

PLACED: dict[str, Any] = {
    "place": "behind",
    "share": 5,
    "before": 100,
    "lever": "cpu weight",
    "policy": "hybrid",
    "rank": 12.0,
    "seen": {
        "cpu_seconds": 30.0,
        "cores": 0.4,
        "waiting": 0.6,
        "pressure": {"cpu": 0.9},
        "wanting": 6,
        "processors": 2,
    },
    "ahead": ["a", "b", "c", "d"],
    "predicted": {"low": 1.0, "middle": 4.0, "high": 9.5, "runs": 7},
    "rules": ["those behind keep 5% of the processors together"],
    "policy_alone": "behind",
    "runner_up": {"policy": "las", "place": "first"},
}


def event(kind: str, body: dict[str, Any]) -> dict[str, Any]:
    return {"kind": f"scheduler.{kind}", "at": 0.0, "body": body}


def test_a_place_says_what_was_seen_expected_and_bounded_and_what_the_other_would_have_done() -> None:
    words = explain([event("placed", PLACED)])
    for part in (
        "put it behind at",
        "cpu weight for a share of 5 in 100, before 100",
        "6 wanted the 2 processors and it had had 30.0 s",
        "hybrid ran a, b, c first and 1 more",
        "by 7 earlier runs it still needs 4.0 s of it (1.0 to 9.5 s in 8 of 10)",
        "bounded: those behind keep 5% of the processors together",
        "By las it would have been put first.",
    ):
        assert part in words
    first = explain([event("placed", {**PLACED, "place": "first", "predicted": None, "rules": [], "ahead": []})])
    assert (
        "put it first again" in first and "no earlier run" in first and "By las it would have been put there" in first
    )


def test_the_sentence_names_what_moved_the_prediction_most() -> None:
    parts = [
        {"input": "last run", "factor": 0.4, "says": "the last run took 3.0 s"},
        {"input": "runs of the program", "factor": 2.0, "says": "the 14 earlier runs of make took 40.0 s"},
    ]
    body = {
        **PLACED,
        "policy": "learned",
        "predicted": {**PLACED["predicted"], "by": "network"},
        "contributions": {"median": 50.0, "of_any_job": 5.0, "inputs": parts},
    }
    words = explain([event("placed", body)])
    assert "by the network it still needs 4.0 s of it" in words
    assert ", mostly because the 14 earlier runs of make took 40.0 s;" in words
    shorter = {**body, "contributions": {"median": 1.0, "of_any_job": 5.0, "inputs": parts}}
    assert "mostly because the last run took 3.0 s" in explain([event("placed", shorter)])
    same = {**body, "contributions": {"median": 5.1, "of_any_job": 5.0, "inputs": parts}}
    assert "about what any job would" in explain([event("placed", same)])
    stands_in = {
        **PLACED,
        "stands_in": "over the last 64 runs the learned policy would have done 12% worse than hybrid",
    }
    assert explain([event("placed", stands_in)]).endswith("The policy is hybrid, for " + stands_in["stands_in"] + ".")


@pytest.mark.parametrize("kind", ["put_back", "respected", "restored", "held", "let_go"])
def test_every_other_act_gives_its_reason(kind: str) -> None:
    assert "because so" in explain([event("placed", PLACED), event(kind, {"reason": "because so"})])


def test_the_outcome_is_told_and_what_is_not_the_scheduler_s_is_not() -> None:
    body = {"runtime": 40.0, "cpu_seconds": 10.0, "slowdown": 4.0, "times_behind": 2}
    took = "2 times: it took 40.0 s for 10.0 s of processor time, a slowdown of 4.00"
    assert f"{took}." in explain([event("outcome", body)])
    foreseen = {**body, "predicted": PLACED["predicted"]}
    assert f"{took}; 4.0 s had been expected." in explain([event("outcome", foreseen)])
    assert explain([{"kind": "job.running", "at": 0.0, "body": {}}]) == ""


def past(seconds: float) -> PastRun:
    return PastRun("make", 0, "job", 1000.0, seconds, seconds, None, None, 0)


def job(position: int, program: str = "make") -> Job:
    return Job(position, 0.0, 0.0, 1, "0", program, "job")


@pytest.mark.parametrize("policy", ["las", "hybrid", "learned"])
def test_every_policy_ranks_what_lives(policy: str) -> None:
    read = []

    def earlier() -> list[PastRun]:
        read.append(True)
        return [past(seconds) for seconds in (10, 20, 30, 40)]

    ranking = Ranking(policy, earlier)
    ranking.came(1, job(1))
    ranking.came(2, job(2, "other"))
    assert not read  # nothing is read before somebody has to wait
    found = ranking.order({1: 25.0, 2: 500.0, 9: 1.0})
    assert set(found) == {1, 2} and found[1].rank < found[2].rank and found[1].review > 0
    expected = found[1].expected
    assert expected is not None
    if policy == "learned":
        assert 0 < expected.low < expected.middle < expected.high and (expected.runs, expected.by) == (4, "network")
    else:
        assert (expected.low, expected.high, expected.runs, expected.by) == (5.0, 15.0, 2, "runs")
        assert found[2].expected is None
    ranking.came(3, job(3))
    ranking.ended(1, 60.0)
    ranking.ended(2, None)
    later = ranking.order({3: 50.0})[3].expected
    assert later is not None and (policy == "learned" or (later.middle, later.runs) == (10.0, 1))
    assert (ranking.contributions(3, 50.0) is not None) == (policy == "learned")


def test_a_policy_is_begun_anew_before_what_it_holds_piles_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmos.scheduler.ranking._RENEW_AFTER", 5)
    ranking = Ranking("hybrid", list)
    for position in range(20):
        ranking.came(position, job(position))
        assert position in ranking.order({position: 1.0})
        ranking.ended(position, 3.0)
    assert ranking._ended < 6 and ranking._jobs == {}


def test_what_was_learned_may_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object) -> None:
        raise FileNotFoundError("hazard.npz")

    monkeypatch.setattr("llmos.scheduler.contest.Knowledge.__init__", missing)
    ranking = Ranking("learned", list)
    ranking.came(1, job(1))
    assert 1 in ranking.order({1: 1.0})
    assert ranking.name == "hybrid" and "hazard.npz" in ranking.fallen_back
