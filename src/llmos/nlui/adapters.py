"""Adapters: what training made of a base model. They ship with the package, each bound to the exact bytes of its base.

`trained/NAME.gguf` is the adapter, `trained/NAME.json` its card: the file's sha256, the base's, and where it comes from.
"""

import json
from pathlib import Path

from llmos.errors import ModelError
from llmos.nlui.models import Installed, sha256_of

FOLDER = Path(__file__).parent / "trained"
BASE_KEY = "llmos.base.sha256"
"""Names, in the head of an adapter, the model file that it was trained on; on another it would be noise."""


def adapter_for(model: Installed, folder: Path = FOLDER) -> Path | None:
    """The adapter that was trained on this model's bytes, or None where there is none. Reads the file: blocks.

    :raises ModelError: its bytes are not what its card says.
    """
    for card in sorted(folder.glob("*.json")):
        facts = json.loads(card.read_text(encoding="utf-8"))
        if facts["base"]["sha256"] != model.sha256:
            continue
        path: Path = folder / facts["file"]
        if not path.is_file() or sha256_of(path) != facts["sha256"]:
            raise ModelError(f"the adapter {path} is not what its card says; install llmos again")
        return path
    return None
