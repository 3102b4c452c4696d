"""The socket, spoken to raw: whatever comes is answered by JSON-RPC or dropped, and others notice nothing."""

import contextlib
import json
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from conftest import Daemon, needs_root
from llmos.kernel.api import MAX_IN_FLIGHT
from llmos.kernel.methods import METHODS

Eventually = Callable[[Callable[[], object]], Any]


class Raw:
    """A connection that sends bytes and reads lines."""

    def __init__(self, daemon: Daemon) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(20)
        self.socket.connect(str(daemon.socket))
        self.file = self.socket.makefile("rb")

    def send(self, *messages: Any) -> None:
        """Send messages, each JSON unless it is bytes already, a line each."""
        for message in messages:
            self.socket.sendall((message if isinstance(message, bytes) else json.dumps(message).encode()) + b"\n")

    def read(self) -> Any:
        """The next message, or None when the connection was closed."""
        with contextlib.suppress(ConnectionResetError):
            if line := self.file.readline():
                return json.loads(line)
        return None

    def ask(self, message: Any) -> Any:
        """Send one message and read one."""
        self.send(message)
        return self.read()

    def close(self) -> None:
        """Hang up."""
        self.file.close()
        self.socket.close()


@pytest.fixture
def raw(daemon: Daemon) -> Iterator[Raw]:
    """A raw connection."""
    connection = Raw(daemon)
    yield connection
    connection.close()


STATUS = {"jsonrpc": "2.0", "id": 1, "method": "jobs"}


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b"{", -32700),
        (b"\xff\xfe", -32700),
        (b'{"id": 1, "method": "jobs", "params": {"state": NaN}}', -32700),
        (b'{"id": 1e999, "method": "jobs"}', -32700),
        (b'{"id": "\\ud800", "method": "jobs"}', -32700),
        (b"[" * 100_000, -32700),
        (b'{"id": ' + b"9" * 5000 + b"}", -32700),
        (b"7", -32600),
        (b'"jobs"', -32600),
        (b"[]", -32600),
        (b'{"id": true, "method": "jobs"}', -32600),
        (b'{"id": {}, "method": "jobs"}', -32600),
        (b'{"id": 1}', -32600),
        (b'{"id": 1, "method": 5}', -32600),
        (b'{"jsonrpc": "1.0", "id": 1, "method": "jobs"}', -32600),
        (b'{"id": 1, "method": "jobs", "extra": 1}', -32600),
        (b'{"id": 1, "method": "fly"}', -32601),
        (b'{"id": 1, "method": "jobs", "params": [1]}', -32602),
        (b'{"id": 1, "method": "jobs", "params": {"colour": 1}}', -32602),
    ],
)
def test_what_is_no_request_gets_an_error_and_the_connection_lives(raw: Raw, line: bytes, code: int) -> None:
    answer = raw.ask(line)
    assert answer["error"]["code"] == code, answer
    assert len(answer["error"]["message"]) > 15 and answer["error"]["data"]["code"]
    assert "result" in raw.ask(STATUS)


def test_every_method_says_which_field_has_the_wrong_type(raw: Raw) -> None:
    document = raw.ask({"id": 1, "method": "rpc.discover"})["result"]
    methods = {method["name"]: method["params"] for method in document["methods"]}
    assert methods.keys() == METHODS.keys()
    for name, params in methods.items():
        answer = raw.ask({"id": 2, "method": name, "params": {"no_such_field": 1}})
        assert answer["error"]["code"] == -32602, (name, answer)
        for param in params:
            others = {other["name"]: _valid(other["name"]) for other in params if other.get("required")}
            others |= NEEDED.get(name, {})
            answer = raw.ask({"id": 3, "method": name, "params": {**others, param["name"]: {"a": ["wrong"]}}})
            assert answer.get("error", {}).get("code") == -32602, (name, param["name"], answer)
            assert param["name"] in answer["error"]["message"], (name, param["name"], answer)


NEEDED: dict[str, dict[str, Any]] = {
    "limit": {"cpu": 1},
    "watch": {"above": 1},
    "schedule": {"at": "02:00"},
}
"""Arguments without which a verb makes no sense, though none of them is required alone."""


def _valid(name: str) -> Any:
    known = {"argv": ["true"], "port": 1, "plan": "jobs", "metric": "load", "priority": "low", "aspect": "cpu"}
    return known.get(name, "x")


