"""What the tests of importers share: a file of a given name and text, imported."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from importing import Import
from llmos import jobfile
from llmos.importers import formats
from llmos.importers.source import Source


@pytest.fixture
def imported(tmp_path: Path) -> Import:
    """Write a file and import it; what comes of it must be a job file that reads back the same."""

    def run(name: str, text: str, format: str | None = None, environ: Mapping[str, str] | None = None) -> Source:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        source = formats.read(path, format, environ or {})
        written = tmp_path / "jobs.toml"
        written.write_text(jobfile.write(source.jobs))
        assert jobfile.read(written) == source.jobs
        return source

    return run
