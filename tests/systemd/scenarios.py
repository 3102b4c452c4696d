"""llmosd under a real systemd: `make test-systemd`. Needs root, cgroup v2 and debootstrap; not part of `make test`."""

import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from llmos.errors import LlmosError
from llmos.nlui import models
from systemd.container import ROOT, Container, booted, eventually

INSTALLER = (sys.executable, "-B", str(ROOT / "tools/install_system.py"))
UNITS = ("llmosd.socket", "llmosd.service")
DROP_IN = Path("etc/systemd/system/llmosd.service.d/test.conf")
CONFIG = Path("etc/llmos/llmos.toml")


@pytest.fixture(scope="module")
def container() -> Iterator[Container]:
    """A booted Debian, in which llmos was installed as on any machine."""
    with booted() as machine:
        machine.run(*INSTALLER, "install")
        yield machine


@pytest.fixture
def machine(container: Container) -> Iterator[Container]:
    """The container with llmosd running and a job `nap`; all that the test changes is put right afterwards."""
    settings = (container.root / CONFIG).read_text()
    container.systemctl("start", *UNITS)
    with container.client() as client:
        client.run(["sleep", "100000"], name="nap")
    yield container
    (container.root / DROP_IN).unlink(missing_ok=True)
    (container.root / CONFIG).write_text(settings)
    container.systemctl("daemon-reload")
    container.systemctl("stop", *UNITS)
    container.systemctl("reset-failed", *UNITS)  # and with it how often they were started of late
    container.systemctl("start", "llmosd.socket")
    with container.client() as client:
        client.shutdown(jobs=True)
    eventually(lambda: container.property("ActiveState") == "inactive")
    container.run("rm", "-rf", "/var/lib/llmos")


def nap(machine: Container) -> tuple[int, int]:
    """Pid and start time of the job, which must run; the same twice is the same process."""
    with machine.client() as client:
        job = client.call("show", target="nap")
    assert job["state"] == "running"
    fields = (machine.root / f"proc/{job['pid']}/stat").read_text().rpartition(")")[2].split()
    assert fields[0] == "S"
    return job["pid"], int(fields[19])


def main_pid(machine: Container) -> int:
    return int(machine.property("MainPID"))


def drop_in(machine: Container, text: str) -> None:
    """Change the unit, for this test."""
    path = machine.root / DROP_IN
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"[Service]\n{text}\n")
    machine.systemctl("daemon-reload")


def test_a_caller_starts_it_by_the_socket(machine: Container) -> None:
    machine.systemctl("stop", "llmosd.service")
    assert machine.run("stat", "-c", "%a %U %G", "/run/llmos/llmosd.sock") == "660 root llmos"
    assert machine.property("ActiveState") == "inactive"
    assert machine.run("llmos", "status", "--json")
    assert machine.property("ActiveState") == "active"


def test_it_starts_at_boot(machine: Container) -> None:
    before = main_pid(machine)
    machine.run("systemctl", "soft-reboot", check=False)
    eventually(lambda: machine.run("systemctl", "is-active", "multi-user.target", check=False) == "active")
    eventually(lambda: machine.property("ActiveState") == "active")
    assert main_pid(machine) != before
    with machine.client() as client:
        assert client.call("show", target="nap")["state"] != "running"  # a boot ends every process


def test_it_is_ready_only_when_the_socket_answers(machine: Container) -> None:
    machine.systemctl("stop", "llmosd.service")
    hang = machine.root / "opt/hang"
    hang.mkdir(exist_ok=True)
    (hang / "sitecustomize.py").write_text(
        "import asyncio\nfrom llmos.kernel.methods import METHODS\n"
        "METHODS['daemon.status'] = lambda connection, params: asyncio.sleep(3600)\n"
    )
    drop_in(machine, "Environment=PYTHONPATH=/opt/hang")
    machine.systemctl("start", "--no-block", "llmosd.service")
    eventually(lambda: "answers on" in machine.journal().rpartition("Starting llmosd")[2])
    assert machine.property("ActiveState") == "activating"
    eventually(lambda: "does not answer within" in machine.journal().rpartition("Starting llmosd")[2])
    assert machine.property("ActiveState") == "activating"


