"""What is never slowed down: what the machine needs, what people work with at a terminal, and what is not ours.

Read from /proc anew each time; called in a thread.
"""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from llmos.machine import procfs

_SHELLS = frozenset(["bash", "zsh", "sh", "dash", "fish", "ksh", "tmux: server", "screen", "mosh-server"])


@dataclass(frozen=True, slots=True)
class _Seen:
    pid: int
    name: str
    parent: int
    group: int
    session: int
    terminal: int
    foreground: int
    kernel_thread: bool


class Protection:
    """Who is protected now, and why: one look at all processes."""

    def __init__(self, needed: Collection[str], own: Collection[int], uid: int | None) -> None:
        """`needed` are program names, `own` llmos's pids; only processes of `uid` may be slowed down, None is of all."""
        self._uid = uid
        seen = {each.pid: each for pid in procfs.pids() if (each := _look(pid)) is not None}
        self.reasons: dict[int, str] = {}
        ancestors: list[tuple[int, str]] = [(pid, "llmos itself") for pid in own]
        for each in seen.values():
            if each.kernel_thread:
                self.reasons[each.pid] = "a thread of the kernel"
            elif each.pid == 1:
                self.reasons[each.pid] = "the init of this machine"
            elif each.name in needed:
                self.reasons[each.pid] = "something that this machine needs"
            elif each.terminal and each.foreground == each.group:
                ancestors.append((each.pid, "in the foreground of a terminal"))
            elif each.name in _SHELLS and each.session == each.pid:
                self.reasons[each.pid] = "a shell that a session hangs on"
        for pid, why in ancestors:
            self.reasons.setdefault(pid, why)
            step = seen.get(pid)
            while step is not None and (step := seen.get(step.parent)) is not None:
                if step.pid in self.reasons:
                    break
                self.reasons[step.pid] = f"above process {pid}, which is {why}"

    def why(self, pid: int) -> str:
        """Why a process is protected; empty where it is not."""
        if reason := self.reasons.get(pid):
            return reason
        uid = procfs.read_uid(pid)
        if uid is None:
            return "gone, or not ours to see"
        return f"a process of uid {uid}" if self._uid is not None and uid != self._uid else ""


def _look(pid: int) -> _Seen | None:
    try:
        raw = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    opening, closing = raw.index(b"("), raw.rindex(b")")
    field = raw[closing + 2 :].split()
    return _Seen(
        pid=pid,
        name=procfs.decode(raw[opening + 1 : closing]),
        parent=int(field[1]),
        group=int(field[2]),
        session=int(field[3]),
        terminal=int(field[4]),
        foreground=int(field[5]),
        kernel_thread=bool(int(field[6]) & 0x00200000),
    )
