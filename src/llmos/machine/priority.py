"""How much a process counts against others for CPU and disk: scheduling policy, niceness, I/O priority, autogroup.

Niceness is a thread's (sched(7)), so every thread is set. Where autogroup is on, niceness weighs only inside a session
and the session's own niceness weighs between sessions, so that is set too. Inside a cgroup with CPU weight, that weight
(`Level.weight`) is what counts against the outside. Synchronous; llmosd calls it in threads.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import psutil
from tenacity import RetryCallState, retry, retry_if_exception_type, stop_after_delay, wait_fixed

from llmos.errors import BadInput, Conflict, Forbidden, LlmosError, NotFound, Unavailable
from llmos.machine.identity import Identity, all_stats

_AUTOGROUP_ENABLED = Path("/proc/sys/kernel/sched_autogroup_enabled")
_REMEDY = "run llmosd as root or give it CAP_SYS_NICE (AmbientCapabilities=CAP_SYS_NICE in its systemd unit)"
_SCHED_DEADLINE = 6  # include/uapi/linux/sched.h; Python has no name for it
_NAMED = 5  # bystanders that a note names


@dataclass(frozen=True, slots=True)
class Level:
    """One word of the plan language in the kernel's terms; `weight` is for `Cgroups.set_weight`."""

    policy: int
    nice: int
    io_class: int
    io_level: int
    weight: int


_BEST_EFFORT, _IO_IDLE = int(psutil.IOPRIO_CLASS_BE), int(psutil.IOPRIO_CLASS_IDLE)
LEVELS = {
    "idle": Level(os.SCHED_IDLE, 19, _IO_IDLE, 0, 1),
    "low": Level(os.SCHED_OTHER, 10, _BEST_EFFORT, 7, 10),
    "normal": Level(os.SCHED_OTHER, 0, _BEST_EFFORT, 4, 100),
    "high": Level(os.SCHED_OTHER, -5, _BEST_EFFORT, 0, 300),
}


@dataclass(frozen=True, slots=True)
class ThreadPriority:
    """What one thread has; `policy` with the reset-on-fork flag, `realtime` is 0 outside SCHED_FIFO and SCHED_RR."""

    policy: int
    realtime: int
    nice: int
    io_class: int
    io_level: int


@dataclass(frozen=True, slots=True)
class Priority:
    """All that `restore` needs: each thread by its id, and the niceness of the session's autogroup if there is one."""

    threads: dict[int, ThreadPriority]
    autogroup: int | None

    def as_json(self) -> dict[str, Any]:
        """For the journal."""
        return {"threads": {str(tid): asdict(held) for tid, held in self.threads.items()}, "autogroup": self.autogroup}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """What `as_json` wrote."""
        threads = {int(tid): ThreadPriority(**held) for tid, held in data["threads"].items()}
        return cls(threads, data["autogroup"])


def get(identity: Identity) -> Priority:
    """What the process has now. Raises NotFound."""
    identity.check()
    threads: dict[int, ThreadPriority] = {}
    for tid in thread_ids(identity):
        with suppress(ProcessLookupError, psutil.NoSuchProcess):
            threads[tid] = _get_thread(tid)
    if not threads:
        raise NotFound(f"process {identity.pid} has ended", pid=identity.pid)
    return Priority(threads, autogroup_nice(identity))


def apply(identities: Iterable[Identity], word: str) -> list[str]:
    """Give the processes the priority idle, low, normal or high; those that ended are left out.

    Returns notes: whom else it touches. Raises BadInput, NotFound when none lives, Conflict for a deadline task, and
    Forbidden, after taking back what was done.
    """
    if word not in LEVELS:
        raise BadInput(f"{word!r} is no priority; say {', '.join(LEVELS)}", field="priority")
    level = LEVELS[word]
    before: dict[Identity, Priority] = {}
    for identity in identities:
        with suppress(NotFound):
            before[identity] = get(identity)
            _check(identity, before[identity])
    if not before:
        raise NotFound("none of the processes lives any more")
    touched: list[Identity] = []
    try:
        for identity, held in before.items():
            touched.append(identity)
            with suppress(NotFound):
                _set(identity, lambda tid, held=held: _at(level, held.threads.get(tid)))  # type: ignore[misc]
                if held.autogroup is not None:
                    set_autogroup_nice(identity, level.nice)
    except LlmosError as error:
        stuck = [str(identity.pid) for identity in reversed(touched) if not _put_back(identity, before[identity])]
        if stuck:
            raise type(error)(f"{error.message}; and process {', '.join(stuck)} stays changed", **error.data) from None
        raise
    return _notes(identity for identity, held in before.items() if held.autogroup is not None)


