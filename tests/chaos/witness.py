"""What jobs themselves say that they did: each appends to a file of its own, which no part of llmos reads or writes.

A line is one write() to a descriptor opened O_APPEND: `S run pid` at the start, `L run number` once a line of output has
been written, `T run` when SIGTERM came, and as the last words `E run code` or `K run signal`.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

SCRIPT = """
exec 3>>"$1"
echo "S $LLMOS_RUN $$" >&3
trap 'echo "E $LLMOS_RUN $?" >&3' EXIT
trap 'echo "T $LLMOS_RUN" >&3; exit 7' TERM
i=0
while [ $i -lt $2 ]; do
    i=$((i+1))
    echo "$LLMOS_RUN:$i:" && echo "L $LLMOS_RUN $i" >&3
    sleep $3
done
code=$4
if [ $5 -gt 0 ]; then
    echo x >> "$1.tries"
    if [ $(wc -l < "$1.tries") -gt $5 ]; then code=0; fi
fi
case $code in
    k*) echo "K $LLMOS_RUN ${code#k}" >&3; kill -${code#k} $$ ;;
    *) exit $code ;;
esac
"""
"""A job: file of the witness, lines of output, seconds between them, exit code or k and a signal, failures before a 0."""


@dataclass
class Lived:
    """One run, as its process told it. `code` and `signal` are how it said that it was about to end."""

    id: str
    pid: int
    starts: int = 1
    written: set[int] = field(default_factory=set)
    """Numbers of the lines of output that it has written whole."""
    code: int | None = None
    signal: int | None = None
    terminated: bool = False
    overlapped: bool = False

    @property
    def lines(self) -> int:
        """How many lines it has written whole."""
        return len(self.written)

    @property
    def over(self) -> bool:
        """Whether it has said its last words."""
        return self.code is not None or self.signal is not None

    def lives(self) -> bool:
        """Whether its process is there: that pid, started as that run."""
        return run_of(self.pid) == self.id


@dataclass
class Witness:
    """The file of one job."""

    path: Path
    runs: dict[str, Lived] = field(default_factory=dict)

    def read(self) -> list[Lived]:
        """Every run of it so far, the first first."""
        self.runs = {}
        newest = None
        try:
            text = self.path.read_text()
        except FileNotFoundError:
            return []
        for line in text.splitlines():
            word, run, *rest = line.split()
            if word == "S":
                if run in self.runs:
                    self.runs[run].starts += 1
                else:
                    self.runs[run] = Lived(run, int(rest[0]))
                newest = run
                continue
            lived = self.runs[run]
            if run != newest and word == "L":  # its successor runs already
                lived.overlapped = True
            match word:
                case "L":
                    lived.written.add(int(rest[0]))
                case "T":
                    lived.terminated = True
                case "E":
                    lived.code, lived.signal = int(rest[0]), None
                case "K":
                    lived.signal = int(rest[0])
        return list(self.runs.values())


def run_of(pid: int) -> str | None:
    """The run that a living process belongs to, by the environment it was started with."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
        environment = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return None
    if stat[stat.rindex(")") + 2] in "ZX":
        return None
    found = [variable for variable in environment.split(b"\0") if variable.startswith(b"LLMOS_RUN=")]
    return found[0].partition(b"=")[2].decode() if found else None


def living(marker: bytes) -> Iterator[tuple[int, str]]:
    """Pid and run of every living process whose environment holds the marker and a run."""
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                if marker not in Path(f"/proc/{name}/environ").read_bytes():
                    continue
            except OSError:
                continue
            if run := run_of(int(name)):
                yield int(name), run
