"""The reaper's ledger: every run it knows and how it ended, kept on disk as JSON lines until llmosd has taken it.

Events are appended by single write()s without fsync: they must outlive a process, not the machine, for after a power
loss no run lives anyway, which the boot id in the first line tells. Standard library only.

    boot      the boot id that the runs after it belong to
    starting  a run is about to be started; without what follows its process is looked for by its mark
    spawned   it executes, or is about to; written by its own process where that is forked
    ready     it has said so with sd_notify(3)
    failed    it could not execute, so it never was
    exited    how it ended; again with what it used, once that is known
    taken     llmosd knows, so it is forgotten
"""

from __future__ import annotations

import errno
import json
import os
import sys
import time

from llmos.kernel import members

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

COMPACT_BYTES = 1 << 20
"""A ledger below this is left alone; above it, it is rewritten whenever it has doubled."""


class Run:
    """One started process and, once it has ended, how.

    `start_ticks` are clock ticks since boot (field 22 of /proc/PID/stat), `started_at` seconds since the epoch.
    """

    __slots__ = (
        *("_label", "adopted", "cgroups", "exit", "id", "notify", "pid", "pidfd"),
        *("ready", "start_ticks", "started_at"),
    )

    def __init__(self, record: dict[str, Any]) -> None:
        self.id: str = record["run"]
        self.pid: int = record["pid"]
        self.start_ticks: int = record["start_ticks"]
        self.started_at: float = record["started_at"]
        self.cgroups: list[str] = record["cgroups"]
        self._label = json.dumps(record["label"], separators=(",", ":"))  # a third of what the object takes
        self.exit: dict[str, Any] | None = record.get("exit")
        self.notify: bool = record.get("notify", False)
        self.ready: bool = record.get("ready", False)
        self.pidfd = -1
        self.adopted = False  # from an earlier reaper, so not our child

    def record(self) -> dict[str, Any]:
        """All that is told and kept of it."""
        return {
            "run": self.id,
            "pid": self.pid,
            "start_ticks": self.start_ticks,
            "started_at": self.started_at,
            "cgroups": self.cgroups,
            "label": json.loads(self._label),
            "notify": self.notify,
            "ready": self.ready,
            "exit": self.exit,
        }


def unknown_exit(**why: bool) -> dict[str, Any]:
    """The exit of a run that ended unseen; `at` is when that was noticed, in seconds since the epoch."""
    return {
        "code": None,
        "signal": None,
        "core": False,
        "at": time.time(),
        "cpu_seconds": None,
        "max_rss_bytes": None,
        "unknown": True,
        **why,
    }


