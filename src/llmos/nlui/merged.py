"""The merged models of this machine: an adapter added to its base once, so that it costs nothing at each token.

They lie in the folder `merged` beside the models, named for the base, the adapter's bytes and the quantisation; a card
beside each says what it is made of and how to know it. A missing one only makes the model slower. Reads files: blocks.
"""

import fcntl
import json
import logging
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from llmos.errors import ModelError
from llmos.nlui import models
from llmos.nlui.adapters import importance_for
from llmos.nlui.models import Installed, Progress, sha256_of

log = logging.getLogger(__name__)

MERGED_TYPE = "Q4_0"
"""Quantisation of merged models: of those that answer as well as base and adapter, the fastest (docs/models.md)."""


@dataclass(frozen=True, slots=True)
class _Card:
    """What a merged model is made of (`base`, `adapter` and `importance` are sha256), and its file as it was checked
    last."""

    base: str
    adapter: str
    adapter_file: str
    importance: str | None
    quantisation: str
    sha256: str
    size: int
    mtime_ns: int

    @classmethod
    def read(cls, merged: Path) -> "_Card | None":
        try:
            return cls(**json.loads(merged.with_suffix(".json").read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None

    def write(self, merged: Path) -> None:
        path = merged.with_suffix(".json")
        draft = models.partial_of(path)
        draft.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")
        draft.replace(path)


def find(base: Installed, adapter: Path) -> Path | None:
    """The model merged of these two, if it is there and whole; its bytes are read only where the file has changed."""
    try:
        path = _path(base.name, sha256_of(adapter))
        if not path.is_file():
            return None
        card = _Card.read(path)
        if card and (card.base, card.importance) == (base.sha256, _importance(base)[1]) and _is_whole(path, card):
            return path
        log.warning("%s is not what its card says and is not used; mend it with: llmos model pull %s", path, base.name)
    except OSError as error:
        log.warning("whether %s is merged into its model cannot be said: %s", adapter, error)
    return None


def make(base: Installed, adapter: Path, progress: Progress = lambda done, total: None) -> Path:
    """The model merged of these two, made where it is not there, all or nothing; waits while another is being made.
    Those whose adapters are no more are removed.

    :raises ModelError: there is no room, or the adapter belongs to another model.
    """
    from llmos.nlui.merge import merge

    with models.open_lock("merged") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if found := find(base, adapter):
            return found
        try:
            digest = sha256_of(adapter)
            path = _path(base.name, digest)
            path.parent.mkdir(exist_ok=True)
            _remove(path)
            remove_others()
            for left in path.parent.glob(".new-*"):  # by one that was killed
                shutil.rmtree(left, ignore_errors=True)
            with tempfile.TemporaryDirectory(prefix=".new-", dir=path.parent) as folder:
                new = Path(folder, path.name)
                importance, importance_sha256 = _importance(base)
                sha256 = merge(base, adapter, new, importance=importance, progress=progress)
                made_of, facts = (base.sha256, digest, str(adapter.resolve()), importance_sha256), new.stat()
                _Card(*made_of, MERGED_TYPE, sha256, facts.st_size, facts.st_mtime_ns).write(path)
                new.replace(path)
        except OSError as error:
            raise ModelError(f"a merged model of {adapter} cannot be kept: {error}; set LLMOS_MODELS") from None
    return path


def remove_others() -> None:
    """Remove the merged models of adapters that are no more."""
    for path, card in _all():
        if not card or not _is_current(card):
            _remove(path)


def remove(base_name: str) -> None:
    """Remove the merged models of a base."""
    for path, card in _all():
        if card and path == _path(base_name, card.adapter, card.quantisation):
            _remove(path)


def _importance(base: Installed) -> tuple[Path | None, str | None]:
    path = importance_for(base)
    return path, sha256_of(path) if path else None


def _path(base_name: str, adapter_sha256: str, quantisation: str = MERGED_TYPE) -> Path:
    return _folder() / f"{Path(base_name).stem}-{adapter_sha256[:12]}-{quantisation}.gguf"


def _folder() -> Path:
    return models.folder() / "merged"


def _all() -> Iterator[tuple[Path, _Card | None]]:
    for path in sorted(_folder().glob("*.gguf")):
        yield path, _Card.read(path)


def _is_whole(path: Path, card: _Card) -> bool:
    """Whether a file is as its card says; that it has been read is remembered."""
    facts = path.stat()
    if facts.st_size == card.size and facts.st_mtime_ns != card.mtime_ns and sha256_of(path) == card.sha256:
        with suppress(OSError):  # where nothing can be remembered, it is read each time
            replace(card, mtime_ns=facts.st_mtime_ns).write(path)
        return True
    return (facts.st_size, facts.st_mtime_ns) == (card.size, card.mtime_ns)


def _is_current(card: _Card) -> bool:
    """Whether its adapter is still there, and it would be made the same way today."""
    try:
        return card.quantisation == MERGED_TYPE and sha256_of(Path(card.adapter_file)) == card.adapter
    except OSError:
        return False


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
        path.with_suffix(".json").unlink(missing_ok=True)
    except OSError as error:
        log.warning("the merged model %s cannot be removed: %s", path, error.strerror)
