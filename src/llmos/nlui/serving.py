"""What the model worker serves: a model, with the adapter that was learned here or is shipped for it, merged where that
has been done. Reads files: blocks."""

import logging
from dataclasses import dataclass, replace
from pathlib import Path

from llmos.errors import ModelError
from llmos.nlui import merged, models
from llmos.nlui.adapters import adapter_for
from llmos.nlui.calibration import Calibration, load
from llmos.nlui.learning import Adopted, adopted
from llmos.nlui.models import Installed

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Served:
    """A model as it is served.

    Attributes:
        path: the GGUF file.
        adapter: what is put on it; None where there is none, or it is merged into the file.
        trained: whether it knows the frame of requests; one that does not is shown examples.
        taught: a JSON file of values that its grammar offers though no request says them.
        calibration: what the confidence of its plans is worth; of the shipped adapter, which a learned one is held near.
    """

    path: Path
    adapter: Path | None = None
    trained: bool = False
    taught: Path | None = None
    calibration: Calibration | None = None


def served(model_name: str, state_dir: Path, *, adapted: bool = True) -> Served:
    """How a model is served: with what was learned in `state_dir`, else with the shipped adapter, else as it is.

    :raises ModelError: the model is not on this machine, or it or the shipped adapter is damaged.
    """
    base = models.locate(model_name)
    if not adapted:
        return Served(base.path)
    shipped = adapter_for(base)
    own = learned(base, state_dir)
    adapter = own.adapter if own else shipped
    if adapter is None:
        return Served(base.path)
    calibration = load(shipped.with_suffix(".json")) if shipped else None
    return replace(with_adapter(base, adapter, own.taught if own else None), calibration=calibration)


def with_adapter(base: Installed, adapter: Path, taught: Path | None = None) -> Served:
    """A model with an adapter, merged where that has been done."""
    if found := merged.find(base, adapter):
        return Served(found, trained=True, taught=taught)
    return Served(base.path, adapter, trained=True, taught=taught)


def learned(base: Installed, state_dir: Path) -> Adopted | None:
    """The adapter that was learned in `state_dir` and is in use, if it belongs to this model and is whole."""
    try:
        found = adopted(state_dir)
        if found is None or found.base_sha256 != base.sha256:
            return None
        found.check()
        return found
    except ModelError as error:
        log.warning("the shipped adapter is served: %s", error.message)
        return None