class Ledger:
    """The runs by id, the same in memory and on disk."""

    def __init__(self, path: str) -> None:
        """Read what an earlier reaper left and shorten it.

        Raises:
            OSError: the file cannot be read or written.
        """
        self.runs: dict[str, Run] = {}
        self._path = path
        self._file = _open(path)
        self._boot = boot_id()
        self._stale = False  # memory knows more than the disk could take
        self._replay()
        self.compact()

    def append(self, event: str, **fields: Any) -> None:
        """Write one event.

        Raises:
            OSError: it is not on disk, most likely because that is full.
        """
        data = _line(event, fields)
        if os.write(self._file, data) != len(data):
            self._cut_torn_line()
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), self._path)

    def add(self, run: Run) -> None:
        """Know a run from now on; its own process writes `spawned`."""
        self.runs[run.id] = run

    def started(self, run: Run) -> None:
        """Write which process a run is that was `starting`."""
        self._settle("spawned", run=run.id, pid=run.pid, start_ticks=run.start_ticks)

    def ready(self, run: Run) -> None:
        """Keep that a run has said that it is ready."""
        run.ready = True
        self._settle("ready", run=run.id)

    def failed(self, run: Run) -> None:
        """Forget a run that could not execute."""
        self.runs.pop(run.id, None)
        self.never(run.id)

    def never(self, run: str) -> None:
        """Write that a run could not be started."""
        self._settle("failed", run=run)

    def exited(self, run: Run, outcome: dict[str, Any]) -> None:
        """Keep how a run ended."""
        run.exit = outcome
        self._settle("exited", run=run.id, exit=outcome)

    def taken(self, run: Run) -> None:
        """Forget a run that ended and that llmosd has taken."""
        self.runs.pop(run.id, None)
        self._settle("taken", run=run.id)

    def compact(self) -> None:
        """Rewrite the file with what is known now, where the disk has room."""
        fresh = f"{self._path}.new"
        records = (run.record() for run in self.runs.values())
        data = _line("boot", {"boot": self._boot}) + b"".join(_line("spawned", record) for record in records)
        try:
            file = _open(fresh, os.O_TRUNC)
            try:
                if os.write(file, data) != len(data):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), fresh)
                os.rename(fresh, self._path)
            except OSError:
                os.close(file)
                os.unlink(fresh)
                raise
        except OSError as error:
            print(f"the ledger could not be shortened: {error}", file=sys.stderr, flush=True)
        else:
            os.close(self._file)
            self._file = file
            self._stale = False
        self._compact_at = max(COMPACT_BYTES, 2 * os.fstat(self._file).st_size)

    def _settle(self, event: str, **fields: Any) -> None:
        """Write what has happened already; a full disk must not stop the reaper, so then memory alone knows for now."""
        try:
            if not self._stale:
                self.append(event, **fields)
        except OSError as error:
            print(f"the ledger could not be written: {error}", file=sys.stderr, flush=True)
            self._stale = True
        if self._stale or os.fstat(self._file).st_size > self._compact_at:
            self.compact()

    def _replay(self) -> None:
        self._cut_torn_line()
        boot = self._boot
        begun: dict[str, dict[str, Any]] = {}
        for line in _contents(self._path).splitlines():
            try:
                event = json.loads(line)
                match event["event"]:
                    case "boot":
                        boot = event["boot"]
                    case "starting":
                        begun[event["run"]] = event
                    case "spawned":
                        self.runs[event["run"]] = Run({**begun.pop(event["run"], {}), **event})
                    case "ready" if event["run"] in self.runs:
                        self.runs[event["run"]].ready = True
                    case "exited" if event["run"] in self.runs:
                        self.runs[event["run"]].exit = event["exit"]
                    case "failed" | "taken":
                        begun.pop(event["run"], None)
                        self.runs.pop(event["run"], None)
            except (ValueError, LookupError, TypeError) as error:
                print(f"a line of the ledger is not understood: {error!r}: {line[:200]!r}", file=sys.stderr)
        for name, record in begun.items():
            self.runs[name] = _found(record, boot == self._boot)
        if boot != self._boot:
            for run in self.runs.values():
                run.exit = run.exit or unknown_exit(reboot=True)

    def _cut_torn_line(self) -> None:
        """Drop an end without a newline: a write() that a full disk or a death cut short."""
        os.ftruncate(self._file, _contents(self._path).rfind(b"\n") + 1)


def _found(record: dict[str, Any], same_boot: bool) -> Run:
    """A run of which nobody has written the process: that which bears its mark, or, where none does, it has ended."""
    main = members.oldest_marked(record["run"], record["started_at"]) if same_boot else None
    found = {"pid": main.pid, "start_ticks": main.start_ticks} if main else {"pid": 0, "start_ticks": 0}
    return Run({**record, **found, "exit": None if main else unknown_exit()})


def boot_id() -> str:
    """What the kernel calls this boot."""
    return _contents("/proc/sys/kernel/random/boot_id").decode().strip()


def _contents(path: str) -> bytes:
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_CLOEXEC), "rb") as file:
        return file.read()


def _open(path: str, flags: int = 0) -> int:
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | flags, 0o600)


def _line(event: str, fields: dict[str, Any]) -> bytes:
    return json.dumps({"event": event, **fields}, separators=(",", ":")).encode() + b"\n"
