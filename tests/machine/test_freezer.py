"""Real trees of processes are paused by the freezer and by signals, and go on as they were."""

import json
import os
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from llmos.errors import Conflict, NotFound
from llmos.machine import freezer
from llmos.machine.cgroup import Cgroups
from llmos.machine.freezer import Paused
from llmos.machine.identity import Identity, descendants, read_stat

Spawn = Callable[..., int]
Until = Callable[[Callable[[], Any]], Any]
Needs = Callable[..., None]

TREE = """
    import os, sys
    at, end = os.pipe()
    if os.fork() == 0:
        if os.fork() == 0:
            os.write(end, b'.')
        while True:
            pass
    os.read(at, 1)
    print('ready', flush=True)
    input()
"""


@pytest.fixture
def tree(spawn: Spawn) -> Any:
    """A parent that waits, a child and a grandchild that count: `[parent, child, grandchild]`."""
    pid = spawn(TREE)
    below = descendants(pid)
    assert len(below) == 2
    yield [Identity.of(pid), *below]
    for identity in reversed(below):
        if identity.alive():
            identity.send(signal.SIGKILL)


@pytest.fixture
def no_cgroups(tmp_path: Path) -> Cgroups:
    return Cgroups.probe(tmp_path, tmp_path / "mounts", tmp_path / "own")


@pytest.fixture
def v1_freezer(cgroups: Cgroups, needs: Needs) -> Cgroups:
    needs("freezer")
    if cgroups.means("freezer") != "cgroup v1":
        pytest.skip("the freezer of this machine is that of cgroup v2")
    return cgroups


def ticks(identity: Identity) -> int:
    """CPU time used, in clock ticks."""
    fields = Path(f"/proc/{identity.pid}/stat").read_bytes().rpartition(b")")[2].split()
    return int(fields[11]) + int(fields[12])


def check_rest_and_motion(busy: list[Identity], resume: Callable[[], object], until: Until) -> None:
    """While another process gets CPU time, these get none; and then they do."""
    before = [ticks(identity) for identity in busy]
    mine = time.process_time()
    while time.process_time() < mine + 0.1:
        pass
    assert [ticks(identity) for identity in busy] == before
    resume()
    until(lambda: all(ticks(identity) > since for identity, since in zip(busy, before, strict=True)))


def test_any_tree_is_frozen_and_given_back(v1_freezer: Cgroups, tree: list[Identity], until: Until) -> None:
    homes = [v1_freezer.place(identity, "freezer") for identity in tree]
    paused = freezer.pause([tree[0]], v1_freezer)
    assert paused.means == "cgroup v1"
    assert sorted(each.pid for each in paused.processes) == sorted(each.pid for each in tree)
    assert paused.group is not None and v1_freezer.frozen(paused.group)
    with pytest.raises(Conflict, match="paused already"):
        freezer.pause([tree[0]], v1_freezer)

    again = Paused.from_json(json.loads(json.dumps(paused.as_json())))
    assert again == paused
    check_rest_and_motion(tree[1:], lambda: freezer.resume(again, v1_freezer), until)
    assert [v1_freezer.place(identity, "freezer") for identity in tree] == homes
    assert not v1_freezer.exists(paused.group, "freezer")
    freezer.resume(again, v1_freezer)


def test_one_of_a_paused_tree_can_stay_paused(v1_freezer: Cgroups, tree: list[Identity]) -> None:
    home = v1_freezer.place(tree[0], "freezer")
    outer = freezer.pause([tree[0]], v1_freezer)
    inner = freezer.pause([tree[2]], v1_freezer)
    freezer.resume(outer, v1_freezer)
    assert inner.group is not None and v1_freezer.frozen(inner.group)
    assert v1_freezer.members(inner.group) == [tree[2]]
    freezer.resume(inner, v1_freezer)
    assert v1_freezer.place(tree[1], "freezer") == home
    assert not v1_freezer.exists(inner.group, "freezer")
    assert v1_freezer.place(tree[2], "freezer") == home


def test_what_ended_while_paused_is_left_out(v1_freezer: Cgroups, tree: list[Identity], until: Until) -> None:
    paused = freezer.pause([tree[1]], v1_freezer)
    tree[2].send(signal.SIGKILL)
    freezer.resume(paused, v1_freezer)
    until(lambda: not tree[2].alive())
    assert tree[1].alive()


def test_a_job_is_frozen_in_its_own_group(cgroups: Cgroups, needs: Needs, tree: list[Identity], until: Until) -> None:
    needs("freezer")
    cgroups.create("job", ["freezer"])
    cgroups.attach("job", tree, ["freezer"])
    paused = freezer.pause([tree[0]], cgroups, group="job")
    assert (paused.means, paused.group, paused.origins) == (cgroups.means("freezer"), "job", {})
    assert cgroups.frozen("job")
    check_rest_and_motion(tree[1:], lambda: freezer.resume(paused, cgroups), until)
    assert sorted(each.pid for each in cgroups.members("job")) == sorted(each.pid for each in tree)


