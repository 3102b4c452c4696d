"""The arithmetic of a report, on results made by hand."""

import json
from pathlib import Path

import pytest
from rich.console import Console

from llmos.nlui.calibration import Calibration
from llmos.nlui.evaluation import report
from llmos.nlui.evaluation.cases import Case
from llmos.nlui.evaluation.coverage import accuracy_at, auroc, calibration_error
from llmos.nlui.evaluation.figures import Count, Result, figures
from llmos.nlui.evaluation.measuring import Footprint, judged

JOBS, ASK, REFUSE, EITHER = ("jobs",), ("ask *",), ("refuse *",), (("ask *",), ("jobs",))


def case(number: int, lang: str, *accept: tuple[str, ...], tags: tuple[str, ...] = ()) -> Case:
    return Case(f"c{number}", lang, f"request {number}", accept, tags)


def results() -> list[Result]:
    return [
        judged(case(1, "en", JOBS, tags=("jobs",)), "jobs", 1.0, confidence=0.9, tokens=(10, 2, 4)),
        judged(case(2, "zh", JOBS, tags=("jobs",)), 'refuse "no"', 2.0, confidence=0.6, tokens=(20, 4, 0)),
        judged(case(3, "en", ASK), 'ask "which one?"', 3.0, confidence=0.8),
        judged(case(4, "en", ASK), "jobs", 4.0, confidence=0.7),
        judged(case(5, "zh", REFUSE), 'refuse "no"', 5.0, confidence=0.95),
        judged(case(6, "en", *EITHER), 'ask "what?"', 6.0, confidence=0.5),
        judged(case(7, "en", JOBS), "kill nobody-said-so", 7.0, confidence=0.4),
        Result(case(8, "en", JOBS), (), False, False, 8.0, note="timed out"),
    ]


def test_exact_plans_by_language_and_tag() -> None:
    exact = figures(results()).exact
    assert list(exact) == ["all", "en", "zh", "jobs"]
    assert exact == {"all": Count(4, 8), "en": Count(3, 6), "zh": Count(1, 2), "jobs": Count(1, 2)}


def test_talk_is_recalled_and_not_overdone() -> None:
    found = figures(results())
    assert found.recall == {"ask": Count(1, 2), "refuse": Count(1, 1)}
    assert found.false_refusals == Count(1, 4)  # a request that may be asked about is not among them


def test_what_the_grammar_forbids_and_what_never_came_are_counted_apart() -> None:
    found = figures(results())
    assert found.outside_grammar == Count(1, 8)
    assert found.no_plan == Count(1, 8)
    assert judged(case(9, "en", JOBS), "jobs and more", 0.1).in_grammar is False
    assert judged(case(9, "en", JOBS), "jobs\nps", 0.1).in_grammar is True


def test_seconds_and_tokens() -> None:
    found = figures(results())
    assert (found.median_seconds, found.p95_seconds) == (4.5, 8.0)
    assert found.tokens == {"prompt": 30 / 8, "chosen": 6 / 8, "forced": 4 / 8}


def test_a_calibration_says_who_is_asked_about() -> None:
    calibration = Calibration(((0.0, 0.2), (1.0, 0.8)), threshold=0.6, pairs=100)
    found = figures(results(), calibration)
    assert found.asked == Count(3, 8)
    assert found.right_unasked == Count(3, 5)
    assert found.calibration_error != figures(results()).calibration_error
    assert figures(results()).asked is None


def test_accuracy_of_the_surest() -> None:
    observed = [(0.9, True), (0.8, True), (0.8, False), (0.1, False)]
    assert [accuracy_at(observed, share) for share in (1.0, 0.75, 0.5, 0.25, 0.01)] == [0.5, 2 / 3, 0.5, 1.0, 1.0]
    assert accuracy_at([(1.0, True)] * 19 + [(0.5, False)], 0.95) == 1.0


def test_auroc() -> None:
    assert auroc([(0.9, True), (0.8, True), (0.1, False)]) == 1.0
    assert auroc([(0.1, True), (0.9, False)]) == 0.0
    assert auroc([(0.5, True), (0.5, False)]) == 0.5
    assert auroc([(0.9, True), (0.5, True), (0.5, False), (0.7, False)]) == 2.5 / 4
    assert auroc([(0.9, True)]) is None


def test_calibration_error() -> None:
    assert calibration_error([(1.0, True), (0.0, False)]) == 0.0
    assert calibration_error([(1.0, False)]) == 1.0
    assert calibration_error([(0.85, True), (0.85, False), (0.2, False), (0.2, False)]) == pytest.approx(0.275)


def test_tables_misses_and_predictions(tmp_path: Path) -> None:
    found, footprint = figures(results()), Footprint(2.0, 1.0, 500.0, 600.4)
    console = Console(width=100, record=True, quiet=False, file=(tmp_path / "out").open("w"))
    for table in [*report.tables("by hand", found), report.footprint_table(footprint)]:
        console.print(table)
    console.file.close()
    text = " ".join((tmp_path / "out").read_text(encoding="utf-8").split())
    for words in ("en │ 3 │ 6 │ 50.0%", "recall of ask │ 1 / 2 50.0%", "4.50 / 8.00", "500 / 600", "not calibrated"):
        assert words in text
    assert "c8: request 8\n    want ['jobs']\n    got  []  confidence 0.000\n    timed out" in report.misses(results())
    report.write_predictions(results(), tmp_path / "new" / "p.jsonl")
    second = json.loads((tmp_path / "new" / "p.jsonl").read_text(encoding="utf-8").splitlines()[1])
    assert second == {
        "id": "c2",
        "plan": ['refuse "no"'],
        "right": False,
        "confidence": 0.6,
        "least_confidence": 0.0,
        "seconds": 2.0,
    }


def test_figures_are_json() -> None:
    plain = json.loads(json.dumps(report.as_json({"by hand": figures(results())}, Footprint(2.0, 1.0, 5.0, 6.0))))
    assert plain["worker"]["peak_mib"] == 6.0
    found = plain["cases"]["by hand"]
    assert found["exact"]["zh"] == {"count": 1, "of": 2, "share": 0.5}
    assert found["accuracy_at"]["1.0"] == 0.5
    assert found["asked"] is None
