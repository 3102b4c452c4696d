"""How the limits of a job reach the kernel: cgroup v2 and broken v1 as trees of files, rlimits on real processes."""

import asyncio
import json
import os
import resource
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llmos.errors import Unsupported
from llmos.kernel.confinement import Confinement
from llmos.kernel.job import Job
from llmos.kernel.job_log import Outputs
from llmos.kernel.reaper_client import SpawnRequest
from llmos.kernel.states import State
from llmos.machine import oom
from llmos.machine.cgroup import Cgroups
from llmos.machine.identity import Identity
from machine.fake_cgroups import FakeV2

OUTPUTS = Outputs(stdout="/dev/null", stderr=None, journal=None)
MIB = 1 << 20


def a_job(name: str = "web", **fields: Any) -> Job:
    return Job(name, ["true"], "/", {}, os.geteuid(), os.getegid(), **{"run": "1" * 32, **fields})


def request(confinement: Confinement, job: Job) -> SpawnRequest:
    return asyncio.run(confinement.request(job, OUTPUTS, {}))


@pytest.fixture
def v2(tmp_path: Path) -> FakeV2:
    return FakeV2(tmp_path)


@pytest.fixture
def sleeper() -> Iterator[Identity]:
    """A process with a child."""
    with subprocess.Popen(["sh", "-c", "sleep 600 & wait"], start_new_session=True) as child:
        yield Identity.of(child.pid)
        os.killpg(child.pid, 9)


def test_v2_every_limit_is_set_and_is_lifted_from_a_job_of_the_same_name_without_it(v2: FakeV2) -> None:
    group, confinement = v2.group("web"), Confinement(v2.probe())
    free = {file: (group / file).read_text() for file in ("memory.max", "memory.swap.max", "cpu.max", "pids.max")}
    made = request(confinement, a_job(memory="64M", cpu="0.5", io="1M", pids=7, priority="low"))
    assert made.cgroups == [str(group)]
    assert made.rlimits == {}
    assert {file: (group / file).read_text() for file in free} == {
        "memory.max": str(64 * MIB),
        "memory.swap.max": "0",
        "cpu.max": "50000 100000",
        "pids.max": "7",
    }
    assert (group / "cpu.weight").read_text() == "10"
    assert (group / "io.max").read_text() == f"254:0 rbps={MIB} wbps={MIB}"
    request(confinement, a_job())
    assert {file: (group / file).read_text() for file in free} == free
    assert (group / "cpu.weight").read_text() == "100"
    assert (group / "io.max").read_text() == "254:0 rbps=max wbps=max"


def test_v2_a_group_is_left_alone_in_what_it_was_not_given(v2: FakeV2) -> None:
    group = v2.group("web")
    (group / "cgroup.controllers").write_text("pids")
    for file in ("memory.max", "cpu.max", "cpu.weight", "io.max", "memory.events", "memory.current"):
        (group / file).unlink()  # as they are missing where the group above hands these controllers not down
    confinement = Confinement(v2.probe())
    request(confinement, a_job(priority="low"))
    assert (group / "pids.max").read_text() == "max"
    assert v2.probe().usage("web").cpu_seconds == 1.5  # that is counted all the same


def test_v2_what_ended_frozen_starts_thawed(v2: FakeV2) -> None:
    group, confinement = v2.group("web"), Confinement(v2.probe())
    (group / "cgroup.freeze").write_text("1")
    request(confinement, a_job())
    assert (group / "cgroup.freeze").read_text() == "0"


def test_v2_kills_for_want_of_memory_are_told_from_those_of_before(v2: FakeV2) -> None:
    group, confinement = v2.group("web"), Confinement(v2.probe())
    killed, failed = {"code": None, "signal": 9}, {"code": 3, "signal": None}
    job = a_job(memory="64M")
    request(confinement, job)
    assert asyncio.run(confinement.ran_out_of_memory(job, killed)) == {"oom": False}
    (group / "memory.events").write_text("low 0\noom 2\noom_kill 4")
    assert asyncio.run(confinement.ran_out_of_memory(job, failed)) == {"oom": True, "oom_of": "limit"}
    free = a_job()
    request(confinement, free)
    assert confinement.may_have_run_out(free, failed)  # a child of it may have been killed, which the group counts
    assert not confinement.may_have_run_out(free, {"code": 0, "signal": None})
    (group / "memory.events").write_text("low 0\noom 2\noom_kill 5")
    assert asyncio.run(confinement.ran_out_of_memory(free, failed)) == {"oom": True, "oom_of": None}


def test_v2_a_frozen_job_is_found_and_one_that_is_not_is_not(v2: FakeV2) -> None:
    group, confinement = v2.group("web"), Confinement(v2.probe())
    job = a_job(state=State.RUNNING)
    assert asyncio.run(confinement.found_paused([job])) == {}
    (group / "cgroup.freeze").write_text("1")
    found = asyncio.run(confinement.found_paused([job]))
    assert (found["web"]["means"], found["web"]["group"]) == ("cgroup v2", "web")


def test_a_stopped_job_is_found_without_a_cgroup_and_resumed(tmp_path: Path, sleeper: Identity) -> None:
    confinement = Confinement(no_cgroups(tmp_path))
    job = a_job(pid=sleeper.pid, start_ticks=sleeper.start_ticks, boot=sleeper.boot_id)
    assert asyncio.run(confinement.found_paused([job])) == {}
    assert asyncio.run(confinement.pause(job)) == "SIGSTOP"
    found = asyncio.run(confinement.found_paused([job]))
    assert found["web"] == job.paused
    job.paused = found["web"]
    asyncio.run(confinement.resume(job))
    assert asyncio.run(confinement.found_paused([job])) == {}
    ended = a_job(pid=sleeper.pid, start_ticks=sleeper.start_ticks + 1, boot=sleeper.boot_id)
    assert asyncio.run(confinement.found_paused([ended])) == {}


