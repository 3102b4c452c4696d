"""A log file on the real file system: read backwards, by marks, bounded, and safe from what lies in its place."""

import errno
import os
import time
from pathlib import Path

import pytest

from llmos.kernel import log_file
from llmos.kernel.log_file import BLOCK_BYTES, MAX_LINE_BYTES, LogFile

BOUND = 256 * 1024


@pytest.fixture
def file(tmp_path: Path) -> LogFile:
    made = LogFile(tmp_path / "web.log")
    made.make(os.getuid(), os.getgid())
    return made


def write(file: LogFile, data: bytes) -> None:
    with file.path.open("ab") as out:
        out.write(data)


def lines(file: LogFile, count: int = 100, grep: str | None = None, since: float | None = None) -> list[str]:
    found = file.read(count, grep, since)["lines"]
    assert isinstance(found, list)
    return found


@pytest.mark.parametrize(
    ("data", "wanted"),
    [
        (b"", []),
        (b"a\n", ["a"]),
        (b"a", ["a"]),
        (b"a\nb", ["a", "b"]),
        (b"\n", [""]),
        (b"\n\n", ["", ""]),
        (b"a\n\nb\n", ["a", "", "b"]),
        (b"a\r\nb\r\n", ["a", "b"]),
        (b"\xff\x00x\n", ["\ufffd\x00x"]),
        ("新\n🦀\n".encode(), ["新", "🦀"]),
    ],
)
def test_lines_of_every_kind(file: LogFile, data: bytes, wanted: list[str]) -> None:
    write(file, data)
    assert lines(file) == wanted


def test_the_last_lines_across_blocks(file: LogFile) -> None:
    wanted = [f"line {number} {'x' * (number % 97)}" for number in range(20_000)]
    write(file, "\n".join(wanted).encode() + b"\n")
    assert file.path.stat().st_size > 3 * BLOCK_BYTES
    assert lines(file, 10**6) == wanted
    assert file.read(3, None, None) == {"lines": wanted[-3:], "truncated": True}
    assert lines(file, 2, grep="line 1999") == wanted[-2:]
    assert lines(file, 2, grep="line 7 ") == ["line 7 xxxxxxx"]
    assert lines(file, 2, grep="absent") == []


@pytest.mark.parametrize("end", [b"", b"\n"])
def test_a_line_of_a_megabyte_comes_in_pieces_and_nothing_is_lost(file: LogFile, end: bytes) -> None:
    write(file, b"before\n" + b"0123456789" * 100_000 + end)
    before, *pieces = lines(file)
    assert before == "before"
    assert "".join(pieces) == "0123456789" * 100_000
    assert all(len(piece) <= MAX_LINE_BYTES for piece in pieces)


def test_a_file_that_is_not_there_has_no_lines(tmp_path: Path) -> None:
    file = LogFile(tmp_path / "none.log")
    assert file.read(5, None, 0.0) == {"lines": [], "truncated": False}
    assert file.read_from(7) == (7, b"")
    assert file.length() == 0
    file.take_in(BOUND)
    file.remove()


