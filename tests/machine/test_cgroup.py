"""Groups on the machine's real hierarchies, and cgroup v2 with all controllers on a tree of files that stands for it.

The tree of files answers as the kernel does where a plain file can; what only the kernel does (freezing, killing,
refusing) is tested on the real hierarchies.
"""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from llmos.errors import BadInput, Conflict, Forbidden, NotFound, Unsupported
from llmos.machine.cgroup import Cgroups
from llmos.machine.cgroup_files import directory_name, write
from llmos.machine.cgroup_mounts import CONTROLLERS, SUPERVISOR
from llmos.machine.identity import Identity
from machine.fake_cgroups import GROUP_FILES, FakeV2, a_group

Spawn = Callable[..., int]
Until = Callable[[Callable[[], Any]], Any]
Needs = Callable[..., None]

WAITS = "print('ready', flush=True); input()"
BUSY = "print('ready', flush=True)\nwhile True: pass"
HOG = """
    print('ready', flush=True)
    input()
    held = bytearray(256 << 20)
    for at in range(0, len(held), 4096):
        held[at] = 1
    input()
"""


@pytest.fixture
def v2(tmp_path: Path) -> FakeV2:
    return FakeV2(tmp_path)


# The real machine


def test_the_probe_says_what_it_found(cgroups: Cgroups) -> None:
    assert cgroups.version in ("v1", "v2", "hybrid")
    for controller in CONTROLLERS:
        assert (cgroups.why_not(controller) == "") == (controller in cgroups.controllers)
        if controller not in cgroups.controllers:
            with pytest.raises(Unsupported, match=controller):
                cgroups.create("web", [controller])


def test_a_group_is_made_joined_and_removed(cgroups: Cgroups, spawn: Spawn) -> None:
    identity = Identity.of(spawn(WAITS))
    directories = cgroups.create("web", cgroups.controllers)
    assert directories == cgroups.create("web", cgroups.controllers)
    assert all(directory.is_dir() for directory in directories)
    assert cgroups.members("web") == []
    assert cgroups.attach("web", [identity], cgroups.controllers) == [identity]
    assert cgroups.members("web") == [identity]
    assert all(cgroups.place(identity, each) == cgroups.directory("web", each) for each in cgroups.controllers)
    with pytest.raises(Conflict, match=str(identity.pid)):
        cgroups.remove("web")
    cgroups.kill("web")
    assert not identity.alive()
    cgroups.remove("web")
    cgroups.remove("web")
    assert not any(directory.exists() for directory in directories)


def test_who_writes_0_joins(cgroups: Cgroups) -> None:
    directories = cgroups.create("web", cgroups.controllers)
    code = f"""
for directory in {[str(each) for each in directories]!r}:
    open(directory + '/cgroup.procs', 'w').write('0')
print('ready', flush=True); input()"""
    child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None and child.stdout.readline() == "ready\n"
    assert [each.pid for each in cgroups.members("web")] == [child.pid]
    child.communicate("\n")


@pytest.mark.parametrize("name", ["two words", "../../up", "memory.max", "tasks", "工作", "x" * 128, "工" * 128, "."])
def test_any_name_is_a_safe_directory(cgroups: Cgroups, name: str) -> None:
    directories = cgroups.create(name, ["freezer"])
    assert [directory.parent.name for directory in directories] == [cgroups.directory("web", "freezer").parent.name]
    assert all(directory.is_dir() for directory in directories)
    cgroups.remove(name)
    assert not any(directory.exists() for directory in directories)


def test_names_that_differ_late_have_groups_apart() -> None:
    assert directory_name("工" * 127 + "一") != directory_name("工" * 127 + "二")
    assert len(directory_name("工" * 128)) < 255


def test_nobody_left_to_attach(cgroups: Cgroups, spawn: Spawn) -> None:
    cgroups.create("web", ["freezer"])
    identity = Identity.of(spawn(WAITS))
    with pytest.raises(NotFound, match="no process is left"):
        cgroups.attach("web", [replace(identity, start_ticks=1)], ["freezer"])
    with pytest.raises(NotFound):
        cgroups.put(identity, cgroups.directory("nowhere", "freezer"))
    assert cgroups.attach("web", [replace(identity, start_ticks=1), identity], ["freezer"]) == [identity]


def test_limits_are_set_read_and_lifted(cgroups: Cgroups, needs: Needs) -> None:
    needs("memory", "cpu", "pids")
    cgroups.create("web", ["memory", "cpu", "pids"])
    assert cgroups.limits("web") == {"memory": None, "cpu": None}
    for memory, cores in ((64 << 20, 0.5), (128 << 20, 2), (32 << 20, 0.01)):  # up and down again
        cgroups.set_memory("web", memory)
        cgroups.set_cpu("web", cores)
        assert cgroups.limits("web") == {"memory": memory, "cpu": cores}
    cgroups.set_weight("web", 300)
    cgroups.set_pids("web", 7)
    cgroups.set_pids("web", None)
    cgroups.set_memory("web", None)
    cgroups.set_cpu("web", None)
    assert cgroups.limits("web") == {"memory": None, "cpu": None}


