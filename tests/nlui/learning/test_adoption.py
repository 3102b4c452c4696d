"""Adapters that were learned: put to use, gone back from, forgotten, and never more of them than are kept."""

import hashlib
import json
from pathlib import Path

import pytest

from llmos.errors import ModelError, NotFound
from llmos.generations import MAX_OLD
from llmos.nlui.learning import adopted
from llmos.nlui.learning.adoption import ADAPTER, CARD, TAUGHT, adopt, generations, roll_back
from llmos.nlui.taught import Taught


def made(state_dir: Path) -> int:
    """An adapter as the job leaves it; its number."""
    folder = generations(state_dir).new_folder()
    content = f"adapter {folder.name}".encode()
    (folder / ADAPTER).write_bytes(content)
    Taught({"JOB": {"nightly-etl": ["usual"]}}, None).write(folder / TAUGHT)
    (folder / CARD).write_text(json.dumps({"upon": "ab", "sha256": hashlib.sha256(content).hexdigest()}))
    return int(folder.name)


def test_at_first_the_shipped_one_is_in_use(tmp_path: Path) -> None:
    assert adopted(tmp_path) is None
    with pytest.raises(NotFound, match="shipped"):
        roll_back(tmp_path)


def test_one_is_put_to_use_and_gone_back_from(tmp_path: Path) -> None:
    first, second = made(tmp_path), made(tmp_path)
    adopt(tmp_path, first)
    now = adopted(tmp_path)
    assert now is not None and now.number == first and now.adapter.read_bytes() == b"adapter 1"
    assert (now.upon, Taught.read(now.taught).phrases) == ("ab", None)
    assert not generations(tmp_path).folder(second).exists()  # nothing leads to it
    second = made(tmp_path)
    adopt(tmp_path, second)
    assert generations(tmp_path).in_use() == [second, first]
    back = roll_back(tmp_path)
    assert back is not None and back.number == first
    assert roll_back(tmp_path) is None and adopted(tmp_path) is None


def test_a_number_is_not_given_twice_in_a_row(tmp_path: Path) -> None:
    adopt(tmp_path, made(tmp_path))
    unused = generations(tmp_path).new_folder()
    assert unused.name == "2" and generations(tmp_path).new_folder().name == "3"


def test_only_some_old_ones_are_kept(tmp_path: Path) -> None:
    for _ in range(MAX_OLD + 3):
        adopt(tmp_path, made(tmp_path))
    kept = sorted(int(path.name) for path in generations(tmp_path).home.glob("[0-9]*"))
    assert kept == sorted(generations(tmp_path).in_use()) == list(range(3, MAX_OLD + 4))


def test_a_damaged_one_is_not_put_to_use(tmp_path: Path) -> None:
    adopt(tmp_path, made(tmp_path))
    number = made(tmp_path)
    (generations(tmp_path).folder(number) / ADAPTER).write_bytes(b"half")
    with pytest.raises(ModelError, match="not what its card says"):
        adopt(tmp_path, number)
    assert generations(tmp_path).in_use() == [1]
    (generations(tmp_path).folder(1) / TAUGHT).unlink()
    with pytest.raises(ModelError, match="rollback"):
        adopted(tmp_path)
    assert roll_back(tmp_path) is None


def test_all_can_be_forgotten(tmp_path: Path) -> None:
    adopt(tmp_path, made(tmp_path))
    generations(tmp_path).forget()
    assert adopted(tmp_path) is None and not generations(tmp_path).home.exists()
    generations(tmp_path).forget()