def test_the_watchdog_replaces_one_that_hangs(machine: Container) -> None:
    drop_in(machine, "WatchdogSec=2")
    machine.systemctl("restart", "llmosd.service")
    before, job = main_pid(machine), nap(machine)
    machine.run("sleep", "5")
    assert main_pid(machine) == before  # fed, it stays
    machine.run("kill", "-STOP", str(before))
    eventually(lambda: main_pid(machine) not in (0, before))
    eventually(lambda: machine.property("ActiveState") == "active")
    assert "Watchdog timeout" in machine.journal()
    assert nap(machine) == job


def test_killed_it_comes_back_and_its_jobs_never_left(machine: Container) -> None:
    before, job = main_pid(machine), nap(machine)
    machine.run("kill", "-KILL", str(before))
    assert nap(machine) == job  # the socket held the caller until the next llmosd was there
    assert main_pid(machine) != before
    assert machine.property("NRestarts") != "0"
    with machine.client() as client:
        client.call("stop", target="nap")
        assert client.call("show", target="nap")["exit_signal"] == 15


def test_it_restarts_beside_jobs_whose_groups_have_controllers(machine: Container) -> None:
    """On cgroup v2 a group whose children have controllers takes no process; here the machine's hugetlb stands for all."""
    service = machine.root / "sys/fs/cgroup/system.slice/llmosd.service"
    before, job = main_pid(machine), nap(machine)
    for group in (service.parent.parent, service.parent, service):
        if "hugetlb" not in (group / "cgroup.controllers").read_text().split():
            pytest.skip("this machine's cgroup v2 has no hugetlb controller")
        (group / "cgroup.subtree_control").write_text("+hugetlb")
    machine.run("kill", "-KILL", str(before))
    assert nap(machine) == job
    assert "hugetlb" in (service / "cgroup.subtree_control").read_text()


def test_an_upgrade_keeps_the_jobs(machine: Container) -> None:
    package = next((machine.root / "opt/llmos/.venv/lib").glob("python*/site-packages/llmos/__init__.py"))
    package.write_text(package.read_text().replace("__version__ =", "__version__ = 'old' #"))
    machine.systemctl("restart", "llmosd.service")
    job = nap(machine)
    with machine.client() as client:
        assert client.status()["version"] == "old"
    machine.run(*INSTALLER, "install")
    assert nap(machine) == job
    with machine.client() as client:
        assert client.status()["version"] != "old"


def test_a_stop_leaves_the_jobs_and_takes_the_socket_away(machine: Container) -> None:
    job = nap(machine)
    machine.systemctl("stop", *UNITS)
    assert machine.property("Result") == "success"
    assert not (machine.root / "run/llmos/llmosd.sock").exists()
    assert (machine.root / f"proc/{job[0]}").exists()
    machine.systemctl("start", *UNITS)
    assert nap(machine) == job


def test_down_is_no_failure(machine: Container) -> None:
    machine.run("llmos", "down")
    eventually(lambda: machine.property("ActiveState") == "inactive")
    assert machine.property("Result") == "success"
    assert machine.property("ActiveState", "llmosd.socket") == "active"


def test_a_reload_takes_the_settings_over_and_a_wrong_file_changes_nothing(machine: Container) -> None:
    config, before = machine.root / CONFIG, main_pid(machine)

    def model() -> str:
        with machine.client() as client:
            return str(client.status()["model"]["name"])

    config.write_text('[model]\nname = "other"\n[jobs]\nhealthy_seconds = 3\n')
    machine.systemctl("reload", "llmosd.service")
    eventually(lambda: model() == "other")
    assert "what changed of jobs waits for a restart" in machine.journal()
    config.write_text('[model]\nnam = "other"\n')
    machine.systemctl("reload", "llmosd.service")
    eventually(lambda: "the settings stay as they were: /etc/llmos/llmos.toml: model.nam" in machine.journal())
    eventually(lambda: machine.property("ActiveState") == "active")
    assert (model(), main_pid(machine)) == ("other", before)


