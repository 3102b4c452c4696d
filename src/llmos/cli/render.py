"""Layouts as a terminal shows them, drawn by rich: in colour, folded to its width."""

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from llmos.cli.layout import Grid, Layout, Stack, Words

_WIDEST = 10_000  # columns, where the output is no terminal and nothing should be folded


def console(*, stderr: bool = False) -> Console:
    """A console that reads no markup in text, follows NO_COLOR, and folds only on a terminal."""
    made = Console(stderr=stderr, markup=False, highlight=False, emoji=False)
    if not made.is_terminal:
        made.width = _WIDEST
    return made


def drawn(shown: Layout) -> RenderableType:
    """A layout as a renderable."""
    match shown:
        case Words(text, style):
            return Text(text, style)
        case Stack(parts):
            return Group(*map(drawn, parts))
        case Grid():
            return _table(shown) if shown.table else _pairs(shown)


def _table(grid: Grid) -> Table:
    made = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for column in grid.columns:
        made.add_column(
            column.heading, justify="right" if column.right else "left", no_wrap=column.right, overflow="fold"
        )
    for row in grid.rows:
        made.add_row(
            *(_cut(each) if column.cut else drawn(each) for each, column in zip(row, grid.columns, strict=True))
        )
    return made


def _pairs(grid: Grid) -> Table:
    made = Table.grid(padding=(0, 2, 0, 0))
    made.add_column(no_wrap=True)
    made.add_column(overflow="fold")
    for row in grid.rows:
        made.add_row(*map(drawn, row))
    return made


def _cut(shown: Layout) -> RenderableType:
    return (
        Text(shown.text, shown.style, no_wrap=True, overflow="ellipsis") if isinstance(shown, Words) else drawn(shown)
    )
