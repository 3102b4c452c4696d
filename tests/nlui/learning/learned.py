"""A random adapter that was learned on a random model and is in use."""

import json
from pathlib import Path

from llmos.nlui.learning.adoption import ADAPTER, CARD, TAUGHT, adopt, new_folder
from llmos.nlui.models import sha256_of
from nlui.training_model import write_random_adapter


def learn(state_dir: Path, base: Path, base_sha256: str | None = None) -> Path:
    """Put one to use for a model, or for another model of this sha256; its path."""
    folder = new_folder(state_dir)
    adapter = write_random_adapter(folder / ADAPTER, base, seed=int(folder.name))
    (folder / TAUGHT).write_text('{"JOB": ["nightly-etl"]}')
    card = {"sha256": sha256_of(adapter), "base": {"sha256": base_sha256 or sha256_of(base)}}
    (folder / CARD).write_text(json.dumps(card))
    return adopt(state_dir, int(folder.name)).adapter
