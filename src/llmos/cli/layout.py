"""Values as people read them: lists of objects as tables, objects as keys and values, log lines as they are.

What a value holds decides how it looks: a field's ending names its unit (`_bytes`, `_seconds`, `_percent`, `_at`), and
`COLUMNS` says which fields of a verb's objects stand in its table. Everything is shown through `terminal_text.plain`.
`text_of` makes plain text of a layout; `render` draws it on a terminal.
"""

import math
import shlex
from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import Any, NamedTuple, cast

from llmos.cli.terminal_text import duration, moment, plain, size

_PROCESS = ("pid", "name", "user", "state", "cpu_percent", "memory_bytes", "age_seconds", "command")
_JOB = ("name", "state", "pid", "started_at", "exit_code", "restarts", "argv")

COLUMNS: dict[str, tuple[str, ...]] = {
    "ps": _PROCESS,
    "port": ("pid", "name", "user", "protocol", "address", "port", "note"),
    "holders": ("pid", "name", "user", "uses", "path"),
    "jobs": _JOB,
    "history": ("step", "at", "line", "ok", "error", "reversible"),
    "doctor": ("check", "ok", "detail", "remedy"),
    "targets": ("line", "pid", "name", "user", "age_seconds", "command"),
    "model": ("name", "title", "size_bytes", "licence", "installed", "merged", "in_use"),
}
"""The columns of a table, in order; those that are empty in all rows are left out. Others show their first fields."""

_MANY_FIELDS = 10
_DEEPEST = 20  # levels of a tree that are indented
_GAP = "  "


class Words(NamedTuple):
    """Text, with the style in which a terminal shows it."""

    text: str
    style: str = ""


class Column(NamedTuple):
    """A column of a grid: its heading, which side its cells stand at, and whether they are cut off at one line."""

    heading: str = ""
    right: bool = False
    cut: bool = False


class Grid(NamedTuple):
    """Cells in rows and columns; `table` with headings."""

    columns: "list[Column]"
    rows: "list[list[Layout]]"
    table: bool


class Stack(NamedTuple):
    """One below the other."""

    parts: "list[Layout]"


Layout = Words | Grid | Stack


def layout(value: Any, subject: str = "") -> Layout:
    """How a value is laid out; `subject` is the verb or method that it came from."""
    match value:
        case {"job": _, "lines": list(lines)}:
            return Words("\n".join(plain(str(line)) for line in lines))
        case {"sentence": str(sentence), **rest}:
            events = rest.get("events")
            return Stack([Words(plain(sentence)), *([layout(events, "events")] if events else [])])
        case dict():
            return pairs(value)
        case []:
            return Words("nothing", "dim")
        case list() if all(isinstance(row, dict) for row in value):
            rows = cast(list[dict[str, Any]], value)
            if all("sentence" in row for row in rows):
                return Stack([layout(row) for row in rows])
            return _tree(rows) if subject == "tree" else table(rows, subject)
        case list():
            return Words("\n".join(cell("", row) for row in value))
        case _:
            return Words(cell("", value))


def table(rows: Sequence[Mapping[str, Any]], subject: str = "") -> Grid:
    """Objects as rows."""
    names = _columns(rows, subject)
    return Grid(
        [_column(name, rows, subject) for name in names],
        [[Words(cell(name, row.get(name)), _style(name, row.get(name))) for name in names] for row in rows],
        table=True,
    )


def _column(name: str, rows: Sequence[Mapping[str, Any]], subject: str) -> Column:
    numeric = all(isinstance(row.get(name), int | float | None) for row in rows) and not name.endswith("_at")
    # A listing of every process keeps to one line each, as ps(1) does; elsewhere nothing is cut off.
    return Column(_heading(name), numeric, subject == "ps" and name == "command")


def pairs(value: Mapping[str, Any]) -> Grid:
    """An object, one field a line; objects within are indented."""
    rows: list[list[Layout]] = []
    for name, field in value.items():
        nested = (isinstance(field, dict) and field) or (
            isinstance(field, list) and field and all(isinstance(item, dict) for item in field)
        )
        right = layout(field, name) if nested else Words(cell(name, field), _style(name, field))
        rows.append([Words(_heading(name, upper=False), "bold"), right])
    return Grid([Column(), Column()], rows, table=False)


