"""The listening socket: made, given to its group, and never taken from a daemon that answers; or inherited. Blocks."""

import errno
import logging
import os
import shutil
import socket
import stat
from pathlib import Path

from llmos.errors import BadInput, Unavailable

log = logging.getLogger("llmos.api")


def bind(path: Path, group: str) -> socket.socket:
    """Bind the socket; a dead one in its place is replaced. A long path is bound by a descriptor of its folder.

    :raises Unavailable: another llmosd answers there, or it cannot be made.
    """
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    name = f"/proc/self/fd/{folder}/{path.name}"
    try:
        if _answers(name):
            raise Unavailable(f"another llmosd listens on {path}; `llmos down` ends it")
        if path.is_symlink() or path.exists():
            if not stat.S_ISSOCK(path.lstat().st_mode):
                raise Unavailable(f"{path} is there and no socket; choose another --socket")
            path.unlink()
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        mask = os.umask(0o177)
        try:
            listening.bind(name)
        finally:
            os.umask(mask)
        if os.geteuid() == 0:
            try:
                shutil.chown(path, group=group)
                path.chmod(0o660)
            except LookupError:
                log.info("there is no group %s: only root may use the socket", group)
        listening.setblocking(False)
        return listening
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise Unavailable(f"the name of the socket {path} is too long") from None
        raise Unavailable(f"the socket {path} cannot be made: {error.strerror}") from None
    finally:
        os.close(folder)


def inherit(descriptor: int) -> socket.socket:
    """Take over a socket that whoever started us listens on already, and keep it from children.

    :raises BadInput: it is not a Unix stream socket that listens on a path.
    """
    wrong = BadInput(
        f"descriptor {descriptor} is no socket that llmosd can listen on; in the socket unit, give ListenStream= a path",
        field="LISTEN_FDS",
    )
    try:
        os.set_inheritable(descriptor, False)
        listening = socket.socket(fileno=descriptor)
    except OSError:
        raise wrong from None
    kind = listening.family, listening.type
    if kind != (socket.AF_UNIX, socket.SOCK_STREAM) or not listening.getsockopt(
        socket.SOL_SOCKET, socket.SO_ACCEPTCONN
    ):
        listening.close()
        raise wrong
    if not str(listening.getsockname()).startswith("/"):
        listening.close()
        raise wrong
    listening.setblocking(False)
    return listening


def _answers(name: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        try:
            probe.connect(name)
        except TimeoutError:
            return True
        except OSError:
            return False
        return True
