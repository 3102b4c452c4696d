"""From confidence to probability: the fit, the threshold, the card."""

import json
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmos.errors import BadInput, ModelError
from llmos.nlui import calibration
from llmos.nlui.calibration import Calibration


def observed(pairs: int, seed: int = 1) -> list[tuple[float, bool]]:
    """Confidences whose square is the chance of being right."""
    chance = Random(seed)
    return [(confidence := chance.random(), chance.random() < confidence**2) for _ in range(pairs)]


def test_the_fit_finds_the_chance_again() -> None:
    fitted = calibration.fit(observed(20_000))
    for confidence in (0.1, 0.3, 0.5, 0.7, 0.9):
        assert fitted.probability(confidence) == pytest.approx(confidence**2, abs=0.06)
    assert fitted.pairs == 20_000


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=100, max_size=300))
def test_the_map_rises_between_bounds_and_the_threshold_asks_few(pairs: list[tuple[float, bool]]) -> None:
    fitted = calibration.fit(pairs)
    steps = [fitted.probability(step / 50) for step in range(51)]
    assert steps == sorted(steps)
    assert all(0 < probability < 1 for probability in steps)
    assert sum(map(fitted.doubtful, (confidence for confidence, _ in pairs))) <= calibration.MOST_ASKED * len(pairs)


@pytest.mark.parametrize("right", [True, False])
def test_what_is_all_the_same_is_never_certain(right: bool) -> None:
    fitted = calibration.fit([(step / 200, right) for step in range(200)])
    assert 0 < fitted.probability(0.5) < 1
    assert (fitted.threshold == 0.0) is right


def test_the_threshold_is_the_lowest_that_is_accurate_enough() -> None:
    doubtful = [(0.1, False), (0.2, False), (0.3, True), (0.35, False), (0.4, False), (0.45, False)]
    pairs = [*doubtful, *((0.5 + step / 1000, True) for step in range(194))]
    assert calibration.fit(pairs).threshold == 0.3  # 195 of 198 are right from there, 195 of 199 were too few


def test_too_few_pairs() -> None:
    with pytest.raises(BadInput, match="99 pairs are too few to calibrate on; take 100 at least"):
        calibration.fit(observed(99))


def test_the_card_keeps_it_and_all_else(tmp_path: Path) -> None:
    card = tmp_path / "default.json"
    card.write_text('{"file": "default.gguf", "中": "文"}', encoding="utf-8")
    assert calibration.load(card) is None
    fitted = calibration.fit(observed(500))
    calibration.store(fitted, card)
    assert calibration.load(card) == fitted
    facts = json.loads(card.read_text(encoding="utf-8"))
    assert (facts["file"], facts["中"], facts["calibration"]["pairs"]) == ("default.gguf", "文", 500)
    assert list(tmp_path.iterdir()) == [card]


@pytest.mark.parametrize(
    "damaged",
    [
        {},
        {"points": [], "threshold": 0.1, "pairs": 9},
        {"points": [[0.5, 0.5], [0.4, 0.6]], "threshold": 0.1, "pairs": 9},
        {"points": [[0.5, 0.5], [0.5, 0.6]], "threshold": 0.1, "pairs": 9},
        {"points": [[0.4, 0.6], [0.5, 0.5]], "threshold": 0.1, "pairs": 9},
        {"points": [[0.4, 1.5]], "threshold": 0.1, "pairs": 9},
        {"points": [[0.4, 0.5]], "threshold": -1, "pairs": 9},
        {"points": [0.4], "threshold": 0.1, "pairs": 9},
    ],
)
def test_a_damaged_calibration_is_refused(damaged: object) -> None:
    with pytest.raises(ModelError, match=r"the calibration in card\.json is damaged"):
        calibration.of_card({"calibration": damaged}, "card.json")


def test_between_and_beyond_the_points() -> None:
    found = Calibration(((0.2, 0.3), (0.6, 0.7)), threshold=0.5, pairs=9)
    assert [found.probability(one) for one in (0.0, 0.2, 0.4, 0.6, 1.0)] == pytest.approx([0.3, 0.3, 0.5, 0.7, 0.7])
    assert [found.doubtful(one) for one in (0.49, 0.5)] == [True, False]
