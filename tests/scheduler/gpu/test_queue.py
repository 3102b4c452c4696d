"""Jobs and the GPUs that they hold and wait for, in a real llmosd; pynvml is a stand-in where there is no GPU."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from conftest import Daemon, running
from llmos.errors import LlmosError, Unsupported
from llmos.machine.gpu import Gpus

Eventually = Callable[[Callable[[], object]], Any]
GIB = 1 << 30
SEES = ["sh", "-c", 'echo "$CUDA_VISIBLE_DEVICES"; exec sleep 600']


class Cards:
    """What the stand-in tells."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.error: str | None = None
        self.cards: list[dict[str, Any]] = []
        self.have(2)

    def have(self, count: int) -> None:
        """So many cards of 24 GiB."""
        self.cards = [{"uuid": f"GPU-{n}", "total": 24 * GIB, "used": 0} for n in range(count)]
        self.tell()

    def tell(self) -> None:
        """Have it known."""
        new = self.path.with_suffix(".new")
        new.write_text(json.dumps({"error": self.error, "cards": self.cards}))
        new.rename(self.path)

    def change(self, number: int, **given: Any) -> None:
        """Have something of a card be otherwise."""
        self.cards[number].update(given)
        self.tell()

    def fail(self, error: str | None) -> None:
        """Have every call fail, or none any more."""
        self.error = error
        self.tell()


@pytest.fixture
def cards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cards:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).with_name("stand_in")))
    monkeypatch.setenv("LLMOS_TEST_CARDS", str(tmp_path / "cards.json"))
    return Cards(tmp_path / "cards.json")


@pytest.fixture
def llmosd(cards: Cards, tmp_path: Path) -> Iterator[Daemon]:
    with running(tmp_path) as daemon:
        yield daemon


@pytest.fixture
def call(llmosd: Daemon) -> Callable[..., Any]:
    """Call a method of whatever llmosd runs now."""

    def ask(method: str, **params: Any) -> Any:
        with llmosd.client() as client:
            return client.call(method, **params)

    return ask


Call = Callable[..., Any]


def state(call: Call, name: str) -> str:
    shown: dict[str, Any] = call("show", target=name)
    return f"{shown['state']}: {shown['reason']}"


def seen_by(call: Call, name: str) -> set[str]:
    lines = call("logs", target=name)["lines"]
    return set(lines[-1].split(",")) if lines else set()


def test_each_card_has_one_job_and_who_finds_none_waits(call: Call, eventually: Eventually) -> None:
    assert call("run", name="first", argv=SEES, gpu=1)["cards"] == ["GPU-0"]
    assert call("run", name="second", argv=SEES, gpu=1)["cards"] == ["GPU-1"]
    both = call("run", name="both", argv=SEES, gpu=2)
    assert (both["state"], both["pid"]) == ("waiting", None)
    assert both["reason"] == "waits for a GPU: 2 wanted, 0 free"
    assert [row["reason"] for row in call("jobs") if row["name"] == "both"] == [both["reason"]]
    assert "both is waiting" in (why := call("why", target="both")["sentence"]) and both["reason"] in why
    [line] = call("scheduler.status")["gpus"]["waiting"]
    assert (line["job"], line["gpus"]) == ("both", 2)
    assert [card["job"] for card in call("scheduler.status")["gpus"]["cards"]] == ["first", "second"]
    assert eventually(lambda: seen_by(call, "first")) == {"GPU-0"}

    call("stop", target="first")
    eventually(lambda: state(call, "both") == "waiting: waits for a GPU: 2 wanted, 1 free")
    call("stop", target="second")
    eventually(lambda: state(call, "both").startswith("running: given GPU 0 and GPU 1 after it had waited"))
    assert eventually(lambda: seen_by(call, "both")) == {"GPU-0", "GPU-1"}
    assert "The scheduler gave it GPU 0 and GPU 1" in call("why", target="both")["sentence"]
    call("stop", target="both")
    assert "cards" not in call("show", target="both")
    assert call("run", name="after", argv=SEES, gpu=1)["cards"]