def text_of(shown: Layout) -> Iterator[str]:
    """The lines of a layout as plain text, without the blanks that pad them."""
    return (line.rstrip() for line in _lines(shown))


def _lines(shown: Layout) -> Iterator[str]:
    match shown:
        case Words(text):
            yield from text.split("\n")
        case Stack(parts):
            for part in parts:
                yield from _lines(part)
        case Grid([], _, _):
            yield ""
        case Grid(columns, rows, with_headings):
            cells = [[list(_lines(each)) for each in row] for row in rows]
            if with_headings:
                cells.insert(0, [[column.heading] for column in columns])
            widths = [max((_width(line) for row in cells for line in row[at]), default=0) for at in range(len(columns))]
            for row in cells:
                for side_by_side in zip_longest(*row, fillvalue=""):
                    yield _GAP.join(map(_padded, side_by_side, widths, columns))


def _padded(text: str, width: int, column: Column) -> str:
    blanks = " " * (width - _width(text))
    return blanks + text if column.right else text + blanks


def _width(text: str) -> int:
    """Cells of a terminal that a text takes."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def cell(name: str, value: Any) -> str:
    """One field as text, in the unit that its name ends in."""
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case int() | float():
            return _number(name, value)
        case str():
            return plain(value)
        case list() if name in ("argv", "command"):
            return plain(shlex.join(map(str, value)))
        case list():
            return ", ".join(cell("", item) for item in value) or "-"
        case dict():
            return ", ".join(f"{plain(str(key))}={cell(str(key), item)}" for key, item in value.items()) or "-"
        case _:
            return plain(str(value))


def _number(name: str, value: float) -> str:
    if not math.isfinite(value):
        return str(value)
    if name == "bytes" or name.endswith(("_bytes", "_bytes_per_second")):
        return size(value) + ("/s" if name.endswith("_per_second") else "")
    if name.endswith("_seconds"):
        return duration(value)
    if name == "at" or name.endswith("_at"):
        return moment(value)
    if name.endswith("_percent"):
        return f"{value:.1f}"
    return str(value) if isinstance(value, int) else f"{value:g}"


def _columns(rows: Sequence[Mapping[str, Any]], subject: str) -> list[str]:
    told = {name: None for row in rows for name, value in row.items() if value is not None}  # a dict keeps the order
    present = told or {name: None for row in rows for name in row}
    chosen = [name for name in COLUMNS.get(subject, ()) if name in present]
    if not chosen and {"pid", "name", "command"} <= present.keys():
        chosen = [name for name in _PROCESS if name in present]
    if not chosen and {"name", "state", "argv"} <= present.keys():
        chosen = [name for name in _JOB if name in present]
    return chosen or list(present)[:_MANY_FIELDS]


def _heading(name: str, *, upper: bool = True) -> str:
    words = plain(name)
    for ending, short in (("_bytes_per_second", ""), ("_bytes", ""), ("_seconds", ""), ("_percent", "%"), ("_at", "")):
        if words.endswith(ending):
            words = words.removesuffix(ending) + short
            break
    words = words.replace("_", " ")
    return words.upper() if upper else words


def _style(name: str, value: Any) -> str:
    if name in ("ok", "resolved"):
        return "green" if value else "red"
    if name == "state":
        return {"running": "green", "ready": "green", "failed": "red", "backoff": "yellow"}.get(str(value), "")
    return ""


def _tree(rows: Sequence[Mapping[str, Any]]) -> Grid:
    """Processes indented below their parents."""
    flat = []
    for row in rows:
        process = row.get("process")
        flat.append({**row, **process} if isinstance(process, dict) else dict(row))
        depth = row.get("depth")
        indent = "  " * min(depth, _DEEPEST) if isinstance(depth, int) else ""
        flat[-1]["command"] = indent + str(flat[-1].get("command") or flat[-1].get("name") or "")
    return table(flat, "ps")
