"""process-compose.yaml: what development environments write in it."""

import pytest

from importing import Import, lost
from llmos.errors import BadInput

DEVELOPMENT = """
version: "0.5"
is_strict: true
log_location: ./pc.log
environment:
  - 'DATA=${HOME}/data'
vars:
  port: 8080
processes:
  postgres:
    command: |
      postgres -D "$$PGDATA" -k /tmp
    environment:
      PGDATA: ./data
    shutdown:
      signal: 2
      timeout_seconds: 4
    readiness_probe:
      exec:
        command: "pg_isready -h /tmp"
      initial_delay_seconds: 2
    availability:
      restart: on_failure
      backoff_seconds: 2
      max_restarts: 5
  migrate:
    command: "alembic upgrade head"
    depends_on:
      postgres:
        condition: process_healthy
  api:
    command: "uvicorn app:app --port {{.port}}"
    working_dir: backend
    depends_on:
      migrate:
        condition: process_completed_successfully
      mailhog:
        condition: process_started
    liveness_probe:
      http_get:
        host: 127.0.0.1
        port: 8080
        path: /health
      period_seconds: 15
      failure_threshold: 2
    availability:
      restart: always
    ready_log_line: "Uvicorn running"
  mailhog:
    command: MailHog
    namespace: tools
    is_tty: true
  worker:
    entrypoint: ["python", "-m", "worker", "--number", "{{ .PC_REPLICA_NUM }}"]
    replicas: 2
    depends_on:
      api:
        condition: process_log_ready
      shell:
        condition: process_started
    availability:
      restart: no
  shell:
    command: psql
    is_foreground: true
"""


def test_a_development_environment(imported: Import) -> None:
    source = imported("process-compose.yaml", DEVELOPMENT, environ={"HOME": "/home/me"})
    assert list(source.jobs) == ["postgres", "migrate", "api", "mailhog", "worker-0", "worker-1"]
    postgres, migrate, api = (source.jobs[name] for name in ("postgres", "migrate", "api"))
    assert postgres["argv"] == ["bash", "-c", 'postgres -D "$PGDATA" -k /tmp']
    assert postgres["env"] == {"DATA": "/home/me/data", "PGDATA": "./data"}
    assert (postgres["restart"], postgres["stop_signal"], postgres["stop_timeout"]) == ("on-failure", "INT", "4s")
    assert postgres["ready"] == {"exec": ["bash", "-c", "pg_isready -h /tmp"]}
    assert (migrate["argv"], migrate["after"]) == (["alembic", "upgrade", "head"], "postgres")
    assert api["argv"] == ["uvicorn", "app:app", "--port", "8080"] and api["after"] == "migrate"
    assert api["ready"] == {"log": "Uvicorn running"}
    assert api["health"] == {"http": "http://127.0.0.1:8080/health", "interval": "15s", "timeout": "1s", "failures": 2}
    assert source.jobs["worker-1"]["argv"][-1] == "1" and source.jobs["worker-1"]["after"] == "api"
    assert "restart" not in source.jobs["worker-0"]
    assert lost(source) == {
        "is_strict",
        "log_location",
        "postgres: readiness_probe.initial_delay_seconds=2",
        "postgres: backoff_seconds=2",
        "postgres: max_restarts=5",
        "api: depends_on mailhog: process_started",
        "mailhog: namespace=tools",
        "mailhog: is_tty=True",
        "worker: depends_on shell",
        "shell: is_foreground",
        "environment",
    }


def test_a_variable_that_is_not_set_is_told(imported: Import) -> None:
    source = imported("process-compose.yml", "processes:\n  a:\n    command: run ${NO_SUCH}now\n")
    assert source.jobs["a"]["argv"] == ["run", "now"] and "${NO_SUCH}" in lost(source)
    kept = imported("process-compose.yml", "disable_env_expansion: true\nprocesses:\n  a:\n    command: run $X\n")
    assert kept.jobs["a"]["argv"] == ["bash", "-c", "run $X"]


def test_aliases_that_would_fill_the_memory_are_refused(imported: Import) -> None:
    bomb = "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 20))
    with pytest.raises(BadInput, match="more than 100000 values"):
        imported("process-compose.yaml", f"{bomb}processes:\n  a:\n    command: *a19\n")
    with pytest.raises(BadInput, match="more than 100000 values"):
        imported("process-compose.yaml", "processes: &all\n  a: *all\n")
    with pytest.raises(BadInput, match="nested too deep"):
        imported("process-compose.yaml", "[" * 100_000)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("processes:\n  a: [\n", r"process-compose\.yaml:\d: it is no YAML"),
        ("services: {}\n", "it has no `processes`"),
        ("processes:\n  a: 3\n", "a is to be a mapping"),
        ("processes:\n  a:\n    working_dir: /\n", "a has neither a command nor an entrypoint"),
        ("processes:\n  a:\n    command: x\n    availability: {restart: maybe}\n", "'maybe' is none of"),
        ("processes:\n  a:\n    command: x\n    depends_on: {b: {}}\n", "there is no process 'b'"),
        ("processes:\n  a:\n    command: x {{.unknown}}\n", r"\{\{\.unknown\}\} is neither"),
        ("processes:\n  a:\n    command: x\n    replicas: many\n", "write a number from 1"),
        ("processes:\n  a:\n    command: x\n    environment: [A]\n", "write each entry as NAME=VALUE"),
        ("processes:\n  a:\n    command: x\n    readiness_probe: {period_seconds: 3}\n", "neither exec nor http_get"),
    ],
)
def test_errors_say_where_and_what_to_do(imported: Import, text: str, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        imported("process-compose.yaml", text)
