import json
from pathlib import Path

import numpy as np
import pytest

from llmos.scheduler.train_policy import main
from llmos.scheduler.workload import Job
from swf_text import write_swf


def test_says_which_trace_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([f"{tmp_path / 'none.swf'}=4", "--out", str(tmp_path / "out")]) == 1
    assert capsys.readouterr().err.startswith("error: there is no trace")


def test_wants_processors_for_a_trace(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([str(tmp_path / "a.swf"), "--out", str(tmp_path)])
    assert "FILE=PROCESSORS" in capsys.readouterr().err


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("torch", "gymnasium", "stable_baselines3"):
        pytest.importorskip(name, reason="comes with the extra train")
    from llmos.scheduler.training import reinforcement

    monkeypatch.setattr("llmos.scheduler.train_policy._SIZE", 24)
    monkeypatch.setattr("llmos.scheduler.train_policy._PROBLEMS", 1)
    monkeypatch.setattr("llmos.scheduler.train_policy._CHOOSING", 1)
    monkeypatch.setattr("llmos.scheduler.train_policy._HELD_OUT", 1)
    monkeypatch.setattr(reinforcement, "_STEPS", 128)
    monkeypatch.setattr(reinforcement, "_CHECKED_EVERY", 1)


def test_trains_goes_on_from_its_checkpoint_and_writes_a_card(
    small: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    jobs = [Job(n, 30 * n, 20 + 7 * (n % 31), 1, str(n % 3), str(n % 5)) for n in range(120)]
    trace = write_swf(tmp_path / "trace.swf", jobs)
    out = tmp_path / "out"
    for steps in (128, 256):
        assert main([f"{trace}=2", "--out", str(out), "--steps", str(steps), "--minutes", "5"]) == 0
        lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert lines[0]["steps"] == steps
        assert "seconds_left" in lines[0]
        card = json.loads((out / "policy.json").read_text())
        assert (card["steps"], card["traces"]) == (steps, {"trace.swf": 72})
        assert (card["held_out"] is not None) == (out / "policy.npz").is_file()
    assert list(out.rglob("events.out.tfevents.*"))


def test_a_step_that_moves_nothing_saves_nothing(small: None) -> None:
    from llmos.scheduler.policy_network import FIRST
    from llmos.scheduler.training.scheduling_environment import SchedulingEnvironment, problems

    environment = SchedulingEnvironment(problems([], count=1, size=40, seed=1), seed=1)
    for _ in range(3):
        observation, _ = environment.reset()
        saved, ended = 0.0, False
        while not ended:
            assert environment.observation_space.contains(observation)
            observation, reward, ended, _, info = environment.step(np.zeros(FIRST, np.float32))
            saved += reward
        assert saved == pytest.approx(0.0, abs=1e-6)
        assert info["saved"] == pytest.approx(0.0, abs=1e-9)


def test_the_torch_network_is_the_one_that_ranks(small: None) -> None:
    import torch

    from llmos.scheduler.policy_network import FEATURES, FIRST, PolicyNetwork
    from llmos.scheduler.training.reinforcement import SetNetwork

    torch.manual_seed(1)
    network = SetNetwork()
    seen = np.zeros((FIRST, FEATURES + 1), np.float32)
    seen[:9, :FEATURES] = np.random.default_rng(1).normal(size=(9, FEATURES))
    seen[:9, FEATURES] = 1.0
    with torch.no_grad():
        by_torch = network.forward_actor(torch.from_numpy(seen.reshape(1, -1)))[0].numpy()
    assert np.allclose(by_torch[:9], PolicyNetwork(network.arrays())(seen[:9, :FEATURES]), atol=1e-5)
    assert not by_torch[9:].any()
