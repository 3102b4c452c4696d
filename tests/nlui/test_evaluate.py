"""Measuring a model: a real one on two cases, and bad files of cases."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from llmos.errors import BadInput
from llmos.nlui.evaluation.cases import Case, heldout_cases, read_cases

SAMPLE = Path(__file__).parents[1] / "data" / "nl_sample.jsonl"


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "llmos.nlui.evaluate", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_sample_is_well_formed() -> None:
    cases = read_cases(SAMPLE)
    assert len({case.id for case in cases}) == len(cases) >= 30
    assert {case.lang for case in cases} == {"en", "zh"}


def test_a_pair_is_a_case_whose_wording_is_free(tmp_path: Path) -> None:
    file = tmp_path / "pairs.jsonl"
    rows = [
        {"lang": "en", "request": "stop web", "plan": ["stop web"]},
        {"lang": "en", "request": "a poem", "plan": ['refuse "no poems"']},
    ]
    file.write_text("\n\n".join(map(json.dumps, rows)), encoding="utf-8")
    stop, poem = read_cases(file)
    assert stop == Case("pairs-1", "en", "stop web", (("stop web",),))
    assert (poem.id, poem.accept) == ("pairs-3", (("refuse *",),))
    assert poem.verbs == {"refuse"}


GOOD = '{"lang": "en", "request": "jobs", "accept": [["jobs"]]}'


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "holds no case"),
        (f"{GOOD}\n{{", "line 2 is no JSON"),
        (f"{GOOD}\n[1]", "line 2 is no case"),
        ('{"lang": "en", "request": "jobs"}', "line 1 is no case"),
        ('{"lang": "en", "request": "jobs", "accept": []}', "line 1 is no case"),
        ('{"lang": "en", "request": "jobs", "accept": [[]]}', "line 1 is no case"),
        ('{"lang": "en", "request": 7, "accept": [["jobs"]]}', "line 1 is no case"),
        ('{"lang": "en", "request": "x", "accept": [["jobs"], ["reboot now"]]}', "not in the plan language"),
        ('{"lang": "en", "request": "x", "accept": [["stop \\"web"]]}', "not in the plan language"),
        ('{"lang": "en", "request": "x", "accept": [["port 1 2"]]}', "not in the plan language"),
    ],
)
def test_bad_cases_are_named(tmp_path: Path, text: str, complaint: str) -> None:
    file = tmp_path / "cases.jsonl"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(BadInput, match=complaint):
        read_cases(file)


def test_what_is_no_text_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "cases.jsonl"
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadInput, match="cannot be read"):
        read_cases(file)


def test_held_out_cases_are_the_same_each_time_and_apart_from_those_to_calibrate_on() -> None:
    measure, calibrate = heldout_cases(60), heldout_cases(60, "calibrate")
    assert len(measure) == 60 and measure == heldout_cases(60)
    assert {case.lang for case in measure} == {"en", "zh"}
    assert not {case.request for case in measure} & {case.request for case in calibrate}


def test_no_held_out_cases_cannot_be_made() -> None:
    with pytest.raises(BadInput, match="ask for 1 at least"):
        heldout_cases(-1)


def test_command_asks_a_real_model(model_path: Path, tmp_path: Path) -> None:
    cases = tmp_path / "cases.jsonl"
    cases.write_text("\n".join(SAMPLE.read_text(encoding="utf-8").splitlines()[:2]), encoding="utf-8")
    done = run(cases, "--model", model_path, "--heldout", "1", "--json", "--predictions", tmp_path)
    assert done.returncode == 0, done.stderr
    (measured,) = json.loads(done.stdout)
    sets = measured["cases"]
    assert [figures["exact"]["all"]["of"] for figures in sets.values()] == [2, 1]
    for figures in sets.values():
        assert figures["outside_grammar"]["count"] == figures["no_plan"]["count"] == 0
        assert 0 < figures["median_seconds"] <= figures["p95_seconds"]
        assert figures["tokens"]["prompt"] > 2
    worker = measured["worker"]
    assert worker["load_seconds"] > 0 and worker["cold_load_seconds"] > 0
    assert 50 < worker["resident_mib"] <= worker["peak_mib"]
    predictions = (tmp_path / f"{model_path.stem}.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["id"] for line in predictions] == ["sample-01", "sample-02", "heldout-0001"]
    assert all(0 <= json.loads(line)["confidence"] <= 1 for line in predictions)


def test_missing_cases_are_an_error_in_words(tmp_path: Path) -> None:
    done = run(tmp_path / "none.jsonl")
    assert done.returncode == 1
    assert "No such file" in done.stderr
    assert "Traceback" not in done.stderr
