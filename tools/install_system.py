"""Install llmos for the whole machine, as a systemd service, or remove it: `install_system.py install|uninstall`.

Run by the Python of a checkout's .venv. That environment is copied without what only development needs, so nothing is
downloaded or compiled. DESTDIR in the environment puts all below another root, and then no group is made, no model
fetched and nothing started.
"""

import os
import re
import shutil
import stat
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

from llmos import Client
from llmos.errors import Unavailable

ROOT = Path(__file__).resolve().parent.parent
VENV = Path(sys.prefix)
DESTDIR = os.environ.get("DESTDIR", "")
PREFIX = Path("/opt/llmos")
UNITS = Path("/etc/systemd/system")
CONFIG = Path("/etc/llmos/llmos.toml")
COMMAND = Path("/usr/local/bin/llmos")
SOCKET = Path("/run/llmos/llmosd.sock")
GROUP = "llmos"
SERVICE, SOCKET_UNIT = "llmosd.service", "llmosd.socket"


def main() -> None:
    """Do what the command line says."""
    match sys.argv[1:]:
        case ["install"]:
            require_root()
            install()
        case ["uninstall"]:
            require_root()
            uninstall()
        case _:
            sys.exit("usage: install_system.py install|uninstall")


def install() -> None:
    """Put everything in its place; a running llmosd is restarted, and its jobs run on."""
    require_trusted(Path(sys.executable).resolve())
    staged = placed(PREFIX.with_name("llmos.new"))
    shutil.rmtree(staged, ignore_errors=True)
    copy_environment(staged / ".venv")
    replace(placed(PREFIX), staged)
    for unit in (SERVICE, SOCKET_UNIT):
        copy(ROOT / "configs" / unit, placed(UNITS / unit))
    if not placed(CONFIG).exists():
        copy(ROOT / "configs/llmos.toml", placed(CONFIG))
    placed(COMMAND).parent.mkdir(parents=True, exist_ok=True)
    placed(COMMAND).unlink(missing_ok=True)
    placed(COMMAND).symlink_to(PREFIX / ".venv/bin/llmos")
    print(f"llmos is in {placed(PREFIX)}, its settings in {placed(CONFIG)}")
    if DESTDIR:
        return
    run("groupadd", "--system", "--force", GROUP)
    if subprocess.run([COMMAND, "model", "pull"]).returncode:
        print("without a model there is no `ask`, but all else; `llmos model pull` fetches it later")
    if systemd_runs():
        run("systemctl", "daemon-reload")
        run("systemctl", "enable", "--now", SOCKET_UNIT)
        run("systemctl", "enable", SERVICE)
        run("systemctl", "restart", SERVICE)
        print(f"llmosd runs; members of the group {GROUP} may use {SOCKET}")
    else:
        print(f"systemd does not run here: where it does, `systemctl enable --now {SERVICE}` starts llmosd")


def uninstall() -> None:
    """Take everything away but the settings, the state and the group. Refused while jobs run."""
    if not DESTDIR:
        end_daemon()
        if systemd_runs():
            run("systemctl", "disable", "--now", SOCKET_UNIT, SERVICE)
    for unit in (SERVICE, SOCKET_UNIT):
        placed(UNITS / unit).unlink(missing_ok=True)
    placed(COMMAND).unlink(missing_ok=True)
    shutil.rmtree(placed(PREFIX), ignore_errors=True)
    if not DESTDIR and systemd_runs():
        run("systemctl", "daemon-reload")
    print(f"llmos is removed; {CONFIG.parent}, /var/lib/llmos and the group {GROUP} are kept")


def end_daemon() -> None:
    """End llmosd and its reaper."""
    try:
        with Client(SOCKET) as client:
            if running := [str(job["name"]) for job in client.jobs() if job.get("pid")]:
                sys.exit(f"jobs still run: {', '.join(running)}; `llmos down --jobs` ends them, then try again")
            client.shutdown(jobs=True)
    except Unavailable:
        print("llmosd does not run")


def copy_environment(target: Path) -> None:
    """Make a virtual environment of this one's Python, with llmos and the distributions that it needs."""
    python = Path(sys.executable).resolve()
    packages = target / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    packages.mkdir(parents=True)
    shutil.copytree(ROOT / "src/llmos", packages / "llmos")
    for distribution in needed().values():
        for file in distribution.files or []:
            outside = ".." in file.parts  # commands and manual pages
            if not outside and (source := Path(str(file.locate()))).exists():
                copy(source, packages / file)
    (target / "bin").mkdir()
    (target / "bin/python").symlink_to(python)
    (target / "pyvenv.cfg").write_text(f"home = {python.parent}\ninclude-system-site-packages = false\n")
    for name in ("llmos", "llmosd"):
        script = target / "bin" / name
        script.write_text((VENV / "bin" / name).read_text().replace(str(VENV), str(PREFIX / ".venv")))
        script.chmod(0o755)


def needed() -> dict[str, metadata.Distribution]:
    """The distributions that llmos needs, by normalised name; those of its extras but `dev` where they are installed."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    optional = (line for extra, lines in project["optional-dependencies"].items() if extra != "dev" for line in lines)
    queue = [*map(Requirement, project["dependencies"]), *filter(installed, map(Requirement, optional))]
    found: dict[str, metadata.Distribution] = {}
    seen: set[str] = set()
    while queue:
        requirement = queue.pop()
        if str(requirement) in seen:
            continue
        seen.add(str(requirement))
        if not installed(requirement):
            sys.exit(f"{VENV} lacks {requirement}; run `make install` first")
        distribution = found[re.sub(r"[-_.]+", "-", requirement.name).lower()] = metadata.distribution(requirement.name)
        for line in distribution.requires or []:
            wanted = Requirement(line)
            extras = ("", *requirement.extras)
            if wanted.marker is None or any(wanted.marker.evaluate({"extra": extra}) for extra in extras):
                queue.append(wanted)
    return found


def installed(requirement: Requirement) -> bool:
    """Whether a distribution of that name is in this environment."""
    try:
        metadata.distribution(requirement.name)
    except metadata.PackageNotFoundError:
        return False
    return True


def replace(target: Path, staged: Path) -> None:
    """Put a folder in the place of another by renames."""
    old = target.with_name(f"{target.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        target.rename(old)
    staged.rename(target)
    shutil.rmtree(old, ignore_errors=True)


def require_root() -> None:
    """End unless all that is touched lies below DESTDIR, or we are root."""
    if os.geteuid() != 0 and not DESTDIR:
        sys.exit(f"this changes the machine: sudo {sys.executable} {' '.join(sys.argv)}")


def require_trusted(python: Path) -> None:
    """End where someone else could change the Python that root is to run."""
    for path in () if DESTDIR else (python, *python.parents):
        found = path.stat()
        if found.st_uid != 0 or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            sys.exit(
                f"{path} can be changed by others than root; make .venv anew: make clean install PYTHON=/usr/bin/python3"
            )


def placed(path: Path) -> Path:
    """Where a path of the installed system lies now."""
    return Path(DESTDIR) / path.relative_to("/") if DESTDIR else path


def copy(source: Path, target: Path) -> None:
    """Copy a file with its times, which keep compiled Python valid."""
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(source, target)


def systemd_runs() -> bool:
    """Whether systemd is the init of this machine (sd_booted(3))."""
    return Path("/run/systemd/system").is_dir()


def run(*command: str) -> None:
    """Run a command that must succeed."""
    if subprocess.run(command).returncode:
        sys.exit(f"failed: {' '.join(command)}")


if __name__ == "__main__":
    main()
