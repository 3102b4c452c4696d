"""Text made harmless and values made human."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from llmos.cli.layout import cell, layout
from llmos.cli.render import drawn
from llmos.cli.terminal_text import duration, moment, plain, size


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("web", "web"),
        ("网页 é", "网页 é"),
        ("a\nb\tc", "a\\nb\\tc"),
        ("\x1b[31mred\x9b", "\\x1b[31mred\\x9b"),
        ("\u202eevil\u2066", "\\u202eevil\\u2066"),
        ("\udcff", "\\udcff"),
        ("👩\u200d💻", "👩\u200d💻"),
    ],
)
def test_plain_writes_out_what_a_terminal_would_act_upon(text: str, wanted: str) -> None:
    assert plain(text) == wanted


@given(st.text(st.characters(codec=None)))
def test_plain_text_is_one_line_without_controls(text: str) -> None:
    made = plain(text)
    assert len(made.splitlines()) <= 1
    assert not any(ord(char) < 32 or 0x7F <= ord(char) < 0xA0 or 0xD800 <= ord(char) < 0xE000 for char in made)


@pytest.mark.parametrize(
    ("count", "wanted"), [(0, "0"), (1023, "1023"), (1024, "1.0K"), (512 * 1024**2, "512M"), (3 * 1024**5, "3072T")]
)
def test_sizes(count: int, wanted: str) -> None:
    assert size(count) == wanted


@pytest.mark.parametrize(
    ("seconds", "wanted"),
    [
        (0, "0s"),
        (0.25, "0.2s"),
        (45.4, "45s"),
        (59.9, "1m"),
        (200, "3m 20s"),
        (7300, "2h 1m"),
        (86400 * 4 + 3600 * 3, "4d 3h"),
    ],
)
def test_durations(seconds: float, wanted: str) -> None:
    assert duration(seconds) == wanted


def test_moments_of_today_have_no_date() -> None:
    assert len(moment(time.time())) == len("12:34:56")
    assert len(moment(86400 * 400)) == len("1971-02-05 12:34:56")


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("memory_bytes", 2048, "2.0K"),
        ("io_bytes_per_second", 2048.0, "2.0K/s"),
        ("age_seconds", 90, "1m 30s"),
        ("cpu_percent", 12.345, "12.3"),
        ("exit_code", None, "-"),
        ("ok", True, "yes"),
        ("argv", ["sh", "-c", "a b"], "sh -c 'a b'"),
        ("limits", {"memory_bytes": 1024}, "memory_bytes=1.0K"),
        ("ids", [1, 2], "1, 2"),
        ("started_at", float("nan"), "nan"),
        ("memory_bytes", float("inf"), "inf"),
    ],
)
def test_a_field_is_shown_in_its_unit(name: str, value: object, wanted: str) -> None:
    assert cell(name, value) == wanted


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(_JSON, st.sampled_from(["", "ps", "jobs", "tree", "why", "history"]))
def test_any_value_can_be_shown(value: object, subject: str) -> None:
    console = Console(width=60, markup=False, highlight=False, emoji=False, force_terminal=False)
    with console.capture() as capture:
        console.print(drawn(layout(value, subject)))
    assert not set(capture.get()) & set("\x1b\x07\r")