def test_all_groups_together_have_a_weight(cgroups: Cgroups, needs: Needs) -> None:
    needs("cpu")
    with pytest.raises(NotFound):
        cgroups.set_common_weight(20)
    cgroups.create("web", ["cpu"])
    above = cgroups.directory("web", "cpu").parent
    shares = cgroups.means("cpu") == "cgroup v1"
    for weight in (20, 300):
        cgroups.set_common_weight(weight)
        assert (
            round(int((above / ("cpu.shares" if shares else "cpu.weight")).read_text()) / (10.24 if shares else 1))
            == weight
        )


def test_numbers_that_are_no_limits_are_refused(cgroups: Cgroups, needs: Needs) -> None:
    needs("cpu")
    cgroups.create("web", ["cpu"])
    with pytest.raises(BadInput, match="too few"):
        cgroups.set_cpu("web", 0.001)
    with pytest.raises(BadInput, match="1 to 10000"):
        cgroups.set_weight("web", 0)


def test_io_is_bound_with_a_word_on_what_is_not(cgroups: Cgroups, needs: Needs) -> None:
    needs("io")
    cgroups.create("web", ["io"])
    assert "buffered writes" in cgroups.set_io("web", 1 << 20)
    assert cgroups.limits("web") == {"io": 1 << 20}
    assert cgroups.set_io("web", None) == ""
    assert cgroups.limits("web") == {"io": None}


def test_without_a_group_there_is_nothing_to_limit(cgroups: Cgroups, needs: Needs) -> None:
    needs("memory", "cpu")
    assert cgroups.limits("nowhere") == {}
    with pytest.raises(NotFound, match="no group"):
        cgroups.set_cpu("nowhere", 1)
    with pytest.raises(NotFound, match="no group"):
        cgroups.usage("nowhere")


def test_memory_over_the_limit_is_killed_and_counted(cgroups: Cgroups, needs: Needs, until: Until) -> None:
    needs("memory")
    cgroups.create("hog", ["memory"])
    cgroups.set_memory("hog", 48 << 20)
    code = HOG.replace("\n    ", "\n")
    child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None and child.stdout.readline() == "ready\n"
    cgroups.attach("hog", [Identity.of(child.pid)], ["memory"])
    child.communicate("\n")
    assert child.returncode == -signal.SIGKILL
    assert cgroups.usage("hog").oom_kills == 1


def test_cpu_over_the_limit_is_held_back(cgroups: Cgroups, needs: Needs, spawn: Spawn, until: Until) -> None:
    needs("cpu")
    cgroups.create("busy", ["cpu"])
    cgroups.set_cpu("busy", 0.1)
    cgroups.attach("busy", [Identity.of(spawn(BUSY))], ["cpu"])
    until(lambda: (cgroups.usage("busy").throttled or 0) > 3)
    seconds = cgroups.usage("busy").cpu_seconds
    assert seconds is not None and seconds > 0


def test_a_frozen_group_makes_no_progress(
    cgroups: Cgroups, needs: Needs, spawn: Spawn, until: Until, tmp_path: Path
) -> None:
    needs("freezer")
    counter = tmp_path / "counter"
    identity = Identity.of(
        spawn(
            """
            import sys
            print('ready', flush=True)
            at = 0
            while True:
                at += 1
                open(sys.argv[1], 'w').write(str(at))
            """,
            str(counter),
        )
    )
    cgroups.create("count", ["freezer"])
    cgroups.attach("count", [identity], ["freezer"])
    assert not cgroups.frozen("count")
    until(counter.exists)
    cgroups.freeze("count")
    assert cgroups.frozen("count")
    before = os.stat(counter).st_mtime_ns, identity_cpu(identity)
    cgroups.freeze("count")
    subprocess.run(["sleep", "0.2"], check=True)  # time in which it would have gone on
    assert (os.stat(counter).st_mtime_ns, identity_cpu(identity)) == before
    cgroups.thaw("count")
    assert not cgroups.frozen("count")
    until(lambda: os.stat(counter).st_mtime_ns != before[0])


def identity_cpu(identity: Identity) -> list[bytes]:
    return Path(f"/proc/{identity.pid}/stat").read_bytes().rpartition(b")")[2].split()[11:13]