def test_a_wait_can_be_ended_and_changes_nothing_for_others(call: Call, eventually: Eventually) -> None:
    call("run", name="holds", argv=SEES, gpu=2)
    call("run", name="waits", argv=SEES, gpu=1)
    call("run", name="goes", argv=SEES, gpu=1)
    [stopped] = call("stop", target="goes")
    assert stopped["state"] == "stopped"
    call("run", name="removed", argv=SEES, gpu=1)
    call("remove", job="removed", allow="destroy")
    call("restart", target="holds")  # who waits comes first
    eventually(lambda: state(call, "waits").startswith("running"))
    eventually(lambda: state(call, "holds") == "waiting: waits for a GPU: 2 wanted, 1 free")
    assert call("show", target="goes")["state"] == "stopped"
    call("stop", target="waits")
    eventually(lambda: state(call, "holds").startswith("running"))


def test_cards_and_the_line_outlive_llmosd(llmosd: Daemon, call: Call, eventually: Eventually) -> None:
    call("run", name="holds", argv=SEES, gpu=1)
    call("run", name="brief", argv=["sh", "-c", "read line < stop"], gpu=1, cwd=str(llmosd.folder))
    os.mkfifo(llmosd.folder / "stop")
    call("restart", target="brief")
    waits = call("run", name="waits", argv=SEES, gpu=2)
    assert waits["state"] == "waiting"
    llmosd.kill()
    (llmosd.folder / "stop").write_text("now\n")  # its card comes free while nobody sees
    llmosd.start()
    eventually(lambda: state(call, "brief") == "stopped: exit code 0")
    assert call("show", target="holds")["cards"] == ["GPU-0"]
    assert state(call, "waits") == "waiting: waits for a GPU: 2 wanted, 1 free"
    late = call("run", name="late", argv=SEES, gpu=1)
    assert late["cards"] == ["GPU-1"]
    call("stop", target="late")
    call("stop", target="holds")
    eventually(lambda: state(call, "waits").startswith("running"))

    call("run", name="last", argv=SEES, gpu=1)
    llmosd.kill()
    llmosd.start()
    assert call("show", target="waits")["cards"] == ["GPU-0", "GPU-1"]
    assert state(call, "last") == "waiting: waits for a GPU: 1 wanted, 0 free"
    call("stop", target="waits")
    eventually(lambda: state(call, "last").startswith("running"))


def test_more_than_the_machine_has_is_refused_at_once(call: Call, cards: Cards) -> None:
    call("run", name="holds", argv=SEES, gpu=1)
    with pytest.raises(Unsupported, match="greedy asks for 3 GPUs, and this machine has 2 GPUs"):
        call("run", name="greedy", argv=SEES, gpu=3)
    cards.have(0)
    with pytest.raises(Unsupported, match="no GPU that it may use"):
        call("run", name="none", argv=SEES, gpu=1)
    cards.fail("Driver Not Loaded")
    with pytest.raises(Unsupported, match="no GPU can be read, the NVIDIA driver says: Driver Not Loaded"):
        call("run", name="undriven", argv=SEES, gpu=1)
    assert {job["name"] for job in call("jobs")} == {"holds"}


def test_what_is_shorter_by_its_earlier_runs_goes_first(call: Call, eventually: Eventually) -> None:
    for _ in range(2):
        for argv in (["sleep", "1.5"], ["true"]):
            call("run", name="earlier", argv=argv, gpu=1)
            call("wait", target="earlier")
    call("run", name="holds", argv=SEES, gpu=2)
    call("run", name="long", argv=["sleep", "500"], gpu=2)
    call("run", name="short", argv=["true"], gpu=2)
    call("stop", target="holds")
    eventually(lambda: call("show", target="short")["exit_code"] == 0)
    eventually(lambda: call("show", target="long")["state"] == "running")
    why = call("why", target="short")["sentence"]
    assert "2 wanted a GPU, and by 2 earlier runs it takes" in why
    assert "In the order of arrival it would have gone on to wait." in why
    assert call("show", target="long")["started_at"] > call("show", target="short")["ended_at"]


