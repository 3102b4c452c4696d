import gzip
from itertools import pairwise
from pathlib import Path

import pytest

from llmos.errors import BadInput, NotFound
from llmos.scheduler import generators
from llmos.scheduler.workload import Job, read_swf, rescaled, windows
from swf_text import write_swf


def test_reads_what_ran_by_submission(tmp_path: Path) -> None:
    jobs = [Job(1, 5, 10, 2, "7", "3", "4", 60), Job(2, 1, 20), Job(3, 2, 0)]
    assert read_swf(write_swf(tmp_path / "t.swf", jobs)) == [jobs[1], jobs[0]]


def test_reads_gzip(tmp_path: Path) -> None:
    plain = write_swf(tmp_path / "t.swf", [Job(1, 0, 10)])
    packed = tmp_path / "t.swf.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    assert read_swf(packed) == read_swf(plain)


@pytest.mark.parametrize("text", ["1 2 3\n", "a " * 18, "; nothing\n", ""])
def test_says_what_is_wrong(tmp_path: Path, text: str) -> None:
    (tmp_path / "t.swf").write_text(text)
    with pytest.raises(BadInput, match=r"t\.swf"):
        read_swf(tmp_path / "t.swf")


def test_no_file_and_no_gzip(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        read_swf(tmp_path / "none.swf")
    (tmp_path / "t.swf.gz").write_text("no gzip")
    with pytest.raises(BadInput):
        read_swf(tmp_path / "t.swf.gz")


@pytest.mark.parametrize("load", [0.5, 0.9])
def test_a_window_has_the_load(load: float) -> None:
    jobs = rescaled(generators.draw("philly", 300, 1), load, 4)
    work = sum(job.runtime * job.processors for job in jobs)
    assert work / (4 * (jobs[-1].submit - jobs[0].submit)) == pytest.approx(load)
    assert max(job.processors for job in jobs) == 4


def test_jobs_that_come_at_once_are_spread() -> None:
    jobs = rescaled([Job(n, 7, 10) for n in range(11)], 0.5, 2)
    assert [job.submit for job in jobs] == [10.0 * 1.1 * n for n in range(11)]


def test_windows_do_not_overlap_while_there_is_room() -> None:
    jobs = generators.draw("bursts", 5000, 1)
    drawn = windows(jobs, 4, load=0.9, processors=4, seed=3)
    begins = [window.begin for window in drawn]
    assert all(later - earlier >= 1024 for earlier, later in pairwise(begins))
    assert drawn == windows(jobs, 4, load=0.9, processors=4, seed=3)
    assert len(windows(jobs, 9, load=0.9, processors=4, seed=3)) == 9
    with pytest.raises(BadInput):
        windows(jobs[:1], 1, load=0.9, processors=4, seed=3)


@pytest.mark.parametrize("name", sorted(generators.NAMES))
def test_generators_are_seeded(name: str) -> None:
    jobs = generators.draw(name, 200, 5)
    assert jobs == generators.draw(name, 200, 5) != generators.draw(name, 200, 6)
    assert len(jobs) == 200
    assert all(job.runtime >= 1 and job.processors >= 1 for job in jobs)
    assert [job.submit for job in jobs] == sorted(job.submit for job in jobs)
