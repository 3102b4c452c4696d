import pytest

from llmos.scheduler import generators
from llmos.scheduler.contest import POLICIES, Knowledge
from llmos.scheduler.policies import FirstCome, LeastAttained, Runs, ShortestFirst, ShortestRemaining, gittins_seconds
from llmos.scheduler.sharing import share
from llmos.scheduler.simulator import Policy, Starvation, simulate
from llmos.scheduler.workload import Job, rescaled

LONG_THEN_SHORT = [Job(1, 0, 100), Job(2, 10, 20)]


@pytest.mark.parametrize(
    ("policy", "completion"),
    [
        (FirstCome(), [100, 110]),
        (ShortestFirst(), [100, 110]),
        (ShortestRemaining(), [120, 20]),
    ],
)
def test_two_jobs_on_one_processor(policy: Policy, completion: list[float]) -> None:
    outcome = simulate(LONG_THEN_SHORT, policy, processors=1, switch_seconds=0)
    assert outcome.completion == pytest.approx(completion)
    assert outcome.makespan == pytest.approx(120)


def test_las_lets_the_new_job_catch_up() -> None:
    outcome = simulate([Job(1, 0, 100), Job(2, 50, 40)], LeastAttained(), processors=1, switch_seconds=0)
    assert outcome.completion == pytest.approx([140, 40])


def test_processor_sharing() -> None:
    outcome = share([Job(1, 0, 10), Job(2, 0, 10), Job(3, 100, 5)], 1)
    assert outcome.completion == pytest.approx([20, 20, 5])
    assert outcome.slowdown == pytest.approx([2, 2, 1])


def test_what_does_not_fit_is_passed() -> None:
    jobs = [Job(1, 0, 10, 3), Job(2, 1, 10, 2), Job(3, 2, 5, 1)]
    outcome = simulate(jobs, FirstCome(), processors=4)
    assert outcome.completion == pytest.approx([10, 19, 5])


def test_a_resume_is_charged() -> None:
    outcome = simulate(LONG_THEN_SHORT, ShortestRemaining(), processors=1, switch_seconds=3)
    assert outcome.completion == pytest.approx([123, 20])
    assert outcome.resumes == 1


def test_hysteresis_keeps_what_runs() -> None:
    jobs = [Job(1, 0, 100), Job(2, 1, 95)]
    assert simulate(jobs, ShortestRemaining(), processors=1).resumes == 1
    assert simulate(jobs, ShortestRemaining(), processors=1, hysteresis=0.2).resumes == 0


def test_nobody_starves_beyond_the_bound() -> None:
    jobs = [Job(0, 0, 5000)] + [Job(n, 10 + 100 * n, 100) for n in range(60)]
    free = simulate(jobs, ShortestRemaining(), processors=1)
    bound = simulate(
        jobs, ShortestRemaining(), processors=1, starvation=Starvation(bound=600, slice_seconds=20, share=0.2)
    )
    assert free.longest_wait > 4000
    assert bound.longest_wait <= 600 + 20 / 0.2


@pytest.mark.parametrize("name", sorted(name for name, make in POLICIES.items() if make))
@pytest.mark.parametrize("trace", sorted(generators.NAMES))
def test_every_policy_serves_every_job_in_full(name: str, trace: str) -> None:
    jobs = rescaled(generators.draw(trace, 150, 2), 0.95, 4)
    make = POLICIES[name]
    assert make is not None
    outcome = simulate(jobs, make(Knowledge()), processors=4, switch_seconds=0, starvation=Starvation())
    assert all(took >= job.runtime - 1e-3 for took, job in zip(outcome.completion, jobs, strict=True))
    work = sum(job.runtime * job.processors for job in jobs)
    assert outcome.makespan >= work / 4 - 1e-3
    again = simulate(jobs, make(Knowledge()), processors=4, switch_seconds=0, starvation=Starvation())
    assert again == outcome


def test_clairvoyant_srtf_is_best_on_one_processor() -> None:
    jobs = rescaled(generators.draw("bursts", 300, 4), 0.9, 1)
    best = sum(simulate(jobs, ShortestRemaining(), processors=1, switch_seconds=0).completion)
    for name, make in POLICIES.items():
        if make is not None:
            assert best <= sum(simulate(jobs, make(Knowledge()), processors=1, switch_seconds=0).completion) + 1e-3, (
                name
            )


@pytest.mark.parametrize(
    ("runtimes", "served", "seconds"),
    [
        ([10.0, 10.0], 0.0, 10.0),
        ([1.0, 100.0], 0.0, 2.0),  # both are served for 1 s, one of them ends
        ([1.0, 100.0], 1.0, 99.0),
        ([1.0, 100.0], 100.0, None),
        ([], 0.0, None),
    ],
)
def test_gittins_seconds(runtimes: list[float], served: float, seconds: float | None) -> None:
    assert gittins_seconds(runtimes, served) == seconds


def test_runs_of_a_window_leave_what_was_known() -> None:
    known = Runs()
    known.note(Job(1, 0, 5, user="a", program="p"))
    within = Runs(known)
    within.note(Job(2, 0, 7, user="a", program="p"))
    assert list(within.of(Job(3, 0, 1, user="a", program="p"))) == [5, 7]
    assert list(known.of(Job(3, 0, 1, user="a", program="p"))) == [5]


def test_jobs_of_more_than_four_weeks_do_not_wake_the_learned_policy_all_the_time() -> None:
    policy = POLICIES["learned"]
    assert policy is not None
    ranked = policy(Knowledge())
    ranked.submitted(0, Job(0, 0.0, 40 * 86400.0, 1, "u", "p"), 0.0)
    assert ranked.rank(0, 29 * 86400.0, 0.0)[1] > 86400.0


def test_a_job_of_which_nothing_is_known_is_ranked_by_its_service_too() -> None:
    policy = POLICIES["learned"]
    assert policy is not None
    ranked = policy(Knowledge())
    for position in range(2):
        ranked.submitted(position, Job(position, 0.0, 100.0), 0.0)
    assert ranked.rank(0, 0.0, 0.0)[0] < ranked.rank(1, 500.0, 0.0)[0]
