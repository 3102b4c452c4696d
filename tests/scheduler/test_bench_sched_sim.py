from pathlib import Path

import pytest
from benchmarks.sched_sim import interval, main

from llmos.scheduler.workload import Job
from swf_text import write_swf


def test_a_share_and_its_interval() -> None:
    las, srtf, arm = [10.0, 20.0, 30.0], [5.0, 10.0, 15.0], [7.5, 15.0, 22.5]
    assert interval((las, srtf, arm), "closed", 1) == (0.5, 0.5, 0.5)
    value, low, high = interval((arm, [7.5, 15.0, 45.0]), "ratio", 1)
    assert low <= value <= high
    assert (low, high) == (0.5, 1.0)


def test_no_gap_is_no_share() -> None:
    assert interval(([1.0], [1.0], [1.0]), "closed", 1) == (0.0, 0.0, 0.0)


def test_all_arms_run_to_the_end_on_a_trace_with_a_history(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    jobs = [Job(n, 20 * n, 20 + 7 * (n % 31), 1 + n % 3, str(n % 3), str(n % 5)) for n in range(120)]
    history, trace = write_swf(tmp_path / "history.swf", jobs[:60]), write_swf(tmp_path / "trace.swf", jobs[60:])
    arguments = [f"{trace}=4", "--history", str(history), "--windows", "2", "--size", "30", "--load", "0.9"]
    assert main(arguments) == 0
    shown = capsys.readouterr().out
    for arm in ("las", "srtf", "learned", "no prediction", "no network", "no envelope", "with search"):
        assert f"│ {arm} " in shown
    assert main([f"{tmp_path / 'none.swf'}=4"]) == 1


def test_a_trace_is_told_with_its_processors(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["trace.swf"])
    assert "FILE=PROCESSORS" in capsys.readouterr().err
