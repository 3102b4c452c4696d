"""The listening socket: made, given to its group, and never taken from a daemon that answers. Blocks."""

import errno
import logging
import os
import shutil
import socket
import stat
from pathlib import Path

from llmos.errors import Unavailable

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
