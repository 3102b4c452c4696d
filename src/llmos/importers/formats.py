"""The formats that can be imported: what reads each, and how a file is known to be of it."""

import os
from collections.abc import Mapping
from fnmatch import fnmatch
from importlib import import_module
from pathlib import Path

from llmos.errors import BadInput
from llmos.importers.source import Source, text_of
from llmos.jobfile import anchored, spec_of, table_of

FORMATS = {
    "supervisor": ("supervisord.conf", "*.conf", "*.ini"),
    "procfile": ("Procfile", "Procfile.*", "*.procfile"),
    "process-compose": ("*.yaml", "*.yml"),
    "pm2": ("*.json", "*.config.js", "*.config.cjs", "*.config.mjs"),
    "systemd": ("*.service",),
}
"""Every format by its name, which is that of its module, and the names that its files have."""


def read(path: Path, format: str | None = None, environ: Mapping[str, str] | None = None) -> Source:
    """Read a file of another supervisor; the format is known by its name unless it is given.

    `environ` is what the file's references to the environment stand for; the one of this process when absent.

    :raises BadInput: the file cannot be read, or is malformed; the message names the file, the line and what to do.
    """
    if format is not None and format not in FORMATS:
        raise BadInput(f"there is no format {format!r}; the formats are {', '.join(FORMATS)}", field="format")
    chosen = format or next(
        (name for name, known in FORMATS.items() if any(fnmatch(path.name, each) for each in known)), None
    )
    if chosen is None:
        raise BadInput(f"the name of {path} does not tell its format; add --format {'|'.join(FORMATS)}", field="format")
    source = Source(path, text_of(path), os.environ if environ is None else environ)
    import_module(f"llmos.importers.{chosen.replace('-', '_')}").read(source)  # only now, for each has its own parser
    for name, table in source.jobs.items():
        try:
            source.jobs[name] = table_of(spec_of(name, anchored(table, path.absolute().parent)))
        except BadInput as error:
            raise source.bad(f"it makes a job that cannot be: {error.message}") from None
    return source
