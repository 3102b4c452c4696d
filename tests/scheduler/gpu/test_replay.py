"""The replay of pods on simulated cards: figures, refusals, and that nothing is known before its time."""

import gzip
import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from llmos.errors import BadInput, NotFound
from llmos.scheduler.gpu.admission import BEST_FIT, FIFO, SHORTEST
from llmos.scheduler.gpu.pods import Pod, read_pods
from llmos.scheduler.gpu.replay import contest, main, replay
from llmos.scheduler.gpu.runtimes import UNKNOWN_SECONDS, Runtimes
from llmos.scheduler.workload import Job

HEADER = (
    "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec,qos,pod_phase,creation_time,deletion_time,scheduled_time\n"
)
Write = Callable[[list[str]], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def written(lines: list[str]) -> Path:
        path = tmp_path / "pods.csv"
        path.write_text(HEADER + "".join(f"{line}\n" for line in lines))
        return path

    return written


def made_up(count: int, seed: int = 1) -> list[str]:
    """Pods of two kinds, short and long, some of a part of a card and a few of two cards."""
    draw, now, lines = random.Random(seed), 0, []
    for number in range(count):
        now += draw.randint(1, 60)
        long = draw.random() < 0.3
        runtime = draw.randint(2000, 4000) if long else draw.randint(20, 60)
        cards, share = draw.choice([(1, 1000), (1, 500), (1, 300), (2, 1000)])
        size, qos = ("12000,32768", "LS") if long else ("4000,8192", "BE")
        lines.append(f"p{number},{size},{cards},{share},,{qos},Succeeded,{now},{now + runtime},{now}")
    return lines


def pod(came: float, runtime: float, cards: int = 1, share: int = 1000, kind: str = "") -> Pod:
    return Pod(cards, share, came, came + runtime, runtime, ("BE", kind, f"{cards}/{share}"))


def test_reads_what_ran_on_cards(write: Write) -> None:
    lines = [
        "late,6000,12288,1,460,V100,BE,Failed,50,170,70",
        "first,12000,16384,2,1000,,LS,Running,10,110,10",
        "no-card,12000,16384,0,0,,LS,Running,20,110,20",
        "never-placed,12000,16384,1,1000,,LS,Pending,30,110,",
        "no-time,12000,16384,1,1000,,LS,Failed,30,40,40",
    ]
    path = write(lines)
    first, late = read_pods(path)
    assert first == Pod(2, 1000, 10, 110, 100, ("LS", "12000/16384", "2/1000/"))
    assert (late.came, late.runtime, late.attributes) == (50, 100, ("BE", "6000/12288", "1/460/V100"))
    packed = path.with_name("pods.csv.gz")
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert read_pods(packed) == [first, late]


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([], "no pod"),
        (["a,1,1,1,1001,,LS,Running,0,9,0"], "line 2 .*gpu_milli is from 1 to 1000"),
        (["a,1,1,1,1000,,LS,Running,0,9,0", "b,1,1,one,1000,,LS,Running,0,9,0"], "line 3 .*is not a pod"),
        (["a,1,1,1,1000"], "line 2 .*is not a pod"),
    ],
)
def test_refuses_what_is_no_pod(write: Write, lines: list[str], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        read_pods(write(lines))


def test_refuses_what_is_no_trace(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(NotFound, match="no trace"):
        read_pods(tmp_path / "none.csv")
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(BadInput, match="has no column"):
        read_pods(tmp_path / "other.csv")
    (tmp_path / "broken.csv.gz").write_bytes(b"no gzip")
    assert main([str(tmp_path / "broken.csv.gz")]) == 1
    assert "cannot be read" in capsys.readouterr().err


def test_a_window_by_hand() -> None:
    pods = [pod(0, 100), pod(1, 100, 2), pod(2, 10)]
    jobs = [each.as_job(number) for number, each in enumerate(pods)]
    fifo = replay(jobs, pods, [], cards=2, rules=FIFO)
    assert fifo.wait == [0, 99, 198] and fifo.makespan == 210
    best = replay(jobs, pods, [], cards=2, rules=BEST_FIT)
    assert best.wait == [0, 99, 0] and best.makespan == 200
    assert best.slowdown == [1, 1.99, 1]
    assert best.utilisation == 0.5
    assert best.fragmentation == pytest.approx((1 * 1 + 88 * 1) / (99 * 2))
    shared = [pod(0, 10, 1, 600), pod(0, 10, 1, 600), pod(0, 10, 1, 400)]
    outcome = replay([each.as_job(at) for at, each in enumerate(shared)], shared, [], cards=1, rules=BEST_FIT)
    assert outcome.wait == [0, 10, 0] and outcome.most_of_a_card == 1.0


def test_history_puts_the_short_ones_first() -> None:
    known = [
        pod(-900, 5, kind="short"),
        pod(-900, 5, kind="short"),
        pod(-900, 800, kind="long"),
        pod(-900, 800, kind="long"),
    ]
    pods = [pod(0, 50, kind="other"), pod(1, 800, kind="long"), pod(2, 5, kind="short")]
    jobs = [each.as_job(number) for number, each in enumerate(pods)]
    assert replay(jobs, pods, known, cards=1, rules=SHORTEST).wait == [0, 54, 48]
    assert replay(jobs, pods, [], cards=1, rules=SHORTEST).wait == [0, 49, 848]  # nothing is known: by arrival


def test_how_long_a_kind_takes() -> None:
    runtimes = Runtimes()
    job = Job(0, 0.0, 0.0, 1, "u", "train", "1")
    assert runtimes.expected(job) == (UNKNOWN_SECONDS, 0)
    assert runtimes.expected(job, 2 * UNKNOWN_SECONDS) == (2 * UNKNOWN_SECONDS, 0)
    for runtime in (0.0, 10.0, 50.0):
        runtimes.note(Job(0, 0.0, runtime, 1, "u", "train", "1"))
    assert runtimes.expected(job) == (20.0, 3)
    assert runtimes.expected(job, 20.0) == (30.0, 1)
    assert runtimes.expected(job, 60.0) == (60.0, 0)
    assert runtimes.expected(Job(0, 0.0, 0.0, 2, "u", "train", "2")) == (20.0, 3)  # the same program on more cards
    assert runtimes.expected(Job(0, 0.0, 0.0, 2, "other", "play", "2")) == (20.0, 3)  # everybody


def test_the_command(write: Write, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmos.scheduler.gpu.replay.WINDOW", 150)
    path = write(made_up(600))
    arguments = [str(path), "--cards", "3", "--load", "0.9", "--windows", "4", "--seed", "3"]
    assert main([*arguments, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    table = told["policies"]
    assert list(table) == ["fifo", "best-fit", "ours"]
    for row in table.values():
        assert row["most_of_a_card"] <= 1 and row["mean_slowdown"] >= 1 and 0 < row["utilisation"] <= 1
    assert table["ours"]["mean_slowdown"] < table["best-fit"]["mean_slowdown"] < table["fifo"]["mean_slowdown"]
    ratio = told["ours_over"]["fifo"]["mean_wait"]
    assert ratio["low"] <= ratio["ratio"] <= ratio["high"] < 1
    assert main(arguments) == 0
    assert "ours over best-fit, mean_wait" in capsys.readouterr().out


def test_the_same_seed_gives_the_same_figures(write: Write) -> None:
    pods = read_pods(write(made_up(60)))
    first = contest(pods, cards=2, load=0.8, count=1, seed=5)
    assert first == contest(pods, cards=2, load=0.8, count=1, seed=5)


@pytest.mark.parametrize("wrong", [["--cards", "0"], ["--load", "0"], ["--windows", "0"]])
def test_refuses_what_makes_no_sense(wrong: list[str]) -> None:
    with pytest.raises(SystemExit):
        main(["pods.csv", *wrong])
