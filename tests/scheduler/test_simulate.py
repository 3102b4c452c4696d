import json
from pathlib import Path

import pytest

from llmos.scheduler import generators
from llmos.scheduler.contest import POLICIES
from llmos.scheduler.simulate import main
from llmos.scheduler.workload import Job
from swf_text import write_swf


def test_compares_all_policies_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    jobs = [Job(n, 30 * n, 20 + 7 * (n % 31), 1, str(n % 3), str(n % 5)) for n in range(400)]
    history = write_swf(tmp_path / "history.swf", jobs[:150])
    trace = write_swf(tmp_path / "trace.swf", jobs[150:])
    names = sorted(POLICIES)
    arguments = [str(trace), "--history", str(history), "--policy", *names, "--processors", "4", "--load", "0.9"]
    assert main([*arguments, "--windows", "1", "--seed", "1", "--json"]) == 0
    table = json.loads(capsys.readouterr().out)
    assert list(table) == ["policies"]
    assert sorted(table["policies"]) == names
    for row in table["policies"].values():
        assert list(row) == ["mean_slowdown", "p95_slowdown", "mean_jct", "p95_jct", "makespan"]
        assert row["mean_slowdown"] >= 1
    assert table["policies"]["srtf"]["mean_jct"] <= table["policies"]["fcfs"]["mean_jct"]


def test_a_table_for_people(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmos.scheduler.contest.WINDOW", 100)
    assert main([sorted(generators.NAMES)[0], "--policy", "las", "--windows", "1", "--processors", "2"]) == 0
    assert "mean_slowdown" in capsys.readouterr().out


def test_says_which_file_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "none.swf"), "--windows", "1"]) == 1
    assert "none.swf" in capsys.readouterr().err


@pytest.mark.parametrize("wrong", [["--processors", "0"], ["--load", "0"], ["--windows", "0"], ["--policy", "best"]])
def test_refuses_what_makes_no_sense(wrong: list[str]) -> None:
    with pytest.raises(SystemExit):
        main(["bursts", *wrong])
