"""That the campaign sees what it looks for: each fault, made up, is counted, and a life without one is not."""

from pathlib import Path
from typing import Any

import pytest

from chaos.tally import FAULTS, LIMIT_SECONDS, Tally, good, quantile, total
from chaos.under_fire import UnderFire
from chaos.witness import Witness
from chaos.workload import Asked, Workload

RUN = "a" * 32
OTHER = "b" * 32
LIFE = f"S {RUN} 999999999\nL {RUN} 1\nL {RUN} 2\nE {RUN} 3\n"


class Said:
    """Stands for a client: what an llmosd would say of one job."""

    def __init__(self, recent: list[dict[str, Any]], lines: list[str]) -> None:
        self.answers = {"show": {"recent": recent, "reason": "made up"}, "logs": {"lines": lines}}

    def call(self, method: str, **params: Any) -> Any:
        return self.answers[method]


def end(run: str = RUN, code: int | None = 3, signal: int | None = None, **more: Any) -> dict[str, Any]:
    return {"run": run, "code": code, "signal": signal, **more}


def compared(folder: Path, life: str, recent: list[dict[str, Any]], lines: list[str], **asked: Any) -> dict[str, int]:
    """What is counted of one job at rest."""
    tally = Tally("made up")
    (folder / "job").write_text(life)
    kind = asked.pop("kind", "once")
    job = Asked("job", kind, "3", 2, 0, Witness(folder / "job"), acknowledged=True, **asked)
    workload = Workload(UnderFire(folder, tally), tally, 1)
    workload._compare(Said(recent, lines), job, {})  # type: ignore[arg-type]
    return {kind: count for kind, count in tally.wrong.items() if count}


WHOLE = [f"{RUN}:1:", f"{RUN}:2:"]


@pytest.mark.parametrize(
    ("life", "recent", "lines", "asked", "wrong"),
    [
        (LIFE, [end()], WHOLE, {}, {}),
        (LIFE, [end(code=4)], WHOLE, {}, {"exit_codes_lost": 1}),
        (LIFE, [end(code=None)], WHOLE, {}, {"exit_codes_lost": 1}),
        (LIFE, [end(code=None, unknown=True)], WHOLE, {}, {"exit_codes_lost": 1}),
        (LIFE, [], WHOLE, {}, {"exit_codes_lost": 1}),
        (LIFE, [end()], WHOLE[:1], {}, {"lines_lost": 1}),
        (LIFE, [end()], [*WHOLE, WHOLE[0]], {}, {"lines_doubled": 1}),
        (LIFE, [end()], [*WHOLE, f"{RUN}:3:"], {}, {}),  # written, and ended before it could say so
        (LIFE, [end()], [WHOLE[0], f"{RUN[:5]}{WHOLE[1]}"], {}, {}),  # a line torn by a full disk before it
        ("", [], [], {}, {"children_lost": 1}),
        (LIFE + LIFE, [end()], WHOLE, {}, {"started_twice": 1}),
        (f"{LIFE}S {OTHER} 999999999\nE {OTHER} 3\n", [end(), end(OTHER)], WHOLE, {}, {"started_twice": 1}),
        (f"S {RUN} 999999999\n", [end(code=None, signal=15)], [], {}, {"signalled_wrongly": 1}),
        (f"S {RUN} 999999999\n", [end(code=None, signal=15)], [], {"stop_asked": True}, {}),
        (f"S {RUN} 999999999\nT {RUN}\nE {RUN} 7\n", [end(code=7)], [], {}, {"signalled_wrongly": 1}),
        (f"S {RUN} 999999999\nK {RUN} 9\n", [end(code=None, signal=9)], [], {"kind": "killed"}, {}),
        (LIFE, [end()], WHOLE, {"kind": "crasher"}, {"children_lost": 1}),
    ],
)
def test_what_is_wrong_is_counted(
    tmp_path: Path, life: str, recent: list[Any], lines: list[str], asked: dict[str, Any], wrong: dict[str, int]
) -> None:
    assert compared(tmp_path, life, recent, lines, **asked) == wrong


def test_two_runs_at_a_time(tmp_path: Path) -> None:
    life = f"S {RUN} 999999999\nS {OTHER} 999999999\nL {RUN} 1\nE {RUN} 3\nE {OTHER} 0\n"
    found = compared(tmp_path, life, [end(), end(OTHER, 0)], [f"{RUN}:1:"], kind="crasher")
    assert found == {"started_twice": 1}


def test_the_sum_is_good_only_without_a_fault_and_in_time() -> None:
    fine, late, bad = Tally("fine"), Tally("late"), Tally("bad")
    fine.answered = [0.1] * 99
    late.answered = [LIMIT_SECONDS + 1] * 2
    bad.fault("other", "made up")
    assert good([fine]) and not good([fine, late]) and not good([fine, bad])
    assert total([fine, bad]).as_json()["cases"] == ["bad: anything else: made up"]
    assert FAULTS.keys() <= total([fine]).as_json().keys()


def test_quantiles() -> None:
    assert quantile([], 0.5) is None
    assert (quantile([3.0, 1.0, 2.0], 0.5), quantile([float(n) for n in range(1, 101)], 0.99)) == (2.0, 99.0)
