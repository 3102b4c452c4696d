"""Each lever on real processes and real cgroups: moved, read, put back; cgroup v2 on a tree of files that stands for it."""

import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from conftest import needs_root
from llmos.errors import BadInput, NotFound, Unsupported
from llmos.machine import priority
from llmos.machine.cgroup import Cgroups
from llmos.machine.identity import Identity, with_descendants
from llmos.scheduler.actuators.actuator import Actuator, Change, Subject
from llmos.scheduler.actuators.available import Actuators
from llmos.scheduler.actuators.group_levers import CpuWeight, IoWeight, MemoryHigh
from llmos.scheduler.actuators.hold import Hold
from llmos.scheduler.actuators.thread_levers import Affinity, IoPriority, Nice, Slice, ThreadActuator, TimerSlack
from machine.fake_cgroups import FakeV2

TREE = """
import os, threading, time
end, at = os.pipe()
if os.fork() == 0:
    os.write(at, b'.')
    time.sleep(600)
os.read(end, 1)
threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
print('ready', flush=True)
time.sleep(600)
"""
LEVERS: list[tuple[ThreadActuator, Any]] = [
    (Nice(), 17),
    (IoPriority(), [2, 6]),
    (Affinity(), [max(os.sched_getaffinity(0))]),
    (TimerSlack(), 3_000_000),
    (Slice(), 700_000),
]


@pytest.fixture
def subject() -> Iterator[Subject]:
    """A process with a second thread and a child, in a session of their own."""
    with subprocess.Popen([sys.executable, "-c", TREE], stdout=subprocess.PIPE, start_new_session=True) as child:
        assert child.stdout is not None and child.stdout.readline() == b"ready\n"
        yield Subject(tuple(with_descendants([Identity.of(child.pid)])))
        os.killpg(child.pid, signal.SIGKILL)


@pytest.fixture
def cgroups() -> Iterator[Cgroups]:
    found = Cgroups.probe(parent=f"llmos-test-{uuid.uuid4().hex[:12]}")
    yield found
    found.kill("job")
    found.remove("job")


def through_json(change: Change) -> Change:
    again = Change.from_json(json.loads(json.dumps(change.as_json())))
    assert again == change
    return again


def of_threads(actuator: ThreadActuator, subject: Subject) -> list[Any]:
    return [actuator._get(tid) for each in subject.processes for tid in sorted(priority.thread_ids(each))]


@pytest.mark.parametrize(("actuator", "setting"), LEVERS, ids=lambda value: getattr(value, "name", ""))
def test_every_thread_is_moved_and_put_back(actuator: ThreadActuator, setting: Any, subject: Subject) -> None:
    if reason := actuator.probe():
        pytest.skip(reason)
    before = of_threads(actuator, subject)
    assert len(before) == 3
    change = actuator.set(subject, setting)
    assert (change.before, change.after) == (before[0], setting)
    assert of_threads(actuator, subject) == [setting] * 3
    assert actuator.read(subject) == setting
    os.kill(subject.processes[1].pid, signal.SIGKILL)  # what has ended is no hindrance
    actuator.undo(through_json(change))
    assert of_threads(actuator, Subject(subject.processes[:1])) == before[:2]


@pytest.mark.parametrize("actuator", [each for each, _ in LEVERS], ids=lambda value: value.name)
def test_nothing_is_left_to_move(actuator: ThreadActuator, subject: Subject) -> None:
    gone = Identity(subject.processes[0].pid, 1, subject.processes[0].boot_id)
    with pytest.raises(NotFound):
        actuator.set(Subject((gone,)), 1)
    with pytest.raises(NotFound):
        actuator.set(Subject(()), 1)


def test_threads_keep_what_each_of_them_had(subject: Subject) -> None:
    nice = Nice()
    second = max(priority.thread_ids(subject.processes[0]))
    os.setpriority(os.PRIO_PROCESS, second, 13)
    before = of_threads(nice, subject)
    change = nice.set(subject, 19)
    nice.undo(change)
    assert of_threads(nice, subject) == before
    assert 13 in before


def test_the_niceness_of_a_session_moves_only_where_it_is_wholly_the_subjects(subject: Subject) -> None:
    parent, child = subject.processes
    before = priority.autogroup_nice(parent)
    if before is None:
        pytest.skip("autogroup is off here")
    change = Nice().set(Subject((child,)), 5)
    assert priority.autogroup_nice(child) == before
    Nice().undo(change)
    change = Nice().set(subject, 5)
    assert priority.autogroup_nice(parent) == 5
    Nice().undo(through_json(change))
    assert priority.autogroup_nice(parent) == before


def test_no_cpu_of_that_number(subject: Subject) -> None:
    before = of_threads(Affinity(), subject)
    with pytest.raises(BadInput, match="CPUs"):
        Affinity().set(subject, [100_000])
    assert of_threads(Affinity(), subject) == before


