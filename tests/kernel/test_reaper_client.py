"""The daemon's side of the reaper, against real ones: errors in words, exits told once, coming back after a death."""

import asyncio
import errno
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import psutil
import pytest

from llmos.errors import BadInput, Conflict, Forbidden, LlmosError, NotFound, Unavailable
from llmos.kernel.reaper_client import Exit, ForkRefused, JournalStream, Reaper, SpawnRequest, reach, start_reaper
from llmos.kernel.reaper_errors import ReaperError

ENV = {"PATH": os.environ["PATH"]}
CLIENT = """
import asyncio, json, sys
from pathlib import Path
from llmos.kernel.reaper_client import Reaper, SpawnRequest

async def main():
    reaper = await Reaper.connect(Path(sys.argv[1]), lambda run, exit: None)
    for number in range(20):
        script = f"until [ -e {sys.argv[2]} ]; do sleep 0.01; done; exit {number}"
        await reaper.spawn(SpawnRequest(run=f"run {number}", argv=["/bin/sh", "-c", script]))
    print("ready", flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


async def wait_for(look: Callable[[], object]) -> None:
    """Until `look` returns something true."""
    async with asyncio.timeout(20):
        while not look():  # noqa: ASYNC110 — it happens in other processes
            await asyncio.sleep(0.01)


def shell(run: str, script: str) -> SpawnRequest:
    return SpawnRequest(run=run, argv=["sh", "-c", script], env=ENV)


class Exits(dict[str, Exit]):
    """Every exit told, each once."""

    def __call__(self, run: str, outcome: Exit) -> None:
        assert run not in self
        self[run] = outcome


Connect = Callable[[Exits], Awaitable[Reaper]]


@pytest.fixture
async def connect(tmp_path: Path) -> AsyncIterator[Connect]:
    """Clients of the reaper of one folder; in the end nothing of it is left."""
    state = tmp_path / "state"
    opened: list[Reaper] = []

    async def connect(exits: Exits) -> Reaper:
        opened.append(await Reaper.connect(state, exits))
        return opened[-1]

    yield connect
    for reaper in opened:
        await reaper.close()
    ended = Exits()
    last = await Reaper.connect(state, ended)
    runs = [run.run for run in await last.list()]
    for run in runs:
        await last.signal(run, signal.SIGKILL, "tree")
    await wait_for(lambda: len(ended) == len(runs))
    pid, _ = await last.ping()
    await last.shutdown(force=True)
    await wait_for(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)


async def test_a_run_from_start_to_end(connect: Connect, tmp_path: Path) -> None:
    exits = Exits()
    reaper = await connect(exits)
    spawned = await reaper.spawn(
        SpawnRequest(run="one", argv=["sleep", "600"], env=ENV, cwd=str(tmp_path), label={"a": 1})
    )
    assert psutil.Process(spawned.pid).cwd() == str(tmp_path)
    (known,) = await reaper.list()
    assert (known.run, known.pid, known.label, known.exit) == ("one", spawned.pid, {"a": 1}, None)
    assert await reaper.members("one") == [spawned]
    assert await reaper.signal("one", signal.SIGTERM) == [spawned.pid]
    await wait_for(lambda: exits)
    assert exits["one"].signal == signal.SIGTERM
    (known,) = await reaper.list()
    assert known.exit == exits["one"]
    with pytest.raises(Conflict, match="1 exits are not taken"):
        await reaper.shutdown()
    assert await reaper.take(["one"]) == ["one"]
    assert await reaper.list() == []


async def test_what_cannot_start_says_what_to_do(connect: Connect, tmp_path: Path) -> None:
    reaper = await connect(Exits())
    script = tmp_path / "script"
    script.write_text("echo\n")
    cases: list[tuple[type[LlmosError], str, dict[str, object]]] = [
        (NotFound, "there is no command no-such; install it", {"argv": ["no-such"]}),
        (NotFound, "/no/such cannot be started: it, or the interpreter", {"argv": ["/no/such"]}),
        (NotFound, "a part of its path is no folder", {"argv": ["/etc/passwd/no"]}),
        (Forbidden, "script may not be executed", {"argv": [str(script)]}),
        (BadInput, "are too long", {"argv": ["true", "x" * (1 << 20)]}),
        (NotFound, "there is no folder /no/such to run in", {"cwd": "/no/such"}),
        (NotFound, "its log file cannot be opened: .*/no/such", {"stdout": "/no/such"}),
        (
            Unavailable,
            "the journal of the machine cannot be reached .*; is systemd-journald running",
            {"journal": JournalStream(identifier="x", socket="/no/such")},
        ),
        (NotFound, "it cannot join its cgroup: .*/no/such", {"cgroups": ["/no/such"]}),
        (BadInput, "ioclass must be a class", {"ioclass": (9, 9)}),
        (BadInput, "argv must begin with a command", {"argv": []}),
    ]
    for kind, words, change in cases:
        request = SpawnRequest(**{"run": "one", "argv": ["true"], "env": ENV, **change})  # type: ignore[arg-type]
        with pytest.raises(kind, match=words) as raised:
            await reaper.spawn(request)
        assert raised.type is kind
    script.chmod(0o755)
    with pytest.raises(BadInput, match="must begin with a line such as #!/bin/sh"):
        await reaper.spawn(SpawnRequest(run="one", argv=[str(script)]))
    assert await reaper.list() == []


def test_a_refused_fork_may_be_tried_again() -> None:
    for stage in ("fork", "exec"):
        error = ReaperError(errno=errno.EAGAIN, stage=stage, message="no room").of_spawn("sh", "/")
        assert isinstance(error, ForkRefused)
        assert error.code == "unavailable"


async def test_unknown_and_ended_runs(connect: Connect) -> None:
    exits = Exits()
    reaper = await connect(exits)
    await reaper.spawn(shell("one", "exit 1"))
    await wait_for(lambda: exits)
    with pytest.raises(NotFound, match="has ended"):
        await reaper.signal("one", signal.SIGTERM)
    assert await reaper.signal("one", signal.SIGTERM, "tree") == []
    with pytest.raises(NotFound, match="no run 'two'"):
        await reaper.members("two")
    with pytest.raises(BadInput, match="number of a signal"):
        await reaper.signal("one", 999)


async def test_each_exit_is_told_once_after_the_client_was_killed(connect: Connect, tmp_path: Path) -> None:
    go = tmp_path / "go"
    client = await asyncio.create_subprocess_exec(
        sys.executable, "-c", CLIENT, tmp_path / "state", go, stdout=asyncio.subprocess.PIPE
    )
    assert client.stdout
    assert await client.stdout.readline() == b"ready\n"
    client.kill()
    await client.wait()
    go.touch()
    exits = Exits()
    reaper = await connect(exits)
    await wait_for(lambda: len(exits) == 20)
    assert {run: outcome.code for run, outcome in exits.items()} == {f"run {number}": number for number in range(20)}
    await reaper.take(list(exits))
    await reaper.close()
    later = Exits()
    await connect(later)
    assert later == {}


async def test_it_comes_back_when_the_reaper_dies(connect: Connect, tmp_path: Path) -> None:
    exits = Exits()
    reaper = await connect(exits)
    await reaper.spawn(shell("ended", "exit 2"))
    await wait_for(lambda: exits)
    lives = await reaper.spawn(shell("lives", f"until [ -e {tmp_path / 'go'} ]; do sleep 0.01; done; exit 3"))
    pid, _ = await reaper.ping()
    os.kill(pid, signal.SIGSTOP)
    pending = asyncio.create_task(reaper.list())
    await asyncio.sleep(0)
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(Unavailable, match="ended before it answered"):
        await pending
    assert (await reaper.ping())[0] != pid
    assert await reaper.spawn(shell("lives", "exit")) == lives
    (tmp_path / "go").touch()
    await wait_for(lambda: "lives" in exits)
    assert exits["lives"].code == 3 or exits["lives"].unknown


async def test_a_reaper_that_cannot_come_back(
    connect: Connect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llmos.kernel.reaper_client.ATTEMPTS", 2)
    monkeypatch.setattr("llmos.kernel.reaper_client.PATIENCE_SECONDS", 0.5)
    reaper = await connect(Exits())
    pid, _ = await reaper.ping()
    state = tmp_path / "state"
    (state / "reaper.lock").unlink()
    (state / "reaper.lock").mkdir()
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(Unavailable, match="ended before it answered"):
        await reaper.list()
    trouble = ""
    while "does not start: IsADirectoryError" not in trouble:
        with pytest.raises(Unavailable) as raised:
            await reaper.list()
        trouble = raised.value.message
    (state / "reaper.lock").rmdir()
    monkeypatch.setattr("llmos.kernel.reaper_client.PATIENCE_SECONDS", 20)
    assert await reaper.list() == []


async def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Unavailable, match="does not answer"):
        await Reaper.connect(tmp_path / "file", Exits())
    state = tmp_path / "state"
    (state / "reaper.ledger").mkdir(parents=True)
    with pytest.raises(Unavailable, match=r"does not start: .*reaper\.ledger"):
        await Reaper.connect(state, Exits())


async def test_another_daemon_takes_over(connect: Connect) -> None:
    first = await connect(Exits())
    exits = Exits()
    second = await connect(exits)
    with pytest.raises(Unavailable, match="another llmosd"):
        for _ in range(100):
            await first.list()
    await second.spawn(shell("one", "exit 0"))
    await wait_for(lambda: exits)


async def test_a_callback_that_fails_ends_nothing(connect: Connect, caplog: pytest.LogCaptureFixture) -> None:
    class Failing(Exits):
        def __call__(self, run: str, outcome: Exit) -> None:
            super().__call__(run, outcome)
            raise RuntimeError("broken")

    exits = Failing()
    reaper = await connect(exits)
    await reaper.spawn(shell("one", "exit 0"))
    await reaper.spawn(shell("two", "exit 0"))
    await wait_for(lambda: len(exits) == 2)
    assert "the exit of run one was not handled" in caplog.text


async def test_calls_have_a_bound_and_end_with_the_connection(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llmos.kernel.reaper_client.PENDING_CALLS", 5)
    reaper = await connect(Exits())
    answers = await asyncio.gather(*(reaper.list() for _ in range(8)), return_exceptions=True)
    assert sum(isinstance(answer, Unavailable) for answer in answers) == 3
    await reaper.close()
    with pytest.raises(Unavailable, match="was closed"):
        await reaper.list()


async def test_many_runs_at_once(connect: Connect) -> None:
    exits = Exits()
    reaper = await connect(exits)
    await asyncio.gather(*(reaper.spawn(shell(f"run {number}", f"exit {number}")) for number in range(50)))
    await wait_for(lambda: len(exits) == 50)
    assert all(exits[f"run {number}"].code == number for number in range(50))


def test_starting_and_reaching_are_plain_functions(tmp_path: Path) -> None:
    start_reaper(tmp_path)
    with reach(tmp_path) as connection:
        connection.setblocking(True)
        connection.sendall(b'{"op":"ping"}\n{"op":"shutdown"}\n')
        with connection.makefile("rb") as file:
            assert json.loads(file.readline())["ok"]["version"]
            assert json.loads(file.readline())["ok"] == {}
            assert file.readline() == b""
