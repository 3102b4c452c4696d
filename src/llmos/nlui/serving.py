"""What the model worker serves: a model with the adapter that is shipped for it, merged where that has been done, and what
was learned here upon it. Reads files: blocks."""

import logging
from dataclasses import dataclass, replace
from pathlib import Path

from llmos.errors import ModelError
from llmos.nlui import merged, models
from llmos.nlui.adapters import adapter_for
from llmos.nlui.calibration import Calibration, load
from llmos.nlui.learning import Adopted, adopted
from llmos.nlui.models import Installed, sha256_of

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Served:
    """A model as it is served.

    Attributes:
        path: the GGUF file.
        adapter: what is put on it; None where there is none, or it is merged into the file.
        trained: whether it knows the frame of requests; one that does not is shown examples.
        learned, taught: the adapter to put on besides, and a JSON file of what it is for (`llmos.nlui.taught`).
        calibration: what the confidence of its plans is worth.
    """

    path: Path
    adapter: Path | None = None
    trained: bool = False
    learned: Path | None = None
    taught: Path | None = None
    calibration: Calibration | None = None


def served(model_name: str, state_dir: Path, *, adapted: bool = True) -> Served:
    """How a model is served: with the shipped adapter where there is one, and what was learned in `state_dir` upon that.

    :raises ModelError: the model is not on this machine, or it or the shipped adapter is damaged.
    """
    base = models.locate(model_name)
    if not adapted:
        return Served(base.path)
    shipped = adapter_for(base)
    if shipped is None:
        return Served(base.path)
    found = replace(with_adapter(base, shipped), calibration=load(shipped.with_suffix(".json")))
    own = learned(shipped, state_dir)
    return replace(found, learned=own.adapter, taught=own.taught) if own else found


def with_adapter(base: Installed, adapter: Path) -> Served:
    """A model with an adapter, merged where that has been done."""
    if found := merged.find(base, adapter):
        return Served(found, trained=True)
    return Served(base.path, adapter, trained=True)


def learned(shipped: Path, state_dir: Path) -> Adopted | None:
    """What was learned in `state_dir` and is in use, if it was learned upon this adapter and is whole."""
    try:
        found = adopted(state_dir)
        if found is None:
            return None
        if found.upon != sha256_of(shipped):
            log.warning("what was learned was learned upon another adapter than today's; learn again: llmos learn")
            return None
        found.check()
        return found
    except ModelError as error:
        log.warning("nothing learned is served: %s", error.message)
        return None
