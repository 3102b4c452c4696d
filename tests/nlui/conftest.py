"""Fixtures of the language tests: the real models, where they are installed."""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import uvloop

from llmos.errors import ModelError
from llmos.nlui import models


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The daemon's own loop: asyncio's may lose the exit status of a child that is killed while it ends."""
    return {"uvloop": uvloop.new_event_loop}


def _installed(name: str) -> Path:
    try:
        return models.locate(name).path
    except ModelError as error:
        pytest.fail(f"these tests need a real model: {error.message}", pytrace=False)


@pytest.fixture(scope="session")
def model_path() -> Path:
    """The default model."""
    return _installed(models.DEFAULT)


@pytest.fixture(scope="session")
def prompt_state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for the evaluated prompt, the same for all test processes, so that it is evaluated once."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "prompt-state"
    folder.mkdir(exist_ok=True)
    return folder
