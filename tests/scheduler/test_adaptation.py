"""Weights that were adapted to a machine: trained for real, kept beside the shipped ones, chosen by what they do."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from llmos.errors import BadInput, ModelError, NotFound
from llmos.scheduler.adaptation import CARD, RESULT, WEIGHTS, Adaptation, shipped
from llmos.scheduler.adaptation_job import MIN_RUNS, _verdict, usable
from llmos.scheduler.run_history import RunHistory
from llmos.scheduler.shadow import Comparison
from made_weights import in_use, untrained
from past_runs import runs, telling


@pytest.fixture
def adaptation(tmp_path: Path) -> Adaptation:
    return Adaptation(tmp_path)


def test_the_shipped_weights_are_used_until_others_have_won(adaptation: Adaptation) -> None:
    assert adaptation.in_use() == shipped() and adaptation.before() is None and adaptation.candidate() is None
    assert adaptation.in_use().name == "shipped" and adaptation.last() is None
    with pytest.raises(NotFound, match="shipped"):
        adaptation.roll_back()
    first = untrained(adaptation, won=True, reason="better")
    assert adaptation.judged(adaptation.generations.folder(first)) == {"won": True, "reason": "better"}
    candidate = adaptation.candidate()
    assert candidate is not None and candidate.name == "adapted 1" and adaptation.in_use() == shipped()
    assert candidate.as_json() == {
        "weights": "adapted 1",
        "sha256": candidate.card["sha256"][:12],
        "since": 5.0,
        "runs": 9,
    }
    adaptation.adopt(candidate)
    assert adaptation.in_use() == candidate and adaptation.candidate() is None and adaptation.before() == shipped()
    assert adaptation.in_use().load()(np.zeros((56, 45), np.float32)).shape == (56,)
    assert adaptation.roll_back() == shipped()
    assert not adaptation.generations.folder(first).exists()


def test_what_did_not_win_is_removed_and_said(adaptation: Adaptation) -> None:
    tried = untrained(adaptation, won=True, reason="better")
    adaptation.judged(adaptation.generations.folder(tried))
    lost = adaptation.generations.folder(untrained(adaptation, won=False, reason="no better"))
    assert adaptation.judged(lost) == {"won": False, "reason": "no better"} == adaptation.last()
    assert not lost.exists()
    nothing = adaptation.generations.folder(untrained(adaptation))
    assert adaptation.judged(nothing) is None and not nothing.exists()
    candidate = adaptation.candidate()
    assert candidate is not None and candidate.number == tried  # it is tried still
    adaptation.reject()
    assert adaptation.candidate() is None and not candidate.path.exists()


def test_weights_whose_bytes_are_not_what_their_card_says_are_not_used(adaptation: Adaptation) -> None:
    number = untrained(adaptation, won=True, reason="better")
    in_use(adaptation, number)
    path = adaptation.in_use().path
    path.write_bytes(path.read_bytes() + b"more")
    with pytest.raises(ModelError, match="llmos scheduler rollback"):
        adaptation.in_use().load()
    with pytest.raises(ModelError):
        adaptation.try_out(number)
    (adaptation.generations.folder(number) / CARD).write_text("{}")
    with pytest.raises(ModelError, match="damaged"):
        adaptation.in_use()
    assert adaptation.roll_back() == shipped()


def test_a_damaged_list_is_mended_by_a_rollback(adaptation: Adaptation) -> None:
    adaptation.generations.new_folder()
    (adaptation.generations.home / "current").write_text("no number")
    with pytest.raises(ModelError, match="llmos scheduler rollback"):
        adaptation.in_use()
    assert adaptation.roll_back() == shipped() == adaptation.in_use()


def test_a_new_candidate_takes_the_place_of_the_one_before(adaptation: Adaptation) -> None:
    first = untrained(adaptation)
    adaptation.try_out(first)
    second = untrained(adaptation, 2)
    adaptation.try_out(second)
    candidate = adaptation.candidate()
    assert candidate is not None and candidate.number == second
    assert not adaptation.generations.folder(first).exists()


def test_too_few_runs_teach_nothing() -> None:
    past = runs(telling(MIN_RUNS - 1), ended_by=1.8e9, every=100)
    with pytest.raises(BadInput, match=f"only {MIN_RUNS - 1} runs"):
        usable(past)
    assert len(usable([*past, past[0]])) == MIN_RUNS


def comparison(new: float, in_use: float, static: float) -> Comparison:
    figures = {"new": new, "in_use": in_use, "static": static}
    return Comparison(64, 0.0, figures, figures)


@pytest.mark.parametrize(
    ("own", "fall", "present", "won", "reason"),
    [
        (comparison(0.9, 1.0, 1.0), 0.0, "in_use", True, "better than what is in use"),
        (comparison(0.995, 1.0, 1.1), 0.0, "in_use", False, "no better"),
        (comparison(0.9, 1.0, 0.8), 0.0, "in_use", False, "worse than the static"),
        (comparison(1.0, 1.2, 1.0), 0.0, "static", False, "no better"),
        (comparison(0.9, 1.0, 1.0), 0.1, "in_use", False, "forgotten"),
    ],
)
def test_weights_win_by_what_they_do_and_do_not_forget(
    own: Comparison, fall: float, present: str, won: bool, reason: str
) -> None:
    found = _verdict(own, fall, present)
    assert found[0] is won and reason in found[1]


def test_the_job_learns_and_says_whether_it_has_won(tmp_path: Path) -> None:
    history = RunHistory(tmp_path / "runs.db")
    history.add(runs(telling(200), ended_by=1.8e9, every=100))
    history.close()
    adaptation = Adaptation(tmp_path)
    folder = adaptation.generations.new_folder()
    command = [sys.executable, "-m", "llmos.scheduler.adaptation_job", "--state", str(tmp_path), "--out", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stderr
    assert "epoch 8 of 8" in done.stdout and "held out" in done.stdout
    result = json.loads((folder / RESULT).read_text())
    assert result["held_out"] == 60 and result["compared_with"] == "shipped" and result["reason"] in done.stdout
    card = json.loads((folder / CARD).read_text())
    assert card["sha256"] == hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest() != shipped().card["sha256"]
    adaptation.judged(folder)
    assert (adaptation.candidate() is not None) == result["won"]


def test_the_job_says_what_it_lacks(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    command = [sys.executable, "-m", "llmos.scheduler.adaptation_job", "--state", str(tmp_path)]
    done = subprocess.run([*command, "--out", str(tmp_path / "out")], capture_output=True, text=True, timeout=60)
    assert done.returncode == BadInput.exit_code and "only 0 runs" in done.stderr
