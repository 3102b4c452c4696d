"""`llmos scheduler`: which method each of its commands calls, and what it shows."""

from pathlib import Path

import pytest

from fake_daemon import FakeDaemon
from llmos.cli.app import run_app

STATUS = {"on": True, "policy": "hybrid", "levers": ["cpu weight"], "targets": []}


@pytest.mark.parametrize("command", ["status", "on", "off"])
def test_each_command_calls_its_method(tmp_path: Path, command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with FakeDaemon(tmp_path / "s", {f"scheduler.{command}": STATUS}) as fake:
        assert run_app(["--socket", str(tmp_path / "s"), "scheduler", command]) == 0
        assert fake.asked(f"scheduler.{command}") == [{}]
        assert "hybrid" in capsys.readouterr().out
        assert run_app(["--socket", str(tmp_path / "s"), "--dry-run", "scheduler", command]) == 0
        assert len(fake.asked(f"scheduler.{command}")) == 1
