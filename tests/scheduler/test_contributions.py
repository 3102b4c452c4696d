"""What each input adds to a prediction: exact, and in words."""

from itertools import permutations

import numpy as np
import pytest

from llmos.scheduler.contributions import _shapley, contributions
from llmos.scheduler.hazard import quantile, shipped
from llmos.scheduler.ranking import Ranking
from llmos.scheduler.run_history import PastRun
from llmos.scheduler.workload import Job


def test_shapley_values_are_the_mean_over_all_orders() -> None:
    count = 4
    values = np.random.default_rng(1).normal(size=2**count).tolist()
    expected = np.zeros(count)
    orders = list(permutations(range(count)))
    for order in orders:
        there = 0
        for player in order:
            expected[player] += (values[there | 1 << player] - values[there]) / len(orders)
            there |= 1 << player
    assert _shapley(values, count) == pytest.approx(expected.tolist())


def test_they_multiply_to_what_the_job_is_expected_to_take_beside_any_job() -> None:
    past = [
        PastRun(name, 0, name, 1000.0 + at, seconds, seconds, None, None, 0)
        for at in range(40)
        for name, seconds in (("make", 3.0), ("python train.py", 40.0))
    ]
    ranking = Ranking("learned", lambda: past)
    ranking.came(1, Job(1, 0.0, 0.0, 1, "0", "python train.py", "python train.py", 60.0))
    ranking.came(2, Job(2, 0.0, 0.0, 1, "0", "make", "make"))
    ranking.order({1: 1.0, 2: 0.5})
    for position, served in ((1, 1.0), (2, 0.5)):
        found = ranking.contributions(position, served)
        assert found is not None
        product = float(np.prod([part["factor"] for part in found["inputs"]]))
        assert product == pytest.approx(found["median"] / found["of_any_job"], rel=0.1)  # what is shown is rounded
    assert found is not None
    said = {part["input"]: (part["says"], part["factor"]) for part in found["inputs"]}
    words, factor = said["runs of the program"]
    assert words == "the 40 earlier runs of make took 3.0 s" and factor < 0.8
    assert said["last run"][0] == "the last run took 3.0 s" and "timeout" not in said
    assert Ranking("hybrid", lambda: past).contributions(1, 1.0) is None


def test_inputs_that_are_as_of_any_job_add_nothing() -> None:
    network, job = shipped(), Job(0, 0.0, 0.0)
    seen = np.zeros((56, 45), np.float32)
    found = contributions(network, job, [], seen, seen, 0.0)
    assert found["inputs"] == [] and found["median"] == found["of_any_job"]
    other = seen.copy()
    other[:, 0] = 2.0  # of the program's runs alone
    found = contributions(network, job, [], other, seen, 5.0)
    assert [part["input"] for part in found["inputs"]] == ["runs of the program"]
    assert found["median"] == pytest.approx(quantile(network(other), 0.5, 5.0), abs=0.1)
    assert found["inputs"][0]["says"].startswith("no run of")
