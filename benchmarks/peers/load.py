"""Calls a second over stream sockets, by clients that each have one call under way."""

import socket
import time
from collections.abc import Callable, Sequence


def calls_a_second(
    connections: Sequence[socket.socket], request: bytes, whole: Callable[[bytes], bool], seconds: float
) -> float:
    """Calls that are answered in a second; `whole` says whether an answer is complete. Answers are not decoded."""
    for connection in connections:
        connection.sendall(request)
    began, calls = time.perf_counter(), 0
    while (took := time.perf_counter() - began) < seconds:
        for connection in connections:
            receive(connection, whole)
            connection.sendall(request)
        calls += len(connections)
    for connection in connections:
        receive(connection, whole)
    return calls / took


def receive(connection: socket.socket, whole: Callable[[bytes], bool]) -> bytes:
    """One answer.

    :raises ConnectionError: the connection ended before it was whole.
    """
    answer = connection.recv(1 << 20)
    while not whole(answer):
        if not (more := connection.recv(1 << 20)):
            raise ConnectionError("the daemon closed the connection before it answered")
        answer += more
    return answer


def connected(path: str, count: int) -> list[socket.socket]:
    """Connections to a Unix socket."""
    made = []
    for _ in range(count):
        made.append(connection := socket.socket(socket.AF_UNIX))
        connection.connect(path)
    return made
