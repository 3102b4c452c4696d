"""The learned policy on a real llmosd: switched off and on again by what it would have done, trained, and rolled back."""

import json
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from conftest import Daemon, needs_root, running
from llmos import Client
from llmos.errors import BadInput, Conflict, NotFound
from llmos.kernel.scheduler_training import JOB
from llmos.machine.cgroup import Cgroups
from llmos.scheduler.adaptation import Adaptation
from llmos.scheduler.run_history import PastRun, RunHistory
from llmos.scheduler.shadow import WINDOW
from made_weights import as_shipped, in_use, untrained
from past_runs import misleading, runs, telling

Eventually = Callable[[Callable[[], object]], object]
LEARNED = '[scheduler]\npolicy = "learned"\n'
BURN = "import time\nend = time.process_time() + {}\nwhile time.process_time() < end: pass"
MANY = (os.cpu_count() or 1) + 2

needs_a_cpu_controller = [
    needs_root,
    pytest.mark.skipif("cpu" not in Cgroups.probe(parent="llmos-probe").controllers, reason="needs a CPU controller"),
]


def remember(folder: Path, past: Sequence[PastRun]) -> None:
    """Put runs into the history of an llmosd."""
    (folder / "state").mkdir(exist_ok=True)
    history = RunHistory(folder / "state" / "runs.db")
    history.add(past)
    history.close()


def bad_past(until: float) -> list[PastRun]:
    before, after = misleading(WINDOW)
    return [*runs(before, ended_by=until - 80_000, every=70), *runs(after, ended_by=until, every=70, seed=10)]


def learned(client: Client) -> dict[str, Any]:
    found: dict[str, Any] = client.call("scheduler.status")["learned"]
    return found


def journal(daemon: Daemon, kind: str) -> list[dict[str, Any]]:
    """The bodies of all events of a kind, the oldest first."""
    with sqlite3.connect(f"file:{daemon.state_dir / 'journal.db'}?mode=ro", uri=True) as connection:
        rows = connection.execute("SELECT body FROM events WHERE kind = ? ORDER BY id", (kind,)).fetchall()
    connection.close()
    return [json.loads(body) for (body,) in rows]


def make_short(client: Client, eventually: Eventually) -> dict[str, int]:
    """Have more jobs want a processor than there are, so that the policy is asked."""
    pids = {}
    for at in range(MANY):
        job = client.call("run", argv=[sys.executable, "-c", BURN.format(300)], name=f"burn{at}", cwd="/")
        pids[job["name"]] = job["pid"]
    eventually(lambda: any(row["place"] == "behind" for row in client.call("scheduler.status")["targets"]))
    return pids


def end_one(client: Client) -> None:
    """Have a run end that used a processor for a moment."""
    client.call("run", argv=[sys.executable, "-c", BURN.format(0.05)], name=f"short-{time.monotonic_ns()}", cwd="/")


class TestJudged:
    """By what it would have done."""

    pytestmark = needs_a_cpu_controller

    def test_it_is_switched_off_while_it_does_worse_and_comes_back(
        self, tmp_path: Path, eventually: Eventually
    ) -> None:
        remember(tmp_path, bad_past(time.time() - 5))
        with running(tmp_path, LEARNED) as daemon:
            with daemon.client() as client:
                assert learned(client)["in_use"] and client.call("scheduler.status")["policy"] == "learned"
                make_short(client, eventually)
                end_one(client)
                eventually(lambda: not learned(client)["in_use"])
                status = client.call("scheduler.status")
                assert status["policy"] == "hybrid" and any("switched off" in note for note in status["notes"])
                assert status["learned"]["shadow"]["cost_against_static"] > 1.05
                assert "worse than hybrid" in status["learned"]["switched_off"]
                assert client.call("show", target=JOB)["name"] == JOB  # it is trained anew
                client.call("stop", target=JOB)
                (switched,) = journal(daemon, "scheduler.switched")
                assert switched["to"] == "hybrid" and switched["retraining"] == f"started as {JOB}"
                assert switched["comparison"]["runs"] == WINDOW and "worse than hybrid" in switched["reason"]
                eventually(lambda: any(body["stands_in"] for body in journal(daemon, "scheduler.placed")))
                stands_in = [body for body in journal(daemon, "scheduler.placed") if body["stands_in"]]
                assert all((one["policy"], one["runner_up"]["policy"]) == ("hybrid", "learned") for one in stands_in)
            daemon.kill()
            remember(tmp_path, runs(telling(300), ended_by=time.time() + 1e6, every=120))
            daemon.start()
            with daemon.client() as client:
                assert not learned(client)["in_use"]  # it is remembered
                eventually(lambda: any(row["place"] == "behind" for row in client.call("scheduler.status")["targets"]))
                end_one(client)
                eventually(lambda: learned(client)["in_use"])
                assert client.call("scheduler.status")["policy"] == "learned"
                assert [body["to"] for body in journal(daemon, "scheduler.switched")] == ["hybrid", "learned"]

    @pytest.mark.parametrize("better", [True, False])
    def test_weights_that_are_tried_are_used_where_they_do_better(
        self, tmp_path: Path, eventually: Eventually, better: bool
    ) -> None:
        remember(tmp_path, runs(telling(300), ended_by=time.time() - 5, every=120))
        adaptation = Adaptation(tmp_path / "state")
        in_use(adaptation, (untrained if better else as_shipped)(adaptation))
        adaptation.try_out((as_shipped if better else untrained)(adaptation))
        with running(tmp_path, LEARNED) as daemon, daemon.client() as client:
            assert learned(client)["tried"]["weights"] == "adapted 2"
            make_short(client, eventually)
            end_one(client)
            eventually(lambda: learned(client)["tried"] is None)
            now = learned(client)
            assert now["weights"]["weights"] == ("adapted 2" if better else "adapted 1")
            assert now["before"]["weights"] == ("adapted 1" if better else "shipped")
            (body,) = journal(daemon, f"scheduler.{'adopted' if better else 'rejected'}")
            assert body["weights"] == "adapted 2" and body["comparison"]["runs"] == WINDOW
            assert client.call("scheduler.rollback") == {"in_use": "adapted 1" if better else "shipped"}

    def test_damaged_weights_are_said_and_the_static_policy_is_used(
        self, tmp_path: Path, eventually: Eventually
    ) -> None:
        adaptation = Adaptation(tmp_path / "state")
        (tmp_path / "state").mkdir()
        in_use(adaptation, as_shipped(adaptation))
        adaptation.in_use().path.write_bytes(b"damaged")
        with running(tmp_path, LEARNED) as daemon, daemon.client() as client:
            make_short(client, eventually)
            status = client.call("scheduler.status")
            assert status["policy"] == "hybrid" and any("rollback" in note for note in status["notes"])
            end_one(client)
            assert client.call("scheduler.rollback") == {"in_use": "shipped"}
            eventually(lambda: client.call("scheduler.status")["policy"] == "learned")

    def test_why_names_what_made_the_prediction(self, tmp_path: Path, eventually: Eventually) -> None:
        with running(tmp_path, LEARNED) as daemon, daemon.client() as client:
            pids = make_short(client, eventually)
            placed = journal(daemon, "scheduler.placed")[-1]
            assert placed["policy"] == "learned" and placed["predicted"]["by"] == "network"
            given = [body["contributions"] for body in journal(daemon, "scheduler.placed") if body["contributions"]]
            assert given and all(part.keys() == {"input", "factor", "says"} for part in given[0]["inputs"])
            sentences = [client.call("why", target=name)["sentence"] for name in pids]
            assert any("by the network it still needs" in sentence for sentence in sentences)


