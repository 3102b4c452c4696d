"""The reaper: the parent of every managed process, a Linux subreaper that outlives llmosd.

It starts, signals and waits for processes, and keeps each exit in its ledger until llmosd has taken it. It speaks JSON,
one object a line, on STATE_DIR/reaper.sock; the newest connection is llmosd, an older one is told `replaced` and
dropped.

    {"id": 1, "op": "spawn", "run": …, "argv": […], "env": {…}, "cwd", "stdout", "stderr", "umask", "nice", "ioclass",
     "rlimits", "cgroups", "user", "env_files", "notify", "label"}  → {"id": 1, "ok": {"run", "pid", "start_ticks"}}
    {"id": 2, "op": "signal", "run", "signal", "scope": "main" | "tree"}  → {"pids": […], "denied": […]}
    {"id": 3, "op": "members", "run"}                  → {"members": [{"pid", "start_ticks"}, …]}
    {"id": 4, "op": "list"}                            → {"pid", "runs": […]}
    {"id": 5, "op": "take", "runs": […]}               → {"taken": […]}
    {"id": 6, "op": "ping"}                            → {"pid", "version"}
    {"id": 7, "op": "shutdown", "force": false}        → {}
    failures                                           → {"id": 1, "error": {"errno", "stage", "message"}}
    pushed: {"event": "exit", "run", "pid", "exit": {…}}, {"event": "ready", "run"} and {"event": "replaced"}

One thread, driven by epoll alone, standard library only and little of it, for it is always in memory.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import json
import os
import resource
import signal
import socket
import sys
import time

from llmos import __version__
from llmos.kernel import members
from llmos.kernel.reaper_child import HANDLED, BadRequest, Launch
from llmos.kernel.reaper_ledger import Ledger, Run, unknown_exit
from llmos.kernel.reaper_loop import Client, Loop, Refused
from llmos.kernel.reaper_notify import NotifySockets
from llmos.kernel.reaper_spawn import Spawner
from llmos.kernel.reaper_trees import Trees

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

SOCKET = "reaper.sock"
LOCK = "reaper.lock"
LEDGER = "reaper.ledger"
LOG = "reaper.log"
SPARE_FILES = 16
"""Descriptors that runs may not take, so that connections and /proc can still be opened."""
PR_SET_CHILD_SUBREAPER = 36


class Starting:
    """A forked run whose exec has not succeeded or failed yet, and the requests that wait for that."""

    def __init__(self, run: Run, pipe: int) -> None:
        self.run = run
        self.pipe = pipe
        self.waiting: list[tuple[Client, Any]] = []


class Reaper:
    """All state; `serve` runs until the shutdown."""

    def __init__(self) -> None:
        """Take over the state directory, which is the current one: read the ledger, find what still runs, listen.

        Raises:
            OSError: a file or the socket could not be made.
        """
        self._loop = Loop()
        self._client: Client | None = None
        self._children: dict[int, Run] = {}
        self._trees = Trees(self._loop, self._children)
        self._starting: dict[str, Starting] = {}
        self._leaving = False
        self._refusing = False
        self._umask = os.umask(0o077)
        self._files = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (self._files[1], self._files[1]))  # each run is held by a pidfd
        self._wake_on_signals()
        self._spawner = Spawner(self._umask, self._files, self._files[1] - SPARE_FILES)
        self._ledger = Ledger(LEDGER)
        self._notify = NotifySockets(self._loop, self._said_ready)
        for run in self._ledger.runs.values():
            if run.exit is None:
                self._adopt(run)
        self._trees.sweep()
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        if os.path.lexists(SOCKET):
            os.unlink(SOCKET)
        self._listener.bind(SOCKET)
        os.chmod(SOCKET, 0o600)
        self._listener.listen(16)
        self._loop.watch(self._listener.fileno(), self._accept)

    def serve(self) -> None:
        """Work until told to leave."""
        while not self._leaving or any(run.exit is None for run in self._ledger.runs.values()):
            try:
                self._loop.step()
            except Exception as error:
                # Whatever it was, the runs need their parent; the pause bounds the log if it comes again and again.
                _report(error)
                time.sleep(0.1)
        os.unlink(SOCKET)

    def request(self, client: Client, line: bytes) -> None:
        """Answer one line."""
        number = None
        try:
            message = json.loads(line)
            if not isinstance(message, dict):
                raise BadRequest("a request is a JSON object")
            number = message.get("id")
            operation = OPERATIONS.get(str(message.get("op")))
            if operation is None:
                raise BadRequest(f"there is no op {message.get('op')!r}, but {', '.join(OPERATIONS)}")
            answer = operation(self, client, message)
            if answer is not None:
                client.send({"id": number, "ok": answer})
        except Refused as refused:
            client.send({"id": number, "error": refused.error})
        except (BadRequest, ValueError, RecursionError) as error:
            client.send({"id": number, "error": Refused(errno.EINVAL, "request", str(error)).error})
        except Exception as error:
            _report(error)
            client.send({"id": number, "error": Refused(errno.EIO, "reaper", repr(error)).error})

    # Operations

    def _spawn(self, client: Client, message: dict[str, Any]) -> dict[str, Any] | None:
        name = message.get("run")
        if not isinstance(name, str) or not name or "\0" in name:
            raise BadRequest("run must be an id of the run")
        if name not in self._ledger.runs:
            self._start(name, message)
        if name in self._starting:
            self._starting[name].waiting.append((client, message.get("id")))
            return None
        return _started(self._ledger.runs[name])

    def _start(self, name: str, message: dict[str, Any]) -> None:
        launch = Launch(message)
        launch.env[members.RUN_VARIABLE] = name.encode("utf-8", "surrogateescape")
        record = {"run": name, "started_at": time.time(), "cgroups": launch.cgroups, "label": message.get("label")}
        if message.get("notify") is True:
            record["notify"] = True
            self._listen(name)
        try:
            self._launch(name, launch, record)
        except BaseException:
            self._notify.forget(name)
            raise

    def _launch(self, name: str, launch: Launch, record: dict[str, Any]) -> None:
        if not self._spawner.fits(launch):
            self._fork(name, launch, record)
            return
        try:
            self._ledger.append("starting", **record)
        except OSError as error:
            raise Refused(error.errno or errno.EIO, "ledger", error.strerror) from error
        try:
            pid = self._spawner.start(name, record["started_at"], launch)
        except Refused:
            self._ledger.never(name)
            raise
        self._ledger.started(self._take_child(pid, record))

    def _listen(self, name: str) -> None:
        try:
            self._notify.listen(name)
        except OSError as error:
            raise Refused(error.errno or errno.EIO, "notify", error.strerror) from error

    def _said_ready(self, name: str, sender: int) -> None:
        """READY=1 was sent to the socket of a run; only its own processes are believed."""
        run = self._ledger.runs.get(name)
        if run is None or run.ready:
            return
        if not (sender == run.pid or any(sender == process.pid for process in self._trees.living(run))):
            return
        self._ledger.ready(run)
        if self._client:
            self._client.send({"event": "ready", "run": name})

    def _fork(self, name: str, launch: Launch, record: dict[str, Any]) -> None:
        reaper = os.getpid()

        def note() -> None:
            me = members.read_process(os.getpid())
            assert me
            self._ledger.append("spawned", **record, pid=me.pid, start_ticks=me.start_ticks)
            members.mark(name, record["started_at"])
            # Had the reaper died before this was written, its successor might not have read it.
            if os.getppid() != reaper:
                os._exit(127)

        try:
            ours, theirs = os.pipe()
        except OSError as error:
            raise Refused(error.errno or errno.EIO, "fork", error.strerror) from error
        if theirs > self._files[1] - SPARE_FILES:
            os.close(ours)
            os.close(theirs)
            raise Refused(errno.EMFILE, "fork")
        pid = -1
        signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED)
        try:
            pid = os.fork()
            if pid == 0:
                launch.execute(theirs, note, self._loop.watched, self._umask, self._files)
        except OSError as error:
            os.close(ours)
            raise Refused(error.errno or errno.EIO, "fork", error.strerror) from error
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, HANDLED)
            os.close(theirs)
        starting = self._starting[name] = Starting(self._take_child(pid, record), ours)
        self._loop.watch(ours, lambda events: self._started_or_failed(starting))

    def _take_child(self, pid: int, record: dict[str, Any]) -> Run:
        child = members.read_process(pid)
        assert child, "a child that was not waited for is there"
        run = Run({**record, "pid": pid, "start_ticks": child.start_ticks})
        run.pidfd = os.pidfd_open(pid)  # what its start needed and has closed left room for it
        self._children[pid] = run
        self._trees.add(run)
        self._ledger.add(run)
        return run

    def _started_or_failed(self, starting: Starting) -> None:
        """The pipe of a new child closed, empty by its exec or with what went wrong."""
        run = starting.run
        reason = os.read(starting.pipe, 4096)
        self._loop.unwatch(starting.pipe)
        os.close(starting.pipe)
        del self._starting[run.id]
        answer: dict[str, Any] = {"ok": _started(run)}
        # Where nobody is left who could be told, its exit code of 127 tells: a successor may know the run from `list`.
        if reason and any(client.open for client, _ in starting.waiting):
            del self._children[run.pid]
            os.close(run.pidfd)
            self._notify.forget(run.id)
            self._trees.gone(run)
            self._ledger.failed(run)
            number, stage, text = reason.decode("utf-8", "replace").split(" ", 2)
            answer = {"error": Refused(int(number), stage, text).error}
        for client, request in starting.waiting:
            client.send({"id": request, **answer})

    def _signal(self, client: Client, message: dict[str, Any]) -> dict[str, Any]:
        run = self._run(message)
        number = message.get("signal")
        if type(number) is not int or not 0 <= number < signal.NSIG:
            raise BadRequest("signal must be the number of a signal")
        if message.get("scope") == "tree":
            return self._trees.signal(run, number)
        if message.get("scope") != "main":
            raise BadRequest("scope must be main or tree")
        if run.exit is not None:
            raise Refused(errno.ESRCH, "signal")
        try:
            signal.pidfd_send_signal(run.pidfd, number)
        except PermissionError:
            return {"pids": [], "denied": [run.pid]}
        except ProcessLookupError:
            raise Refused(errno.ESRCH, "signal") from None
        return {"pids": [run.pid], "denied": []}

    def _members(self, client: Client, message: dict[str, Any]) -> dict[str, Any]:
        processes = self._trees.living(self._run(message))
        return {"members": [{"pid": process.pid, "start_ticks": process.start_ticks} for process in processes]}

    def _list(self, client: Client, message: dict[str, Any]) -> dict[str, Any]:
        return {"pid": os.getpid(), "runs": [run.record() for run in self._ledger.runs.values()]}

    def _take(self, client: Client, message: dict[str, Any]) -> dict[str, Any]:
        names = message.get("runs")
        if not isinstance(names, list):
            raise BadRequest("runs must be a list of ids of runs")
        known = (self._ledger.runs.get(name) for name in names if isinstance(name, str))
        ended = [run for run in known if run and run.exit is not None]
        for run in ended:
            self._ledger.taken(run)
        return {"taken": [run.id for run in ended]}

    def _ping(self, client: Client, message: dict[str, Any]) -> dict[str, Any]:
        return {"pid": os.getpid(), "version": __version__}

    def _shutdown(self, client: Client, message: dict[str, Any]) -> dict[str, Any]:
        running = sum(run.exit is None for run in self._ledger.runs.values())
        if running:
            raise Refused(errno.EBUSY, "shutdown", f"{running} runs have not ended")
        if self._ledger.runs and message.get("force") is not True:
            raise Refused(errno.EBUSY, "shutdown", f"{len(self._ledger.runs)} exits are not taken")
        self._leaving = True
        return {}

    def _run(self, message: dict[str, Any]) -> Run:
        name = message.get("run")
        run = self._ledger.runs.get(name) if isinstance(name, str) else None
        if run is None:
            raise Refused(errno.ENOENT, "run", f"there is no run {name!r}")
        return run

    # Exits

    def _wake_on_signals(self) -> None:
        ours, theirs = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(theirs, warn_on_full_buffer=False)
        for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP, signal.SIGPIPE, signal.SIGXFSZ}:
            signal.signal(number, signal.SIG_DFL)  # what llmosd ignored must not be ignored by every run
        for number in HANDLED:
            signal.signal(number, lambda number, frame: None)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        self._loop.watch(ours, lambda events: self._signalled(os.read(ours, 4096)))

    def _signalled(self, numbers: bytes) -> None:
        if signal.SIGTERM in numbers:
            self._leaving = True  # as soon as nothing runs any more
        self._reap()
        self._trees.sweep()

    def _reap(self) -> None:
        """Note how each ended child ended, and only then let go of it."""
        while True:
            try:
                ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if ended is None:
                return
            run = self._children.get(ended.si_pid)
            if run and run.id in self._starting:
                self._started_or_failed(self._starting[run.id])
                run = self._children.get(ended.si_pid)
            if run is None:  # an orphan, or a child that could not execute
                os.waitpid(ended.si_pid, 0)
                self._trees.orphan_ended(ended.si_pid)
                continue
            killed = ended.si_code != os.CLD_EXITED
            outcome: dict[str, Any] = {
                "code": None if killed else ended.si_status,
                "signal": ended.si_status if killed else None,
                "core": ended.si_code == os.CLD_DUMPED,
                "at": time.time(),
                "cpu_seconds": None,
                "max_rss_bytes": None,
            }
            self._ledger.exited(run, outcome)
            _, _, used = os.wait4(run.pid, 0)
            del self._children[run.pid]
            outcome |= {"cpu_seconds": used.ru_utime + used.ru_stime, "max_rss_bytes": used.ru_maxrss * 1024}
            self._ended(run, outcome)

    def _ended(self, run: Run, outcome: dict[str, Any]) -> None:
        os.close(run.pidfd)
        self._notify.forget(run.id)
        self._trees.ended(run)
        self._ledger.exited(run, outcome)
        if self._client:
            self._client.send({"event": "exit", "run": run.id, "pid": run.pid, "exit": outcome})

    # Runs of an earlier reaper

    def _adopt(self, run: Run) -> None:
        """Watch a run that is not our child, if the process of that pid is still the same."""
        run.adopted = True
        self._trees.add(run)
        try:
            run.pidfd = os.pidfd_open(run.pid)
        except ProcessLookupError:
            pass
        else:
            process = members.read_process(run.pid)
            if process and process.start_ticks == run.start_ticks:
                self._loop.watch(run.pidfd, lambda events: self._adopted_ended(run))
                if run.notify:
                    with contextlib.suppress(OSError):  # then it is not heard, and its timeout tells
                        self._notify.listen(run.id)
                return
            os.close(run.pidfd)
        self._trees.ended(run)
        self._ledger.exited(run, unknown_exit())

    def _adopted_ended(self, run: Run) -> None:
        outcome = unknown_exit()
        # Its parent may be waiting for it at this moment: before that the zombie tells, after that the pidfd does.
        status = members.wait_status(run.pidfd)
        if status is None and (zombie := members.read_process(run.pid)) and zombie.start_ticks == run.start_ticks:
            # Zero may also mean that only root may know.
            status = (zombie.exit_status or (None if os.geteuid() else 0)) if zombie.state in members.DEAD else None
        if status is None:
            status = members.wait_status(run.pidfd)
        if status is not None:
            killed = os.WIFSIGNALED(status)
            outcome["code"] = None if killed else os.WEXITSTATUS(status)
            outcome["signal"] = os.WTERMSIG(status) if killed else None
            outcome["core"] = os.WCOREDUMP(status)
            del outcome["unknown"]
        self._loop.unwatch(run.pidfd)
        self._ended(run, outcome)
        self._trees.sweep()

    def _accept(self, events: int) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError as error:
            if not self._refusing:
                print(f"connections are not accepted: {error}", file=sys.stderr, flush=True)
            self._refusing = True
            time.sleep(0.1)  # it is told again at once, and what runs must have the processor
            return
        self._refusing = False
        if self._client:
            self._client.send({"event": "replaced"})
            self._client.close()
        self._client = Client(self._loop, connection, self.request)


OPERATIONS: dict[str, Callable[[Reaper, Client, dict[str, Any]], dict[str, Any] | None]] = {
    "spawn": Reaper._spawn,
    "signal": Reaper._signal,
    "members": Reaper._members,
    "list": Reaper._list,
    "take": Reaper._take,
    "ping": Reaper._ping,
    "shutdown": Reaper._shutdown,
}


def _report(error: Exception) -> None:
    sys.excepthook(type(error), error, error.__traceback__)


def _started(run: Run) -> dict[str, Any]:
    return {"run": run.id, "pid": run.pid, "start_ticks": run.start_ticks}


def main() -> None:
    """Become the reaper of the state directory in argv[1]: detached, `ready` or `held` (another is) on stdout first."""
    os.chdir(sys.argv[1])
    if os.fork():
        os._exit(0)
    lock = os.open(LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.lockf(
            lock, fcntl.LOCK_EX | fcntl.LOCK_NB
        )  # not flock: a child that is not yet executing must not hold it
    except BlockingIOError:
        os.write(1, b"held\n")
        return
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) < 0:
        raise OSError(ctypes.get_errno(), "this kernel has no subreapers")
    reaper = Reaper()
    with contextlib.suppress(BrokenPipeError):  # who started it has been killed, and the next will find it
        os.write(1, b"ready\n")
    os.dup2(os.open(os.devnull, os.O_RDWR), 1)
    reaper.serve()
