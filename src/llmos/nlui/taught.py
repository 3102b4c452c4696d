"""What a user has taught: values that requests need not say, and the phrases by which a request is known to speak of them."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Taught:
    """
    Attributes:
        values: by the name of a kind, values as plans print them, each with the phrases that stand for it; none where
            that is not known.
        phrases: what a request must say one of to be answered with what was learned; None: every request is.
    """

    values: Mapping[str, Mapping[str, Sequence[str]]] = field(default_factory=dict)
    phrases: Sequence[str] | None = ()

    def concerns(self, request: str) -> bool:
        """Whether a request is to be answered with what was learned."""
        return self.phrases is None or any(_says(request, phrase) for phrase in self.phrases)

    def offered(self, request: str) -> dict[str, list[str]]:
        """The values that a request may mean without saying them, by the name of their kind."""
        return {
            kind: [
                value for value, phrases in values.items() if not phrases or any(_says(request, one) for one in phrases)
            ]
            for kind, values in self.values.items()
        }

    def write(self, path: Path) -> None:
        """Write it as JSON."""
        rows = {"phrases": self.phrases, "values": self.values}
        path.write_text(json.dumps(rows, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> "Taught":
        """From a file that `write` wrote.

        :raises ValueError, TypeError, OSError: it is none.
        """
        return cls(**json.loads(path.read_text(encoding="utf-8")))


NOTHING = Taught()


def _says(request: str, phrase: str) -> bool:
    """Whether the phrase stands in the request, as whole words where it is of Latin letters."""
    words = r"\s+".join(map(re.escape, phrase.split()))
    return re.search(rf"(?<![A-Za-z0-9_]){words}(?![A-Za-z0-9_])", request, re.IGNORECASE | re.ASCII) is not None
