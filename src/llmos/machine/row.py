"""The base of every row that a read of the machine returns: a slotted frozen dataclass that turns into JSON."""

from dataclasses import asdict, dataclass
from typing import Any

from pydantic import JsonValue


@dataclass(frozen=True, slots=True)
class Row:
    """A value object whose fields are JSON values, further rows, or tuples of either."""

    def as_json(self) -> dict[str, JsonValue]:
        """The fields by name; nested rows become objects, tuples arrays."""
        return asdict(self, dict_factory=_object)


def _object(fields: list[tuple[str, Any]]) -> dict[str, JsonValue]:
    return {name: list(value) if isinstance(value, tuple) else value for name, value in fields}
