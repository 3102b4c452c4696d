"""systemd's .service files: what web servers, databases and exporters write in them."""

import subprocess
from pathlib import Path

import pytest

from importing import Import, lost
from llmos.errors import BadInput

DATABASE = """
[Unit]
Description=A database
Documentation=man:postgres(1)
After=network-online.target
Wants=network-online.target
StartLimitIntervalSec=1min
StartLimitBurst=4

[Service]
Type=notify
User=postgres
Environment=PGDATA=/var/lib/pgsql/%i "OPTIONS=-c a=b" EMPTY=
Environment='NOTE=it is 100%%'
ExecStartPre=/usr/bin/check-db-dir %i
ExecStart=/usr/bin/postgres \\
    -D ${PGDATA} \\
# a comment between
    $OPTIONS --name="main db"
ExecReload=/bin/kill -HUP $MAINPID
KillMode=mixed
KillSignal=SIGINT
TimeoutStopSec=1min 30s
Restart=on-abnormal
RestartSec=5
OOMScoreAdjust=-1000
MemoryMax=1.5G
CPUQuota=150%
TasksMax=512
LimitNOFILE=65536
Nice=-5
UMask=0077
RuntimeMaxSec=infinity
ProtectSystem=full

[Install]
WantedBy=multi-user.target

[X-Ours]
Anything=goes
"""


def test_a_database(imported: Import) -> None:
    source = imported("postgresql@16-main.service", DATABASE)
    [(name, job)] = source.jobs.items()
    assert name == "postgresql@16-main"
    assert job == {
        "cwd": "/",
        "restart_limit": {"within": "1m", "restarts": 4},
        "ready": {"notify": True},
        "user": "postgres",
        "env": {"PGDATA": "/var/lib/pgsql/16-main", "OPTIONS": "-c a=b", "EMPTY": "", "NOTE": "it is 100%"},
        "stop_signal": "INT",
        "stop_timeout": "90s",
        "restart": "on-failure",
        "memory": "1536M",
        "cpu": "1.5",
        "pids": 512,
        "open_files": 65536,
        "nice": -5,
        "umask": "0077",
        "argv": ["/bin/sh", "-c", "set -f; exec /usr/bin/postgres -D \"${PGDATA}\" $OPTIONS '--name=main db'"],
    }
    assert lost(source) == {
        "[Unit] Description=A database",
        "[Unit] Documentation=man:postgres(1)",
        "[Unit] After=network-online.target",
        "[Unit] Wants=network-online.target",
        "[Service] ExecStartPre=/usr/bin/check-db-dir %i",
        "[Service] ExecReload=/bin/kill -HUP $MAINPID",
        "[Service] KillMode=mixed",
        "[Service] Restart=on-abnormal",
        "[Service] RestartSec=5",
        "[Service] OOMScoreAdjust=-1000",
        "[Service] RuntimeMaxSec=infinity",
        "[Service] ProtectSystem=full",
        "[Install] WantedBy=multi-user.target",
    }


def test_a_web_server(imported: Import, tmp_path: Path) -> None:
    text = """
    [Service]
    Type=forking
    PIDFile=/run/nginx.pid
    ExecStart=-/usr/sbin/nginx -q -g 'daemon on; master_process on;'
    WorkingDirectory=-/srv/www
    EnvironmentFile=-/etc/default/nginx
    Restart=always
    """
    (tmp_path / "nginx.service.d").mkdir()
    source = imported("nginx.service", "\n".join(line.strip() for line in text.splitlines()))
    job = source.jobs["nginx"]
    assert job["argv"] == ["/usr/sbin/nginx", "-q", "-g", "daemon on; master_process on;"]
    assert (job["cwd"], job["env_files"], job["restart"]) == ("/srv/www", ["/etc/default/nginx"], "always")
    assert lost(source) == {
        "[Service] Type=forking",
        "[Service] PIDFile=/run/nginx.pid",
        "[Service] ExecStart=-",
        "[Service] WorkingDirectory=-/srv/www",
        "[Service] EnvironmentFile=-/etc/default/nginx",
        "nginx.service.d",
    }


def test_a_sequence_of_commands(imported: Import) -> None:
    text = "[Service]\nType=oneshot\nExecStart=/bin/echo one ; /bin/echo two\nExecStart=/bin/echo 'it is' $$5\n"
    argv = imported("steps.service", text).jobs["steps"]["argv"]
    assert argv[:2] == ["/bin/sh", "-c"]
    assert subprocess.run(argv, capture_output=True, text=True, check=True).stdout == "one\ntwo\nit is $5\n"


