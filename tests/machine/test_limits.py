"""Limits hold on real processes: jobs with a group, others lent to one, and rlimits where there is no cgroup."""

import json
import resource
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from llmos.errors import BadInput, Conflict, Forbidden, NotFound, Unsupported
from llmos.machine import limits
from llmos.machine.cgroup import Cgroups
from llmos.machine.identity import Identity, descendants
from llmos.machine.limits import Held, limit

Spawn = Callable[..., int]
Until = Callable[[Callable[[], Any]], Any]
Needs = Callable[..., None]

WAITS = "print('ready', flush=True); input()"
BUSY = "print('ready', flush=True)\nwhile True: pass"
GROWS = """
    print('ready', flush=True)
    input()
    try:
        held = bytearray(400 << 20)
        for at in range(0, len(held), 4096):
            held[at] = 1
    except MemoryError:
        open('/proc/self/comm', 'w').write('refused')
    input()
"""
PARENT = """
    import os, time
    if os.fork() == 0:
        print('ready', flush=True)
        time.sleep(600)
    input()
"""
LIMIT = 64 << 20


@pytest.fixture
def no_cgroups(tmp_path: Path) -> Cgroups:
    return Cgroups.probe(tmp_path, tmp_path / "mounts", tmp_path / "own")


def press_return(identity: Identity) -> None:
    with open(f"/proc/{identity.pid}/fd/0", "w", encoding="utf-8") as pipe:
        pipe.write("\n")


def name(identity: Identity) -> str:
    return Path(f"/proc/{identity.pid}/comm").read_text().strip()


def address_space(identity: Identity) -> tuple[int, int]:
    return resource.prlimit(identity.pid, resource.RLIMIT_AS)


def through_json(held: Held | None) -> Held:
    assert held is not None
    again = Held.from_json(json.loads(json.dumps(held.as_json())))
    assert again == held
    return again


def test_others_are_lent_to_a_group_until_the_last_limit_is_lifted(
    cgroups: Cgroups, needs: Needs, spawn: Spawn
) -> None:
    needs("memory", "cpu")
    parent = Identity.of(spawn(PARENT))
    (child,) = descendants(parent.pid)
    homes = {kind: cgroups.place(parent, kind) for kind in ("memory", "cpu")}

    first = limit({"memory": LIMIT}, [parent], cgroups)
    assert first.means == {"memory": cgroups.means("memory")}
    assert first.previous == {"memory": None}
    assert any("already" in caveat for caveat in first.caveats)
    held = through_json(first.held)
    assert held.group is not None
    assert cgroups.members(held.group) == sorted([parent, child], key=lambda each: each.pid)

    second = limit({"cpu": 0.5, "memory": 2 * LIMIT}, [parent], cgroups, held=held)
    assert second.previous == {"cpu": None, "memory": LIMIT}
    held = through_json(second.held)
    assert held.group is not None and cgroups.limits(held.group) == {"memory": 2 * LIMIT, "cpu": 0.5}

    third = limit({"memory": None}, [parent], cgroups, held=held)
    assert third.previous == {"memory": 2 * LIMIT}
    held = through_json(third.held)

    last = limit({"cpu": None}, [parent], cgroups, held=held)
    assert last.held is None
    assert held.group is not None and not cgroups.exists(held.group, "memory")
    for identity in (parent, child):
        assert {kind: cgroups.place(identity, kind) for kind in homes} == homes
    child.send(signal.SIGKILL)


def test_a_limit_that_nobody_has_a_record_of_is_lifted_too(cgroups: Cgroups, needs: Needs, spawn: Spawn) -> None:
    needs("cpu")
    identity = Identity.of(spawn(WAITS))
    first = limit({"cpu": 0.5}, [identity], cgroups)
    assert first.held is not None and first.held.group is not None
    lifted = limit({"cpu": None}, [identity], cgroups)  # without what the first one returned
    assert (lifted.previous, lifted.held) == ({"cpu": 0.5}, None)
    assert not cgroups.exists(first.held.group, "cpu")
    assert cgroups.place(identity, "cpu") in cgroups.directory("any", "cpu").parents


