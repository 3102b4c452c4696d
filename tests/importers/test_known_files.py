"""Files with what well-known projects write in them: each imports whole, says what it lost, and could be applied.

`data/NOTICE` says which are theirs and which were written after them.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from llmos import Client, jobfile
from llmos.importers import formats
from llmos.importers.source import Source

DATA = Path(__file__).with_name("data")
ENVIRON = {
    "QUEUES": "default,emails", "WORKERS_COUNT": "2", "SUPERVISOR_PASSWORD": "x", "PATH": "/usr/bin",
    "TOOL_PATH": "/", "CHAIN_PORT": "8545", "NODE_API_PORT": "24000",
}  # fmt: skip
ALWAYS = {
    "supervisor": ["environment"],
    "procfile": ["environment", "the end of one process"],
    "process-compose": ["environment"],
    "pm2": ["environment"],
    "systemd": [],
}
"""What every file of a format loses."""
EXPECTED: dict[str, tuple[str, list[str]]] = {
    "pm2/bots.json": (
        "bot backup shard-0 shard-1 shard-2 shard-3",
        [
            "bot: watch",
            "bot: ignore_watch",
            "bot: restart_delay",
            "bot: max_restarts",
            "bot: min_uptime",
            "backup: namespace",
            "backup: cron_restart",
        ],
    ),
    "pm2/monorepo.config.mjs": (
        "api worker dev-db types",
        ["api: exp_backoff_restart_delay", "worker: instances", "dev-db: treekill", "types: watch", "types: script"],
    ),
    "pm2/shop.config.cjs": (
        "storefront-0 storefront-1",
        [
            "deploy",
            "storefront: env_production",
            "storefront: error_file",
            "storefront: out_file",
            "storefront: log_date_format",
            "storefront: merge_logs",
            "storefront: time",
            "storefront: listen_timeout",
            "storefront: max_memory_restart",
            "storefront: wait_ready",
            "storefront: exec_mode",
        ],
    ),
    "pm2/status.config.js": (
        "status-page",
        ["process.env.STATUS_SECRET"],
    ),
    "process-compose/forum.yaml": (
        "postgresql redis site digest",
        ["is_strict", "console: is_foreground", "site: depends_on redis: process_started", "digest: schedule.timezone"],
    ),
    "process-compose/network.yaml": (
        "chain deploy-contracts node-0 node-1 node-2 builder",
        [
            "availability",
            "x-probe",
            "chain: readiness_probe.failure_threshold",
            "chain: readiness_probe.initial_delay_seconds",
            "node: readiness_probe.period_seconds",
            "node: readiness_probe.failure_threshold",
            "chain: exit_on_end",
            "deploy-contracts: namespace",
            "deploy-contracts: exit_on_end",
            "node: exit_on_end",
            "builder: exit_on_end",
        ],
    ),
    "process-compose/railway.yaml": (
        "core api front",
        ["is_strict"],
    ),
    "process-compose/showcase.yaml": (
        "lister loop _setup always server remote",
        [
            "log_level",
            "log_length",
            "log_configuration",
            "log_location",
            "calculator: disabled",
            "server: readiness_probe.initial_delay_seconds",
            "server: readiness_probe.period_seconds",
            "remote: readiness_probe.http_get.scheme",
            "loop: max_restarts",
            "loop: backoff_seconds",
            "loop: shutdown.command",
            "loop: depends_on always: process_completed",
            "_setup: log_location",
            "always: disable_ansi_colors",
            "server: is_tty",
        ],
    ),
    "procfile/cluster.procfile": (
        "member1 member2 member3",
        [],
    ),
    "procfile/forge.procfile": (
        "postgresql redis rails-web rails-background-jobs gitaly webpack",
        [],
    ),
    "procfile/platform.procfile": (
        "release web worker beat api",
        ["release", "web: $PORT", "api: $PORT"],
    ),
    "procfile/social.procfile": (
        "web sidekiq stream vite",
        [],
    ),
    "supervisor/documents.conf": (
        "webserver consumer celery-beat",
        [
            "[supervisord] nodaemon",
            "[supervisord] logfile",
            "[supervisord] pidfile",
            "[supervisord] logfile_maxbytes",
            "[supervisord] loglevel",
            "[program:webserver] priority",
            "[program:webserver] stdout_logfile",
            "[program:webserver] stdout_logfile_maxbytes",
            "[program:webserver] stderr_logfile",
            "[program:webserver] stderr_logfile_maxbytes",
            "[program:consumer] startsecs",
            "[program:consumer] stdout_logfile",
            "[program:consumer] stdout_logfile_maxbytes",
            "[program:celery-beat] startretries",
            "[program:flower] autostart",
        ],
    ),
    "supervisor/framework.conf": (
        " ".join([*(f"site-queue_0{number}" for number in range(8)), "site-schedule"]),
        ["[program:site-queue] stdout_logfile", "[program:site-schedule] nodaemon"],
    ),
    "supervisor/queue.conf": (
        "worker-0 worker-1",
        [
            "[unix_http_server]",
            "[rpcinterface:supervisor]",
            "[eventlistener:healthcheck]",
            "[supervisord] logfile",
            "[supervisord] pidfile",
            "[supervisord] nodaemon",
            "[program:worker] stdout_logfile",
            "[program:worker] stdout_logfile_maxbytes",
        ],
    ),
    "supervisor/workflow.conf": (
        "webserver scheduler worker",
        [
            "[unix_http_server]",
            "[inet_http_server]",
            "[supervisorctl]",
            "[group:workflow] programs",
            "[group:workflow] priority",
            "[supervisord] logfile",
            "[supervisord] childlogdir",
            "[program:webserver] stdout_logfile",
            "[program:webserver] stdout_logfile_maxbytes",
            "[program:webserver] stdout_logfile_backups",
            "[program:worker] priority",
        ],
    ),
    "systemd/caddy.service": (
        "caddy",
        [
            "[Unit] Description",
            "[Unit] Documentation",
            "[Unit] After",
            "[Unit] Requires",
            "[Service] Group",
            "[Service] ExecReload",
            "[Service] LimitNPROC",
            "[Service] PrivateTmp",
            "[Service] ProtectSystem",
            "[Service] AmbientCapabilities",
            "[Install] WantedBy",
        ],
    ),
    "systemd/database@main.service": (
        "database@main",
        [
            "[Unit] Description",
            "[Unit] AssertPathExists",
            "[Unit] RequiresMountsFor",
            "[Unit] PartOf",
            "[Service] Type",
            "[Service] ExecStart",
            "[Service] TimeoutStartSec",
            "[Service] ExecStop",
            "[Service] OOMScoreAdjust",
            "[Service] PIDFile",
            "[Service] SyslogIdentifier",
            "[Service] LimitNOFILE",
            "[Service] TasksMax",
            "[Service] Slice",
            "[Service] ReadWritePaths",
            "[Install] WantedBy",
        ],
    ),
    "systemd/docker.service": (
        "docker",
        [
            "[Unit] Description",
            "[Unit] Documentation",
            "[Unit] After",
            "[Unit] Wants",
            "[Unit] Requires",
            "[Service] EnvironmentFile",
            "[Service] ExecReload",
            "[Service] LimitNPROC",
            "[Service] LimitCORE",
            "[Service] TasksMax",
            "[Service] TimeoutStartSec",
            "[Service] Delegate",
            "[Service] KillMode",
            "[Install] WantedBy",
        ],
    ),
    "systemd/etcd.service": (
        "etcd",
        [
            "[Unit] Description",
            "[Unit] Documentation",
            "[Unit] After",
            "[Unit] Wants",
            "[Service] EnvironmentFile",
            "[Service] PermissionsStartOnly",
            "[Service] Restart",
            "[Install] WantedBy",
            "[Install] Alias",
        ],
    ),
    "systemd/prometheus-node-exporter.service": (
        "prometheus-node-exporter",
        [
            "[Unit] Description",
            "[Unit] Documentation",
            "[Service] ExecReload",
            "[Service] SendSIGKILL",
            "[Install] WantedBy",
        ],
    ),
    "systemd/proxy.service": (
        "proxy",
        [
            "[Unit] Description",
            "[Unit] After",
            "[Unit] Wants",
            "[Service] EnvironmentFile",
            "[Service] ExecReload",
            "[Service] KillMode",
            "[Service] CapabilityBoundingSet",
            "[Install] WantedBy",
        ],
    ),
    "systemd/shell-server.service": (
        "shell-server",
        [
            "[Unit] Description",
            "[Unit] Documentation",
            "[Unit] After",
            "[Unit] ConditionPathExists",
            "[Service] EnvironmentFile",
            "[Service] ExecStartPre",
            "[Service] ExecReload",
            "[Service] KillMode",
            "[Service] RuntimeDirectory",
            "[Service] RuntimeDirectoryMode",
            "[Install] WantedBy",
            "[Install] Alias",
        ],
    ),
    "systemd/web-app.service": (
        "web-app",
        [
            "[Unit] Description",
            "[Unit] Requires",
            "[Unit] After",
            "[Service] NotifyAccess",
            "[Service] DynamicUser",
            "[Service] Group",
            "[Service] RuntimeDirectory",
            "[Service] ExecReload",
            "[Service] KillMode",
            "[Service] PrivateTmp",
            "[Service] ProtectSystem",
            "[Service] RestartSec",
            "[Service] WatchdogSec",
            "[Install] WantedBy",
        ],
    ),
}
"""Of each file the jobs, and what has no equivalent."""
FIELDS: dict[str, dict[str, Any]] = {
    "supervisor/documents.conf celery-beat": {"success_exit": [2, 143], "user": "archive", "restart": "on-failure"},
    "supervisor/documents.conf webserver": {"stop_timeout": "1m", "env": {"HOME": "/usr/src/archive", "USER": "archive"}},
    "supervisor/queue.conf worker-1": {"argv": ["./manage.py", "rq", "worker", "default,emails"], "restart": "always"},
    "supervisor/workflow.conf webserver": {
        "env": {
            "LANG": "en_US.UTF-8", "LC_ALL": "en_US.UTF-8", "WORKFLOW_HOME": "/opt/workflow",
            "SQL_ALCHEMY_CONN": "postgresql+psycopg2://workflow:p%40ss@localhost/workflow",
            "PATH": "/opt/workflow/bin:/usr/bin",
        }
    },
    "supervisor/framework.conf site-queue_07": {"stop_timeout": "1h", "restart": "always", "user": "www-data"},
    "procfile/social.procfile stream": {"argv": ["env", "PORT=4000", "yarn", "workspace", "@social/streaming", "start"]},
    "procfile/cluster.procfile member3": {"restart": None},
    "procfile/platform.procfile api": {
        "argv": ["sh", "-c", "java $JAVA_OPTS -Dserver.port=$PORT -jar target/*.jar"]
    },
    "procfile/forge.procfile gitaly": {"argv": ["/opt/forge/bin/gitaly", "serve", "gitaly.config.toml"]},
    "process-compose/showcase.yaml loop": {
        "argv": ["bash", "-c", "./loop.bash gentle $HOME"], "after": "_setup", "stop_timeout": "4s",
        "env": {"ABC": "222", "EXIT_CODE": "0"},
    },
    "process-compose/showcase.yaml server": {"ready": {"http": "http://127.0.0.1:4040/"}},
    "process-compose/railway.yaml api": {
        "env": {
            "TOOL_PATH": "/", "OTEL_LOGS_EXPORTER": "none", "ROOT_URL": "http://localhost:4000/api",
            "MQ_URL": "amqp://tool:password@localhost:5672/%2f", "NO_CACHE": "false",
        }
    },
    "process-compose/network.yaml builder": {"after": ["node-0", "node-1", "node-2"]},
    "process-compose/network.yaml deploy-contracts": {
        "argv": ["bash", "-c", "unset FEE_CONTRACT_ADDRESS && deploy --deploy-fee"]
    },
    "process-compose/network.yaml node-1": {"ready": {"http": "http://localhost:24000/healthcheck"}},
    "process-compose/forum.yaml postgresql": {
        "ready": {"log": "database system is ready to accept connections"}, "stop_signal": "INT",
    },
    "process-compose/forum.yaml digest": {"cron": "0 6 * * MON"},
    "pm2/status.config.js status-page": {"cwd": "DATA/pm2", "env": {"STATUS_PORT": "3011", "STATUS_DB_POOL": "80"}},
    "pm2/shop.config.cjs storefront-1": {
        "argv": ["npm", "start", "--", "--hostname", "0.0.0.0"], "stop_timeout": "30s",
        "env": {
            "NODE_ENV": "production", "PORT": "3000", "HOST": "0.0.0.0", "CACHE": "DATA/pm2/.cache", "INSTANCE_ID": "1",
        },
    },
    "pm2/bots.json bot": {"argv": ["venv/bin/python", "-u", "bot.py", "--shard", "0"], "restart_prevent": [0, 42]},
    "pm2/bots.json backup": {"cron": "0 3 * * *", "overlap": "replace", "restart": None, "argv": ["bash", "./backup.sh"]},
    "pm2/monorepo.config.mjs api": {"cwd": "DATA/pm2/apps/api", "env": {"PORT": "4000", "TLS": "false"}},
    "systemd/caddy.service caddy": {"open_files": 1048576, "user": "caddy", "ready": {"notify": True}},
    "systemd/docker.service docker": {"restart_limit": {"restarts": 3, "within": "1m"}, "restart": "on-failure"},
    "systemd/etcd.service etcd": {"open_files": 65536, "env_files": ["/etc/default/etcd"]},
    "systemd/prometheus-node-exporter.service prometheus-node-exporter": {"stop_timeout": "20s", "user": "prometheus"},
    "systemd/proxy.service proxy": {
        "success_exit": [143, 75, "USR1"], "ready": {"notify": True, "timeout": "2m"}, "stop_timeout": "90s",
    },
    "systemd/shell-server.service shell-server": {"restart_prevent": [255], "env_files": ["/etc/default/ssh"]},
    "systemd/database@main.service database@main": {
        "argv": ["/usr/bin/databasectl", "--skip-systemctl-redirect", "main", "start"], "stop_timeout": "1h",
    },
    "systemd/web-app.service web-app": {"cwd": "/opt/web-app", "ready": {"notify": True, "timeout": "5s"}},
}  # fmt: skip


def imported(file: str, environ: Mapping[str, str] = ENVIRON) -> Source:
    return formats.read(DATA / file, file.partition("/")[0], environ)


def test_there_are_enough_of_each_format() -> None:
    found = {str(path.relative_to(DATA)) for path in DATA.glob("*/*")}
    assert found == EXPECTED.keys()
    for format in formats.FORMATS:
        assert sum(file.startswith(f"{format}/") for file in found) >= 4
    notice = (DATA / "NOTICE").read_text()
    for file in ("caddy", "docker", "etcd", "prometheus-node-exporter"):
        assert f"systemd/{file}.service" in notice


@pytest.mark.parametrize("file", EXPECTED)
def test_each_imports_whole_and_says_what_it_lost(file: str) -> None:
    names, lost = EXPECTED[file]
    source = imported(file)
    assert list(source.jobs) == names.split()
    where = dict.fromkeys(where.partition("=")[0] for where, _ in source.no_equivalent)
    assert sorted(where) == sorted([*lost, *ALWAYS[file.partition("/")[0]]])
    assert all(why for _, why in source.no_equivalent)


@pytest.mark.parametrize("where", FIELDS)
def test_what_means_the_same_is_a_field(where: str) -> None:
    file, _, name = where.partition(" ")
    job = imported(file).jobs[name]
    wanted = json.loads(json.dumps(FIELDS[where]).replace('"DATA/', f'"{DATA}/'))
    assert {field: job.get(field) for field in wanted} == wanted


@pytest.mark.parametrize("file", EXPECTED)
def test_each_could_be_applied(file: str, client: Client, tmp_path: Path) -> None:
    """All but the users and folders, which are not those of this machine."""
    written = tmp_path / "jobs.toml"
    written.write_text(jobfile.write(imported(file).jobs))
    tables = jobfile.read(written)
    for table in tables.values():
        table.pop("user", None)
        table["cwd"] = str(tmp_path) if not os.path.isdir(table["cwd"]) else table["cwd"]
    answer = client.call("jobs.apply", jobs=tables, dry_run=True)
    assert [change["change"] for change in answer["changes"]] == ["add"] * len(tables)
    assert {change["job"] for change in answer["changes"]} == set(tables)


def test_a_variable_that_is_not_set_is_named() -> None:
    where = [where for where, _ in imported("pm2/status.config.js").no_equivalent]
    assert "process.env.STATUS_SECRET" in where
    unset = imported("process-compose/network.yaml", {})
    assert {"${CHAIN_PORT}", "${NODE_API_PORT}"} <= {where for where, _ in unset.no_equivalent}
