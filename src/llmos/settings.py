"""Settings: where things lie and the choices a person can make, from defaults, a TOML file and the command line."""

import tomllib
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from llmos.default_paths import default_config, default_socket, default_state_dir
from llmos.errors import BadInput


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, defer_build=True)


class PolicySettings(_Section):
    """What may run without asking back, and what is protected."""

    methods_allow: Literal["read", "change", "destroy"] = "change"
    """The tier of a verb called as a method that names no `allow`."""
    max_targets: int = Field(default=10, ge=1)
    """More processes than this in one line that acts raise its risk to destroy."""
    protected: tuple[str, ...] = ()
    """Further process names that count as what the machine needs."""


class ModelSettings(_Section):
    """The model that turns words into plans."""

    name: str = "default"
    threads: int | None = Field(default=None, ge=1)
    idle_unload_seconds: float = Field(default=900, gt=0)
    timeout_seconds: float = Field(default=60, gt=0)
    sure: float | None = Field(default=None, ge=0, le=1)
    """Confidence below which two readings of a request are offered; what was calibrated for the model when absent."""


class JobSettings(_Section):
    """How jobs are supervised."""

    stop_timeout_seconds: float = Field(default=10, gt=0)
    """From TERM to KILL, where a stop names no timeout."""
    log_bytes: int = Field(default=64 * 1024**2, ge=64 * 1024)
    """How much output of each job is kept."""
    backoff_first_seconds: float = Field(default=0.25, gt=0)
    backoff_cap_seconds: float = Field(default=60, gt=0)
    healthy_seconds: float = Field(default=30, gt=0)
    """A job that ran this long starts its back-off anew."""


class LearnSettings(_Section):
    """How llmos learns from the person."""

    keep: bool = True
    """Keep what is accepted, edited and rejected, on this machine alone."""
    dev: Path | None = None
    """Cases whose share of right plans may fall by a point at most; a sample of generated ones when absent."""


class SchedulerSettings(_Section):
    """Who gets how much of the machine while it is short."""

    enabled: bool = True
    scope: Literal["jobs", "own", "all"] = "jobs"
    """Whom it may slow down: managed jobs; also heavy processes of the user that llmosd runs as; or, as root, of all."""
    policy: Literal["las", "hybrid", "learned"] = "hybrid"
    """Who goes first: least attained service, that and later the Gittins index, or what was learned."""
    starvation_seconds: float = Field(default=60, ge=1)
    """The longest that something which wants a processor goes without any."""


class Settings(_Section):
    """All settings of one daemon."""

    socket: Path = Field(default_factory=default_socket)
    state_dir: Path = Field(default_factory=default_state_dir)
    group: str = "llmos"
    """As root, the group whose members may use the socket, where that group exists."""
    policy: PolicySettings = PolicySettings()
    model: ModelSettings = ModelSettings()
    jobs: JobSettings = JobSettings()
    learn: LearnSettings = LearnSettings()
    scheduler: SchedulerSettings = SchedulerSettings()


def load(config: Path | None = None, **overrides: Any) -> Settings:
    """Read the settings; `overrides` that are not None win over the file.

    :raises BadInput: the file cannot be read, is no TOML, or holds a setting that does not exist.
    """
    path = config or default_config()
    given = {name: value for name, value in overrides.items() if value is not None}
    values: dict[str, Any] = {}
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        if config is not None or not isinstance(error, FileNotFoundError | NotADirectoryError):
            raise BadInput(f"cannot read the settings file {path}: {error.strerror}", field="config") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadInput(f"{path} is no TOML file: {error}", field="config") from None
    try:
        return Settings.model_validate(values | given)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(map(str, first["loc"]))
        where = "" if field in given else f"{path}: "
        raise BadInput(f"{where}{field}: {first['msg']}", field=field) from None
