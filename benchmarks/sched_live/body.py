"""The body of a job, run under the name of its program: SECONDS of processor time, then one line at the end of FILE.

    python compile.py SECONDS NUMBER FILE

The line has NUMBER, when it began and ended (monotonic seconds), and the longest time that it stood still between.
"""

import sys
import time


def main() -> None:
    """Burn it; what the interpreter's start took counts."""
    began = before = time.monotonic()
    seconds, number, path = float(sys.argv[1]), sys.argv[2], sys.argv[3]
    still = 0.0
    while time.process_time() < seconds:
        now = time.monotonic()
        still = max(still, now - before)
        before = now
    with open(path, "a", encoding="ascii") as file:
        file.write(f"{number} {began!r} {time.monotonic()!r} {still!r}\n")


if __name__ == "__main__":
    main()