def test_a_line_too_long_is_refused_and_dropped(daemon: Daemon) -> None:
    for line in (b"x" * (2 << 20), json.dumps({"id": 1, "method": "jobs", "pad": "y" * (2 << 20)}).encode()):
        connection = Raw(daemon)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.send(line)
        answer = connection.read()
        assert answer is None or "1048576 bytes" in answer["error"]["message"]
        assert answer is None or connection.read() is None
        connection.close()
    assert "line of more than" in daemon.log


def test_batches_notifications_and_null_ids(raw: Raw) -> None:
    raw.send(
        [
            {"id": 1, "method": "jobs"},
            {"method": "jobs"},
            7,
            {"id": None, "method": "fly"},
            {"id": 2, "method": "watches"},
        ]
    )
    first, bad, null, second = raw.read()
    assert (first["id"], second["id"], second["result"]) == (1, 2, [])
    assert (bad["id"], bad["error"]["code"]) == (None, -32600)
    assert (null["id"], null["error"]["code"]) == (None, -32601)
    raw.send([{"method": "jobs"}, {"method": "jobs"}], {"method": "jobs"}, {"method": "fly"})
    assert raw.ask(STATUS)["id"] == 1  # nothing came for the notifications
    assert raw.ask([{"id": 1, "method": "jobs"}] * 101)["error"]["code"] == -32600


def test_answers_come_after_the_caller_said_all_it_will(raw: Raw) -> None:
    raw.send({"id": 1, "method": "system", "params": {"aspect": "load"}})
    raw.socket.sendall(b'{"id": 2, "method": "ps", "params": {"limit": 1}}')  # its end ends the line
    raw.socket.shutdown(socket.SHUT_WR)
    assert {raw.read()["id"], raw.read()["id"]} == {1, 2}
    assert raw.read() is None


def test_many_lines_at_once_hold_nobody_up(daemon: Daemon, raw: Raw) -> None:
    flood = Raw(daemon)
    flood.socket.sendall(b"\n" * 2_000_000 + b"1\n" * 20_000)
    assert raw.ask(STATUS)["id"] == 1
    for _ in range(20_000):
        assert flood.read()["error"]["code"] == -32600
    flood.close()


def test_a_caller_with_as_many_requests_as_it_may_have_is_heard_again(daemon: Daemon, raw: Raw) -> None:
    raw.ask({"id": 1, "method": "run", "params": {"argv": ["sleep", "600"], "name": "nap"}})
    wait = {"method": "wait", "params": {"target": "nap", "timeout": "1s"}}
    raw.send(*({"id": number, **wait} for number in range(MAX_IN_FLIGHT)))
    assert {raw.read()["id"] for _ in range(MAX_IN_FLIGHT)} == set(range(MAX_IN_FLIGHT))
    assert raw.ask({"id": "after", "method": "stop", "params": {"target": "nap"}})["id"] == "after"
    assert "result" in raw.ask({"id": "gone", "method": "remove", "params": {"job": "nap", "allow": "destroy"}})


def test_500_connections_and_a_working_one(daemon: Daemon, raw: Raw) -> None:
    others = [Raw(daemon) for _ in range(500)]
    for index, other in enumerate(others):
        other.socket.sendall([b"", b'{"half', b'{"id": 1, "method": "jobs"}\n'][index % 3])
    assert "result" in raw.ask(STATUS)
    assert all(other.read()["id"] == 1 for other in others[2::3])
    for other in others:
        other.close()
    assert "result" in raw.ask(STATUS)


def test_waits_of_a_caller_that_hung_up_are_given_up(daemon: Daemon, eventually: Eventually) -> None:
    with daemon.client() as client:
        client.call("run", name="long", argv=["sleep", "600"])
        for _ in range(5):
            connection = Raw(daemon)
            connection.send(*({"id": n, "method": "wait", "params": {"target": "long"}} for n in range(60)))
            connection.close()
        # More than the bound of all together, were they kept; so would be their memory.
        client.call("stop", target="long")
        client.call("remove", job="long", allow="destroy")


