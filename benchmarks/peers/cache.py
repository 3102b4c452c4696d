"""Where the other supervisors are installed: a folder each in the cache of the user, of a pinned version, once."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.peers.peer import Missing

INSTALL_SECONDS = 300


def folder(name: str, version: str) -> Path:
    """Where that version lies, or will."""
    cache = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(cache) if cache.startswith("/") else Path.home() / ".cache") / "llmos/peers" / f"{name}-{version}"


def from_pip(name: str, version: str) -> Path:
    """A virtual environment with a package in it; returns its folder of commands.

    :raises Missing: pip cannot install it.
    """
    place = folder(name, version)
    if not place.exists():
        part = _fresh(place)
        _run(name, [sys.executable, "-m", "venv", str(part)])
        _run(name, [str(part / "bin/python"), "-m", "pip", "install", "-q", f"{name}=={version}", "setuptools<81"])
        _keep(name, part, place)
    return place / "bin"


def from_npm(name: str, version: str) -> Path:
    """A folder with a package and what it needs in node_modules.

    :raises Missing: there is no node, or npm cannot install it.
    """
    for command in ("node", "npm"):
        if shutil.which(command) is None:
            raise Missing(f"{command} is not here; install Node.js 20 or newer, as by apt install nodejs npm")
    place = folder(name, version)
    if not place.exists():
        part = _fresh(place)
        _run(
            name, ["npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", str(part), f"{name}@{version}"]
        )
        _keep(name, part, place)
    return place


def _fresh(place: Path) -> Path:
    """A folder to install in, beside the place where it goes once it is whole."""
    part = place.with_name(f"{place.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    return part


def _keep(name: str, part: Path, place: Path) -> None:
    """Put a whole installation in its place; the scripts of a virtual environment name the folder they lie in."""
    part.rename(place)
    for script in (place / "bin").glob("*"):
        if script.is_file() and not script.is_symlink() and (text := script.read_bytes()).startswith(b"#!"):
            script.write_bytes(text.replace(bytes(part), bytes(place)))


def _run(name: str, command: list[str]) -> None:
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=INSTALL_SECONDS)
    except subprocess.CalledProcessError as error:
        said = (error.stderr or error.stdout).decode(errors="replace").strip().splitlines()
        raise Missing(f"{name} cannot be installed: {said[-1] if said else 'no word of why'}") from None
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Missing(f"{name} cannot be installed: {error}") from None
