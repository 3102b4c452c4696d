"""The live scheduler on a real llmosd: who is put behind, what is left alone, and that everything is put back."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from conftest import Daemon, needs_root, running
from llmos import Client
from llmos.machine.cgroup import Cgroups

Eventually = Callable[[Callable[[], object]], object]
BURN = "import time\nend = time.process_time() + {}\nwhile time.process_time() < end: pass"
MANY = (os.cpu_count() or 1) + 2

pytestmark = [
    needs_root,
    pytest.mark.skipif("cpu" not in Cgroups.probe(parent="llmos-probe").controllers, reason="needs a CPU controller"),
]


@pytest.fixture
def quick(tmp_path: Path) -> Iterator[Daemon]:
    """An llmosd whose order is that of least attained service."""
    with running(tmp_path, '[scheduler]\npolicy = "las"\n') as daemon:
        yield daemon


def burn(client: Client, name: str, seconds: float = 60, **given: Any) -> dict[str, Any]:
    job: dict[str, Any] = client.call(
        "run", argv=[sys.executable, "-c", BURN.format(seconds)], name=name, cwd="/", **given
    )
    return job


def targets(client: Client) -> dict[str, dict[str, Any]]:
    return {row["target"]: row for row in client.call("scheduler.status")["targets"]}


def behind(client: Client) -> list[str]:
    return [name for name, row in targets(client).items() if row["place"] == "behind"]


def group_of(pid: int) -> str:
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if "cpu" in controllers.split(","):
            return path
    return ""


def weight_file(pid: int) -> Path:
    mount = next(
        line.split()[4]
        for line in Path("/proc/self/mountinfo").read_text().splitlines()
        if "cpu" in line.split(" - ")[1].split()[-1].split(",")
    )
    return Path(mount) / group_of(pid).lstrip("/") / "cpu.shares"


def kinds(client: Client, name: str) -> list[str]:
    return [event["kind"] for event in client.call("why", target=name)["events"]]


def burners(client: Client, count: int = MANY) -> dict[str, int]:
    return {(job := burn(client, f"burn{at}"))["name"]: job["pid"] for at in range(count)}


def test_some_are_put_behind_while_processors_are_short_and_everything_is_put_back(
    quick: Daemon, eventually: Eventually
) -> None:
    with quick.client() as client:
        origin = group_of(os.getpid())
        pids = burners(client)
        found = eventually(lambda: behind(client))
        assert isinstance(found, list)
        slow = found[0]
        assert group_of(pids[slow]).endswith(f"{slow}.group")
        eventually(lambda: all(group_of(pid) != origin for pid in pids.values()))  # they give way together
        placed = next(
            event
            for event in reversed(client.call("why", target=slow)["events"])
            if event["kind"] == "scheduler.placed" and event["body"]["place"] == "behind"
        )
        body = placed["body"]
        assert body["share"] < 100 and body["policy"] == "las" and body["runner_up"]["policy"] == "hybrid"
        assert body["seen"]["wanting"] >= 2 and body["rules"] and body["predicted"] is None
        sentence = client.call("why", target=slow)["sentence"]
        assert "scheduler" in sentence and "processor" in sentence
        pids["late"] = burn(client, "late")["pid"]
        assert group_of(pids["late"]).endswith("late.group")  # who comes while processors are short is born there
        pids["mine"] = burn(client, "mine", nice=3)["pid"]
        assert group_of(pids["mine"]) == origin
        assert client.call("scheduler.off")["on"] is False
        assert {group_of(pid) for pid in pids.values()} == {origin}
        assert client.call("scheduler.on")["on"] is True


def test_what_was_changed_is_put_back_after_a_crash(quick: Daemon, eventually: Eventually) -> None:
    with quick.client() as client:
        origin = group_of(os.getpid())
        pids = burners(client)
        eventually(lambda: behind(client))
        pids["late"] = burn(client, "late")["pid"]
    quick.kill()
    assert any(group_of(pid) != origin for pid in pids.values())
    (quick.folder / "llmosd.toml").write_text("[scheduler]\nenabled = false\n")
    quick.start()
    with quick.client() as client:
        assert {group_of(pid) for pid in pids.values()} == {origin}
        assert all(client.call("show", target=name)["state"] == "running" for name in pids)
        assert any("scheduler.restored" in kinds(client, name) for name in pids)
        assert client.call("scheduler.status")["on"] is False


def test_a_person_s_priority_stays(quick: Daemon, eventually: Eventually) -> None:
    with quick.client() as client:
        pids = burners(client)
        found = eventually(lambda: behind(client))
        assert isinstance(found, list)
        mine = found[0]
        client.call("renice", target=mine, priority="low")
        eventually(lambda: "low" in (targets(client)[mine]["left_alone"] or ""))
        eventually(lambda: targets(client)[mine]["place"] == "usual")
        assert os.getpriority(os.PRIO_PROCESS, pids[mine]) == 10
        assert "leaves it alone" in client.call("why", target=mine)["sentence"]


def test_a_niceness_set_from_outside_stays(quick: Daemon, eventually: Eventually) -> None:
    with quick.client() as client:
        pids = burners(client)
        found = eventually(lambda: behind(client))
        assert isinstance(found, list)
        theirs = found[0]
        os.setpriority(os.PRIO_PROCESS, pids[theirs], 7)
        eventually(lambda: "7" in (targets(client)[theirs]["left_alone"] or ""))
        eventually(lambda: targets(client)[theirs]["place"] == "usual")
        assert os.getpriority(os.PRIO_PROCESS, pids[theirs]) == 7
        assert "scheduler.respected" in kinds(client, theirs)
        assert group_of(pids[theirs]) == group_of(os.getpid())


def test_a_weight_set_from_outside_stays(quick: Daemon, eventually: Eventually) -> None:
    with quick.client() as client:
        pids = burners(client)
        found = eventually(lambda: behind(client))
        assert isinstance(found, list)
        file = weight_file(pids[found[0]])
        if not file.exists():
            pytest.skip("the CPU controller is one of version 2")
        file.write_text("333")
        eventually(lambda: "scheduler.respected" in kinds(client, found[0]))
        client.call("scheduler.off")
        assert file.read_text().strip() == "333"


def test_a_service_is_not_put_behind_and_a_protected_job_is_left_alone(tmp_path: Path, eventually: Eventually) -> None:
    settings = '[scheduler]\npolicy = "las"\n[policy]\nprotected = ["guarded"]\n'
    with running(tmp_path, settings) as daemon, daemon.client() as client:
        burn(client, "service", restart="always")
        burn(client, "guarded")
        burners(client)
        eventually(lambda: behind(client))
        rows = targets(client)
        assert rows["service"]["place"] == "first"
        assert rows["guarded"]["place"] == "usual" and "protected" in rows["guarded"]["left_alone"]


def test_nothing_is_touched_while_it_is_off_or_nobody_has_to_wait(tmp_path: Path) -> None:
    with running(tmp_path, "[scheduler]\nenabled = false\n") as daemon, daemon.client() as client:
        pids = burners(client)
        assert client.call("scheduler.status")["on"] is False
        assert {group_of(pid) for pid in pids.values()} == {group_of(os.getpid())}


def test_off_outlives_a_restart(quick: Daemon) -> None:
    with quick.client() as client:
        client.call("scheduler.off")
    quick.kill()
    quick.start()
    with quick.client() as client:
        assert client.call("scheduler.status")["on"] is False
        assert client.call("scheduler.on")["on"] is True


@contextmanager
def outside(count: int) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Heavy processes that are no jobs, each in a session of its own."""
    started = [subprocess.Popen([sys.executable, "-c", BURN.format(100)], start_new_session=True) for _ in range(count)]
    try:
        yield started
    finally:
        for process in started:
            with suppress(ProcessLookupError):
                process.kill()
            process.wait()


@pytest.mark.parametrize("scope", ["jobs", "own"])
def test_heavy_processes_are_slowed_down_only_where_the_settings_say_so(
    tmp_path: Path, eventually: Eventually, scope: str
) -> None:
    settings = f'[scheduler]\npolicy = "las"\nscope = "{scope}"\n'
    origin = group_of(os.getpid())
    with outside(1) as (process,), running(tmp_path, settings) as daemon, daemon.client() as client:
        burners(client)
        eventually(lambda: behind(client))
        if scope == "own":
            eventually(lambda: group_of(process.pid) != origin)
        else:
            assert group_of(process.pid) == origin
        client.call("scheduler.off")
        assert group_of(process.pid) == origin
