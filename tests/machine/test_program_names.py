"""The names that find a process."""

import pytest

from llmos.machine.program_names import goes_by, names_of


@pytest.mark.parametrize(
    ("wanted", "name", "argv"),
    [
        ("python", "python3", ["/usr/bin/python3", "-u", "train.py"]),
        ("python", "python3.11", ["python3.11"]),
        ("python3", "python3.11", ["python3.11"]),
        ("Python", "python3", ["python3"]),
        ("train.py", "python3", ["python3", "-u", "-W", "ignore", "/srv/train.py", "--epochs", "3"]),
        ("train.py", "python3", ["python3", "-Wonce", "train.py"]),
        ("http.server", "python3", ["python3", "-m", "http.server", "8000"]),
        ("node-red", "node", ["node", "--max-old-space-size=256", "/usr/bin/node-red"]),
        ("node", "node18", ["node18", "server.js"]),
        ("server.js", "nodejs", ["nodejs", "-r", "dotenv/config", "server.js"]),
        ("app.jar", "java", ["java", "-Xmx1g", "-jar", "/opt/app.jar"]),
        ("com.shop.main", "java", ["java", "-cp", "/opt/lib/*", "com.shop.Main"]),
        ("backup.sh", "backup.sh", ["/bin/bash", "/etc/cron.daily/backup.sh"]),
        ("bash", "backup.sh", ["/bin/bash", "/etc/cron.daily/backup.sh"]),
        ("bash", "bash", ["-bash"]),
        ("nginx", "nginx", ["nginx: worker process"]),
        ("gunicorn", "gunicorn: maste", ["gunicorn: master [shop]"]),
        ("my app", "my app", ["/opt/my app"]),
        ("kworker/0:1", "kworker/0:1", []),
        ("服务器", "服务器", ["./服务器"]),
    ],
)
def test_goes_by(wanted: str, name: str, argv: list[str]) -> None:
    assert goes_by(wanted, names_of(name, argv))


@pytest.mark.parametrize(
    ("wanted", "name", "argv"),
    [
        ("worker", "worker2", ["worker2"]),  # only an interpreter's number is a version
        ("python3.1", "python3.11", ["python3.11"]),
        ("python", "pythonista", ["pythonista"]),
        ("python3.11", "python3", ["python3"]),
        ("train.py", "vim", ["vim", "train.py"]),
        ("train.py", "python3", ["python3", "-c", "import train", "train.py"]),
        ("x", "bash", ["bash", "-lc", "x"]),
        ("print", "perl", ["perl", "-ne", "print"]),
        ("ignore", "python3", ["python3", "-W", "ignore"]),
        ("", "bash", ["bash"]),
        ("", "python3", ["python3", "-m"]),
    ],
)
def test_does_not_go_by(wanted: str, name: str, argv: list[str]) -> None:
    assert not goes_by(wanted, names_of(name, argv))
