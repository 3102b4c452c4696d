"""Memory: when it runs short, which jobs are held still so that the others can finish, and when they go on.

Freezing frees nothing, but what is frozen grows no more and does not drive the rest out of the page cache. The one that
is held is the one that the policy would run last, among those that grow; one at least always runs.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from llmos.scheduler.pressure import Memory

SHORT = 0.12
"""Share of memory that is left, below which something is held where memory is waited for or still grows."""
DIRE = 0.05
"""Share below which something is held in any case."""
EASY = 0.2
"""Share from which on what is held goes on."""
STALLED = 0.1
"""Share of the time in which something waited for memory, from which on it is short."""
LOOK_AHEAD = 5.0
"""Seconds for which growth is counted on."""
SETTLE_SECONDS = 2.0
"""From one act to the next, so that each shows before the next; what growth will take is known without that."""
LONGEST_HOLD = 600.0
"""After which a held job goes on and another is held in its stead."""
_LEAST_BYTES = 16 * 1024**2


@dataclass(frozen=True, slots=True)
class User:
    """A job that may be held, or is: what it has, how fast it grows, what it may come to, all in bytes; `rank` as the
    policy gives it, the lowest first."""

    key: str
    rank: float
    memory_bytes: float
    growth: float
    expected_bytes: float | None
    held_since: float | None = None


@dataclass(frozen=True, slots=True)
class Act:
    """Hold a job, or let it go on, and why."""

    key: str
    hold: bool
    reason: str


class MemoryGuard:
    """Decides one act at a time; where memory would soon be used up, to be asked again at once."""

    def __init__(self) -> None:
        self._acted_at = float("-inf")

    def decide(self, users: Sequence[User], memory: Memory, stalled: float | None, now: float) -> Act | None:
        """What is to be done now, if anything. `stalled` is the share of the time that something waited for memory."""
        held = [user for user in users if user.held_since is not None]
        running = [user for user in users if user.held_since is None]
        if held and not running:
            return self._done(now, Act(_best(held).key, False, "nothing else runs that it could wait for"))
        growth = sum(max(0.0, user.growth) for user in running)
        soon = memory.available_bytes - growth * LOOK_AHEAD
        if now - self._acted_at < SETTLE_SECONDS and soon >= 0:
            return None
        left = f"{memory.free_share:.0%} of memory is left"
        waits = stalled is not None and stalled >= STALLED
        short = memory.free_share < SHORT and (waits or soon < DIRE * memory.total_bytes)
        if short or memory.free_share < DIRE or soon < 0:
            able = [user for user in running if user.memory_bytes >= _LEAST_BYTES or user.growth > 0]
            if len(running) < 2 or not able:
                return None
            growing = [user for user in able if user.growth > 0] or able
            last = max(growing, key=lambda user: (user.rank, user.memory_bytes))
            why = "others wait for it" if waits else f"it grows by {growth / 2**20:.0f} MiB a second"
            return self._done(now, Act(last.key, True, f"{left} and {why}; the others are to finish first"))
        if not held:
            return None
        best = _best(held)
        assert best.held_since is not None
        if now - best.held_since > LONGEST_HOLD:
            return self._done(now, Act(best.key, False, f"nothing is held for longer than {LONGEST_HOLD:.0f} s"))
        wanted = max(0.0, (best.expected_bytes or best.memory_bytes * 1.5) - best.memory_bytes)
        if memory.free_share >= EASY and soon - wanted > DIRE * memory.total_bytes and not waits:
            return self._done(now, Act(best.key, False, f"{left}, which is enough for it"))
        return None

    def wait_at_start(self, user: User, running: Sequence[User], memory: Memory) -> Act | None:
        """Whether a job that has just been started is to wait: it would need more than there is, by its earlier runs."""
        if user.expected_bytes is None or not running:
            return None
        promised = sum(max(0.0, (other.expected_bytes or 0.0) - other.memory_bytes) for other in running)
        room = memory.available_bytes - promised - DIRE * memory.total_bytes
        if user.expected_bytes <= room:
            return None
        self._acted_at = time.monotonic()
        return Act(
            user.key,
            True,
            f"its earlier runs came to {user.expected_bytes / 2**20:.0f} MiB, and with what the others are still to take "
            f"there is room for {max(0.0, room) / 2**20:.0f}",
        )

    def _done(self, now: float, act: Act) -> Act:
        self._acted_at = now
        return act


def _best(held: Sequence[User]) -> User:
    """Who goes on first: whom the policy runs first."""
    return min(held, key=lambda user: user.rank)