@pytest.mark.parametrize("frozen", [False, True])
def test_a_group_that_forks_is_killed_whole(
    cgroups: Cgroups, needs: Needs, spawn: Spawn, until: Until, frozen: bool
) -> None:
    needs("freezer", "pids")
    cgroups.create("forks", ["freezer", "pids"])
    cgroups.set_pids("forks", 20)
    top = Identity.of(
        spawn("""
            import os, time
            print('ready', flush=True)
            input()
            while True:
                try:
                    os.fork()
                except OSError:
                    time.sleep(0.01)
        """)
    )
    cgroups.attach("forks", [top], ["freezer", "pids"])
    os_write(top.pid)
    until(lambda: len(cgroups.members("forks")) > 10)
    if frozen:
        cgroups.freeze("forks")
    cgroups.kill("forks")
    assert cgroups.members("forks") == []
    assert not top.alive()
    cgroups.remove("forks")


def os_write(pid: int) -> None:
    """Press return in the process's standard input, whose writing end the test process holds."""
    with open(f"/proc/{pid}/fd/0", "w", encoding="utf-8") as pipe:
        pipe.write("\n")


def test_groups_below_a_group_belong_to_it(cgroups: Cgroups, spawn: Spawn) -> None:
    identity = Identity.of(spawn(WAITS))
    inner = cgroups.create("outer", ["freezer"])[0] / "inner"
    inner.mkdir()
    cgroups.put(identity, inner)
    assert cgroups.members("outer") == [identity]
    cgroups.kill("outer")
    cgroups.remove("outer")
    assert not inner.exists()


# cgroup v2 on a tree of files


def test_v2_offers_what_its_group_is_given(v2: FakeV2) -> None:
    found = v2.probe()
    assert found.version == "v2"
    assert found.controllers == set(CONTROLLERS)
    assert found.means("memory") == "cgroup v2"
    (v2.mount / "cgroup.controllers").write_text("cpu pids\n")
    assert v2.probe().controllers == {"cpu", "pids", "freezer"}
    assert "cgroup.subtree_control" in v2.probe().why_not("memory")
    with pytest.raises(Unsupported, match="memory"):
        v2.probe().set_memory("web", 1)


def test_v2_hands_controllers_down_to_its_groups(v2: FakeV2) -> None:
    group = v2.group("web")
    assert v2.probe().create("web", ["cpu", "freezer"]) == [group]
    assert (v2.mount / "cgroup.subtree_control").read_text() == "+cpu"
    assert (v2.mount / "llmos" / "cgroup.subtree_control").read_text() == "+cpu"