class TestTrained:
    """By the job that a person starts."""

    @needs_root  # who else may take back that it is idle, on a machine that is busy?
    def test_what_wins_is_tried_and_what_came_of_it_is_said(self, tmp_path: Path, eventually: Eventually) -> None:
        remember(tmp_path, runs(telling(200), ended_by=time.time() - 5, every=120))
        with running(tmp_path, LEARNED) as daemon, daemon.client() as client:
            started = client.call("scheduler.train")
            assert started["name"] == JOB and started["priority"] == "idle"
            with pytest.raises(Conflict, match="runs already"):
                client.call("scheduler.train")
            client.call("renice", target=JOB, priority="high")
            assert any("epoch 1 of" in line for line in client.follow_logs(JOB))
            eventually(lambda: journal(daemon, "scheduler.trained"))
            found = learned(client)
            assert found["training"] == "stopped" and found["last_training"]["held_out"] == 60
            assert (found["tried"] is not None) == found["last_training"]["won"]
            assert journal(daemon, "scheduler.trained") == [found["last_training"]]

    def test_a_training_that_is_ended_leaves_nothing(self, tmp_path: Path, eventually: Eventually) -> None:
        remember(tmp_path, runs(telling(200), ended_by=time.time() - 5, every=120))
        with running(tmp_path, LEARNED) as daemon, daemon.client() as client:
            client.call("scheduler.train")
            client.call("stop", target=JOB)
            eventually(lambda: journal(daemon, "scheduler.trained"))
            (body,) = journal(daemon, "scheduler.trained")
            assert not body["won"] and JOB in body["reason"]
            assert not list((daemon.state_dir / "scheduler").glob("[0-9]*"))

    def test_it_says_what_it_lacks(self, tmp_path: Path) -> None:
        with running(tmp_path, LEARNED) as daemon, daemon.client() as client:
            with pytest.raises(BadInput, match="only 0 runs"):
                client.call("scheduler.train")
            with pytest.raises(NotFound, match="shipped"):
                client.call("scheduler.rollback")
            assert learned(client)["weights"]["weights"] == "shipped"

    def test_a_policy_that_learns_nothing_is_not_trained(self, client: Client) -> None:
        with pytest.raises(BadInput, match="policy is hybrid"):
            client.call("scheduler.train")
        assert "learned" not in client.call("scheduler.status")

    @needs_root
    def test_another_user_may_not(self, llmosd: Daemon) -> None:
        llmosd.socket.chmod(0o666)
        for folder in (llmosd.folder, *llmosd.folder.parents):
            if folder.stat().st_uid == 0 and "pytest" in str(folder):
                folder.chmod(folder.stat().st_mode | 0o011)
        script = (
            "import os, sys\n"
            "from llmos import Client; from llmos.errors import Forbidden; c = Client(sys.argv[1])\n"
            "os.setgid(65534); os.setuid(65534)\n"
            "for method in ('train', 'rollback'):\n"
            "    try: c.call('scheduler.' + method)\n"
            "    except Forbidden: print(method)\n"
        )
        done = subprocess.run([sys.executable, "-c", script, str(llmosd.socket)], capture_output=True, text=True)
        assert done.stdout.split() == ["train", "rollback"], done.stderr
