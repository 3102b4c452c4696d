"""Requests in words, English and Chinese, through the real default model to real processes."""

import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from conftest import Daemon, running
from llmos.errors import NeedsConfirmation
from llmos.nlui import models

SECONDS = 300
"""The first request loads the model and, without an adapter, evaluates the examples: slow where cores are few."""


@pytest.fixture
def words(tmp_path: Path) -> Iterator[Daemon]:
    """A real llmosd with the default model."""
    models.locate(models.DEFAULT)
    with running(tmp_path, f"[model]\ntimeout_seconds = {SECONDS}\n") as daemon:
        yield daemon


@pytest.mark.timeout(2 * SECONDS)
def test_requests_in_words_become_deeds(words: Daemon, eventually: Callable[[Callable[[], object]], object]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, words.client(SECONDS) as client:
        port = server.getsockname()[1]
        client.run(["sh", "-c", "seq 50; exec sleep 1000"], name="web")
        eventually(lambda: client.call("logs", target="web")["lines"][-1:] == ["50"])
        pid = client.call("show", target="web")["pid"]

        # English: what only reads runs at once.
        memory = client.ask("how much memory is in use?")
        assert memory["plan"] == ["system memory"] and memory["results"][0]["value"]["total_bytes"] > 0
        listening = client.ask(f"what listens on port {port}?")
        assert listening["plan"] == [f"port {port}"]
        assert [row["pid"] for row in listening["results"][0]["value"]] == [os.getpid()]
        log = client.ask("show the last 20 lines of the web log")
        assert log["results"][0]["value"]["lines"] == [str(number) for number in range(31, 51)]
        assert client.ask("list the jobs that failed")["results"][0]["value"] == []

        # What changes waits for leave; words about leave give none.
        with pytest.raises(NeedsConfirmation) as asked:
            client.ask("pause web")
        assert (
            psutil.Process(pid).status() != psutil.STATUS_STOPPED
            and client.call("show", target="web")["state"] == "running"
        )
        assert asked.value.data["plan"] == ["pause web"] and asked.value.data["risk"] == "change"
        confirmed = client.plan_run(["pause web"], confirm=str(asked.value.data["hash"]))
        assert confirmed["ok"] and client.call("show", target="web")["state"] == "paused"

        assert client.ask("resume web", allow="change")["ok"]
        assert client.call("show", target="web")["state"] == "running"
        assert client.ask("limit web to 1 GB of memory", allow="change")["ok"]
        assert client.call("show", target="web")["limits"]["memory"] == "1G"

        # Chinese.
        assert client.ask("暂停 web", allow="change")["plan"] == ["pause web"]
        assert client.call("show", target="web")["state"] == "paused"
        assert client.ask("停掉 web", allow="change")["plan"] == ["stop web"]
        assert client.call("show", target="web")["state"] == "stopped"
        eventually(lambda: not psutil.pid_exists(pid))

        # A dry run touches nothing, and what is no business of a machine's is refused.
        assert client.ask("restart web", dry_run=True)["plan"] == ["restart web"]
        assert client.call("show", target="web")["state"] == "stopped"
        refused = client.ask("write me a poem about rain")
        assert refused["risk"] == "talk" and refused["answer"] and refused["results"] == []

        # The worker may die at any time: what was asked before is answered from memory, what is new gets another.
        worker = client.status()["model"]["pid"]
        os.kill(worker, signal.SIGKILL)
        assert client.ask("how much memory is in use?")["plan"] == ["system memory"]
        assert client.ask("pause web please", dry_run=True)["plan"] == ["pause web"]
        assert client.status()["model"]["pid"] != worker


@pytest.mark.timeout(SECONDS)
def test_llmosd_answers_while_the_model_loads(words: Daemon) -> None:
    """Many answers come while one request waits for its model to load."""
    done = threading.Event()

    def ask() -> None:
        with words.client(SECONDS) as client:
            client.ask("how much memory is in use?", dry_run=True)
        done.set()

    asking = threading.Thread(target=ask)
    asking.start()
    answers = 0
    with words.client() as client:
        while not done.wait(0.01):
            client.jobs()
            answers += 1
    asking.join()
    assert answers > 10
