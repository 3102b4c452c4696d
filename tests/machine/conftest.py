"""Real processes for the tests of the machine: each is ready when it is handed out, and gone when its test ends."""

import json
import os
import subprocess
import sys
import textwrap
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from llmos.machine.cgroup import Cgroups

NOBODY = 65534


@pytest.fixture
def spawn() -> Iterator[Callable[..., int]]:
    """Start Python code as a process of its own; it prints `ready` (or more after it) when it is; returns its pid."""
    children: list[subprocess.Popen[str]] = []

    def start(code: str, *arguments: str, argv: Sequence[str] = (sys.executable, "-c"), cwd: Path | None = None) -> int:
        child = subprocess.Popen(
            [*argv, textwrap.dedent(code), *arguments] if argv[-1] == "-c" else [*argv, *arguments],
            cwd=cwd,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        children.append(child)
        assert child.stdout is not None
        assert child.stdout.readline().startswith("ready")
        return child.pid

    yield start
    for child in children:
        child.kill()
        child.communicate()


@pytest.fixture
def until() -> Callable[[Callable[[], Any]], Any]:
    """Poll until something holds, and return it; fail after ten seconds."""

    def wait(holds: Callable[[], Any]) -> Any:
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            if result := holds():
                return result
            time.sleep(0.02)
        raise AssertionError("it never came to hold")

    return wait


@pytest.fixture
def as_nobody() -> Callable[[str], Any]:
    """Run code as a user without rights, in a process of its own; returns what it assigned to `result`, through JSON."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to become another user")

    def run(code: str) -> Any:
        program = (
            "import json, os\n"
            "from llmos import errors\n"
            "from llmos.machine import cgroup, disk, freezer, identity, limits, open_files, priority, processes, sockets\n"
            f"os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY})\n"
            f"{textwrap.dedent(code)}\nprint(json.dumps(result))"
        )
        done = subprocess.run(
            [sys.executable, "-c", program], check=False, capture_output=True, text=True, cwd="/", timeout=60
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


@pytest.fixture
def cgroups(spawn: object) -> Iterator[Cgroups]:
    """The machine's real cgroups below a parent of the test's own, which is emptied and removed at its end."""
    found = Cgroups.probe(parent=f"llmos-test-{uuid.uuid4().hex[:12]}")
    if "freezer" not in found.controllers:
        pytest.skip(found.why_not("freezer"))
    yield found
    parents = {found.directory("any", controller).parent for controller in found.controllers}
    for name in {unquote(made.name.removesuffix(".group")) for parent in parents for made in parent.glob("*.group")}:
        found.kill(name)
        found.remove(name)
    assert not [parent for parent in parents if parent.exists()]


@pytest.fixture
def needs(cgroups: Cgroups) -> Callable[..., None]:
    """Skip where the machine does not lend one of these controllers."""

    def check(*controllers: str) -> None:
        for controller in controllers:
            if reason := cgroups.why_not(controller):
                pytest.skip(reason)

    return check