def restore(identity: Identity, state: Priority) -> None:
    """Bring every thread back to what `get` found; threads born since get what the first one had.

    Raises NotFound, Forbidden.
    """
    identity.check()
    leader = state.threads.get(identity.pid) or next(iter(state.threads.values()))
    _set(identity, lambda tid: state.threads.get(tid, leader))
    if state.autogroup is not None:
        set_autogroup_nice(identity, state.autogroup)


def _at(level: Level, held: ThreadPriority | None) -> ThreadPriority:
    flag = held.policy & os.SCHED_RESET_ON_FORK if held else 0  # the thread's own wish, and not ours to clear
    return ThreadPriority(level.policy | flag, 0, level.nice, level.io_class, level.io_level)


def _put_back(identity: Identity, state: Priority) -> bool:
    try:
        restore(identity, state)
    except NotFound:
        return True
    except LlmosError:
        return False
    return True


def thread_ids(identity: Identity) -> set[int]:
    """The process's threads, that with its own pid among them; none when it has ended."""
    try:
        return {int(tid) for tid in os.listdir(f"/proc/{identity.pid}/task")}
    except OSError:
        return set()


def _get_thread(tid: int) -> ThreadPriority:
    io_class, io_level = psutil.Process(tid).ionice()
    return ThreadPriority(
        policy=os.sched_getscheduler(tid),
        realtime=os.sched_getparam(tid).sched_priority,
        nice=os.getpriority(os.PRIO_PROCESS, tid),
        io_class=int(io_class),
        io_level=int(io_level),
    )


def _check(identity: Identity, held: Priority) -> None:
    """Find out what can be before anything is changed: a deadline task, or somebody else's process."""
    if any(thread.policy & ~os.SCHED_RESET_ON_FORK == _SCHED_DEADLINE for thread in held.threads.values()):
        raise Conflict(
            f"process {identity.pid} runs under SCHED_DEADLINE, whose terms cannot be given back; set it with chrt",
            pid=identity.pid,
        )
    for tid, thread in held.threads.items():
        with suppress(ProcessLookupError), _translated(identity):
            os.setpriority(os.PRIO_PROCESS, tid, thread.nice)


def _set(identity: Identity, wanted: Callable[[int], ThreadPriority]) -> None:
    """Set every thread, and those that start while it is done."""
    done: set[int] = set()
    while new := thread_ids(identity) - done:
        identity.check()
        for tid in sorted(new):
            thread = wanted(tid)
            with suppress(ProcessLookupError, psutil.NoSuchProcess), _translated(identity):
                os.sched_setscheduler(tid, thread.policy, os.sched_param(thread.realtime))
                os.setpriority(os.PRIO_PROCESS, tid, thread.nice)
                psutil.Process(tid).ionice(thread.io_class, thread.io_level or None)
        done |= new
    identity.check()


@contextmanager
def _translated(identity: Identity) -> Iterator[None]:
    """Let the kernel's refusal be Forbidden."""
    try:
        yield
    except (PermissionError, psutil.AccessDenied):
        raise Forbidden(
            f"may not give process {identity.pid} this priority: raising one, or touching another user's process, "
            f"needs a privilege; {_REMEDY}",
            pid=identity.pid,
        ) from None


def autogroup_nice(identity: Identity) -> int | None:
    """The niceness of the session's autogroup: `/autogroup-25 nice 0`; None where autogroup is off or does not hold."""
    try:
        enabled = _AUTOGROUP_ENABLED.read_text(encoding="utf-8").strip() == "1"
        words = Path(f"/proc/{identity.pid}/autogroup").read_text(encoding="utf-8").split()
    except OSError:
        return None
    return int(words[-1]) if enabled and words else None


def _too_often(_: RetryCallState) -> None:
    raise Unavailable("the kernel takes no further change of an autogroup's niceness just now; try again")


@retry(
    retry=retry_if_exception_type(BlockingIOError),  # without CAP_SYS_ADMIN the kernel takes one change in 100 ms
    wait=wait_fixed(0.05),
    stop=stop_after_delay(2),
    retry_error_callback=_too_often,
)
def set_autogroup_nice(identity: Identity, nice: int) -> None:
    """Set the niceness of the whole session. Raises Forbidden, Unavailable."""
    with suppress(FileNotFoundError, ProcessLookupError), _translated(identity):
        Path(f"/proc/{identity.pid}/autogroup").write_text(str(nice), encoding="utf-8")


def _notes(identities: Iterable[Identity]) -> list[str]:
    pids = {identity.pid for identity in identities}
    stats = [stat for stat in all_stats() if stat.alive] if pids else []
    sessions = {stat.session for stat in stats if stat.pid in pids}
    notes = []
    for session in sorted(sessions):
        others = [f"{stat.name} ({stat.pid})" for stat in stats if stat.session == session and stat.pid not in pids]
        if others:
            more = f" and {len(others) - _NAMED} more" if len(others) > _NAMED else ""
            notes.append(f"the same session's weight holds for {', '.join(others[:_NAMED])}{more} as well")
    return notes