def test_events_are_pushed_and_missed_ones_replayed(daemon: Daemon, raw: Raw) -> None:
    last = raw.ask({"id": 1, "method": "events.subscribe", "params": {"kinds": ["job.stopped"]}})["result"]["last"]
    with daemon.client() as client:
        client.call("run", name="told", argv=["true"])
        client.call("wait", target="told")
    event = raw.read()
    assert (event["method"], event["params"]["kind"], event["params"]["subject"]) == ("event", "job.stopped", "told")
    later = Raw(daemon)
    later.send({"id": 1, "method": "events.subscribe", "params": {"kinds": ["job.running"], "since": last}})
    first, second = later.read(), later.read()
    replayed = first if "params" in first else second
    assert replayed["params"]["subject"] == "told"
    later.close()
    with daemon.client() as client:
        client.call("remove", job="told", allow="destroy")


def test_output_is_followed_to_its_end(daemon: Daemon, raw: Raw) -> None:
    with daemon.client() as client:
        client.call("run", name="spoken", argv=["sh", "-c", "echo one; sleep 0.5; echo two"])
        assert raw.ask({"id": 1, "method": "logs.follow", "params": {"target": "spoken"}})["result"]
        lines = []
        while not (message := raw.read()["params"]).get("ended"):
            lines.append(message["line"])
        assert lines == ["one", "two"]
        client.call("remove", job="spoken", allow="destroy")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
names = st.sampled_from(sorted(METHODS.keys() - {"shutdown", "ask", "run"})) | st.text(max_size=10)
fields = st.sampled_from(
    (
        "target job argv name path port plan allow confirm dry_run limit state since kinds lines metric above then for "
        "priority memory watch grep aspect timeout"
    ).split()
)
values = json_values | st.sampled_from(
    ["$1", "1", "no-such", "\0", "/\0", "\ud800", "5s", "read", "change", "x" * 5000, 0, -1]
)
messages = st.fixed_dictionaries(
    {"method": names | json_values},
    optional={
        "id": json_values,
        "jsonrpc": st.just("2.0") | json_values,
        "params": st.dictionaries(fields, values) | json_values,
    },
)
lines = st.one_of(
    messages.map(lambda message: json.dumps(message).encode()),
    json_values.map(lambda value: json.dumps(value).encode()),
    st.lists(messages, max_size=3).map(lambda batch: json.dumps(batch).encode()),
    st.binary(max_size=60).map(lambda data: data.replace(b"\n", b"")),
)