def test_v2_a_base_with_processes_is_emptied_first(v2: FakeV2, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fake refuses as the kernel does (EBUSY), and moves whoever is written to the leaf."""
    group, leaf = v2.group("web"), a_group(v2.mount / SUPERVISOR)
    inside = v2.mount / "cgroup.procs"
    inside.write_text("17\n18\n")

    def kernel(file: Path, text: str) -> None:
        if file == v2.mount / "cgroup.subtree_control" and inside.read_text().split():
            raise Conflict("Device or resource busy")
        if file == leaf / "cgroup.procs":
            inside.write_text(" ".join(pid for pid in inside.read_text().split() if pid != text))
        write(file, text)

    monkeypatch.setattr("llmos.machine.cgroup_mounts.write", kernel)
    assert v2.probe().create("web", ["memory"]) == [group]
    assert inside.read_text() == ""
    assert (v2.mount / "cgroup.subtree_control").read_text() == "+memory"


def test_v2_limits(v2: FakeV2) -> None:
    group, found = v2.group("web"), v2.probe()
    found.set_memory("web", 1 << 30)
    found.set_cpu("web", 1.5)
    found.set_pids("web", 10)
    found.set_weight("web", 300)
    assert "cgroup writeback" in found.set_io("web", 1000)
    written = {file: (group / file).read_text() for file in GROUP_FILES}
    assert written["memory.max"] == str(1 << 30)
    assert written["memory.swap.max"] == "0"
    assert written["cpu.max"] == "150000 100000"
    assert written["pids.max"] == "10"
    assert written["cpu.weight"] == "300"
    assert written["io.max"] == "254:0 rbps=1000 wbps=1000"
    assert found.limits("web") == {"memory": 1 << 30, "cpu": 1.5, "io": 1000}
    found.set_memory("web", None)
    found.set_cpu("web", None)
    found.set_io("web", None)
    assert (group / "cpu.max").read_text() == "max 100000"
    assert (group / "memory.swap.max").read_text() == "max"
    assert found.limits("web") == {"memory": None, "cpu": None, "io": None}


def test_v2_usage_attach_freeze_and_kill(v2: FakeV2, spawn: Spawn) -> None:
    group, found = v2.group("web"), v2.probe()
    usage = found.usage("web")
    assert (usage.memory, usage.cpu_seconds, usage.oom_kills, usage.throttled) == (4096, 1.5, 3, 7)
    identity = Identity.of(spawn(WAITS))
    found.attach("web", [identity], found.controllers)
    assert (group / "cgroup.procs").read_text() == str(identity.pid)
    assert found.members("web") == [identity]
    found.request_freeze("web")
    assert (group / "cgroup.freeze").read_text() == "1"
    (group / "cgroup.events").write_text("populated 1\nfrozen 1\n")
    assert found.frozen("web")
    found.kill("web")
    assert (group / "cgroup.kill").read_text() == "1"
    assert not identity.alive()


def test_v2_names_the_file_that_an_older_kernel_lacks(v2: FakeV2) -> None:
    (v2.group("web") / "io.max").unlink()
    with pytest.raises(Unsupported, match=r"no io\.max"):
        v2.probe().set_io("web", 1000)


def test_v2_without_a_disk_has_no_io_to_limit(v2: FakeV2) -> None:
    v2.group("web")
    (v2.root / "block" / "vda" / "size").write_text("0\n")
    with pytest.raises(Unsupported, match="no disk"):
        v2.probe().set_io("web", 1000)


def test_v2_a_group_with_strangers_in_it_is_not_ours(tmp_path: Path) -> None:
    v2 = FakeV2(tmp_path, "/user.slice/session-3.scope")
    (v2.own / "cgroup.procs").write_text("17\n18\n")
    if os.geteuid() != 0:
        assert v2.probe().directory("web", "cpu").is_relative_to(v2.own)  # its directory is our own user's
    else:
        assert v2.probe().directory("web", "cpu").parent.parent == v2.mount
    (v2.own / "cgroup.procs").write_text("")
    assert v2.probe().directory("web", "cpu").parent.parent == v2.own


def test_v2_the_supervisor_leaf_is_stepped_out_of(tmp_path: Path) -> None:
    v2 = FakeV2(tmp_path, "/system.slice/llmosd.service/supervisor")
    (v2.own.parent / "cgroup.procs").write_text("")
    a_group(v2.own.parent)
    assert v2.probe().directory("web", "cpu").parent.parent == v2.own.parent


@pytest.fixture
def seen_by_all() -> Iterator[Path]:
    """A folder that another user can reach, which the private folders of pytest are not."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)


def test_what_may_not_be_written_is_not_usable(seen_by_all: Path, as_nobody: Callable[[str], Any]) -> None:
    root = str(FakeV2(seen_by_all).root)
    controllers, reason, forbidden = as_nobody(f"""
        from pathlib import Path
        root = Path({root!r})
        found = cgroup.Cgroups.probe(root, root / "mounts", root / "own")
        try:
            cgroup.write(root / "own", "x")
        except errors.Forbidden as error:
            result = sorted(found.controllers), found.why_not("memory"), error.message
    """)
    assert controllers == []
    assert "Delegate=yes" in reason
    assert "not allowed to uid 65534" in forbidden
    assert Forbidden.exit_code == 5


def test_no_cgroups_at_all(tmp_path: Path) -> None:
    found = Cgroups.probe(tmp_path, tmp_path / "mounts", tmp_path / "own")
    assert found.version == "none"
    assert found.controllers == frozenset()
    assert "no cgroup hierarchy is mounted" in found.why_not("cpu")
    with pytest.raises(Unsupported, match="no cgroup hierarchy"):
        found.create("web", ["cpu"])
    assert found.members("web") == []


def test_v1_mounted_together_below_our_own_group(tmp_path: Path) -> None:
    """As in a container: the mount shows a part of the hierarchy, and cpu shares its directory with cpuacct."""
    mount = tmp_path / "cgroup" / "cpu,cpuacct"
    own = mount / "deep" / "own"
    own.mkdir(parents=True)
    (own / "cgroup.procs").write_text("")
    (tmp_path / "mounts").write_text(
        f"33 30 0:29 /docker/abc {mount} rw master:9 - cgroup cgroup rw,cpu,cpuacct\n"
        f"34 30 0:30 / {tmp_path}/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n"
    )
    (tmp_path / "own").write_text("4:cpu,cpuacct:/docker/abc/deep/own\n1:name=systemd:/docker/abc\n")
    found = Cgroups.probe(tmp_path, tmp_path / "mounts", tmp_path / "own")
    assert found.version == "v1"
    assert found.controllers == {"cpu"}
    assert found.create("web", ["cpu"]) == [own / "llmos" / "web.group"]
    assert "no v1 hierarchy holds it" in found.why_not("memory")
    found.remove("web")
    assert not (own / "llmos").exists()
