"""What the tests of importers share beside their fixture."""

from collections.abc import Callable

from llmos.importers.source import Source

Import = Callable[..., Source]
"""The fixture `imported`."""


def lost(source: Source) -> set[str]:
    """Where something stands that has no equivalent; each is told once."""
    where = [where for where, _ in source.no_equivalent]
    assert len(where) == len(set(where)), where
    return set(where)
