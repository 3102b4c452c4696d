import json
from pathlib import Path

import numpy as np
import pytest

from llmos.scheduler import generators
from llmos.scheduler.history import INPUTS
from llmos.scheduler.train import main
from llmos.scheduler.training.backpropagation import _gradients, fit, loss, untrained
from llmos.scheduler.training.samples import samples, without
from llmos.scheduler.workload import Job
from swf_text import write_swf


def test_samples_tell_what_came() -> None:
    drawn = samples([Job(1, 0, 100), Job(2, 10, 5)], share=1.0, seed=1)
    assert drawn.inputs.shape == (len(drawn.ended), INPUTS)
    assert drawn.ended.sum() == 8  # six looks at the first and two at the second, and each sees the end


def test_samples_are_seeded_and_survive_forgetting() -> None:
    jobs = generators.draw("bursts", 200, 1)
    once, again = (samples(jobs, share=0.5, seed=3, forget_after=50) for _ in range(2))
    assert np.array_equal(once.inputs, again.inputs)
    assert np.array_equal(once.ended, again.ended)


def test_what_is_left_out() -> None:
    job = Job(1, 10, 20, 2, "u", "p", "q", 60)
    assert without([job], "user", scale=2.0) == [Job(1, 20, 40, 2, "", "p", "q", 120)]


def test_trains_a_network_and_writes_its_card(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from llmos.scheduler.hazard import HazardNetwork, shipped

    monkeypatch.setattr("llmos.scheduler.train._GENERATED", 60)
    jobs = [Job(n, 30 * n, 20 + 7 * (n % 31), 1, str(n % 3), str(n % 5)) for n in range(200)]
    trace = write_swf(tmp_path / "trace.swf", jobs)
    assert main([str(trace), "--out", str(tmp_path / "out"), "--epochs", "1"]) == 0
    card = json.loads((tmp_path / "out" / "hazard.json").read_text())
    assert card["traces"] == ["trace.swf"]
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["epoch"] == 1
    network = HazardNetwork.read(str(tmp_path / "out" / "hazard.npz"))
    assert network(np.zeros((3, INPUTS), np.float32)).shape == shipped()(np.zeros((3, INPUTS), np.float32)).shape


def test_gradients_are_those_of_the_loss() -> None:
    draw = np.random.default_rng(1)
    layers = [(weight.astype(np.float64), bias.astype(np.float64)) for weight, bias in untrained(1)]
    inputs, ended = draw.normal(size=(20, INPUTS)), draw.integers(0, 2, 20).astype(float)
    weights = draw.uniform(0.5, 2.0, 20)
    _, gradients = _gradients(layers, inputs, ended, weights)  # type: ignore[arg-type]  # finer than it is used
    for number, array in enumerate([array for layer in layers for array in layer]):
        at = tuple(draw.integers(0, size) for size in array.shape)
        array[at] += 1e-5
        more, _ = _gradients(layers, inputs, ended, weights)  # type: ignore[arg-type]
        array[at] -= 2e-5
        less, _ = _gradients(layers, inputs, ended, weights)  # type: ignore[arg-type]
        array[at] += 1e-5
        assert gradients[number][at] == pytest.approx((more - less) / 2e-5, rel=1e-2, abs=1e-6)


def test_fitting_lowers_the_loss_and_an_anchor_keeps_the_weights_near() -> None:
    data = [samples(generators.draw("bursts", 300, 1), share=0.5, seed=1)]
    begun, moved = untrained(1), []
    for anchor in (0.0, 500.0):
        layers = [(weight.copy(), bias.copy()) for weight, bias in begun]
        losses = [step["loss"] for step in fit(layers, data, epochs=4, minutes=1, seed=1, anchor=anchor)]
        assert losses[-1] < losses[0] and loss(layers, data) < loss(begun, data)
        moved.append(sum(float(np.abs(now[0] - then[0]).sum()) for now, then in zip(layers, begun, strict=True)))
    assert moved[1] < moved[0]
    assert len(list(fit(layers, data, epochs=4, minutes=0, seed=1))) == 1  # the time is up


def test_says_which_trace_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "none.swf"), "--out", str(tmp_path / "out")]) == 1
    assert capsys.readouterr().err.startswith("error: ")
