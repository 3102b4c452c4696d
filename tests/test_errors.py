"""What the system's errors become that mean that something has run out."""

import errno

import pytest

from llmos.errors import Unavailable, want


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOSPC, errno.EDQUOT, errno.ENOMEM])
def test_what_has_run_out_is_named_and_may_be_there_again(number: int) -> None:
    lacking = want(OSError(number, "as the system says", "/some/file"))
    assert isinstance(lacking, Unavailable)
    assert "left" in lacking.message or "full" in lacking.message or "quota" in lacking.message
    assert "/some/file" in lacking.message


def test_other_errors_are_none_of_that() -> None:
    assert want(OSError(errno.EIO, "broken")) is None
    assert want(ValueError("wrong")) is None