def test_without_a_freezer_the_tree_is_stopped(no_cgroups: Cgroups, tree: list[Identity], until: Until) -> None:
    paused = freezer.pause([tree[0]], no_cgroups, group="job")
    assert (paused.means, paused.processes, paused.group) == ("SIGSTOP", tree, None)
    until(lambda: all(read_stat(each.pid).state == "T" for each in tree))
    again = Paused.from_json(json.loads(json.dumps(paused.as_json())))
    check_rest_and_motion(tree[1:], lambda: freezer.resume(again, no_cgroups), until)


def test_what_was_stopped_before_stays_stopped(no_cgroups: Cgroups, tree: list[Identity], until: Until) -> None:
    tree[2].send(signal.SIGSTOP)
    until(lambda: read_stat(tree[2].pid).state == "T")
    paused = freezer.pause(tree, no_cgroups)
    assert paused.processes == tree[:2]
    freezer.resume(paused, no_cgroups)
    until(lambda: read_stat(tree[1].pid).state == "R")
    assert read_stat(tree[2].pid).state == "T"
    assert freezer.resume_stopped([tree[0]]) == [tree[2]]
    until(lambda: read_stat(tree[2].pid).state == "R")


def test_a_tree_that_forks_meanwhile_is_stopped_whole(no_cgroups: Cgroups, spawn: Spawn, until: Until) -> None:
    pid = spawn("""
        import os, time
        print('ready', flush=True)
        for _ in range(40):
            if os.fork() == 0:
                time.sleep(600)
        time.sleep(600)
    """)
    paused = freezer.pause([Identity.of(pid)], no_cgroups)
    until(lambda: all(read_stat(each.pid).state == "T" for each in paused.processes))
    below = descendants(pid)
    assert {each.pid for each in below} | {pid} == {each.pid for each in paused.processes}
    for identity in reversed(paused.processes):
        identity.send(signal.SIGKILL)


def test_llmos_itself_is_not_paused(cgroups: Cgroups) -> None:
    for identity in (Identity.of(os.getpid()), Identity.of(os.getppid())):
        with pytest.raises(Conflict, match="llmos itself"):
            freezer.pause([identity], cgroups)


def test_nothing_left_to_pause(cgroups: Cgroups, tree: list[Identity]) -> None:
    with pytest.raises(NotFound):
        freezer.pause([replace(tree[0], start_ticks=1)], cgroups)


def test_another_users_process_is_not_stopped(as_nobody: Callable[[str], Any], tree: list[Identity]) -> None:
    message = as_nobody(f"""
        from pathlib import Path
        none = cgroup.Cgroups.probe(Path('/nowhere'))
        try:
            freezer.pause([identity.Identity.of({tree[0].pid})], none)
        except errors.Forbidden as error:
            result = error.message
    """)
    assert f"process {tree[0].pid}" in message


def test_what_was_frozen_without_a_record_is_found_and_let_go(
    v1_freezer: Cgroups, tree: list[Identity], until: Until
) -> None:
    home = v1_freezer.place(tree[0], "freezer")
    paused = freezer.pause(tree[:1], v1_freezer)
    v1_freezer.create("web", ["freezer"])  # a job's, and no business of it
    assert freezer.unrecorded(v1_freezer, [paused]) == []
    (found,) = freezer.unrecorded(v1_freezer, [])
    assert (found.group, sorted(map(str, found.processes))) == (paused.group, sorted(map(str, paused.processes)))
    again = Paused.from_json(json.loads(json.dumps(found.as_json())))
    check_rest_and_motion(tree[1:], lambda: freezer.resume(again, v1_freezer), until)
    assert all(v1_freezer.place(identity, "freezer") == home for identity in tree)
    assert paused.group is not None and not v1_freezer.exists(paused.group, "freezer")
    v1_freezer.create(paused.group, ["freezer"])
    assert freezer.unrecorded(v1_freezer, []) == []
    assert not v1_freezer.exists(paused.group, "freezer")


def test_a_stopped_tree_is_found_as_such(tree: list[Identity], no_cgroups: Cgroups) -> None:
    assert freezer.found_stopped(tree) is None
    assert freezer.found_stopped([]) is None
    paused = freezer.pause(tree[:1], no_cgroups)
    found = freezer.found_stopped(tree)
    assert found is not None and found.means == "SIGSTOP"
    assert sorted(map(str, found.processes)) == sorted(map(str, paused.processes))
    freezer.resume(found, no_cgroups)
    assert freezer.found_stopped(tree) is None  # SIGCONT takes effect as it is sent


def test_what_waits_in_the_kernel_is_stopped_when_it_comes_back(
    spawn: Spawn, no_cgroups: Cgroups, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A parent in vfork(2) waits for its child, which is stopped before it executes anything."""
    monkeypatch.setattr("llmos.machine.cgroup_files.SETTLE_SECONDS", 0.1)
    os.mkfifo(tmp_path / "pipe")
    code = """
        import os, sys
        print('ready', flush=True)
        opens = (os.POSIX_SPAWN_OPEN, 7, sys.argv[1], os.O_WRONLY, 0)
        os.posix_spawn('/bin/true', ['true'], {}, file_actions=[opens])
    """
    parent = Identity.of(spawn(code, str(tmp_path / "pipe")))
    while not (below := descendants(parent.pid)):
        time.sleep(0.01)
    paused = freezer.pause([parent], no_cgroups)
    assert set(paused.processes) == {parent, *below}
    freezer.resume(paused, no_cgroups)
    below[0].send(signal.SIGKILL)
