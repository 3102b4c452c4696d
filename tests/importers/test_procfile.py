"""Procfile: what web applications write in it."""

from pathlib import Path

import pytest

from importing import Import, lost
from llmos.errors import BadInput

SOCIAL = """\
# a Ruby application with a queue and a streaming server
web: env PORT=3000 RAILS_ENV=development bundle exec puma -C config/puma.rb
sidekiq: env PORT=3000 RAILS_ENV=development bundle exec sidekiq
stream: PORT=4000 yarn workspace streaming start

release: bundle exec rake db:migrate
"""


def test_an_application_with_a_queue(imported: Import, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("A=1\n")
    source = imported("Procfile", SOCIAL)
    assert list(source.jobs) == ["web", "sidekiq", "stream", "release"]
    web = source.jobs["web"]
    assert web["argv"] == ["env", "PORT=3000", "RAILS_ENV=development", *"bundle exec puma -C config/puma.rb".split()]
    assert (web["cwd"], web["env_files"]) == (str(tmp_path), [str(tmp_path / ".env")])
    assert source.jobs["stream"]["argv"] == ["sh", "-c", "PORT=4000 yarn workspace streaming start"]
    assert lost(source) == {"release", "environment", "the end of one process"}


def test_a_port_that_is_handed_out_is_missed(imported: Import) -> None:
    source = imported("Procfile.dev", "web: gunicorn app:app --bind 0.0.0.0:${PORT:-8000} | tee log\n")
    assert source.jobs["web"]["argv"][:2] == ["sh", "-c"]
    assert "env_files" not in source.jobs["web"]
    assert "web: $PORT" in lost(source)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("web: true\njust words\n", "Procfile:2: 'just words' is no NAME: COMMAND"),
        ("web:\n", "Procfile:1: 'web:' is no NAME: COMMAND"),
        ("web: true\nweb: false\n", "Procfile:2: web stands twice"),
        ("# nothing\n", "it has no line"),
    ],
)
def test_errors_say_where_and_what_to_do(imported: Import, text: str, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        imported("Procfile", text)
