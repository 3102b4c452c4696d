"""What people said to plans: accepted, edited, rejected. `STATE/feedback.jsonl`, readable by the daemon's user alone.

One JSON object a line, oldest first: {at, uid, request, given, verdict, wanted}. Only the newest are kept. Blocks: called
in a thread.
"""

import json
import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from llmos.errors import Unavailable
from llmos.nlui.learning.lessons import read_feedback

MAX_RECORDS = 2000


class Feedback:
    """The store, in one file, written all or nothing."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._turn = threading.Lock()

    def records(self) -> list[dict[str, Any]]:
        """All of it, oldest first."""
        return read_feedback(self._path)

    def add(self, uid: int, request: str, given: Sequence[str], verdict: str, wanted: Sequence[str] | None) -> None:
        """Keep one answer; the oldest goes where there are `MAX_RECORDS`.

        :raises Unavailable: it cannot be written.
        """
        record = {
            "at": time.time(),
            "uid": uid,
            "request": request,
            "given": list(given),
            "verdict": verdict,
            "wanted": None if wanted is None else list(wanted),
        }
        with self._turn:
            self._write([*self.records(), record][-MAX_RECORDS:])

    def forget(self, mine: Callable[[dict[str, Any]], bool]) -> int:
        """Remove the records that `mine` says; returns how many.

        :raises Unavailable: the rest cannot be written.
        """
        with self._turn:
            records = self.records()
            kept = [record for record in records if not mine(record)]
            if len(kept) < len(records):
                self._write(kept)
            return len(records) - len(kept)

    def _write(self, records: Sequence[dict[str, Any]]) -> None:
        draft = self._path.with_suffix(".part")
        try:
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with open(descriptor, "w", encoding="utf-8") as file:
                file.writelines(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
                file.flush()
                os.fsync(descriptor)
            draft.replace(self._path)
        except OSError as error:
            raise Unavailable(f"feedback cannot be kept in {self._path}: {error.strerror}") from None
