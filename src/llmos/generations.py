"""What was learned on this machine, in numbered folders, and which of them are in use: `HOME/NUMBER/`, `HOME/current`.

`current` holds the numbers in use, newest first: the first is served, the second comes back when it is rolled back,
what was shipped stands behind the last. Reads and writes files: blocks.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path

from llmos.errors import ModelError

MAX_OLD = 3
"""Generations kept behind the one in use."""


class Generations:
    """Those of one home; `mend` is the command that a person mends a damaged list with."""

    def __init__(self, home: Path, mend: str) -> None:
        self.home = home
        self._mend = mend

    def in_use(self) -> list[int]:
        """The numbers in use, newest first; none where it is what was shipped.

        :raises ModelError: the list of them is damaged.
        """
        current = self.home / "current"
        try:
            return [int(word) for word in current.read_text(encoding="ascii").split()]
        except FileNotFoundError:
            return []
        except (OSError, ValueError) as error:
            raise ModelError(f"{current} is damaged ({error}); {self._mend} mends it") from None

    def folder(self, number: int) -> Path:
        """Where one lies."""
        return self.home / str(number)

    def new_folder(self) -> Path:
        """Make the folder of the next one; numbers are not given twice."""
        self.home.mkdir(mode=0o700, exist_ok=True)
        numbers = [int(path.name) for path in self.home.iterdir() if path.name.isdigit()]
        folder = self.folder(max([0, *numbers, *self.in_use()]) + 1)
        folder.mkdir(mode=0o700)
        return folder

    def use(self, number: int) -> None:
        """Put one to use, ahead of those in use."""
        self._write([number, *self.in_use()][: 1 + MAX_OLD])

    def go_back(self) -> None:
        """Use the one before; there must be one in use."""
        self._write(self.in_use()[1:])

    def remove_unused(self, *besides: int) -> None:
        """Remove the folders that nothing leads back to, besides these."""
        kept = [str(number) for number in (*self.in_use(), *besides)]
        for folder in self.home.glob("[0-9]*"):
            if folder.name not in kept:
                shutil.rmtree(folder, ignore_errors=True)

    def forget(self) -> None:
        """Remove all of them; what was shipped is in use then."""
        shutil.rmtree(self.home, ignore_errors=True)

    def _write(self, numbers: Sequence[int]) -> None:
        current = self.home / "current"
        draft = current.with_suffix(".part")
        draft.write_text(" ".join(map(str, numbers)) + "\n", encoding="ascii")
        draft.replace(current)
