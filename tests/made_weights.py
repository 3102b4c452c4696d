"""Weights of the scheduler in a state folder, as a training leaves them."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

from llmos.scheduler.adaptation import CARD, RESULT, WEIGHTS, Adaptation, shipped
from llmos.scheduler.training import backpropagation


def untrained(adaptation: Adaptation, seed: int = 1, **result: Any) -> int:
    """Some that predict nothing, with a result where one is given; their number."""
    folder = adaptation.generations.new_folder()
    backpropagation.write(backpropagation.untrained(seed), folder / WEIGHTS)
    if result:
        (folder / RESULT).write_text(json.dumps(result))
    return _with_card(folder)


def as_shipped(adaptation: Adaptation) -> int:
    """The shipped ones once more; their number."""
    folder = adaptation.generations.new_folder()
    shutil.copyfile(shipped().path, folder / WEIGHTS)
    return _with_card(folder)


def in_use(adaptation: Adaptation, number: int) -> None:
    """Put some to use."""
    adaptation.try_out(number)
    candidate = adaptation.candidate()
    assert candidate is not None
    adaptation.adopt(candidate)


def _with_card(folder: Path) -> int:
    digest = hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()
    (folder / CARD).write_text(json.dumps({"sha256": digest, "at": 5.0, "figures": {"runs": 9}}))
    return int(folder.name)
