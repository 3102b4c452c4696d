"""Measuring a model: a real one on two cases, and the arithmetic of the report."""

import json
import subprocess
import sys
from pathlib import Path

from llmos.nlui.evaluate import Result, misses, read_cases, report, write_predictions

SAMPLE = Path(__file__).parents[1] / "data" / "nl_sample.jsonl"


def result(number: int, lang: str, tags: list[str], right: bool, seconds: float) -> Result:
    case = {"id": f"c{number}", "lang": lang, "request": f"r{number}", "accept": [["jobs"]], "tags": tags}
    return Result(case, ["jobs"], right, seconds, "" if right else "no plan")


def test_report_counts_by_language_and_tag(tmp_path: Path) -> None:
    results = [
        result(1, "en", ["ask"], True, 1.0),
        result(2, "zh", ["ask"], False, 3.0),
        result(3, "en", [], True, 2.0),
    ]
    lines = [line.split() for line in report(results).splitlines()]
    assert lines == [
        ["all", "2", "/", "3", "66.7%"],
        ["en", "2", "/", "2", "100.0%"],
        ["zh", "0", "/", "1", "0.0%"],
        ["ask", "1", "/", "2", "50.0%"],
        ["seconds", "median", "2.00,", "p95", "3.00"],
    ]
    assert misses(results) == "c2: r2\n    want ['jobs']\n    got  ['jobs']\n    no plan"
    write_predictions(results, tmp_path / "p.jsonl")
    assert json.loads((tmp_path / "p.jsonl").read_text().splitlines()[1]) == {
        "id": "c2",
        "plan": ["jobs"],
        "seconds": 3.0,
    }


def test_sample_is_well_formed() -> None:
    cases = read_cases(SAMPLE)
    assert len({case["id"] for case in cases}) == len(cases) >= 30
    assert {case["lang"] for case in cases} == {"en", "zh"}


def test_command_asks_a_real_model(model_path: Path, tmp_path: Path) -> None:
    cases = tmp_path / "cases.jsonl"
    cases.write_text("\n".join(SAMPLE.read_text(encoding="utf-8").splitlines()[:2]), encoding="utf-8")
    command = [sys.executable, "-m", "llmos.nlui.evaluate", str(cases), "--model", str(model_path), "--misses"]
    done = subprocess.run([*command, "--predictions", str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "/    2" in done.stdout
    assert len((tmp_path / f"{model_path.stem}.jsonl").read_text().splitlines()) == 2


def test_missing_cases_are_an_error_in_words(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "llmos.nlui.evaluate", str(tmp_path / "none.jsonl")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "No such file" in done.stderr
    assert "Traceback" not in done.stderr