def test_2000_odd_messages_are_each_answered(llmosd: Daemon) -> None:
    connection = Raw(llmosd)  # of its own: an undo by chance takes back whatever was done before
    sent = 0

    @settings(
        max_examples=2000, deadline=None, database=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(lines)
    def probe(line: bytes) -> None:
        nonlocal sent
        sent += 1
        marker = f"marker {sent}"
        connection.send(line, {"id": marker, "method": "fly"})
        answers = []
        while True:
            answer = connection.read()
            assert answer is not None, line
            if isinstance(answer, dict) and answer.get("id") == marker:
                break
            answers.append(answer)
        for answer in answers:
            for each in answer if isinstance(answer, list) else [answer]:
                assert ("result" in each) != ("error" in each) or "method" in each, (line, answer)
                assert each.get("error", {}).get("code") != -32603, (line, answer)

    probe()
    assert sent >= 2000
    connection.close()
    with llmosd.client() as client:
        assert client.call("jobs") == []


# Rights


def as_nobody(daemon: Daemon, *calls: tuple[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """What another user is answered."""
    script = """
import json, os, socket, sys
os.setgroups([]); os.setgid(65534); os.setuid(65534); os.chdir("/")
connection = socket.socket(socket.AF_UNIX); connection.connect(sys.argv[1]); file = connection.makefile("rb")
for number, (method, params) in enumerate(json.loads(sys.argv[2])):
    connection.sendall(json.dumps({"id": number, "method": method, "params": params}).encode() + b"\\n")
    print(file.readline().decode(), end="")
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(daemon.socket), json.dumps(calls)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture
def reachable(daemon: Daemon) -> Iterator[Daemon]:
    """The daemon with its socket open to everybody, as a group would open it to its members."""
    opened = [folder for folder in daemon.socket.parents if folder.stat().st_uid == os.geteuid()]
    modes = [(folder, stat.S_IMODE(folder.stat().st_mode)) for folder in opened]
    for folder, mode in modes:
        folder.chmod(mode | 0o111)
    daemon.socket.chmod(0o666)
    yield daemon
    for folder, mode in modes:
        folder.chmod(mode)


@needs_root
def test_others_may_run_jobs_of_their_own_and_touch_nothing_else(reachable: Daemon, eventually: Eventually) -> None:
    with reachable.client() as client:
        client.call("run", name="roots", argv=["sleep", "600"])
        client.call("run", name="roots-ended", argv=["true"])
        client.call("watch", metric="load", above=100000)
        client.call("focus", target="roots")
        run, ids, *denied = as_nobody(
            reachable,
            ("run", {"name": "theirs", "argv": ["sleep", "600"]}),
            ("run", {"name": "ids", "argv": ["sh", "-c", "id -u; id -g; id -G; pwd"]}),
            ("stop", {"target": "roots"}),
            ("kill", {"target": os.getpid(), "allow": "destroy"}),
            ("kill", {"target": "roots", "allow": "destroy"}),
            ("pause", {"target": "roots"}),
            ("renice", {"target": os.getpid(), "priority": "low", "allow": "destroy"}),
            ("limit", {"target": "roots", "memory": "1G"}),
            ("schedule", {"job": "roots", "at": "02:00"}),
            ("remove", {"job": "roots-ended", "allow": "destroy"}),
            ("run", {"name": "roots-ended", "argv": ["true"]}),
            ("logs", {"target": "roots"}),
            ("logs.follow", {"target": "roots"}),
            ("files", {"target": os.getpid()}),
            ("watch", {"metric": "log", "target": "roots", "match": "x"}),
            ("unwatch", {"watch": "load"}),
            ("shutdown", {}),
        )
        assert "result" in run and "result" in ids, (run, ids)
        codes = [answer.get("error", {}).get("data", {}).get("code", answer) for answer in denied]
        assert codes == ["forbidden"] * len(denied), denied
        [unfocus, _, undo, history, _] = as_nobody(
            reachable,
            ("unfocus", {}),
            ("run", {"name": "taken-back", "argv": ["sleep", "600"]}),
            ("undo", {"steps": 1}),
            ("history", {}),
            ("run", {"name": "second", "argv": ["true"]}),
        )
        [watch] = as_nobody(
            reachable, ("watch", {"metric": "load", "below": 100000, "then": "stop roots", "allow": "destroy"})
        )
        events = client.events(["watch.acted"], since=0)
        assert next(events)["body"]["error"]["data"]["code"] == "forbidden"
        client.call("unwatch", watch=str(watch["result"][0]["id"]))
        assert unfocus["error"]["data"]["code"] == "not-found"
        assert undo["result"][0]["line"].startswith("run name=taken-back")
        assert {step["uid"] for step in history["result"]} == {65534}
        assert client.call("show", target="roots")["state"] == "running"
        assert client.call("show", target="theirs")["uid"] == 65534
        eventually(lambda: len(client.call("logs", target="ids")["lines"]) == 4)
        assert client.call("logs", target="ids")["lines"] == ["65534", "65534", "65534", "/"]
        assert os.stat(f"/proc/{run['result']['pid']}").st_uid == 65534
        client.call("unfocus")
        client.call("unwatch", watch="load")
        for name in ("roots", "theirs"):
            client.call("stop", target=name)
        for name in ("roots", "roots-ended", "theirs", "ids", "second", "taken-back"):
            client.call("remove", job=name, allow="destroy")


@needs_root
def test_an_undo_does_not_reach_what_became_somebody_elses(reachable: Daemon) -> None:
    with reachable.client() as client:
        as_nobody(reachable, ("run", {"name": "passed-on", "argv": ["true"]}), ("wait", {"target": "passed-on"}))
        client.call("remove", job="passed-on", allow="destroy")
        client.call("run", name="passed-on", argv=["sleep", "600"])
        [undo] = as_nobody(reachable, ("undo", {}))
        assert undo["error"]["data"]["code"] == "forbidden"
        assert client.call("show", target="passed-on")["state"] == "running"
        client.call("stop", target="passed-on")
        client.call("remove", job="passed-on", allow="destroy")


def test_the_socket_is_closed_to_others(daemon: Daemon) -> None:
    mode = stat.S_IMODE(daemon.socket.stat().st_mode)
    assert mode in (0o600, 0o660, 0o666)
