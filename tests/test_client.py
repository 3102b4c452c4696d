"""The clients against a socket that speaks the protocol."""

import asyncio
import json
import socket as sockets
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fake_daemon import FakeDaemon, Pushed
from llmos import AsyncClient, Client
from llmos.client_source import callable_verbs
from llmos.client_wire import MAX_REQUEST_BYTES
from llmos.errors import BadInput, LlmosError, NeedsConfirmation, NotFound, TimedOut, Unavailable

CHECK = {"plan": ["kill web"], "risk": "destroy", "risks": ["destroy"], "reasons": [], "hash": "h", "targets": []}


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[FakeDaemon]:
    with FakeDaemon(tmp_path / "s") as fake:
        yield fake


def test_importing_the_package_loads_no_client() -> None:
    code = "import sys, llmos; assert not {'llmos.client', 'pydantic', 'asyncio'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_verb_is_a_typed_method(daemon: FakeDaemon) -> None:
    daemon.answers["kill"] = [{"name": "web", "pid": 7}]
    with Client(daemon.socket) as client:
        assert client.kill("web", signal="HUP", allow="destroy") == [{"name": "web", "pid": 7}]
    assert daemon.asked("kill") == [{"target": "web", "signal": "HUP", "allow": "destroy"}]


def test_a_keyword_of_python_keeps_its_name_on_the_wire(daemon: FakeDaemon) -> None:
    daemon.answers |= {"focus": [], "run": {"name": "x"}}
    with Client(daemon.socket) as client:
        client.focus(12, for_="5m")
        client.run(("python", "x.py"), name="x", cpu=0.5)
    assert daemon.asked("focus") == [{"target": 12, "for": "5m"}]
    assert daemon.asked("run") == [{"argv": ["python", "x.py"], "name": "x", "cpu": 0.5}]


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_every_verb_is_a_method(kind: type[Client] | type[AsyncClient]) -> None:
    for syscall in callable_verbs():
        method = getattr(kind, syscall.verb)
        assert len(syscall.arguments) <= len(method.__annotations__) - 1


def test_fixed_methods(daemon: FakeDaemon) -> None:
    daemon.answers |= {
        "ask": {**CHECK, "answer": None},
        "plan.check": CHECK,
        "plan.run": {**CHECK, "ok": True, "answer": None, "results": []},
        "shutdown": {"stopping": True},
        "doctor": [{"check": "gpu", "ok": False, "detail": "none", "remedy": None}],
        "rpc.discover": {"openrpc": "1.3.2"},
    }
    with Client(daemon.socket) as client:
        assert client.ask("stop it", dry_run=True)["hash"] == "h"
        assert client.plan_check(("kill web",))["risk"] == "destroy"
        assert client.plan_run("kill web", confirm="h")["ok"]
        assert client.status()["pid"] == 1
        assert client.shutdown(jobs=True) == {"stopping": True}
        assert client.doctor()[0]["check"] == "gpu"
        assert client.discover() == {"openrpc": "1.3.2"}
    assert daemon.asked("ask") == [{"request": "stop it", "allow": "read", "dry_run": True}]
    assert daemon.asked("plan.check") == [{"plan": ["kill web"]}]
    assert daemon.asked("plan.run") == [{"plan": "kill web", "allow": "read", "confirm": "h"}]
    assert daemon.asked("shutdown") == [{"jobs": True}]


def test_an_error_comes_back_as_its_class(daemon: FakeDaemon) -> None:
    daemon.answers["kill"] = NeedsConfirmation("it is above what you allow", **CHECK)
    with Client(daemon.socket) as client, pytest.raises(NeedsConfirmation) as caught:
        client.kill("web")
    assert caught.value.data == CHECK


def test_a_connection_outlives_an_error(daemon: FakeDaemon) -> None:
    daemon.answers |= {"show": NotFound("there is no web"), "jobs": []}
    with Client(daemon.socket) as client:
        with pytest.raises(NotFound):
            client.show("web")
        assert client.jobs() == []


def test_no_socket_is_unavailable_and_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="llmos up"):
        Client(tmp_path / "none").status()


async def test_no_socket_is_unavailable_to_the_async_client(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="llmos up"):
        await AsyncClient(tmp_path / "none").status()


def test_a_socket_nobody_listens_on_is_unavailable(tmp_path: Path) -> None:
    with sockets.socket(sockets.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "s"))
    with pytest.raises(Unavailable, match="llmos up"):
        Client(tmp_path / "s").status()


def test_the_socket_comes_from_the_environment(daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMOS_SOCKET", str(daemon.socket))
    with Client() as client:
        assert client.status()["pid"] == 1


def test_a_silent_daemon_times_out_and_the_next_call_is_answered(daemon: FakeDaemon) -> None:
    go_on = threading.Event()
    daemon.answers |= {"jobs": lambda _: go_on.wait(20) and [], "watches": [{"id": 3}]}
    with Client(daemon.socket, timeout=0.2) as client:
        with pytest.raises(TimedOut):
            client.jobs()
        go_on.set()
        assert client.watches() == [{"id": 3}]


def test_a_request_over_one_mebibyte_is_refused_before_it_is_sent(daemon: FakeDaemon) -> None:
    with Client(daemon.socket) as client, pytest.raises(BadInput, match=str(MAX_REQUEST_BYTES)):
        client.run(["x" * MAX_REQUEST_BYTES])
    assert not daemon.asked("run")


def test_arguments_that_are_no_json_are_refused(daemon: FakeDaemon) -> None:
    with Client(daemon.socket) as client, pytest.raises(BadInput):
        client.call("show", target=object())


@pytest.mark.parametrize("line", [b"hello\n", b"[1]\n", b""])
def test_what_is_not_llmosd_is_unavailable(tmp_path: Path, line: bytes) -> None:
    with sockets.socket(sockets.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "s"))
        listening.listen()

        def answer() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(line)

        thread = threading.Thread(target=answer)
        thread.start()
        with Client(tmp_path / "s") as client, pytest.raises(Unavailable):
            client.status()
        thread.join()