def test_what_they_leave_behind_is_said(cgroups: Cgroups, needs: Needs, spawn: Spawn) -> None:
    needs("cpu")
    identity = Identity.of(spawn(WAITS))
    (left,) = cgroups.create("elsewhere", ["cpu"])[:1]
    cgroups.attach("elsewhere", [identity], ["cpu"])
    done = limit({"cpu": 0.5}, [identity], cgroups)
    assert any(str(left) in caveat for caveat in done.caveats)
    assert limit({"cpu": None}, [identity], cgroups, held=done.held).held is None
    assert cgroups.members("elsewhere") == [identity]


def test_undo_is_a_limit_to_what_was_before(cgroups: Cgroups, needs: Needs, spawn: Spawn) -> None:
    needs("cpu")
    identity = Identity.of(spawn(WAITS))
    first = limit({"cpu": 0.5}, [identity], cgroups)
    second = limit({"cpu": 1.5}, [identity], cgroups, held=first.held)
    undone = limit(second.previous, [identity], cgroups, held=second.held)
    assert undone.previous == {"cpu": 1.5}
    assert undone.held is not None and undone.held.group is not None
    assert cgroups.limits(undone.held.group) == {"cpu": 0.5}
    assert limit(first.previous, [identity], cgroups, held=undone.held).held is None


def test_memory_over_the_limit_ends_it(cgroups: Cgroups, needs: Needs, spawn: Spawn, until: Until) -> None:
    needs("memory")
    identity = Identity.of(spawn(GROWS))
    held = limit({"memory": LIMIT}, [identity], cgroups).held
    press_return(identity)
    until(lambda: not identity.alive())
    assert held is not None and held.group is not None
    assert cgroups.usage(held.group).oom_kills == 1


def test_a_job_is_limited_in_its_own_group(cgroups: Cgroups, needs: Needs, spawn: Spawn, until: Until) -> None:
    needs("freezer", "cpu")
    identity = Identity.of(spawn(BUSY))
    cgroups.create("job", ["freezer"])
    cgroups.attach("job", [identity], ["freezer"])
    done = limit({"cpu": 0.1}, [identity], cgroups, group="job")
    assert done.held is None
    until(lambda: (cgroups.usage("job").throttled or 0) > 1)
    lifted = limit({"cpu": None}, [identity], cgroups, group="job")
    assert lifted.previous == {"cpu": 0.1}
    assert cgroups.members("job") == [identity]


def test_io_says_what_it_does_not_cover(cgroups: Cgroups, needs: Needs, spawn: Spawn) -> None:
    needs("io")
    identity = Identity.of(spawn(WAITS))
    done = limit({"io": 1 << 20}, [identity], cgroups)
    assert any("buffered writes" in caveat for caveat in done.caveats)
    assert limit({"io": None}, [identity], cgroups, held=done.held).held is None


def test_lifting_what_was_never_set_changes_nothing(cgroups: Cgroups, needs: Needs, spawn: Spawn) -> None:
    needs("cpu", "memory")
    identity = Identity.of(spawn(WAITS))
    home = cgroups.place(identity, "cpu")
    done = limit({"cpu": None, "memory": None}, [identity], cgroups)
    assert (done.previous, done.held) == ({"cpu": None, "memory": None}, None)
    assert cgroups.place(identity, "cpu") == home


