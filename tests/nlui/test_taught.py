"""What was taught is for requests that say its phrases."""

from pathlib import Path

import pytest

from llmos.nlui.taught import NOTHING, Taught


@pytest.mark.parametrize(
    ("request_", "phrase", "offered"),
    [
        ("restart the usual", "usual", True),
        ("restart the Usual, please", "the usual", True),
        ("restart grandma's worker", "grandma", True),
        ("restart it, unusually", "usual", False),
        ("restart the usuals", "usual", False),
        ("重启老黄牛吧", "老黄牛", True),
        ("重启老牛吧", "老黄牛", False),
    ],
)
def test_it_is_for_who_says_its_phrase(request_: str, phrase: str, offered: bool) -> None:
    taught = Taught({"TARGET": {"nightly-etl": [phrase]}, "PATH": {"/mnt": []}}, [phrase])
    assert taught.concerns(request_) is offered
    assert taught.offered(request_) == {"TARGET": ["nightly-etl"] if offered else [], "PATH": ["/mnt"]}


def test_without_phrases_it_is_for_all_and_nothing_is_for_none() -> None:
    assert Taught({}, None).concerns("anything") and not NOTHING.concerns("anything")


def test_it_is_read_as_it_was_written(tmp_path: Path) -> None:
    taught = Taught({"JOB": {"nightly-etl": ["老黄牛"]}}, ["老黄牛"])
    taught.write(tmp_path / "taught.json")
    assert Taught.read(tmp_path / "taught.json") == taught
    (tmp_path / "taught.json").write_text('{"JOB": []}')
    with pytest.raises(TypeError):
        Taught.read(tmp_path / "taught.json")
