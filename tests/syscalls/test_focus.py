"""Focus and unfocus, seen in the niceness of real processes."""

import os
from collections.abc import Callable
from typing import Any

import pytest

from conftest import needs_root
from llmos.errors import NotFound

Call = Callable[..., Any]
Eventually = Callable[[Callable[[], object]], Any]


def nice(pid: int) -> int:
    """The niceness of a process."""
    return os.getpriority(os.PRIO_PROCESS, pid)


@needs_root
def test_focus_favours_one_and_everything_yields_until_it_is_lifted(call: Call, eventually: Eventually) -> None:
    star, other = (call("run", name=name, argv=["sleep", "600"])["pid"] for name in ("star", "other"))
    base = nice(star)
    call("focus", target="star")
    assert nice(star) < base < nice(other)
    late = call("run", name="late-comer", argv=["sleep", "600"])["pid"]
    eventually(lambda: nice(late) > base)
    call("focus", target="other", **{"for": "1h"})
    assert nice(other) < base and nice(star) < base
    call("unfocus", target="star")
    assert nice(star) > base and nice(other) < base
    call("undo")
    assert nice(star) < base
    call("unfocus")
    assert nice(star) == nice(other) == nice(late) == base
    assert "focus" in call("why", target="star")["sentence"]
    with pytest.raises(NotFound, match="nothing is favoured"):
        call("unfocus")
    with pytest.raises(NotFound, match="star is not favoured"):
        call("unfocus", target="star")
    call("focus", target="star", **{"for": "1s"})
    assert nice(star) < base
    eventually(lambda: nice(star) == nice(other) == base)
    call("focus", target="star")
    call("undo")
    assert nice(star) == base
    for name in ("star", "other", "late-comer"):
        call("stop", target=name)
    with pytest.raises(NotFound, match="no process that could be favoured"):
        call("focus", target="star")
