"""The job file: what is written reads back the same, and what is malformed is named."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmos import jobfile
from llmos.errors import BadInput
from llmos.kernel.job import Job
from llmos.syscalls.job import Run

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
scalars = texts | st.integers(-(2**63), 2**63 - 1) | st.booleans()
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3), max_leaves=6
)


@given(
    jobs=st.dictionaries(
        texts, st.dictionaries(texts.filter(lambda name: name != "cwd"), values, max_size=4), max_size=3
    )
)
def test_what_is_written_reads_back_the_same(jobs: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "jobs.toml"
    jobs = {
        name: {"cwd": "/srv", **{field: value for field, value in table.items() if field not in jobfile.FIELDS}}
        for name, table in jobs.items()
    }
    path.write_text(jobfile.write(jobs))
    assert jobfile.read(path) == jobs


def test_paths_stand_from_the_folder_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "jobs.toml"
    path.write_text(
        '[job.a]\nargv = "true"\n[job.b]\ncwd = "sub"\nenv_files = [".env", "/etc/x", "~/y"]\n[job.c]\ncwd = "~/x"\n'
    )
    jobs = jobfile.read(path)
    assert [jobs[name]["cwd"] for name in "abc"] == [str(tmp_path), str(tmp_path / "sub"), "~/x"]
    assert jobs["b"]["env_files"] == [str(tmp_path / ".env"), "/etc/x", "~/y"]


def test_its_fields_are_those_of_run_and_of_a_job() -> None:
    assert {*jobfile.FIELDS} == {*Run.model_fields} - {"name", "on"} | {"env"}
    kept_otherwise = {"at", "once", "every", "cron", "user"}
    assert {*jobfile.FIELDS} - kept_otherwise <= set(Job.__dataclass_fields__)


def test_the_example_of_the_documentation_is_a_job_file(tmp_path: Path) -> None:
    page = (Path(__file__).parent.parent / "docs/job-files.md").read_text()
    (tmp_path / "jobs.toml").write_text(page.partition("```toml\n")[2].partition("```")[0])
    jobs = jobfile.read(tmp_path / "jobs.toml")
    assert [jobfile.spec_of(name, table).run.name for name, table in jobs.items()] == ["db", "web", "backup"]


def test_argv_may_be_one_string() -> None:
    assert jobfile.spec_of("a", {"argv": "sh -c 'echo $HOME | wc'"}).run.argv == ["sh", "-c", "echo $HOME | wc"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[job.web\n", r"jobs\.toml is no TOML file: .*line 1"),
        ("[jobs.web]\n", r"jobs\.toml: a job file holds tables \[job\.NAME\] and not 'jobs'"),
        ("job = 3\n", r"a job file holds tables \[job\.NAME\]"),
        ("[job]\nweb = 3\n", r"a job file holds tables \[job\.NAME\]"),
        ("[job.web]\nat = 02:00:00\n", r'job\.web\.at: write dates and times in quotes, such as at = "02:00"'),
    ],
)
def test_what_is_no_job_file_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "jobs.toml"
    path.write_text(text)
    with pytest.raises(BadInput, match=message):
        jobfile.read(path)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"cannot read .*none\.toml: No such file"):
        jobfile.read(tmp_path / "none.toml")


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"argv": "x", "command": "x"}, r"job\.a: this llmosd knows no field 'command'; it may have argv, cwd"),
        ({"argv": "x", "pid": 3}, r"knows no field 'pid'; did you mean pids\?"),
        ({"argv": []}, r"job\.a\.argv: "),
        ({"argv": "x", "ready": {"tcp": 80, "log": "x"}}, r"job\.a\.ready: "),
        ({"argv": "x", "umask": "9"}, r"job\.a\.umask: '9' is no umask"),
        ({"argv": "x", "env": ["A=1"]}, r"job\.a\.env: "),
        ({"argv": "x", "env": {"": "1"}}, r"job\.a\.env.*empty"),
        ({"argv": "x", "cpu": True}, r"job\.a\.cpu: "),
    ],
)
def test_a_malformed_field_is_named(table: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        jobfile.spec_of("a", table)
