"""A log whose file system cannot free its head: a real one (ramfs) as root, else one whose punching is refused.

The writer appends all the while through a descriptor of its own, as a job does.
"""

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from kernel.file_systems import fill, mounted
from llmos.kernel import log_file, log_older
from llmos.kernel.log_file import LogFile, last_lines
from llmos.machine.clocks import BOOT

BOUND = 256 * 1024


def refused(descriptor: int, length: int) -> int:
    return errno.EOPNOTSUPP


@pytest.fixture(params=["ramfs", "refused"])
def folder(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    if request.param == "refused":
        monkeypatch.setattr(log_file, "punch_hole", refused)
        yield tmp_path
        return
    if os.geteuid() != 0:
        pytest.skip("only root can mount")
    with mounted(tmp_path, "ramfs") as place:
        yield place


@pytest.fixture
def file(folder: Path) -> LogFile:
    made = LogFile(folder / "web.log")
    made.make(os.getuid(), os.getgid())
    return made


def number(line: str) -> int:
    return int(line.split()[0])


def write(file: LogFile, numbers: range) -> None:
    with file.path.open("ab") as out:
        out.write(b"".join(b"%06d %s\n" % (number, b"x" * 92) for number in numbers))


def test_the_older_part_is_kept_and_read_as_one_with_the_newer(file: LogFile, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [1000.0]
    monkeypatch.setattr(BOOT, "now", lambda: clock[0])
    offset, followed = 0, b""
    for turn in range(40):
        write(file, range(turn * 500, turn * 500 + 500))
        while True:
            offset, chunk = file.read_from(offset)
            if not chunk:
                break
            followed += chunk
        file.take_in(BOUND)
        clock[0] += 10
        if turn % 4:
            continue
        held = file.path.stat().st_size + (file.older_path.stat().st_size if file.older_path.exists() else 0)
        assert held <= BOUND + BOUND // 4 + 60_000
        assert file.length() == (turn + 1) * 500 * 100
        found = list(map(number, last_lines([file], 10**6).lines))
        assert found == list(range(turn * 500 + 500 - len(found), turn * 500 + 500))
        assert len(found) == turn * 500 + 500 or len(found) * 100 > BOUND // 2 - 200
        for known in (file, LogFile(file.path)):
            assert number(last_lines([known], 10**6, since=clock[0] - 25).lines[0]) == max(0, turn * 500 - 500)
            newest = last_lines([known], 10**6, grep=f"{turn * 500 + 250:06d}")
            assert list(map(number, newest.lines)) == [turn * 500 + 250]
    assert list(map(number, followed.decode().splitlines())) == list(range(20_000))
    assert file.beginnings == 1
    assert file.older_path.stat().st_uid == file.path.stat().st_uid
    file.remove()
    assert list(file.path.parent.iterdir()) == []


def test_a_follower_that_was_away_goes_on_with_the_first_whole_line(file: LogFile) -> None:
    write(file, range(5000))
    file.take_in(BOUND)
    write(file, range(5000, 5010))
    first = number(last_lines([file], 10**6).lines[0])
    offset, chunk = file.read_from(5)
    while offset < file.length():
        offset, more = file.read_from(offset)
        chunk += more
    assert list(map(number, chunk.decode().splitlines())) == list(range(first, 5010))


WRITER = """
import os, sys
out = os.open(sys.argv[1], os.O_APPEND | os.O_WRONLY)
for number in range(int(sys.argv[2])):
    os.write(out, b"%06d %s\\n" % (number, b"x" * 92))
"""


def test_cuts_beneath_a_writer_that_never_rests_double_and_tear_nothing(file: LogFile) -> None:
    """How much such a writer loses is the scheduler's to say: what it writes in the moment of the cut."""
    total, cuts = 100_000, 0
    with subprocess.Popen([sys.executable, "-c", WRITER, file.path, str(total)]) as writer:
        over = False
        while not over:
            over = writer.poll() is not None
            base = file.base
            file.take_in(BOUND)
            if file.base != base:
                cuts += 1
                while not file.path.stat().st_size and writer.poll() is None:
                    pass  # what comes after the seam must be there, or nothing would be missed
                kept = list(map(number, last_lines([file], 10**6, whole=True).lines))
                assert kept == sorted(set(kept))
    assert number(last_lines([file], 1).lines[0]) == total - 1
    assert cuts


@pytest.mark.parametrize("emptied", [False, True])
def test_whoever_ended_while_cutting_loses_and_doubles_nothing(
    file: LogFile, monkeypatch: pytest.MonkeyPatch, emptied: bool
) -> None:
    write(file, range(2000))
    file.take_in(BOUND)
    write(file, range(2000, 4000))

    class Died(Exception):
        pass

    def pwrite(*_: object) -> None:
        raise Died

    empty = log_older._libc.ftruncate
    with monkeypatch.context() as patched, pytest.raises(Died):
        patched.setattr(os, "pwrite", pwrite)
        if not emptied:
            patched.setattr(log_older._libc, "ftruncate", lambda *_: 0)
        file.take_in(BOUND)
    assert log_older._libc.ftruncate is empty
    assert (file.path.stat().st_size == 0) is emptied
    again = LogFile(file.path)
    write(again, range(4000, 4010))
    again.take_in(BOUND)
    assert again.length() == 401_000
    found = list(map(number, last_lines([again], 10**6).lines))
    assert found == list(range(4010 - len(found), 4010))
    assert len(found) * 100 > BOUND // 2 - 200
    assert again.beginnings == 0


def test_a_file_that_somebody_empties_or_whose_older_part_is_spoilt(file: LogFile) -> None:
    write(file, range(4000))
    file.take_in(BOUND)
    write(file, range(4000, 4010))
    file.take_in(BOUND)
    file.older_path.write_bytes(os.urandom(5000))
    file.older_path.with_name("web.log.1-new").touch()  # somebody ended while copying
    again = LogFile(file.path)
    again.take_in(BOUND)
    assert list(map(number, last_lines([again], 10**6).lines)) == list(range(4000, 4010))

    write(file, range(8000))
    again.take_in(BOUND)
    assert again.older_path.exists()
    write(file, range(3))
    again.take_in(BOUND)
    os.truncate(file.path, 0)
    again.take_in(BOUND)
    assert last_lines([again], 10**6).lines == []
    assert [path.name for path in file.path.parent.iterdir() if path.is_file()] == ["web.log"]
    write(file, range(2))
    again.take_in(BOUND)
    assert list(map(number, last_lines([again], 10**6).lines)) == [0, 1]


def test_a_file_with_a_hole_that_grows_too_large_is_cut_off_and_punched_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_file, "LARGEST_BYTES", 1024**2)
    file = LogFile(tmp_path / "web.log")
    file.make(os.getuid(), os.getgid())
    cuts = punched = 0
    for turn in range(100):
        write(file, range(turn * 500, turn * 500 + 500))
        base = file.base
        file.take_in(BOUND)
        cuts += file.base != base
        punched += file.path.stat().st_size > 2 * BOUND
        assert file.path.stat().st_size <= 1024**2 + 50_000
        if turn % 5:
            continue
        found = list(map(number, last_lines([file], 10**6).lines))
        assert found == list(range(turn * 500 + 500 - len(found), turn * 500 + 500))
        assert turn < 10 or len(found) * 100 > BOUND // 2 - 200
    assert cuts in (3, 4, 5)
    assert punched > 30


def test_a_full_disk_keeps_what_fits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can mount")
    monkeypatch.setattr(log_file, "punch_hole", refused)
    monkeypatch.setattr(log_older, "CHUNK_BYTES", 64 * 1024)
    with mounted(tmp_path, "tmpfs", "size=1M") as folder:
        file = LogFile(folder / "web.log")
        file.make(os.getuid(), os.getgid())
        write(file, range(4000))
        file.take_in(BOUND)
        write(file, range(4000, 5000))
        fill(file.path)
        file.take_in(BOUND)  # the older part of before made room
        assert file.path.stat().st_size == 0
        assert file.older_path.stat().st_size > BOUND // 2

        file.remove()
        file.make(os.getuid(), os.getgid())
        write(file, range(5000))
        fill(folder / "other")
        with suppress(OSError):  # no room for a mark either
            file.take_in(BOUND)
        assert (file.path.stat().st_size, file.length()) == (0, 500_000)
        kept = [number(line) for line in last_lines([file], 10**6).lines]
        assert kept == list(range(5000 - len(kept), 5000))
        assert len(kept) * 100 > 64 * 1024 - 200
        write(file, range(5000, 5010))
        for known in (file, LogFile(file.path)):
            assert number(last_lines([known], 1).lines[0]) == 5009
            assert known.length() == 501_000


def test_a_failure_of_copying_is_said_and_leaves_the_log(file: LogFile, monkeypatch: pytest.MonkeyPatch) -> None:
    write(file, range(4000))

    def broken(*_: object) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patched, pytest.raises(OSError, match="Input/output error"):
        patched.setattr(os, "sendfile", broken)
        file.take_in(BOUND)
    assert len(last_lines([file], 10**6).lines) == 4000
    assert sorted(path.name for path in file.path.parent.iterdir() if path.is_file()) == ["web.log", "web.log-marks"]
    with monkeypatch.context() as patched, pytest.raises(OSError):
        patched.setattr(log_older._libc, "ftruncate", lambda *_: -1)
        file.take_in(BOUND)
    assert len(last_lines([file], 10**6).lines) == 4000
    file.take_in(BOUND)
    assert number(last_lines([file], 1).lines[0]) == 3999
    assert file.path.stat().st_size == 0