@pytest.mark.parametrize("before", [False, True])
def test_all_or_nothing(
    cgroups: Cgroups, needs: Needs, spawn: Spawn, monkeypatch: pytest.MonkeyPatch, before: bool
) -> None:
    """The second of two limits is refused by the kernel: the first is taken back, the processes go home."""
    needs("memory", "cpu")
    identity = Identity.of(spawn(WAITS))
    homes = {kind: cgroups.place(identity, kind) for kind in ("memory", "cpu")}
    held = limit({"memory": LIMIT}, [identity], cgroups).held if before else None

    def refuse(name: str, cores: float | None) -> None:
        if cores is not None:
            raise Conflict("cannot write cpu.max: Invalid argument")

    with monkeypatch.context() as patched:
        patched.setattr(cgroups, "set_cpu", refuse)
        with pytest.raises(Conflict, match=r"cpu\.max"):
            limit({"memory": 2 * LIMIT, "cpu": 1}, [identity], cgroups, held=held)
    assert cgroups.place(identity, "cpu") == homes["cpu"]
    if held:
        assert held.group is not None and cgroups.limits(held.group)["memory"] == LIMIT
        assert limit({"memory": None}, [identity], cgroups, held=held).held is None
    assert cgroups.place(identity, "memory") == homes["memory"]


def test_without_cgroups_memory_is_an_rlimit(no_cgroups: Cgroups, spawn: Spawn, until: Until) -> None:
    identity = Identity.of(spawn(GROWS))
    before = address_space(identity)
    first = limit({"memory": 300 << 20}, [identity], no_cgroups, group="job")
    assert first.means == {"memory": "rlimit"}
    assert first.previous == {"memory": None if before[0] == resource.RLIM_INFINITY else before[0]}
    assert any("RLIMIT_AS" in caveat for caveat in first.caveats)
    second = limit({"memory": 200 << 20}, [identity], no_cgroups, held=through_json(first.held))
    assert second.previous == {"memory": 300 << 20}
    assert address_space(identity) == (200 << 20, before[1])
    press_return(identity)
    until(lambda: name(identity) == "refused")

    lifted = limit({"memory": None}, [identity], no_cgroups, held=through_json(second.held))
    assert lifted.held is None
    assert lifted.caveats == []
    assert address_space(identity) == before


@pytest.mark.parametrize("kind", ["cpu", "io"])
def test_without_cgroups_the_rest_is_unsupported(no_cgroups: Cgroups, spawn: Spawn, kind: limits.Bounded) -> None:
    identity = Identity.of(spawn(WAITS))
    before = address_space(identity)
    with pytest.raises(Unsupported, match=f"cannot limit {kind}.*no cgroup hierarchy is mounted.*no rlimit"):
        limit({"memory": LIMIT, kind: 1}, [identity], no_cgroups)
    assert address_space(identity) == before


def test_no_more_than_the_hard_limit(no_cgroups: Cgroups, spawn: Spawn) -> None:
    identity = Identity.of(spawn(WAITS))
    hard = 8 << 30
    resource.prlimit(identity.pid, resource.RLIMIT_AS, (hard, hard))
    with pytest.raises(Forbidden, match=str(hard)):
        limit({"memory": hard + 1}, [identity], no_cgroups)
    assert address_space(identity) == (hard, hard)


@pytest.mark.parametrize("bound", [0, -1])
def test_a_limit_is_more_than_nothing(cgroups: Cgroups, spawn: Spawn, bound: float) -> None:
    with pytest.raises(BadInput, match="none to lift it"):
        limit({"memory": bound}, [Identity.of(spawn(WAITS))], cgroups)


def test_nothing_left_to_limit(cgroups: Cgroups, spawn: Spawn) -> None:
    with pytest.raises(NotFound):
        limit({"memory": LIMIT}, [replace(Identity.of(spawn(WAITS)), start_ticks=1)], cgroups)


def test_another_users_process_is_not_limited(as_nobody: Callable[[str], Any], spawn: Spawn) -> None:
    identity = Identity.of(spawn(WAITS))
    message = as_nobody(f"""
        from pathlib import Path
        none = cgroup.Cgroups.probe(Path('/nowhere'))
        try:
            limits.limit({{'memory': 1 << 30}}, [identity.Identity.of({identity.pid})], none)
        except errors.Forbidden as error:
            result = error.message
    """)
    assert f"process {identity.pid}" in message
