"""The base of every row that a read of the machine returns: a slotted frozen dataclass that turns into JSON."""

from dataclasses import asdict, dataclass

from pydantic import JsonValue


@dataclass(frozen=True, slots=True)
class Row:
    """A value object whose fields are JSON values or further rows."""

    def as_json(self) -> dict[str, JsonValue]:
        """The fields by name; nested rows become objects."""
        return asdict(self)
