import math

import numpy as np
import pytest

from llmos.scheduler.hazard import HazardNetwork, quantile, shipped
from llmos.scheduler.history import BINS, EDGES, INPUTS, LEVELS, History, bin_of, kinds
from llmos.scheduler.learned import Experience, Learned, worths
from llmos.scheduler.predictions import evaluate
from llmos.scheduler.workload import Job

JOB = Job(1, 0, 100, user="a", program="p")


def test_bins_hold_their_edges() -> None:
    for bin_ in range(BINS - 1):
        assert bin_of((EDGES[bin_] + EDGES[bin_ + 1]) / 2) == bin_
    assert bin_of(0) == 0
    assert bin_of(1e12) == BINS - 1


def test_kinds_go_from_the_most_particular_to_all() -> None:
    assert len(kinds(JOB)) == LEVELS
    assert kinds(JOB)[-1] == kinds(Job(2, 0, 1, user="b"))[-1]
    assert kinds(JOB)[0] != kinds(Job(2, 0, 1, user="b"))[0]


def test_what_runs_counts_as_reached_until_it_ends() -> None:
    history = History()
    before = history.inputs(JOB, history.rows(JOB), 12)
    rows = history.rows(JOB)
    history.begin(rows)
    history.reach(rows, 0, 10)
    assert not np.array_equal(history.inputs(JOB, rows, 12), before)
    copy = history.copy()
    assert np.array_equal(copy.inputs(JOB, copy.rows(JOB), 12), before)  # nothing runs in a copy
    history.end(rows, 10, 100.0)
    assert history.inputs(JOB, rows, 12).shape == (BINS, INPUTS)


def test_the_longest_unused_kind_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmos.scheduler.history._KINDS", 30)
    history = History()
    for number in range(50):
        job = Job(number, 0, 10, user=str(number))
        history.note(history.rows(job), 10)
    fresh = Job(99, 0, 10, user="0")
    assert np.all(history.inputs(fresh, history.rows(fresh), 12)[:, 2 * LEVELS] == 0)


def test_runs_that_are_alike_are_predicted() -> None:
    history = History()
    for number in range(20):
        other = Job(number, 0, 30 * (1 + number % 7) ** 3, user="b", program=f"q{number}")
        history.note(history.rows(other), other.runtime)
        history.note(history.rows(JOB), 100)
    hazards = shipped()(history.inputs(JOB, history.rows(JOB), 12))
    assert 60 < quantile(hazards, 0.5) < 170
    assert quantile(hazards, 0.1) <= quantile(hazards, 0.5) <= quantile(hazards, 0.9)
    assert quantile(hazards, 0.5, served=1000) > 1000


def test_a_network_of_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match="inputs"):
        HazardNetwork([(np.zeros((1, 3), np.float32), np.zeros(1, np.float32))])


def test_worth_of_a_certain_end() -> None:
    hazards = np.full(BINS, 1e-6)
    hazards[20] = 0.98
    worth = worths(hazards, 0.0)
    assert 1 / worth[0] == pytest.approx((EDGES[20] + EDGES[21]) / 2, rel=0.1)
    assert np.all(np.diff(worth[:21]) > 0)  # the nearer the end, the better
    assert np.all(worths(hazards, 1000.0) >= worth)


def test_predictions_that_mislead_are_left_aside() -> None:
    experience = Experience(shipped())
    experience.told = -1.0
    policy = Learned(experience)
    policy.submitted(0, JOB, 0.0)
    assert policy.rank(0, 42.0, 42.0)[0] == 42.0  # as in LAS
    assert Learned(experience, guarded=False)._informed


def test_a_policy_leaves_its_experience_alone() -> None:
    experience = Experience(shipped())
    for number in range(40):
        experience.note(Job(number, 0, 50, user="a", program="p"))
    mean = experience.mean
    policy = Learned(experience)
    policy.submitted(0, JOB, 0.0)
    policy.rank(0, 0.0, 0.0)
    assert list(policy.finished(0, 5000.0, 5000.0)) == []
    assert experience.mean == mean


def test_evaluation_by_time_order() -> None:
    history = [Job(n, n, 100 if n % 2 else 1000, user="a", program=str(n % 2)) for n in range(100)]
    trace = [Job(n, 2000 + n, 100 if n % 2 else 1000, user="a", program=str(n % 2)) for n in range(50)]
    table = evaluate(history, trace)
    assert table["fingerprint"]["pinball"] == 0
    assert table["fingerprint"]["coverage"] == 1
    assert table["network"]["pinball"] < 0.5
    assert all(math.isfinite(value) for row in table.values() for value in row.values())