def test_the_status_says_when_the_model_loads(machine: Container) -> None:
    if not any(model.name == "default" for model in models.installed()):
        pytest.skip("the default model is not on this machine: llmos model pull")
    eventually(lambda: machine.property("StatusText") == "1 jobs; the model default is unloaded")

    def ask() -> None:
        with suppress(LlmosError), machine.client() as client:
            client.ask("list the jobs", dry_run=True)

    asking = threading.Thread(target=ask)
    asking.start()
    with machine.client() as client:
        eventually(lambda: client.status()["model"]["pid"])
        worker = str(client.status()["model"]["pid"])
    machine.run("kill", "-STOP", worker)
    try:
        eventually(lambda: machine.property("StatusText").endswith("the model default is loading"))
    finally:
        machine.run("kill", "-CONT", worker)
    eventually(lambda: machine.property("StatusText").endswith("the model default is ready"))
    asking.join(60)


def test_what_the_service_manager_says_stays_with_llmosd(machine: Container) -> None:
    with machine.client() as client:
        reaper = client.status()["reaper"]["pid"]
    names = {line.partition("=")[0] for line in (machine.root / f"proc/{reaper}/environ").read_text().split("\0")}
    assert not [name for name in names if name.startswith(("NOTIFY_", "LISTEN_", "WATCHDOG_"))]
    listening = machine.run("readlink", f"/proc/{main_pid(machine)}/fd/3")
    for pid in (reaper, nap(machine)[0]):
        assert listening not in machine.run("sh", "-c", f"readlink /proc/{pid}/fd/*")


def test_a_job_writes_to_the_journal(machine: Container) -> None:
    """Through llmosd no byte of it goes, so a killed one misses none."""

    def said(*choice: str) -> list[str]:
        return machine.run("journalctl", "--output=cat", "--identifier=told job", *choice).splitlines()

    script = "echo out; echo bad >&2; echo '<4>careful'; sleep 2; echo later; exec sleep 600"
    with machine.client() as client:
        client.run(["sh", "-c", script], name="told job", cwd="/", user="nobody", output="journald", stderr="separate")
        pid = client.call("show", target="told job")["pid"]
    machine.run("kill", "-KILL", str(main_pid(machine)))
    eventually(lambda: "later" in said())
    assert sorted(said()) == ["bad", "careful", "later", "out"]
    assert said("--priority=err") == ["bad"]
    assert sorted(said("--priority=warning")) == ["bad", "careful"]
    whose = [f"_PID={pid}", f"_UID={machine.run('id', '-u', 'nobody')}", "_SYSTEMD_UNIT=llmosd.service"]
    assert sorted(said(*whose)) == ["bad", "careful", "later", "out"]
    with machine.client() as client, pytest.raises(LlmosError, match="journalctl '--identifier=told job'"):
        client.call("logs", target="told job")


def test_the_units_are_right_for_this_systemd(machine: Container) -> None:
    assert machine.run("systemd-analyze", "verify", *UNITS) == ""


def test_uninstalling_waits_for_the_jobs(machine: Container) -> None:
    with pytest.raises(AssertionError, match="jobs still run: nap"):
        machine.run(*INSTALLER, "uninstall")
    nap(machine)
    machine.run("llmos", "down", "--jobs")
    machine.run(*INSTALLER, "uninstall")
    for path in ("opt/llmos", "run/llmos/llmosd.sock", "usr/local/bin/llmos", "etc/systemd/system/llmosd.service"):
        assert not (machine.root / path).exists()
    assert (machine.root / CONFIG).exists()
    machine.run(*INSTALLER, "install")
