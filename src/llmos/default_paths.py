"""Where things lie when nobody says otherwise: the settings file, the state, the socket."""

import os
from pathlib import Path


def _xdg(variable: str, fallback: str) -> Path:
    value = os.environ.get(variable, "")
    return Path(value) if value.startswith("/") else Path.home() / fallback


def default_config() -> Path:
    """The settings file: /etc/llmos/llmos.toml as root, else $XDG_CONFIG_HOME/llmos/llmos.toml."""
    return (
        Path("/etc/llmos/llmos.toml") if os.geteuid() == 0 else _xdg("XDG_CONFIG_HOME", ".config") / "llmos/llmos.toml"
    )


def default_state_dir() -> Path:
    """Where the journal and the logs lie: /var/lib/llmos as root, else $XDG_STATE_HOME/llmos."""
    return Path("/var/lib/llmos") if os.geteuid() == 0 else _xdg("XDG_STATE_HOME", ".local/state") / "llmos"


def default_socket() -> Path:
    """Where the daemon listens: $LLMOS_SOCKET, else /run/llmos as root, $XDG_RUNTIME_DIR/llmos, or the state folder."""
    if named := os.environ.get("LLMOS_SOCKET"):
        return Path(named)
    if os.geteuid() == 0:
        return Path("/run/llmos/llmosd.sock")
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    return (Path(runtime) / "llmos" if runtime.startswith("/") else default_state_dir()) / "llmosd.sock"
