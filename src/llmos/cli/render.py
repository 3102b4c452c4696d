"""Values as people read them: lists of objects as tables, objects as keys and values, log lines as they are.

What a value holds decides how it looks: a field's ending names its unit (`_bytes`, `_seconds`, `_percent`, `_at`), and
`COLUMNS` says which fields of a verb's objects stand in its table. Everything is shown through `terminal_text.plain`.
"""

import math
import shlex
from collections.abc import Mapping, Sequence
from typing import Any, cast

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

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

_WIDEST = 10_000  # columns, where the output is no terminal and nothing should be folded
_MANY_FIELDS = 10
_DEEPEST = 20  # levels of a tree that are indented


def console(*, stderr: bool = False) -> Console:
    """A console that reads no markup in text, follows NO_COLOR, and folds only on a terminal."""
    made = Console(stderr=stderr, markup=False, highlight=False, emoji=False)
    if not made.is_terminal:
        made.width = _WIDEST
    return made


def shown(value: Any, subject: str = "") -> RenderableType:
    """A value as a renderable; `subject` is the verb or method that it came from."""
    match value:
        case {"job": _, "lines": list(lines)}:
            return Text("\n".join(plain(str(line)) for line in lines))
        case {"sentence": str(sentence), **rest}:
            events = rest.get("events")
            return Group(Text(plain(sentence)), *([shown(events, "events")] if events else []))
        case dict():
            return pairs(value)
        case []:
            return Text("nothing", style="dim")
        case list() if all(isinstance(row, dict) for row in value):
            rows = cast(list[dict[str, Any]], value)
            if all("sentence" in row for row in rows):
                return Group(*map(shown, rows))
            return _tree(rows) if subject == "tree" else table(rows, subject)
        case list():
            return Text("\n".join(cell("", row) for row in value))
        case _:
            return Text(cell("", value))


def table(rows: Sequence[Mapping[str, Any]], subject: str = "") -> Table:
    """Objects as rows."""
    drawn = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    columns = _columns(rows, subject)
    for name in columns:
        numeric = all(isinstance(row.get(name), int | float | None) for row in rows) and not name.endswith("_at")
        drawn.add_column(
            _heading(name),
            justify="right" if numeric else "left",
            no_wrap=numeric,
            overflow="fold",
        )
    for row in rows:
        drawn.add_row(*(_cell_text(name, row.get(name), one_line=subject == "ps") for name in columns))
    return drawn


def _cell_text(name: str, value: Any, *, one_line: bool) -> Text:
    # A listing of every process keeps to one line each, as ps(1) does; elsewhere nothing is cut off.
    cut = one_line and name == "command"
    return Text(cell(name, value), _style(name, value), no_wrap=cut or None, overflow="ellipsis" if cut else None)


def pairs(value: Mapping[str, Any]) -> Table:
    """An object, one field a line; objects within are indented."""
    drawn = Table.grid(padding=(0, 2, 0, 0))
    drawn.add_column(style="bold", no_wrap=True)
    drawn.add_column(overflow="fold")
    for name, field in value.items():
        nested = (isinstance(field, dict) and field) or (
            isinstance(field, list) and field and all(isinstance(item, dict) for item in field)
        )
        right = shown(field, name) if nested else Text(cell(name, field), style=_style(name, field))
        drawn.add_row(Text(_heading(name, upper=False)), right)
    return drawn


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


def _tree(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Processes indented below their parents."""
    flat = []
    for row in rows:
        process = row.get("process")
        flat.append({**row, **process} if isinstance(process, dict) else dict(row))
        depth = row.get("depth")
        indent = "  " * min(depth, _DEEPEST) if isinstance(depth, int) else ""
        flat[-1]["command"] = indent + str(flat[-1].get("command") or flat[-1].get("name") or "")
    return table(flat, "ps")
