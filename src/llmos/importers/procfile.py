"""Procfile, as Heroku, foreman, honcho and overmind read it: `NAME: COMMAND` a line.

https://devcenter.heroku.com/articles/procfile
"""

import re

from llmos.importers.source import Source, shell_argv

_LINE = re.compile(r"([A-Za-z0-9_-]+):\s*(\S.*)")
_PORT = re.compile(r"\$\{?PORT\b")


def read(source: Source) -> None:
    """Take down each process type as a job.

    :raises BadInput: a line is no `NAME: COMMAND`, or a name stands twice.
    """
    for number, line in enumerate(source.text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = _LINE.fullmatch(line.strip())
        if match is None:
            raise source.bad(f"{line.strip()!r} is no NAME: COMMAND; write such as `web: python app.py`", number)
        name, command = match[1], match[2]
        if name in source.jobs:
            raise source.bad(f"{name} stands twice; rename one", number)
        source.add(name, {"argv": shell_argv(command), "env_files": source.dotenv()})
        if _PORT.search(command):
            source.lost(f"{name}: $PORT", "no port is handed out; set PORT in env (foreman begins at 5000)")
        if name == "release":
            source.lost(
                name, "Heroku runs it before each release; here it runs when it is applied, and others do not wait"
            )
    if not source.jobs:
        raise source.bad("it has no line NAME: COMMAND")
    source.lost("environment", "a Procfile runner passes its own on; a job gets what env and env_files say, and PATH")
    source.lost("the end of one process", "a Procfile runner then ends all the others; here each is on its own")
