"""The demonstration: a private llmosd, three requests in words to the real model, real processes, nothing left behind."""

import os
import shlex
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

LLMOS = Path(sys.executable).parent / "llmos"


def main() -> None:
    """Ask, show, check what came of it, and clean up."""
    with tempfile.TemporaryDirectory(prefix="llmos-demo-") as folder:
        environment = {**os.environ, "LLMOS_SOCKET": f"{folder}/llmosd.sock"}
        port = free_port()

        def llmos(*words: str) -> None:
            print(f"\n$ llmos {shlex.join(words)}", flush=True)
            subprocess.run([LLMOS, *words], env=environment, check=True, stdin=subprocess.DEVNULL)

        print("starting a private llmosd", flush=True)
        subprocess.run([LLMOS, "up"], env=environment, check=True)
        try:
            llmos("ask", "how much memory is in use?")
            llmos("ask", f"run python3 -m http.server {port} as web", "--allow", "change")
            answer(port)
            llmos("ask", f"free port {port}", "--allow", "destroy")
            gone(port)
        finally:
            subprocess.run([LLMOS, "down", "--jobs"], env=environment, check=True)
    print("\nall three did what was asked, and nothing is left running")


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def answer(port: int) -> None:
    """Wait until the server that was asked for answers, and say so."""
    deadline = time.monotonic() + 15
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=2) as reply:
                print(f"  → the server answers: HTTP {reply.status}")
                return
        except OSError:
            if time.monotonic() > deadline:
                sys.exit(f"nothing answers on port {port}; the request did not do what it asked for")
            time.sleep(0.1)


def gone(port: int) -> None:
    """Wait until nothing listens any more, and say so."""
    deadline = time.monotonic() + 15
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                print(f"  → nothing listens on port {port} any more")
                return
        if time.monotonic() > deadline:
            sys.exit(f"something still listens on port {port}; the request did not do what it asked for")
        time.sleep(0.1)


if __name__ == "__main__":
    main()
