"""A log file on the real file system: read backwards, by marks, bounded, and safe from what lies in its place."""

import errno
import os
from pathlib import Path

import pytest

from kernel.file_systems import fill, mounted
from llmos.kernel import log_file
from llmos.kernel.log_file import LogFile, last_lines
from llmos.kernel.log_lines import BLOCK_BYTES, MAX_LINE_BYTES
from llmos.machine.clocks import BOOT, WALL

BOUND = 256 * 1024


@pytest.fixture
def file(tmp_path: Path) -> LogFile:
    made = LogFile(tmp_path / "web.log")
    made.make(os.getuid(), os.getgid())
    return made


def write(file: LogFile, data: bytes) -> None:
    with file.path.open("ab") as out:
        out.write(data)


def lines(file: LogFile, count: int = 100, grep: str | None = None, age: float | None = None) -> list[str]:
    return last_lines([file], count, grep, None if age is None else BOOT.now() - age).lines


class Clocks:
    """The clocks in place of the kernel's, which must not be set here."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.boot, self.wall = 1000.0, 1_000_000.0
        self.boot_id = "11111111-2222"
        monkeypatch.setattr(BOOT, "now", lambda: self.boot)
        monkeypatch.setattr(WALL, "now", lambda: self.wall)
        monkeypatch.setattr(log_file, "boot_id", lambda: self.boot_id)

    def go_on(self, seconds: float) -> None:
        self.boot += seconds
        self.wall += seconds


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> Clocks:
    return Clocks(monkeypatch)


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
    last = last_lines([file], 3)
    assert (last.lines, last.truncated, last.ends) == (wanted[-3:], True, [file.path.stat().st_size])
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
    last = last_lines([file], 5, None, 10)
    assert (last.lines, last.truncated, last.ends) == ([], False, [0])
    assert file.read_from(7) == (7, b"")
    assert file.length() == 0
    file.take_in(BOUND)
    file.remove()


def test_what_is_not_older_than_that_and_marks_outlive_the_daemon(file: LogFile, clocks: Clocks) -> None:
    for word in ("a", "b", "c"):
        write(file, f"{word}\n".encode())
        file.take_in(BOUND)
        clocks.go_on(10)
    assert lines(file, age=1000) == ["a", "b", "c"]
    assert lines(file, age=30) == ["a", "b", "c"]
    assert lines(file, age=29.5) == ["b", "c"]
    assert lines(file, age=15) == ["c"]
    assert lines(file, age=9.5) == []
    write(file, b"d\n")
    assert lines(file, age=9.5) == ["d"], "what has not been looked at yet is new"

    again = LogFile(file.path)
    clocks.go_on(970)
    again.make(os.getuid(), os.getgid())
    again.take_in(BOUND)
    assert lines(again, age=985) == ["c", "d"]
    assert lines(again, age=1) == ["d"], "written while nobody looked: not older than that, as far as is known"


@pytest.mark.parametrize("jump", [-86400, 86400])
def test_a_clock_that_is_set_changes_nothing(file: LogFile, clocks: Clocks, jump: float) -> None:
    for number in range(6):
        write(file, b"%d\n" % number)
        file.take_in(BOUND)
        clocks.go_on(10)
        clocks.wall += jump if number == 2 else 0
    for known in (file, LogFile(file.path)):
        assert lines(known, age=25) == ["4", "5"]
        assert lines(known, age=45) == ["2", "3", "4", "5"]


def test_after_a_boot_the_wall_clock_tells_how_old_it_is(file: LogFile, clocks: Clocks) -> None:
    for number in range(3):
        write(file, b"%d\n" % number)
        file.take_in(BOUND)
        clocks.go_on(10)
    clocks.boot, clocks.boot_id = 5.0, "33333333-4444"
    clocks.wall += 60
    again = LogFile(file.path)
    write(file, b"3\n")
    again.take_in(BOUND)
    clocks.go_on(100)
    for known in (again, LogFile(file.path)):
        assert lines(known, age=99) == []
        assert lines(known, age=101) == ["3"]
        assert lines(known, age=171) == ["2", "3"]
        assert lines(known, age=181) == ["1", "2", "3"]

    clocks.boot, clocks.boot_id, clocks.wall = 5.0, "55555555-6666", 10.0  # no battery, no network yet
    again = LogFile(file.path)
    write(file, b"4\n")
    again.take_in(BOUND)
    clocks.go_on(50)
    assert lines(again, age=49) == []
    assert lines(again, age=51)[-1] == "4"
    clocks.wall = 2_000_000.0
    assert lines(again, age=49) == []


def test_marks_are_bounded_and_those_of_now_stay_exact(
    file: LogFile, clocks: Clocks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_file, "MAX_MARKS", 64)
    for number in range(1000):
        clocks.go_on(1)
        write(file, f"{number + 1}\n".encode())
        file.take_in(BOUND)
        assert len(file.marks) <= 65
        assert file.marks_path.stat().st_size <= 66 * 16
    for known in (file, LogFile(file.path)):
        assert lines(known, 2000, age=10) == [str(number) for number in range(990, 1001)]
        far = lines(known, 2000, age=500)
        assert far[-1] == "1000"
        assert int(far[0]) <= 500
    assert lines(LogFile(file.path), 1, age=1000) == ["1000"]


def test_marks_that_were_torn_are_written_anew(file: LogFile, clocks: Clocks) -> None:
    write(file, b"a\n")
    file.take_in(BOUND)
    with file.marks_path.open("ab") as marks:
        marks.write(b"half")
    clocks.go_on(10)
    again = LogFile(file.path)
    write(file, b"b\n")
    again.take_in(BOUND)
    assert lines(LogFile(file.path), age=5) == ["b"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")
def test_a_full_disk_keeps_no_log_from_its_bound(tmp_path: Path, clocks: Clocks) -> None:
    with mounted(tmp_path, "tmpfs", "size=1M") as folder:
        file = LogFile(folder / "web.log")
        file.make(os.getuid(), os.getgid())
        fill(file.path)
        with pytest.raises(OSError, match="No space left"):
            file.take_in(BOUND)
        assert file.path.stat().st_blocks * 512 <= BOUND + BOUND // 4
        clocks.go_on(10)
        write(file, b"\nlast\n")
        file.take_in(BOUND)
        assert lines(LogFile(file.path), age=5) == ["", "last"]


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
    assert lines(file, age=10) == ["c"]


def test_a_symbolic_link_in_its_place_is_not_followed(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret\n" * 100_000)
    mode = secret.stat()
    file = LogFile(tmp_path / "web.log")
    file.path.symlink_to(secret)
    for act in (
        lambda: file.make(65534, 65534),
        lambda: last_lines([file], 5),
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
