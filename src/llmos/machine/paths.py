"""Paths between people and the file system: one that somebody named is found, one that was found is shown. Synchronous."""

import os

from llmos.errors import BadInput, Forbidden, NotFound


def locate(path: str) -> tuple[str, os.stat_result]:
    """The absolute path behind all symbolic links, and its status.

    Raises:
        NotFound: there is nothing there.
        Forbidden: a folder on the way may not be entered.
        BadInput: no path can be like this.
    """
    try:
        real = os.path.realpath(path)
        return real, os.stat(real)
    except (FileNotFoundError, NotADirectoryError):
        raise NotFound(f"there is no file or folder {path}: check the spelling", path=path) from None
    except PermissionError:
        raise Forbidden(f"{path} lies in a folder that may not be entered: ask as root", path=path) from None
    except (OSError, ValueError) as error:  # links in a circle, a name too long, a NUL in it
        raise BadInput(f"{path!r} cannot be a path here: {error}", field="path") from None


def printable(path: str) -> str:
    """A path as text that JSON can carry: what in it is not UTF-8 is replaced."""
    return os.fsencode(path).decode("utf-8", "replace")
