"""The least that keeps programs running: posix_spawn, waitpid, posix_spawn again. Answers operations by lines of JSON."""

import json
import os
import signal
import sys
import threading
import time

pids: dict[str, int] = {}
programs: dict[int, str] = {}
stopping: set[str] = set()


def spawn(program: str) -> None:
    """Start a program."""
    pid = os.posix_spawn(program, [program, "100000"], os.environ)
    programs[pid] = program
    pids[os.path.basename(program)] = pid


def keep() -> None:
    """Start each program again that ends."""
    while True:
        try:
            pid, _ = os.waitpid(-1, 0)
        except ChildProcessError:
            time.sleep(0.001)
            continue
        program = programs.pop(pid)
        if (name := os.path.basename(program)) in stopping:
            stopping.discard(name)
        else:
            spawn(program)


def main() -> None:
    """Answer until stdin ends, then end the programs."""
    paths: dict[str, str] = {}
    for line in sys.stdin:
        asked = json.loads(line)
        value: object = time.monotonic()
        match asked["do"]:
            case "run":
                for program in asked["programs"]:
                    paths[os.path.basename(program)] = program
                    spawn(program)
                threading.Thread(target=keep, daemon=True).start()
            case "start":
                spawn(paths[asked["name"]])
            case "stop":
                stopping.add(asked["name"])
                os.kill(pids[asked["name"]], signal.SIGTERM)
                while asked["name"] in stopping:
                    time.sleep(0.001)
            case "pids":
                value = pids
        print(json.dumps({"value": value}), flush=True)
    stopping.update(paths)
    for pid in list(programs):
        os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    main()
