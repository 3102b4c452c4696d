"""Levers on every thread of a process: niceness with that of the session, I/O priority, CPUs, timer slack, time slice."""

import ctypes
import os
import struct
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import psutil

from llmos.errors import BadInput, Forbidden, LlmosError, NotFound, Unsupported
from llmos.machine import priority
from llmos.machine.identity import Identity, all_stats
from llmos.scheduler.actuators.actuator import Actuator, Change, Subject

_SCHED_SETATTR = {"x86_64": 314, "aarch64": 274, "riscv64": 274, "loongarch64": 274}
"""Number of sched_setattr(2) by machine, for which glibc before 2.41 has no function; sched_getattr is the next one."""
_SCHED_ATTR = struct.Struct("=IIQiIQQQ")
"""struct sched_attr of include/uapi/linux/sched/types.h as first published: size … nice, priority, runtime …"""
_RUNTIME = 5  # its place in that
_GONE = (ProcessLookupError, psutil.NoSuchProcess, FileNotFoundError)


class ThreadActuator(Actuator[Any]):
    """What the levers on threads share: each thread is read before it is set, and put back to that."""

    @abstractmethod
    def _get(self, tid: int) -> Any:
        """What the thread stands at, as JSON has it."""

    @abstractmethod
    def _put(self, tid: int, setting: Any) -> None:
        """Move it."""

    def probe(self) -> str:
        try:
            self._put(os.getpid(), self._get(os.getpid()))  # to where it stands
        except (OSError, psutil.Error, Unsupported) as error:
            return f"{self.name} cannot be set here: {error}"
        return ""

    def read(self, subject: Subject) -> Any:
        for identity in subject.processes:
            with suppress(NotFound, *_GONE), self._translated(identity):
                identity.check()
                return self._get(identity.pid)
        raise NotFound("none of the processes lives any more")

    def foreseen(self, subject: Subject, setting: Any) -> Change:
        change = super().foreseen(subject, setting)
        threads = {identity.as_text(): {str(identity.pid): change.before} for identity in subject.processes}
        return replace(change, kept={"threads": threads})

    def set(self, subject: Subject, setting: Any) -> Change:
        before = self.read(subject)
        for identity in subject.processes:  # find out before anything is moved whose they are
            with suppress(NotFound, *_GONE), self._translated(identity):
                identity.check()
                self._put(identity.pid, self._get(identity.pid))
        kept: dict[str, dict[str, Any]] = {}
        change = Change(self.name, before, setting, subject.group, {"threads": kept})
        try:
            for identity in subject.processes:
                with suppress(NotFound):
                    self._set_process(identity, setting, kept)
        except LlmosError:
            with suppress(LlmosError):
                self.undo(change)
            raise
        return change

    def undo(self, change: Change) -> None:
        refused: list[Forbidden] = []
        for text, held in change.kept["threads"].items():
            identity = Identity.from_text(text)
            usual = held.get(str(identity.pid), next(iter(held.values())))  # of threads born since
            try:
                self._each_thread(identity, lambda tid, held=held, usual=usual: held.get(str(tid), usual))
            except NotFound:
                continue
            except Forbidden as error:  # the others go back all the same
                refused.append(error)
        if refused:
            raise refused[0]

    def _set_process(self, identity: Identity, setting: Any, kept: dict[str, dict[str, Any]]) -> None:
        held: dict[str, Any] = {}

        def wanted(tid: int) -> Any:
            held[str(tid)] = self._get(tid)
            kept[identity.as_text()] = held
            return setting

        self._each_thread(identity, wanted)

    def _each_thread(self, identity: Identity, wanted: Any) -> None:
        """Move it for every thread, and those that start while it is done."""
        done: set[int] = set()
        while new := priority.thread_ids(identity) - done:
            identity.check()
            for tid in sorted(new):
                with suppress(*_GONE), self._translated(identity):
                    self._put(tid, wanted(tid))
            done |= new
        identity.check()

    @contextmanager
    def _translated(self, identity: Identity) -> Iterator[None]:
        try:
            yield
        except (PermissionError, psutil.AccessDenied):
            raise Forbidden(
                f"may not set the {self.name} of process {identity.pid}: it is another user's, or the setting takes a "
                "privilege; run llmosd as root or give it CAP_SYS_NICE",
                pid=identity.pid,
            ) from None


