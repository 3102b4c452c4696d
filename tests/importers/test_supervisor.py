"""supervisord.conf: what web applications, queues and message brokers write in it."""

from pathlib import Path

import pytest

from importing import Import, lost
from llmos.errors import BadInput

QUEUE = """
; one queue, eight workers, as PHP frameworks document it
[program:app-worker]
process_name=%(program_name)s_%(process_num)02d
command=php /var/www/app/artisan queue:work redis --sleep=3 --tries=3 --max-time=3600
autostart=true
autorestart=true
stopasgroup=true
killasgroup=true
user=www-data
numprocs=3
redirect_stderr=true
stdout_logfile=/var/www/app/storage/logs/worker.log
stopwaitsecs=3600
"""

WEB = """
[unix_http_server]
file=/run/supervisor.sock   ; the path of the socket

[supervisord]
nodaemon=true
environment=LANG="en_GB.UTF-8"
umask=022

[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface

[program:gunicorn]
command=%(ENV_VENV)s/bin/gunicorn site.wsgi --bind unix:/run/site/gunicorn.sock --access-logformat "%%(h)s %%(s)s"
directory=%(here)s/site
environment=DJANGO_SETTINGS_MODULE="site.settings",SECRET="a,b=c",DEBUG=0
stopsignal=QUIT
startsecs=10
priority=100
exitcodes=0,3

[program:beat]
command=celery -A site beat --schedule %(here)s/beat-%(group_name)s.db
autorestart=unexpected
directory=/srv/site
umask=027

[program:migrate]
command=python manage.py migrate
autostart=false
autorestart=false

[eventlistener:memmon]
command=memmon -p gunicorn=200MB
events=TICK_60

[group:site]
programs=gunicorn,beat
priority=999
"""


def test_the_workers_of_a_queue(imported: Import) -> None:
    source = imported("worker.conf", QUEUE)
    assert list(source.jobs) == ["app-worker_00", "app-worker_01", "app-worker_02"]
    job = source.jobs["app-worker_01"]
    assert job["argv"][:4] == ["php", "/var/www/app/artisan", "queue:work", "redis"]
    assert (job["restart"], job["user"], job["stop_timeout"]) == ("always", "www-data", "1h")
    assert [where for where, _ in source.no_equivalent] == [
        "[program:app-worker] stdout_logfile=/var/www/app/storage/logs/worker.log",
        "environment",
    ]


def test_a_site_with_groups_expansions_and_environment(imported: Import, tmp_path: Path) -> None:
    source = imported("supervisord.conf", WEB, environ={"VENV": "/opt/venv"})
    assert list(source.jobs) == ["gunicorn", "beat"]
    gunicorn, beat = source.jobs.values()
    assert gunicorn["argv"][0] == "/opt/venv/bin/gunicorn" and gunicorn["argv"][-1] == "%(h)s %(s)s"
    assert gunicorn["cwd"] == str(tmp_path / "site") and beat["cwd"] == "/srv/site"
    assert gunicorn["env"] == {
        "LANG": "en_GB.UTF-8",
        "DJANGO_SETTINGS_MODULE": "site.settings",
        "SECRET": "a,b=c",
        "DEBUG": "0",
    }
    assert (gunicorn["restart"], gunicorn["stop_signal"], gunicorn["umask"]) == ("on-failure", "QUIT", "022")
    assert gunicorn["success_exit"] == [3] and "success_exit" not in beat
    assert beat["argv"][-1] == f"{tmp_path}/beat-site.db" and beat["umask"] == "027"
    assert lost(source) == {
        "[unix_http_server]",
        "[rpcinterface:supervisor]",
        "[supervisord] nodaemon",
        "[group:site] programs=gunicorn,beat",
        "[group:site] priority=999",
        "[eventlistener:memmon]",
        "[program:gunicorn] startsecs=10",
        "[program:gunicorn] priority=100",
        "[program:migrate] autostart=false",
        "environment",
    }


def test_included_files_are_read_too(imported: Import, tmp_path: Path) -> None:
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d" / "redis.conf").write_text("[program:redis]\ncommand=redis-server %(here)s/redis.conf\n")
    source = imported("supervisord.conf", "[supervisord]\n[include]\nfiles = conf.d/*.conf\n")
    assert source.jobs["redis"]["argv"] == ["redis-server", f"{tmp_path}/conf.d/redis.conf"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("command=true\n", r"supervisord\.conf:1: an option stands before the first \[section\]"),
        ("[program:a]\ncommand=true\nnonsense\n", r"supervisord\.conf:3: .*nonsense.* is neither a \[section\] nor"),
        ("[program:a]\ncommand=%(ENV_NO_SUCH)s\n", "set NO_SUCH in the environment"),
        ("[program:a]\ncommand=date +%Y\n", r"command: .*a percent sign by itself is written %%"),
        ("[program:a]\ncommand=%(process_num)999999999d\n", "at most 99 digits"),
        ("[program:a]\ncommand=echo 'half\n", "is not quoted as a shell quotes"),
        ("[program:a]\ncommand=true\nautorestart=perhaps\n", "autorestart=perhaps: write true, false or unexpected"),
        ("[program:a]\ncommand=true\nnumprocs=two\n", "numprocs=two is no whole number"),
        ("[program:a]\ncommand=true\nnumprocs=2\n", "needs %.process_num.d in process_name"),
        ("[program:a]\ncommand=true\nenvironment=A\n", "is no list of KEY="),
        ("[program:a]\nuser=root\n", "has no command"),
        ("[group:g]\nprograms=a,ghost\n[program:a]\ncommand=true\n", "names the program 'ghost', which is nowhere"),
        ("[supervisord]\n", "it has no section"),
        ("[program:a]\ncommand=true\nstopsignal=POLITE\n", "it makes a job that cannot be: .*stop_signal"),
    ],
)
def test_errors_say_where_and_what_to_do(imported: Import, text: str, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        imported("supervisord.conf", text)
