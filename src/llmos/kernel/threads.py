"""The threads that reads of /proc, /sys and files run in."""

from concurrent.futures import ThreadPoolExecutor


class Threads(ThreadPoolExecutor):
    """A pool that does with the threads it has where the machine refuses it one more.

    The base class raises then, although it has queued the work, which is done later and by nobody expected.
    """

    def _adjust_thread_count(self) -> None:
        try:
            super()._adjust_thread_count()
        except RuntimeError:
            if not self._threads:
                raise
