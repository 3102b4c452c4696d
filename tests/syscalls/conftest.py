"""One real llmosd for all tests of a file: each uses names of its own."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from conftest import Daemon
from llmos import Client

SETTINGS = "[jobs]\nbackoff_first_seconds = 0.05\nbackoff_cap_seconds = 0.2\nstop_timeout_seconds = 10\n"


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A running llmosd with short back-offs."""
    folder = tmp_path_factory.mktemp("llmosd")
    (folder / "llmosd.toml").write_text(SETTINGS)
    running = Daemon(folder, ["--config", str(folder / "llmosd.toml")]).start()
    try:
        yield running
    finally:
        running.stop()
        assert "Traceback" not in running.log, running.log


@pytest.fixture
def client(daemon: Daemon) -> Iterator[Client]:
    """A connection to it."""
    with daemon.client() as connected:
        yield connected


@pytest.fixture
def call(client: Client) -> Callable[..., Any]:
    """Call a method by its name."""
    return client.call
