"""Run by circus's own Python: drives circusd by `circus.client` and answers operations, a line of JSON each."""

import json
import sys
import time
from collections.abc import Callable

from circus.client import CircusClient, make_message

ANSWER_SECONDS = 60


def main(endpoint: str) -> None:
    client = CircusClient(endpoint=endpoint, timeout=ANSWER_SECONDS)
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            answer = {"value": OPERATIONS[asked.pop("do")](client, **asked)}
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


def pids(client: CircusClient) -> dict[str, int]:
    found = {}
    for name, status in client.call(make_message("status"))["statuses"].items():
        if status == "active":
            for pid in client.call(make_message("list", name=name)).get("pids", ()):
                found[name] = pid
    return found


def stop(client: CircusClient, name: str) -> None:
    client.call(make_message("stop", name=name, waiting=True))


def start(client: CircusClient, name: str) -> float:
    while True:  # it refuses while it still ends what was to end
        began = time.monotonic()
        if client.call(make_message("start", name=name))["status"] == "ok":
            return began


def state(client: CircusClient) -> float:
    began = time.perf_counter()
    client.call(make_message("status"))
    return time.perf_counter() - began


def calls(client: CircusClient, name: str, clients: int, seconds: float) -> float:
    """As `load.calls_a_second`: each client has one call under way, and answers are not decoded."""
    request = json.dumps({**make_message("status", name=name), "id": "1"}).encode()
    others = [CircusClient(endpoint=client.endpoint, timeout=ANSWER_SECONDS) for _ in range(clients)]
    for other in others:
        other.socket.send(request)
    began, count = time.perf_counter(), 0
    while (took := time.perf_counter() - began) < seconds:
        for other in others:
            other.socket.recv()
            other.socket.send(request)
        count += clients
    for other in others:
        other.socket.recv()
        other.stop()
    return count / took


OPERATIONS: dict[str, Callable[..., object]] = {
    "pids": pids,
    "stop": stop,
    "start": start,
    "state": state,
    "calls": calls,
}

if __name__ == "__main__":
    main(sys.argv[1])
