"""What the scheduler changes, on real processes and groups: the inverse comes first, and what others set is theirs."""

import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from conftest import needs_root
from llmos.errors import Unavailable
from llmos.kernel.journal import Journal
from llmos.machine.cgroup import Cgroups
from llmos.machine.identity import Identity
from llmos.scheduler.actuators.actuator import Subject
from llmos.scheduler.actuators.available import Actuators
from llmos.scheduler.changes import Changes, Wanted

pytestmark = [
    needs_root,
    pytest.mark.skipif("cpu" not in Cgroups.probe(parent="llmos-probe").controllers, reason="needs a CPU controller"),
]


@pytest.fixture
def cgroups() -> Iterator[Cgroups]:
    found = Cgroups.probe(parent=f"llmos-test-changes-{os.getpid()}")
    yield found
    for name in found.names("cpu"):
        found.remove(name)


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[Journal]:
    opened = await Journal.open(tmp_path / "journal.db")
    yield opened
    await opened.close()


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as started:
        yield started
        started.kill()


def wanted(process: subprocess.Popen[bytes], setting: int, lever: str = "cpu weight") -> Wanted:
    return Wanted("job x", Subject((Identity.of(process.pid),), "x"), lever, setting)


def where(process: subprocess.Popen[bytes]) -> list[str]:
    return Path(f"/proc/{process.pid}/cgroup").read_text().splitlines()


@pytest.mark.parametrize("lever", ["cpu weight", "nice"])
async def test_what_was_changed_is_put_back_by_who_changed_it_and_by_who_comes_after(
    journal: Journal, cgroups: Cgroups, process: subprocess.Popen[bytes], lever: str
) -> None:
    origin, nice = where(process), os.getpriority(os.PRIO_PROCESS, process.pid)
    actuators = Actuators(cgroups)
    changes = Changes(journal, actuators)
    assert await changes.make([wanted(process, 10, lever)]) == {}
    assert await changes.make([wanted(process, 15, lever)]) == {}
    assert changes.standing("job x") == 15 and changes.lever("job x") == lever and changes.set_by_others() == {}
    assert (where(process), os.getpriority(os.PRIO_PROCESS, process.pid)) != (origin, nice)
    assert await Changes(journal, actuators).restore() == {"job x": ""}  # as after a crash
    assert where(process) == origin and os.getpriority(os.PRIO_PROCESS, process.pid) == nice
    assert await Changes(journal, actuators).restore() == {}
    again = await changes.take_back(["job x", "job y"])  # it was put back already, and not by these
    assert list(again) == ["job x"] and again["job x"].startswith("left as it is")
    assert list(changes) == []


async def test_a_crash_between_the_inverse_and_the_act_leaves_nothing(
    journal: Journal, cgroups: Cgroups, process: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    origin = where(process)
    changes = Changes(journal, Actuators(cgroups))

    def crash(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(changes, "_set", crash)
    with pytest.raises(KeyboardInterrupt):
        await changes.make([wanted(process, 10)])
    assert "job x" in (await journal.fact("scheduler changes"))
    assert set(await Changes(journal, Actuators(cgroups)).restore()) == {"job x"}
    assert where(process) == origin


async def test_what_somebody_else_has_set_since_is_left(
    journal: Journal, cgroups: Cgroups, process: subprocess.Popen[bytes]
) -> None:
    changes = Changes(journal, Actuators(cgroups))
    await changes.make([wanted(process, 10)])
    cgroups.set_weight("x", 77)
    assert "77" in changes.set_by_others()["job x"]
    assert "somebody" in (await changes.take_back(["job x"]))["job x"]
    assert cgroups.weight("x") == 77
    process.kill()
    process.wait()


async def test_a_process_that_vanishes_at_any_step_is_no_error(
    journal: Journal, cgroups: Cgroups, process: subprocess.Popen[bytes]
) -> None:
    changes = Changes(journal, Actuators(cgroups))
    gone = wanted(process, 10)
    await changes.make([gone])
    process.kill()
    process.wait()
    assert await changes.make([Wanted("job x", gone.subject, "cpu weight", 5)])  # says why not
    await changes.take_back(["job x"])
    assert list(changes) == []
    assert set(await changes.make([Wanted("job y", gone.subject, "nice", 5)])) == {"job y"}
    assert list(changes) == [] and await journal.fact("scheduler changes") == {}


async def test_nothing_is_changed_where_the_journal_does_not_take_the_inverse(
    journal: Journal, cgroups: Cgroups, process: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    origin = where(process)
    monkeypatch.setattr(journal, "remember", lambda *_: None)
    with pytest.raises(Unavailable, match="journal"):
        await Changes(journal, Actuators(cgroups)).make([wanted(process, 10)])
    assert where(process) == origin
