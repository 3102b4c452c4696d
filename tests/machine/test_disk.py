"""The biggest files and folders, of real trees."""

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llmos.errors import NotFound
from llmos.machine.disk import largest

MIB = 1024 * 1024


def write(path: Path, size: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(os.urandom(size))  # as some file systems compress
    fd = os.open(path, os.O_RDONLY)
    os.fsync(fd)  # blocks are allocated late
    os.close(fd)


def test_the_biggest_come_first(tmp_path: Path) -> None:
    write(tmp_path / "small" / "s", MIB)
    write(tmp_path / "big" / "deep" / "b", 3 * MIB)
    write(tmp_path / "top", 2 * MIB)
    usage = largest(str(tmp_path))
    assert [Path(file.path).name for file in usage.files] == ["b", "top", "s"]
    assert [Path(folder.path).name for folder in usage.folders] == ["big", "deep", "small"]
    assert usage.bytes >= usage.folders[0].bytes + usage.folders[2].bytes + 2 * MIB
    assert usage.entries == 6
    assert (usage.unreadable, usage.truncated) == (0, False)
    assert usage.as_json()["files"] == [{"path": file.path, "bytes": file.bytes} for file in usage.files]


def test_it_counts_as_du_does(tmp_path: Path) -> None:
    for number in range(40):
        write(tmp_path / str(number % 7) / str(number % 3) / str(number), 5000 * number)
    (tmp_path / "again").hardlink_to(tmp_path / "4" / "0" / "39")
    (tmp_path / "4" / "round").symlink_to(tmp_path)
    du = subprocess.run(["du", "-s", "--block-size=1", tmp_path], capture_output=True, text=True, check=True)
    assert largest(str(tmp_path)).bytes == int(du.stdout.split()[0])


def test_limit_bounds_both_lists(tmp_path: Path) -> None:
    for number in range(9):
        write(tmp_path / f"d{number}" / "f", 10_000 * (number + 1))
    usage = largest(str(tmp_path), limit=2)
    assert [Path(file.path).parent.name for file in usage.files] == ["d8", "d7"]
    assert [Path(folder.path).name for folder in usage.folders] == ["d8", "d7"]


def test_hard_links_count_once_and_links_in_a_circle_end(tmp_path: Path) -> None:
    write(tmp_path / "one", MIB)
    for number in range(5):
        (tmp_path / f"name{number}").hardlink_to(tmp_path / "one")
    (tmp_path / "self").symlink_to(tmp_path)
    (tmp_path / "loop").symlink_to("loop")
    usage = largest(str(tmp_path))
    assert MIB <= usage.bytes < 2 * MIB
    assert sum(file.bytes >= MIB for file in usage.files) == 1


def test_holes_take_no_space(tmp_path: Path) -> None:
    with open(tmp_path / "sparse", "wb") as file:
        file.truncate(1 << 30)
    assert largest(str(tmp_path)).bytes < MIB


def test_a_single_file(tmp_path: Path) -> None:
    write(tmp_path / "file", MIB)
    (tmp_path / "link").symlink_to("file")
    usage = largest(str(tmp_path / "link"))
    assert [file.path for file in usage.files] == [os.path.realpath(tmp_path / "file")]
    assert usage.bytes >= MIB


def test_deeper_than_the_stack(tmp_path: Path) -> None:
    here = os.open(tmp_path, os.O_RDONLY)
    try:
        for _ in range(1500):  # deeper than the recursion limit; in steps, as the whole path grows too long to name
            os.mkdir("d", dir_fd=here)
            below = os.open("d", os.O_RDONLY, dir_fd=here)
            os.close(here)
            here = below
    finally:
        os.close(here)
    usage = largest(str(tmp_path))
    assert usage.entries == 1500
    assert not usage.truncated
    subprocess.run(["rm", "-rf", tmp_path / "d"], check=True)


def test_entries_and_time_run_out(tmp_path: Path) -> None:
    for number in range(20):
        write(tmp_path / f"d{number}" / "f", 100)
    few = largest(str(tmp_path), max_entries=5)
    assert (few.entries, few.truncated) == (5, True)
    assert largest(str(tmp_path), deadline=-1.0).truncated


def test_it_stays_on_one_file_system() -> None:
    if not os.path.ismount("/proc"):
        pytest.skip("/proc is no mount")
    usage = largest("/", limit=1000, max_entries=20_000)
    assert not [each for each in (*usage.folders, *usage.files) if each.path.startswith("/proc")]


def test_a_name_that_is_no_text_can_be_sent(tmp_path: Path) -> None:
    write(Path(os.fsdecode(bytes(tmp_path) + b"/\xff\xfe")), 10)
    json.dumps(largest(str(tmp_path)).as_json(), ensure_ascii=False).encode()


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        largest(str(tmp_path / "missing"))


def test_what_may_not_be_read_is_counted(tmp_path: Path, as_nobody: Callable[[str], Any]) -> None:
    # Not below tmp_path, whose parents nobody else may enter.
    base = Path(os.path.realpath(f"/tmp/llmos-test-{os.getpid()}"))
    try:
        write(base / "open" / "file", MIB)
        write(base / "closed" / "file", MIB)
        base.chmod(0o755)
        (base / "open").chmod(0o755)
        (base / "closed").chmod(0o700)
        result = as_nobody(
            f"""
            result = [disk.largest({str(base)!r}).as_json()]
            for path in ("closed", "closed/file"):
                try:
                    disk.largest({str(base)!r} + "/" + path)
                except errors.Forbidden as error:
                    result.append(error.message)
            """
        )
    finally:
        subprocess.run(["rm", "-rf", base], check=True)
    assert result[0]["unreadable"] == 1
    assert [Path(file["path"]).parent.name for file in result[0]["files"]] == ["open"]
    assert len(result) == 3 and all("as root" in message for message in result[1:])