def test_since_gives_what_is_not_older_and_marks_outlive_the_daemon(
    file: LogFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [1000.0]
    monkeypatch.setattr(time, "time", lambda: clock[0])
    for word in ("a", "b", "c"):
        write(file, f"{word}\n".encode())
        file.take_in(BOUND)
        clock[0] += 10
    assert lines(file, since=0.0) == ["a", "b", "c"]
    assert lines(file, since=1000.0) == ["a", "b", "c"]
    assert lines(file, since=1000.5) == ["b", "c"]
    assert lines(file, since=1015.0) == ["c"]
    assert lines(file, since=1020.5) == []
    write(file, b"d\n")
    assert lines(file, since=1020.5) == ["d"], "what has not been looked at yet is new"

    again = LogFile(file.path)
    clock[0] = 2000.0
    again.make(os.getuid(), os.getgid())
    again.take_in(BOUND)
    assert lines(again, since=1015.0) == ["c", "d"]
    assert lines(again, since=1999.0) == ["d"], "written while nobody looked: not older than that, as far as is known"


def test_marks_are_bounded_and_those_of_now_stay_exact(file: LogFile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_file, "MAX_MARKS", 64)
    clock = [0.0]
    monkeypatch.setattr(time, "time", lambda: clock[0])
    for number in range(1000):
        clock[0] += 1
        write(file, f"{number + 1}\n".encode())
        file.take_in(BOUND)
        assert len(file.marks) <= 65
        assert file.marks_path.stat().st_size <= 65 * 16
    assert lines(file, 2000, since=990.0) == [str(number) for number in range(990, 1001)]
    far = lines(file, 2000, since=500.0)
    assert far[-1] == "1000"
    assert int(far[0]) <= 500
    assert LogFile(file.path).read(1, None, 0.0)["lines"] == ["1000"]


def test_spoilt_marks_do_no_harm(file: LogFile) -> None:
    write(file, b"a\n")
    file.marks_path.write_bytes(os.urandom(37))
    again = LogFile(file.path)
    again.take_in(BOUND)
    assert lines(again) == ["a"]


def test_the_head_is_given_back_and_the_first_line_is_a_whole_one(file: LogFile) -> None:
    for number in range(20):
        write(
            file, b"".join(b"%06d %s\n" % (number, b"x" * 100) for number in range(number * 1000, number * 1000 + 1000))
        )
        file.take_in(BOUND)
    status = file.path.stat()
    assert status.st_size > 2_000_000
    assert status.st_blocks * 512 <= BOUND + BOUND // 4 + 110_000
    found = lines(file, 10**6)
    assert found[-1].startswith("019999 ")
    assert [line[:6] for line in found] == [f"{number:06d}" for number in range(20_000 - len(found), 20_000)]
    assert len(found) * 108 > BOUND - 4096
    offset, chunk = file.read_from(5)
    assert chunk.startswith(found[0].encode())
    assert offset > 5


def test_it_is_emptied_where_the_file_system_cannot_punch(file: LogFile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_file, "punch_hole", lambda descriptor, length: errno.EOPNOTSUPP)
    writer = os.open(file.path, os.O_APPEND | os.O_WRONLY)
    os.write(writer, b"old\n" * 100_000)
    file.take_in(BOUND)
    assert file.path.stat().st_size == 0
    assert file.marks == []
    os.write(writer, b"new\n")
    os.close(writer)
    file.take_in(BOUND)
    assert lines(file, since=0.0) == ["new"]
    assert file.read_from(10**6) == (10**6, b"")
    assert file.beginnings == 2


def test_another_failure_of_punching_is_said(file: LogFile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_file, "punch_hole", lambda descriptor, length: errno.EIO)
    write(file, b"x" * 2 * BOUND)
    with pytest.raises(OSError, match="Input/output error"):
        file.take_in(BOUND)


def test_a_file_that_shrinks_begins_anew(file: LogFile) -> None:
    write(file, b"a\nb\n")
    file.take_in(BOUND)
    os.truncate(file.path, 0)
    write(file, b"c\n")
    file.take_in(BOUND)
    assert [end for _, end in file.marks] == [2]
    assert lines(file, since=0.0) == ["c"]


def test_a_symbolic_link_in_its_place_is_not_followed(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret\n" * 100_000)
    mode = secret.stat()
    file = LogFile(tmp_path / "web.log")
    file.path.symlink_to(secret)
    for act in (
        lambda: file.make(65534, 65534),
        lambda: file.read(5, None, None),
        lambda: file.read_from(0),
        lambda: file._bound(8192),
    ):
        with pytest.raises(OSError) as caught:
            act()
        assert caught.value.errno == errno.ELOOP
    file.take_in(4096)
    assert secret.stat() == mode
    assert secret.read_text() == "secret\n" * 100_000
    file.remove()
    assert secret.exists()


def test_a_pipe_in_its_place_does_not_hang(tmp_path: Path) -> None:
    file = LogFile(tmp_path / "web.log")
    os.mkfifo(file.path)
    with pytest.raises(OSError):
        file.make(os.getuid(), os.getgid())


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_it_belongs_to_the_user_of_the_job(tmp_path: Path) -> None:
    file = LogFile(tmp_path / "web.log")
    file.make(65534, 65534)
    status = file.path.stat()
    assert (status.st_uid, status.st_gid, status.st_mode & 0o777) == (65534, 65534, 0o600)