def test_a_job_waits_for_the_memory_that_its_earlier_run_used(call: Call, cards: Cards, eventually: Eventually) -> None:
    cards.have(1)
    pid = call("run", name="train", argv=SEES, gpu=1)["pid"]
    cards.change(0, used=21 * GIB, processes={pid: 20 * GIB, 1: GIB})
    eventually(lambda: call("scheduler.status")["gpus"]["cards"][0]["job_peak_bytes"] == 20 * GIB)
    cards.change(0, used=GIB, processes={pid: GIB})
    call("stop", target="train")
    ended = call("show", target="train")["recent"][-1]
    assert ended["cards"] == ["GPU-0"] and ended["gpu_peak_bytes"] == 20 * GIB

    cards.change(0, used=8 * GIB, processes={1: 8 * GIB})
    waits = call("run", name="again", argv=SEES, gpu=1)
    assert waits["reason"] == (
        "waits for a GPU: 1 wanted, 0 free, 1 more with less memory left than the 20.0 GiB that its earlier runs used"
    )
    assert call("run", name="other", argv=["sleep", "600"], gpu=1)["state"] == "running"  # nothing is known of it
    call("stop", target="other")
    assert state(call, "again").startswith("waiting")
    cards.change(0, used=3 * GIB)  # nobody tells of that: it is looked for
    eventually(lambda: state(call, "again").startswith("running"))
    call("stop", target="again")

    cards.change(0, used=23 * GIB)
    assert call("run", name="again", argv=SEES, gpu=1)["state"] == "waiting"
    [started] = call("start", job="again")  # a person may insist
    assert (started["state"], started["cards"]) == ("running", ["GPU-0"])


def test_a_driver_that_fails_and_comes_back(call: Call, cards: Cards, eventually: Eventually) -> None:
    call("run", name="holds", argv=SEES, gpu=2)
    call("run", name="waits", argv=SEES, gpu=1)
    cards.fail("Unknown Error")
    eventually(lambda: "the NVIDIA driver says: Unknown Error" in state(call, "waits"))
    assert state(call, "waits").startswith("waiting: waits for a GPU: no GPU can be read")
    with pytest.raises(Unsupported, match="Unknown Error"):
        call("run", name="new", argv=SEES, gpu=1)
    assert "Unknown Error" in call("scheduler.status")["gpus"]["problem"]
    assert call("show", target="holds")["state"] == "running"
    cards.fail(None)
    call("stop", target="holds")
    eventually(lambda: state(call, "waits").startswith("running"))


def test_a_card_that_vanishes(call: Call, cards: Cards, eventually: Eventually) -> None:
    call("run", name="holds", argv=SEES, gpu=1)
    call("run", name="waits", argv=SEES, gpu=2)
    cards.change(1, lost=True)
    lost = "waiting: waits for a GPU: 2 wanted, 0 free, and only 1 of this machine can be read"
    eventually(lambda: state(call, "waits") == lost)
    with pytest.raises(Unsupported, match=r"asks for 2 GPUs, and this machine has 1 GPU$"):
        call("run", name="new", argv=SEES, gpu=2)
    queued = call("run", name="single", argv=SEES, gpu=1)
    assert queued["reason"] == "waits for a GPU: 1 wanted, 0 free"
    cards.change(0, lost=True)  # the one that is held, too
    eventually(lambda: "has lost its GPUs" in state(call, "single"))
    assert call("show", target="holds")["state"] == "running"
    cards.change(0, lost=False)
    call("stop", target="holds")
    eventually(lambda: state(call, "single").startswith("running"))
    cards.change(1, lost=False)
    call("stop", target="single")
    eventually(lambda: state(call, "waits").startswith("running"))


def test_a_job_that_cannot_start_or_is_restarted_gives_its_card_back(call: Call, eventually: Eventually) -> None:
    with pytest.raises(LlmosError, match="no-such-command"):
        call("run", name="nothing", argv=["no-such-command-here"], gpu=2)
    call("run", name="fails", argv=["false"], gpu=2, restart="on-failure")
    eventually(lambda: call("show", target="fails")["state"] == "backoff")
    assert call("show", target="fails")["recent"][-1]["cards"] == ["GPU-0", "GPU-1"]
    assert call("run", name="between", argv=SEES, gpu=2)["state"] == "running"
    eventually(lambda: call("show", target="fails")["state"] == "waiting")
    call("stop", target="fails")


def test_a_real_gpu(tmp_path: Path, eventually: Eventually) -> None:
    try:
        [first, *_] = Gpus().probe()
    except Unsupported as lacking:
        pytest.skip(f"needs a GPU: {lacking}")
    assert first.uuid.startswith("GPU-") and 0 < first.memory_used_bytes < first.memory_total_bytes
    with running(tmp_path) as daemon, daemon.client() as client:
        job = client.call("run", name="cuda", argv=SEES, gpu=1)
        lines = eventually(lambda: client.call("logs", target="cuda")["lines"])
        assert lines == [",".join(job["cards"])]
        client.call("stop", target="cuda")