class Nice(ThreadActuator):
    """Niceness; where autogroup is on, also that of a session that is wholly the subject's, for only that counts then."""

    name: ClassVar[str] = "nice"
    unit: ClassVar[str] = "-20 to 19"

    def foreseen(self, subject: Subject, setting: int) -> Change:
        change = super().foreseen(subject, setting)
        main = subject.processes[0]
        autogroup = priority.autogroup_nice(main)
        change.kept["sessions"] = {} if autogroup is None else {main.as_text(): autogroup}
        return change

    def set(self, subject: Subject, setting: int) -> Change:
        change = super().set(subject, setting)
        sessions: dict[str, int] = {}
        change.kept["sessions"] = sessions
        try:
            for identity in self._whole_sessions(subject):
                with suppress(NotFound):
                    before = priority.autogroup_nice(identity)
                    if before is not None:
                        sessions[identity.as_text()] = before
                        priority.set_autogroup_nice(identity, setting)
        except LlmosError:
            with suppress(LlmosError):
                self.undo(change)
            raise
        return change

    def undo(self, change: Change) -> None:
        super().undo(change)
        for text, nice in change.kept.get("sessions", {}).items():
            identity = Identity.from_text(text)
            if identity.alive():
                priority.set_autogroup_nice(identity, nice)

    def _get(self, tid: int) -> int:
        return os.getpriority(os.PRIO_PROCESS, tid)

    def _put(self, tid: int, setting: int) -> None:
        os.setpriority(os.PRIO_PROCESS, tid, setting)

    @staticmethod
    def _whole_sessions(subject: Subject) -> list[Identity]:
        """One process of each session that has no other process than the subject's."""
        mine = {identity.pid: identity for identity in subject.processes}
        sessions: dict[int, list[int]] = {}
        for stat in all_stats():
            if stat.alive:
                sessions.setdefault(stat.session, []).append(stat.pid)
        return [mine[pids[0]] for session, pids in sessions.items() if session and all(pid in mine for pid in pids)]


class IoPriority(ThreadActuator):
    """I/O class and level, which count on disks that BFQ or mq-deadline schedules."""

    name: ClassVar[str] = "ionice"
    unit: ClassVar[str] = "class (0 none, 1 realtime, 2 best effort, 3 idle) and level (0 highest to 7)"

    def _get(self, tid: int) -> list[int]:
        kind, level = psutil.Process(tid).ionice()
        return [int(kind), int(level)]

    def _put(self, tid: int, setting: list[int]) -> None:
        kind, level = setting
        psutil.Process(tid).ionice(kind, level or None)


class Affinity(ThreadActuator):
    """The CPUs that a thread may run on."""

    name: ClassVar[str] = "affinity"
    unit: ClassVar[str] = "numbers of CPUs"

    def _get(self, tid: int) -> list[int]:
        return sorted(os.sched_getaffinity(tid))

    def _put(self, tid: int, setting: list[int]) -> None:
        try:
            os.sched_setaffinity(tid, setting)
        except (OSError, ValueError) as error:
            if isinstance(error, ValueError) or not isinstance(error, (PermissionError, ProcessLookupError)):
                raise BadInput(f"none of the CPUs {setting} is there for thread {tid}", field="affinity") from None
            raise


class TimerSlack(ThreadActuator):
    """By how much the kernel may put off a thread's timers, to wake up less often."""

    name: ClassVar[str] = "timer slack"
    unit: ClassVar[str] = "nanoseconds"

    def _get(self, tid: int) -> int:
        return int(Path(f"/proc/{tid}/timerslack_ns").read_text(encoding="utf-8"))

    def _put(self, tid: int, setting: int) -> None:
        Path(f"/proc/{tid}/timerslack_ns").write_text(str(setting), encoding="utf-8")


class Slice(ThreadActuator):
    """How long a thread runs before another of its weight does (EEVDF, Linux 6.12); short ones get their turn sooner."""

    name: ClassVar[str] = "slice"
    unit: ClassVar[str] = "nanoseconds, 100000 to 100000000; 0 is the kernel's own"

    def __init__(self) -> None:
        self._number = _SCHED_SETATTR.get(os.uname().machine)
        self._libc = ctypes.CDLL(None, use_errno=True)

    def probe(self) -> str:
        if self._number is None:
            return f"slice cannot be set on {os.uname().machine}"
        if self._attributes(0)[_RUNTIME] == 0:
            return "slice cannot be set by this kernel; it takes Linux 6.12 or newer"
        return super().probe()

    def _get(self, tid: int) -> int:
        # A slice of the kernel's own is not to be told from one that was set to just that; nor does it matter.
        runtime = int(self._attributes(tid)[_RUNTIME])
        return 0 if runtime == self._attributes(0)[_RUNTIME] else runtime

    def _put(self, tid: int, setting: int) -> None:
        attributes = list(self._attributes(tid))
        attributes[_RUNTIME] = setting
        self._call(0, tid, _SCHED_ATTR.pack(*attributes), 0)

    def _attributes(self, tid: int) -> tuple[Any, ...]:
        buffer = ctypes.create_string_buffer(_SCHED_ATTR.size)
        self._call(1, tid, buffer, _SCHED_ATTR.size, 0)
        return _SCHED_ATTR.unpack(buffer.raw)

    def _call(self, which: int, tid: int, *arguments: Any) -> None:
        if self._number is None:
            raise Unsupported(self.probe())
        if self._libc.syscall(self._number + which, tid, *arguments) < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
