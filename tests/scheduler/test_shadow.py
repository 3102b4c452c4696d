"""Policies replayed on the runs that really came: what counts as a window, and who does better on which."""

from dataclasses import replace

import pytest

from llmos.scheduler.forecasts import Expected, Forecasts
from llmos.scheduler.hazard import shipped
from llmos.scheduler.run_history import PastRun
from llmos.scheduler.shadow import BETTER, MARGIN, WINDOW, compare, replayable, sized
from past_runs import CORES, misleading, runs, telling

NOW = 1.8e9


def test_a_run_is_replayed_with_its_size_on_the_processors_that_it_used() -> None:
    run = PastRun("make", 5, "build", 1000.0, 10.0, 39.0, None, None, 0)
    job = replayable(run)
    assert job is not None
    assert (job.submit, job.processors, job.runtime) == (990.0, 4, 9.75)
    assert (job.user, job.program, job.queue) == ("5", "make", "build")
    assert sized(job) == replace(job, runtime=39.0, processors=1)
    assert replayable(replace(run, exit=-9)) is None  # its size is not known
    assert replayable(replace(run, cpu_seconds=None)) is None
    waited = replayable(replace(run, cpu_seconds=2.0))
    assert waited is not None and (waited.processors, waited.runtime) == (1, 2.0)


def test_a_window_holds_only_what_ended_since_then() -> None:
    past = runs(telling(WINDOW + 40), ended_by=NOW, every=120)
    networks = {"learned": shipped()}
    assert compare(past[: WINDOW - 1], networks, since=0.0, cores=2) is None
    assert compare(past, networks, since=past[-WINDOW].ended_at, cores=2) is None
    found = compare(past, networks, since=past[-WINDOW - 1].ended_at, cores=2)
    assert found is not None and (found.runs, found.at) == (WINDOW, past[-1].ended_at)
    assert found.as_json()["mean_slowdown"].keys() == {"static", "learned"}


def test_who_knows_does_better_where_runs_tell_and_worse_where_they_mislead() -> None:
    networks = {"learned": shipped()}
    good = compare(runs(telling(300), ended_by=NOW, every=120), networks, since=0.0, cores=CORES)
    assert good is not None and good.cost("learned", "static") < 1.0 - BETTER
    assert good.cost("static", "learned") == pytest.approx(1.0 / good.cost("learned", "static"))
    before, after = misleading(WINDOW)
    past = [*runs(before, ended_by=NOW - 80_000, every=70), *runs(after, ended_by=NOW, every=70, seed=10)]
    bad = compare(past, networks, since=0.0, cores=CORES)
    assert bad is not None and bad.cost("learned", "static") > 1.0 + MARGIN


def test_where_nobody_waits_no_policy_is_better() -> None:
    found = compare(runs(telling(100), ended_by=NOW, every=5000), {"learned": shipped()}, since=0.0, cores=CORES)
    assert found is not None and found.cost("learned", "static") == pytest.approx(1.0)


def test_forecasts_are_weighed_by_what_came() -> None:
    forecasts = Forecasts()
    assert forecasts.as_json() is None
    near, far = Expected(9.0, 10.0, 11.0, 3, "network"), Expected(90.0, 100.0, 110.0, 3, "runs")
    forecasts.made(1, "learned", {"learned": near, "hybrid": far})
    forecasts.made(1, "hybrid", {"learned": far, "hybrid": far})  # what was first expected counts
    assert forecasts.of(1) == near and forecasts.of(2) is None
    forecasts.ended(1, 10.0)
    for position, size in ((2, None), (3, 10.0)):
        forecasts.made(position, "hybrid", {"learned": near, "hybrid": far if size is None else None})
        forecasts.ended(position, size)  # neither its size is known, nor both expectations
    found = forecasts.as_json()
    assert found is not None and found["runs"] == 1
    assert found["pinball"]["learned"] < 0.1 < 1.0 < found["pinball"]["hybrid"]
    assert forecasts.of(1) is None
