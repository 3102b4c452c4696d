"""That a refused thread is no lost work."""

import threading
import time

import pytest

from llmos.kernel.threads import Threads


def refuse(self: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


def test_those_that_are_there_do_the_work_of_one_that_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with Threads(4) as pool:
        first = pool.submit(time.sleep, 0.2)
        monkeypatch.setattr(threading.Thread, "start", refuse)
        second = pool.submit(lambda: 2)
        assert not second.done()
        assert second.result(20) == 2 and first.done()


def test_without_any_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threading.Thread, "start", refuse)
    with Threads(4) as pool, pytest.raises(RuntimeError, match="new thread"):
        pool.submit(lambda: 2)
