import numpy as np
import pytest

from llmos.scheduler import generators
from llmos.scheduler.contest import Knowledge
from llmos.scheduler.history import Array
from llmos.scheduler.learned import Learned
from llmos.scheduler.policy_network import FEATURES, FIRST, LIMIT, PolicyNetwork, Reranked
from llmos.scheduler.simulator import simulate
from llmos.scheduler.workload import Job, rescaled

_WIDTH = 8


def _network(seed: int, last: float = 1.0) -> PolicyNetwork:
    draw = np.random.default_rng(seed)

    def drawn(*shape: int) -> Array:
        return draw.normal(0.0, 0.5, shape).astype(np.float32)

    return PolicyNetwork(
        {
            "w0": drawn(FEATURES, _WIDTH), "b0": drawn(_WIDTH), "w1": drawn(_WIDTH, _WIDTH), "b1": drawn(_WIDTH),
            "w2": drawn(3 * _WIDTH, _WIDTH), "b2": drawn(_WIDTH), "w3": last * drawn(_WIDTH, 1), "b3": np.zeros(1, np.float32),
        }
    )  # fmt: skip


def test_the_order_of_the_jobs_does_not_matter() -> None:
    network = _network(1)
    seen = np.random.default_rng(2).normal(size=(20, FEATURES)).astype(np.float32)
    order = np.random.default_rng(3).permutation(20)
    assert np.allclose(network(seen)[order], network(seen[order]), atol=1e-5)
    assert np.abs(network(seen)).max() <= LIMIT


def test_a_network_for_other_features_is_refused() -> None:
    weights = {
        "w0": np.zeros((3, 8), np.float32),
        "w1": np.zeros((8, 8), np.float32),
        "w2": np.zeros((24, 8), np.float32),
    }
    with pytest.raises(ValueError, match="sees 3 features"):
        PolicyNetwork(weights)


def _window(count: int = 150) -> list[Job]:
    return rescaled(generators.draw("bursts", count, 3), 0.9, 4)


def test_a_network_whose_last_layer_is_zero_changes_nothing() -> None:
    plain = simulate(_window(), Learned(Knowledge().experience), processors=4)
    moved = simulate(_window(), Reranked(Knowledge().experience, _network(1, last=0.0)), processors=4)
    assert moved == plain
    assert simulate(_window(), Reranked(Knowledge().experience, None), processors=4) == plain


def test_a_network_moves_ranks_and_all_jobs_end() -> None:
    plain = simulate(_window(), Learned(Knowledge().experience), processors=4)
    moved = simulate(_window(), Reranked(Knowledge().experience, _network(1)), processors=4)
    assert moved.completion != plain.completion
    assert all(took >= job.runtime - 1e-6 for took, job in zip(moved.completion, _window(), strict=True))


def test_no_more_than_the_first_are_looked_at() -> None:
    policy = Reranked(Knowledge().experience, _network(1))
    for position in range(FIRST + 10):
        policy.submitted(position, Job(position, 0.0, 100.0), 0.0)
    first, seen = policy.features(1.0)
    assert len(first) == FIRST
    assert seen.shape == (FIRST, FEATURES)
    assert np.isfinite(seen).all()


def test_a_small_change_of_a_move_is_not_noticed() -> None:
    policy = Reranked(Knowledge().experience, None)
    policy.submitted(0, Job(0, 0.0, 100.0), 0.0)
    assert policy.move([0], [0.5]) == [0]
    assert policy.move([0], [0.51]) == []
    assert policy.move([0], [0.0]) == [0]
    before, after = policy.rank(0, 5.0, 5.0)[0], 0.0
    policy.move([0], [1.0])
    after = policy.rank(0, 5.0, 5.0)[0]
    assert after == pytest.approx(before * np.e)