def test_an_empty_value_takes_the_ones_before_away(imported: Import) -> None:
    text = "[Service]\nEnvironment=A=1\nEnvironment=\nEnvironment=B=2\nExecStart=/bin/old\nExecStart=\nExecStart=/bin/new\n"
    job = imported("x.service", text).jobs["x"]
    assert (job["argv"], job["env"]) == (["/bin/new"], {"B": "2"})


@pytest.mark.parametrize(
    ("written", "argv"),
    [
        ("/bin/echo $$HOME", ["/bin/echo", "$HOME"]),
        ("/bin/echo --a=$HOME", ["/bin/echo", "--a=$HOME"]),
        (":/bin/echo $HOME", ["/bin/echo", "$HOME"]),
        ("@/bin/echo name x", ["/bin/echo", "x"]),
        (r'/bin/echo "a\tb" c\x20d \101', ["/bin/echo", "a\tb", "c d", "A"]),
        (r"/bin/echo 'say \"hi\"' %% %n %p", ["/bin/echo", 'say "hi"', "%", "x.service", "x"]),
        (r"/bin/find . ( -name a ) -exec b \;", ["/bin/find", ".", "(", "-name", "a", ")", "-exec", "b", ";"]),
    ],
)
def test_how_a_command_is_quoted(imported: Import, written: str, argv: list[str]) -> None:
    assert imported("x.service", f"[Service]\nExecStart={written}\n").jobs["x"]["argv"] == argv


def test_a_unit_of_a_user_has_their_folders(imported: Import) -> None:
    text = "[Service]\nExecStart=%h/bin/sync --state %S/sync --run %t\n"
    environ = {"HOME": "/home/me", "XDG_RUNTIME_DIR": "/run/user/7"}
    job = imported(".config/systemd/user/sync.service", text, environ=environ).jobs["sync"]
    assert job["argv"] == ["/home/me/bin/sync", "--state", "/home/me/.local/state/sync", "--run", "/run/user/7"]
    assert job["cwd"] == "/home/me"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ExecStart=/bin/true\n", r"x\.service:1: .* stands outside a \[Section\]"),
        ("[Service]\nExecStart=/bin/true\nnonsense\n", r"x\.service:3: 'nonsense' is neither a \[Section\] nor"),
        ("[Service]\nExecStart=/bin/echo 'half\n", r"x\.service:2: ExecStart: a quote ' does not end"),
        ("[Service]\nExecStart=/bin/echo %b\n", r"x\.service:2: ExecStart: %b is known only when the unit runs"),
        ("[Service]\nExecStart=-\n", "the command is empty"),
        ("[Service]\nExecStart=/bin/a\nExecStart=/bin/b\n", r"x\.service:3: .*only a unit of Type=oneshot"),
        ("[Unit]\nDescription=none\n", r"it has no \[Service\] ExecStart=; is it a service"),
        ("[Service]\nExecStart=/bin/a\nCPUQuota=fast\n", r"x\.service:3: CPUQuota=fast: it is no share"),
        ("[Service]\nExecStart=/bin/a\nTimeoutStopSec=soon\n", r"x\.service:3: .*it is no time span"),
        ("[Service]\nExecStart=/bin/a\nEnvironment=ALONE\n", r"x\.service:3: .*'ALONE' is no NAME=VALUE"),
        ("[Service]\nExecStart=/bin/a\nKillSignal=SIGPOLITE\n", "it makes a job that cannot be: .*stop_signal"),
    ],
)
def test_errors_say_where_and_what_to_do(imported: Import, text: str, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        imported("x.service", text)


def test_a_template_wants_the_name_of_an_instance(imported: Import) -> None:
    with pytest.raises(BadInput, match=r"copy the file to getty@NAME\.service"):
        imported("getty@.service", "[Service]\nExecStart=/sbin/agetty %I\n")
    assert (
        imported("getty@tty1.service", "[Service]\nExecStart=/sbin/agetty %I\n").jobs["getty@tty1"]["argv"][-1]
        == "tty1"
    )


@pytest.mark.parametrize("unit", sorted(Path("/usr/lib/systemd/system").glob("*.service")) or [None])
def test_the_units_of_this_machine(unit: Path | None) -> None:
    """Each gives a job, or an error that names the file; nothing else."""
    from llmos.importers import formats

    if unit is None:
        pytest.skip("this machine has no units")
    try:
        source = formats.read(unit)
    except BadInput as error:
        assert str(unit) in error.message
    else:
        assert len(source.jobs) == 1
