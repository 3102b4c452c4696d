"""`make install-system` into another root: what is installed runs from there, and what uninstalling leaves."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from llmos import __version__

INSTALLER = Path(__file__).resolve().parents[1] / "tools/install_system.py"


def call(root: Path, word: str) -> str:
    environment = {**os.environ, "DESTDIR": str(root)}
    return subprocess.check_output([sys.executable, str(INSTALLER), word], env=environment, text=True)


def test_what_is_installed_runs_and_is_removed_again(tmp_path: Path) -> None:
    assert str(tmp_path / "opt/llmos") in call(tmp_path, "install")
    virtual = tmp_path / "opt/llmos/.venv"
    for name in ("llmos", "llmosd"):
        script = virtual / "bin" / name
        assert script.read_text().startswith("#!/opt/llmos/.venv/bin/python\n")
        done = subprocess.run([virtual / "bin/python", script, "--version"], capture_output=True, text=True, cwd="/")
        assert done.stdout.split() == [name, __version__]
    where = "import llmos, llmos.nlui.worker, uvloop; print(llmos.__file__, uvloop.__file__)"
    done = subprocess.run([virtual / "bin/python", "-c", where], capture_output=True, text=True, cwd="/")
    assert done.stdout.count(f"{virtual}/lib/") == 2, done.stderr
    assert not list(virtual.glob("lib/*/site-packages/pytest*"))
    assert os.readlink(tmp_path / "usr/local/bin/llmos") == "/opt/llmos/.venv/bin/llmos"
    units = tmp_path / "etc/systemd/system"
    assert f"ExecStart=/{script.relative_to(tmp_path)}\n" in (units / "llmosd.service").read_text()

    settings = tmp_path / "etc/llmos/llmos.toml"
    settings.write_text("# mine\n")
    left_behind = tmp_path / "opt/llmos.new/half"
    left_behind.parent.mkdir()
    left_behind.touch()
    call(tmp_path, "install")  # an upgrade, after one that was cut off
    assert settings.read_text() == "# mine\n"
    assert [path.name for path in (tmp_path / "opt").iterdir()] == ["llmos"]
    assert not list((tmp_path / "opt/llmos").glob("half"))

    call(tmp_path, "uninstall")
    assert [path for path in tmp_path.rglob("*") if not path.is_dir()] == [settings]
    call(tmp_path, "uninstall")


def test_it_says_how_it_is_called() -> None:
    done = subprocess.run([sys.executable, INSTALLER, "remove"], capture_output=True, text=True)
    assert done.returncode == 1
    assert "install|uninstall" in done.stderr


@pytest.mark.skipif(os.geteuid() == 0, reason="root may")
def test_it_wants_root_where_it_would_change_the_machine() -> None:
    done = subprocess.run([sys.executable, INSTALLER, "uninstall"], capture_output=True, text=True)
    assert done.returncode == 1
    assert "sudo" in done.stderr