@needs_root
def test_another_users_process_stays_and_what_was_moved_goes_back(subject: Subject) -> None:
    parent = subject.processes[0]
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("with one CPU there is no other to move to")
    before = of_threads(Nice(), subject)
    # Imports first: the checkout may not be for that user to read.
    code = f"""
import os
from llmos.errors import Forbidden
from llmos.machine.identity import Identity
from llmos.scheduler.actuators.actuator import Subject
from llmos.scheduler.actuators.thread_levers import *
os.setgroups([]); os.setgid(65534); os.setuid(65534)
cpu = min(os.sched_getaffinity(0))
levers = (Nice(), 15), (IoPriority(), [2, 7]), (TimerSlack(), 9), (Slice(), 500000), (Affinity(), [cpu])
for lever, setting in levers:
    try:
        lever.set(Subject((Identity.of(os.getpid()), Identity.of({parent.pid}))), setting)
    except Forbidden as error:
        print(lever.name, lever.read(Subject((Identity.of(os.getpid()),))) != setting)
    else:
        raise AssertionError(lever.name)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd="/")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        f"{name} True" for name in ("nice", "ionice", "timer slack", "slice", "affinity")
    ]
    assert of_threads(Nice(), subject) == before


@pytest.mark.parametrize(
    ("kind", "setting"),
    [(CpuWeight, 300), (MemoryHigh, 64 << 20), (IoWeight, 200)],
    ids=lambda v: getattr(v, "name", ""),
)
def test_a_group_is_joined_weighed_and_left(
    kind: Callable[[Cgroups], Actuator[Any]], setting: Any, subject: Subject, cgroups: Cgroups
) -> None:
    actuator = kind(cgroups)
    if reason := actuator.probe():
        pytest.skip(reason)
    controller = {CpuWeight: "cpu", MemoryHigh: "memory", IoWeight: "io"}[kind]  # type: ignore[index]
    homes = [cgroups.place(each, controller) for each in subject.processes]
    job = Subject(subject.processes, "job")
    before = actuator.read(job)
    try:
        first = actuator.set(job, setting)
    except Unsupported as error:
        pytest.skip(error.message)
    assert actuator.read(job) == setting
    assert [cgroups.place(each, controller) for each in subject.processes] == [cgroups.directory("job", controller)] * 2
    second = actuator.set(job, 2 * setting)
    assert second.before == setting
    actuator.undo(through_json(second))
    assert actuator.read(job) == setting
    actuator.undo(through_json(first))
    assert actuator.read(job) == before
    assert [cgroups.place(each, controller) for each in subject.processes] == homes
    cgroups.remove("job")
    actuator.undo(first)  # nothing is left to put back


def test_a_group_that_refuses_is_left_as_it_was(subject: Subject, cgroups: Cgroups) -> None:
    actuator = CpuWeight(cgroups)
    if reason := actuator.probe():
        pytest.skip(reason)
    home = cgroups.place(subject.processes[0], "cpu")
    with pytest.raises(BadInput):
        actuator.set(Subject(subject.processes, "job"), 0)
    assert cgroups.place(subject.processes[0], "cpu") == home
    with pytest.raises(Unsupported, match="only jobs"):
        actuator.set(subject, 100)
    with pytest.raises(NotFound):
        actuator.set(Subject((), "job"), 100)


def test_v2_files(tmp_path: Path, subject: Subject) -> None:
    v2 = FakeV2(tmp_path)
    group, found = v2.group("job"), v2.probe()
    job = Subject(subject.processes[1:], "job")
    for kind, file, setting, text in (
        (CpuWeight, "cpu.weight", 300, "300"),
        (MemoryHigh, "memory.high", 1 << 20, str(1 << 20)),
        (IoWeight, "io.weight", 50, "default 50"),
    ):
        free = (group / file).read_text()
        actuator: Actuator[Any] = kind(found)
        change = actuator.set(job, setting)
        assert (group / file).read_text() == text
        assert actuator.read(job) == setting
        actuator.undo(through_json(change))
        assert (group / file).read_text() == free


def test_held_and_let_go(subject: Subject, cgroups: Cgroups) -> None:
    hold = Hold(cgroups)
    assert hold.read(subject) is False
    change = hold.set(subject, True)
    assert hold.read(Subject(subject.processes, change.kept["group"]))
    hold.undo(through_json(change))
    assert hold.read(subject) is False
    with pytest.raises(BadInput):
        hold.set(subject, False)


def test_held_by_signal_as_the_last_resort(subject: Subject, tmp_path: Path) -> None:
    hold = Hold(Cgroups.probe(tmp_path, tmp_path / "mounts", tmp_path / "own"))
    change = hold.set(subject, True)
    assert change.kept["means"] == "SIGSTOP"
    assert hold.read(subject) is True
    hold.undo(through_json(change))
    assert hold.read(subject) is False


def test_what_is_missing_is_said_and_looked_for_again(tmp_path: Path) -> None:
    found = Actuators(Cgroups.probe(tmp_path, tmp_path / "mounts", tmp_path / "own"), sched_ext=tmp_path / "ext")
    assert found.usable[-1] == "hold"
    assert "cpu weight" not in found.usable
    with pytest.raises(Unsupported, match="no cgroup hierarchy"):
        found["cpu weight"]
    assert found["nice"].name == "nice"
    assert found.note == ""
    (tmp_path / "ext" / "root").mkdir(parents=True)
    (tmp_path / "ext" / "state").write_text("enabled\n")
    (tmp_path / "ext" / "root" / "ops").write_text("lavd\n")
    found.probe()
    assert "the scheduler lavd is loaded" in found.note


def test_every_lever_says_what_its_settings_are(cgroups: Cgroups) -> None:
    found = Actuators(cgroups)
    assert set(found.usable) | set(found.missing) >= {"cpu weight", "nice", "slice", "hold"}
    assert all(found[name].unit for name in found.usable)