def test_threads_share_a_client(daemon: FakeDaemon) -> None:
    daemon.answers["show"] = lambda params: {"name": params["target"]}
    seen: list[bool] = []
    with Client(daemon.socket) as client:

        def show(number: int) -> None:
            seen.append(client.show(f"job{number}") == {"name": f"job{number}"})

        threads = [threading.Thread(target=show, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert seen == [True] * 8


def test_events_follow_the_subscription_until_the_connection_ends(daemon: FakeDaemon) -> None:
    events: list[dict[str, Any]] = [
        {"id": n, "at": 1.0, "kind": "job", "subject": "web", "uid": 0, "body": {}} for n in (5, 6)
    ]
    daemon.answers["events.subscribe"] = Pushed({"subscribed": True, "last": 4}, "event", events)
    stream = Client(daemon.socket).events(["job"], since=4)
    assert [next(stream)["id"], next(stream)["id"]] == [5, 6]
    stream.close()  # type: ignore[attr-defined]
    assert daemon.asked("events.subscribe") == [{"kinds": ["job"], "since": 4}]


LOG: list[dict[str, Any]] = [
    {"job": "web", "line": "one"},
    {"job": "web", "line": "two"},
    {"job": "web", "ended": True},
]


def test_followed_logs_end_with_the_job(daemon: FakeDaemon) -> None:
    daemon.answers["logs.follow"] = Pushed({"following": "web"}, "log", LOG)
    assert list(Client(daemon.socket).follow_logs("web", lines=2)) == ["one", "two"]


async def test_the_async_client_follows_too(daemon: FakeDaemon) -> None:
    daemon.answers["logs.follow"] = Pushed({"following": "web"}, "log", LOG)
    daemon.answers["events.subscribe"] = Pushed({"subscribed": True, "last": 0}, "event", [{"id": 1}])
    client = AsyncClient(daemon.socket)
    assert [line async for line in client.follow_logs("web")] == ["one", "two"]
    async for event in client.events():
        assert event["id"] == 1
        break


async def test_async_calls_run_side_by_side_on_one_connection(daemon: FakeDaemon) -> None:
    later = threading.Event()
    daemon.answers |= {"wait": lambda _: later.wait(20) and {"state": "stopped"}, "jobs": []}
    async with AsyncClient(daemon.socket) as client:
        waiting = asyncio.create_task(client.wait("web"))
        assert await client.jobs() == []
        assert not waiting.done()
        later.set()
        assert (await waiting)["state"] == "stopped"


async def test_async_errors_and_time_limits(daemon: FakeDaemon) -> None:
    later = threading.Event()
    daemon.answers |= {"show": NotFound("there is no web"), "jobs": lambda _: later.wait(20) and []}
    async with AsyncClient(daemon.socket, timeout=0.2) as client:
        with pytest.raises(NotFound):
            await client.show("web")
        with pytest.raises(TimedOut):
            await client.jobs()
        later.set()
        assert (await client.status())["pid"] == 1


async def test_closing_fails_what_waits(daemon: FakeDaemon) -> None:
    later, asked = threading.Event(), threading.Event()

    def jobs(_: object) -> list[object]:
        asked.set()
        later.wait(20)
        return []

    daemon.answers["jobs"] = jobs
    client = AsyncClient(daemon.socket)
    waiting = asyncio.create_task(client.jobs())
    await asyncio.to_thread(asked.wait, 20)
    await client.close()
    with pytest.raises(Unavailable):
        await waiting
    later.set()


def test_an_error_of_an_unknown_code_is_still_an_error(daemon: FakeDaemon) -> None:
    class Newer(LlmosError):
        code = "from-a-later-version"

    daemon.answers["jobs"] = Newer("something new")
    with Client(daemon.socket) as client, pytest.raises(LlmosError, match="something new"):
        client.jobs()


def test_requests_are_one_line_of_json(tmp_path: Path) -> None:
    with sockets.socket(sockets.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "s"))
        listening.listen()
        lines: list[bytes] = []

        def answer() -> None:
            connection, _ = listening.accept()
            with connection, connection.makefile("rwb") as stream:
                lines.append(stream.readline())
                stream.write(json.dumps({"jsonrpc": "2.0", "id": 1, "result": []}).encode() + b"\n")

        thread = threading.Thread(target=answer)
        thread.start()
        with Client(tmp_path / "s") as client:
            client.ps(name="a\nb 中")
        thread.join()
    assert json.loads(lines[0])["params"] == {"name": "a\nb 中"}
