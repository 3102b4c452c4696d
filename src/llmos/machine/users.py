"""User names and numbers: looked up once a listing, as a lookup may go over the network."""

import pwd

from llmos.errors import NotFound


class UserNames:
    """A cache of names by uid for the length of one listing, so that new users are seen by the next."""

    def __init__(self) -> None:
        self._names: dict[int, str] = {}

    def __getitem__(self, uid: int) -> str:
        """The name, or the number as text where the uid has none."""
        if uid not in self._names:
            try:
                self._names[uid] = pwd.getpwuid(uid).pw_name
            except KeyError:
                self._names[uid] = str(uid)
        return self._names[uid]


def uid_of(user: str) -> int:
    """The uid of a user named by name or number.

    Raises:
        NotFound: no such user.
    """
    try:
        return pwd.getpwnam(user).pw_uid
    except KeyError:
        if user.isascii() and user.isdigit():
            return int(user)
    raise NotFound(f"there is no user {user!r} on this machine: `getent passwd` lists them", user=user)
