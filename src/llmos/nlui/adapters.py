"""Adapters: what training made of a base model. They ship with the package, each bound to the exact bytes of its base.

`trained/NAME.gguf` is the adapter, `trained/NAME.json` its card: the file's sha256, the base's, and where it comes from;
`trained/NAME.imatrix.gguf` says which inputs of the base's layers matter, for those who quantise it.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from llmos.errors import ModelError
from llmos.nlui.models import Installed, sha256_of

FOLDER = Path(__file__).parent / "trained"
BASE_KEY = "llmos.base.sha256"
"""Names, in the head of an adapter, the model file that it was trained on; on another it would be noise."""


def adapter_for(model: Installed, folder: Path = FOLDER) -> Path | None:
    """The adapter that was trained on this model's bytes, or None where there is none. Reads the file: blocks.

    :raises ModelError: its bytes are not what its card says.
    """
    for facts in _cards(model, folder):
        path: Path = folder / facts["file"]
        if not path.is_file() or sha256_of(path) != facts["sha256"]:
            raise ModelError(f"the adapter {path} is not what its card says; install llmos again")
        return path
    return None


def importance_for(model: Installed, folder: Path = FOLDER) -> Path | None:
    """What inputs of this model's layers matter, measured with its adapter; None where nobody did. Reads files."""
    for facts in _cards(model, folder):
        path = (folder / facts["file"]).with_suffix(".imatrix.gguf")
        return path if path.is_file() else None
    return None


def _cards(model: Installed, folder: Path) -> Iterator[dict[str, Any]]:
    for card in sorted(folder.glob("*.json")):
        facts = json.loads(card.read_text(encoding="utf-8"))
        if facts["base"]["sha256"] == model.sha256:
            yield facts
