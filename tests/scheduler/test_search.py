import random

import pytest

from llmos.scheduler.admission_search import AdmissionSearch
from llmos.scheduler.contest import Knowledge
from llmos.scheduler.learned import Learned
from llmos.scheduler.search import Contender, course, search
from llmos.scheduler.simulator import Outcome, simulate
from llmos.scheduler.workload import Job


def test_finds_the_cheapest_action_and_tries_it_most() -> None:
    costs = [3.0, 1.0, 2.0]
    found = search(3, lambda action, chance: chance.gauss(costs[action], 0.5), trials=200, seed=4)
    assert found.action == 1
    assert found.trials[1] > 90 > found.trials[2]
    assert sum(found.trials) == 200


def test_is_the_same_for_the_same_seed() -> None:
    once, again = (search(4, lambda action, chance: action + chance.random(), trials=60, seed=9) for _ in range(2))
    assert (once.action, once.trials, once.costs) == (again.action, again.trials, again.costs)


def test_keeps_to_what_would_be_done_where_others_are_better_by_chance_only() -> None:
    for seed in range(20):
        found = search(2, lambda action, chance: chance.random(), trials=64, seed=seed)
        assert found.action == 0  # the same chance meets both


def test_ends_when_the_time_is_over_and_tries_each_once_at_least() -> None:
    tried: list[int] = []

    def trial(action: int, chance: random.Random) -> float:
        tried.append(action)
        return 1.0

    found = search(5, trial, seconds=0.0)
    assert sorted(tried) == [0, 1, 2, 3, 4]
    assert found.action == 0


def test_tries_nothing_where_there_is_no_choice() -> None:
    found = search(1, lambda action, chance: pytest.fail("tried"), seconds=60.0)
    assert (found.action, found.trials) == (0, [0])


def _contender(width: int, remaining: float) -> Contender:
    return Contender(width, 0.0, [remaining], lambda size: 1.0)


def test_a_course_costs_the_sum_of_completion_times() -> None:
    there = [_contender(1, 10.0), _contender(1, 2.0)]
    assert course([0, 1], there, 1, random.Random(1)) == 10 + 12
    assert course([1, 0], there, 1, random.Random(1)) == 2 + 12
    assert course([0, 1], there, 2, random.Random(1)) == 2 + 10


def test_who_does_not_fit_is_passed_in_a_course() -> None:
    there = [_contender(1, 4.0), _contender(2, 1.0), _contender(1, 4.0)]
    assert course([0, 1, 2], there, 2, random.Random(1)) == 4 + 4 + 5


def _jobs() -> list[Job]:
    """One wide job that is short, and narrow ones that leave no room for it, all known from earlier runs."""
    narrow = [Job(n, 1.0 * n, 1000.0, 1, "n", "narrow") for n in range(12)]
    return sorted([*narrow, Job(99, 5.5, 30.0, 4, "w", "wide")], key=lambda job: job.submit)


def _run(trials: int | None, seconds: float = 0.02) -> tuple[Outcome, AdmissionSearch]:
    knowledge = Knowledge()
    for _ in range(40):
        for job in _jobs():
            knowledge.note(job)
    policy = Learned(knowledge.experience)
    admission = AdmissionSearch(policy, trials=trials, seconds=seconds)
    return simulate(_jobs(), policy, processors=4, admission=admission), admission


def test_the_search_runs_in_the_simulator_and_is_seeded() -> None:
    (once, admission), (again, _) = _run(16), _run(16)
    assert once == again
    assert len(once.completion) == len(_jobs())
    assert admission.changed <= admission.searched


def test_the_search_ends_where_its_time_is_over_at_once() -> None:
    outcome, _ = _run(None, seconds=0.0)
    assert all(took >= job.runtime for took, job in zip(outcome.completion, _jobs(), strict=True))


def test_orders_nobody_anew_where_all_fit_or_none_is_passed() -> None:
    admission = AdmissionSearch(Learned(Knowledge().experience), trials=8)
    assert admission.order([0, 1], [2, 2], [0.0, 0.0], 4, 0.0) == [0, 1]
    assert admission.order([0, 1, 2], [2, 2, 4], [0.0] * 3, 4, 0.0) == [0, 1, 2]
    assert admission.searched == 0


def test_a_job_that_is_wider_than_what_is_free_does_not_hold_up_the_search() -> None:
    policy = Learned(Knowledge().experience)
    for position, width in enumerate((1, 8, 1)):
        policy.submitted(position, Job(position, 0.0, 100.0, width), 0.0)
    admission = AdmissionSearch(policy, trials=16)
    assert sorted(admission.order([0, 1, 2], [1, 8, 1], [0.0] * 3, 4, 0.0)) == [0, 1, 2]
    assert admission.searched == 1