def test_a_v1_kernel_without_throttling_is_told_what_is_missing(tmp_path: Path) -> None:
    mount = tmp_path / "cgroup" / "blkio"
    group = mount / "llmos" / "web.group"
    group.mkdir(parents=True)
    (mount / "cgroup.procs").write_text("")
    (tmp_path / "mounts").write_text(f"33 30 0:29 / {mount} rw - cgroup cgroup rw,blkio\n")
    (tmp_path / "own").write_text("4:blkio:/\n")
    (tmp_path / "block" / "vda").mkdir(parents=True)
    (tmp_path / "block" / "vda" / "dev").write_text("254:0\n")
    (tmp_path / "block" / "vda" / "size").write_text("512\n")
    found = Cgroups.probe(tmp_path, tmp_path / "mounts", tmp_path / "own", blocks=tmp_path / "block")
    with pytest.raises(Unsupported, match=r"this kernel has no blkio\.throttle\.read_bps_device"):
        request(Confinement(found), a_job(io="1M"))
    request(Confinement(found), a_job())  # nothing to lift


def no_cgroups(tmp_path: Path) -> Cgroups:
    return Cgroups.probe(tmp_path, tmp_path / "mounts", tmp_path / "own")


@pytest.mark.parametrize(("field", "limit"), [("cpu", "1"), ("io", "1M"), ("pids", 5)])
def test_without_cgroups_it_is_said_what_is_missing(tmp_path: Path, field: str, limit: Any) -> None:
    with pytest.raises(Unsupported, match=f"cannot limit {field} of web: .*no cgroup hierarchy is mounted"):
        request(Confinement(no_cgroups(tmp_path)), a_job(**{field: limit}))


def address_space(identity: Identity) -> int:
    return resource.prlimit(identity.pid, resource.RLIMIT_AS)[0]


def test_without_cgroups_a_memory_limit_outlives_the_daemon_and_is_lifted_from_all(
    tmp_path: Path, sleeper: Identity
) -> None:
    before = address_space(sleeper)
    job = a_job(pid=sleeper.pid, start_ticks=sleeper.start_ticks, boot=sleeper.boot_id)
    cgroups = no_cgroups(tmp_path)
    asyncio.run(Confinement(cgroups).set_limits(job, {"memory": "1G"}))
    tree = Confinement(cgroups).members(job)
    assert len(tree) == 2
    assert [address_space(each) for each in tree] == [1 << 30] * 2
    again = Job.from_record(json.loads(json.dumps(job.record())))  # as the next llmosd finds it
    asyncio.run(Confinement(cgroups).set_limits(again, {"memory": "2G"}))
    assert [address_space(each) for each in tree] == [2 << 30] * 2
    asyncio.run(Confinement(cgroups).set_limits(again, {"memory": None}))
    assert [address_space(each) for each in tree] == [before] * 2
    assert again.held is None


def test_without_cgroups_a_limit_since_the_start_can_be_lifted(tmp_path: Path, sleeper: Identity) -> None:
    confinement = Confinement(no_cgroups(tmp_path))
    free = resource.getrlimit(resource.RLIMIT_AS)
    made = request(confinement, a_job(memory="1G"))
    assert made.rlimits == {"RLIMIT_AS": (1 << 30, free[1])}
    job = a_job(memory="1G", pid=sleeper.pid, start_ticks=sleeper.start_ticks, boot=sleeper.boot_id)
    for each in confinement.members(job):  # as the reaper starts it, and what it starts inherits
        resource.prlimit(each.pid, resource.RLIMIT_AS, made.rlimits["RLIMIT_AS"])
    asyncio.run(confinement.set_limits(job, {"memory": None}))
    assert [address_space(each) for each in confinement.members(job)] == [free[0]] * 2


def test_without_cgroups_a_kill_is_perhaps_the_kernels_where_its_log_is_not_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The counter and the log stand for those of a machine that has no memory left."""
    confinement, job = Confinement(no_cgroups(tmp_path)), a_job()
    killed, failed = {"code": None, "signal": 9}, {"code": 3, "signal": None}
    monkeypatch.setattr(oom, "count", lambda: 5)
    request(confinement, job)
    assert confinement.may_have_run_out(job, killed)
    assert not confinement.may_have_run_out(job, failed)
    assert asyncio.run(confinement.ran_out_of_memory(job, killed)) == {"oom": False}
    monkeypatch.setattr(oom, "count", lambda: 6)
    job.pid, job.start_ticks, job.boot = 1 << 22, 5, "a boot"

    def refuse(identity: Identity) -> oom.OomKill | None:
        raise PermissionError

    monkeypatch.setattr(oom, "kill_of", refuse)
    assert asyncio.run(confinement.ran_out_of_memory(job, killed)) == {"oom": "perhaps"}
    assert asyncio.run(confinement.ran_out_of_memory(job, failed)) == {"oom": False}
    monkeypatch.setattr(oom, "kill_of", lambda identity: None)
    assert asyncio.run(confinement.ran_out_of_memory(job, killed)) == {"oom": False}
    monkeypatch.setattr(oom, "kill_of", lambda identity: oom.OomKill(identity.pid, 1.0, "/", None))
    assert asyncio.run(confinement.ran_out_of_memory(job, killed)) == {"oom": True, "oom_of": "machine"}
