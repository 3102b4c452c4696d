"""A random adapter that was learned on a random model and is in use."""

import json
from pathlib import Path

from llmos.nlui.learning.adoption import ADAPTER, CARD, TAUGHT, adopt, generations
from llmos.nlui.models import sha256_of
from llmos.nlui.taught import Taught
from nlui.training_model import write_random_adapter


def learn(state_dir: Path, base: Path, upon: Path) -> Path:
    """Put one to use that was learned upon an adapter of a model; its path."""
    folder = generations(state_dir).new_folder()
    adapter = write_random_adapter(folder / ADAPTER, base, seed=int(folder.name))
    Taught({"JOB": {"nightly-etl": ["usual"]}}, ["usual"]).write(folder / TAUGHT)
    card = {"sha256": sha256_of(adapter), "upon": sha256_of(upon)}
    (folder / CARD).write_text(json.dumps(card))
    return adopt(state_dir, int(folder.name)).adapter
