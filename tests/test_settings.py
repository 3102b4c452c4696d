"""Settings: from where they come, which wins, and what is said of a wrong one."""

import os
from pathlib import Path

import pytest

from llmos import default_paths, settings
from llmos.errors import BadInput
from llmos.settings import load


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("LLMOS_SOCKET", "XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_RUNTIME_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "llmos.toml"


def test_the_places_of_a_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert default_paths.default_config() == tmp_path / ".config/llmos/llmos.toml"
    assert default_paths.default_state_dir() == tmp_path / ".local/state/llmos"
    assert default_paths.default_socket() == tmp_path / ".local/state/llmos/llmosd.sock"
    for name in ("CONFIG_HOME", "STATE_HOME", "RUNTIME_DIR"):
        monkeypatch.setenv(f"XDG_{name}", f"/xdg/{name}")
    assert default_paths.default_config() == Path("/xdg/CONFIG_HOME/llmos/llmos.toml")
    assert default_paths.default_state_dir() == Path("/xdg/STATE_HOME/llmos")
    assert default_paths.default_socket() == Path("/xdg/RUNTIME_DIR/llmos/llmosd.sock")


def test_a_relative_xdg_folder_counts_as_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CONFIG_HOME", "STATE_HOME", "RUNTIME_DIR"):
        monkeypatch.setenv(f"XDG_{name}", "relative")
    assert default_paths.default_config() == tmp_path / ".config/llmos/llmos.toml"
    assert default_paths.default_socket() == tmp_path / ".local/state/llmos/llmosd.sock"


def test_the_places_of_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setenv("XDG_STATE_HOME", "/xdg")
    assert default_paths.default_config() == Path("/etc/llmos/llmos.toml")
    assert default_paths.default_state_dir() == Path("/var/lib/llmos")
    assert default_paths.default_socket() == Path("/run/llmos/llmosd.sock")


def test_the_environment_names_the_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMOS_SOCKET", "/elsewhere.sock")
    for uid in (0, 1000):
        monkeypatch.setattr(os, "geteuid", lambda uid=uid: uid)
        assert default_paths.default_socket() == Path("/elsewhere.sock")
        assert load(Path("/dev/null")).socket == Path("/elsewhere.sock")


def test_without_a_file_there_are_defaults() -> None:
    assert load() == settings.Settings()
    assert load().policy.methods_allow == "change"


def test_the_default_file_is_read_where_it_is(tmp_path: Path) -> None:
    path = tmp_path / ".config/llmos/llmos.toml"
    path.parent.mkdir(parents=True)
    path.write_text("[jobs]\nlog_bytes = 100_000\n")
    assert load().jobs.log_bytes == 100_000


def test_what_is_given_wins_over_the_file(file: Path) -> None:
    file.write_text('socket = "/file.sock"\nstate_dir = "/file"\n[policy]\nmax_targets = 3\nprotected = ["db"]\n')
    found = load(file, socket="/given.sock", state_dir=None)
    assert (found.socket, found.state_dir) == (Path("/given.sock"), Path("/file"))
    assert (found.policy.max_targets, found.policy.protected) == (3, ("db",))


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("colour = 1", "colour"),
        ("[policy]\nmax_target = 3", "policy.max_target"),
        ("[policy]\nmax_targets = 0", "policy.max_targets"),
        ('[policy]\nmethods_allow = "everything"', "policy.methods_allow"),
        ("[jobs]\nlog_bytes = 10", "jobs.log_bytes"),
        ("[jobs]\nstop_timeout_seconds = -1", "jobs.stop_timeout_seconds"),
        ("[jobs]\nstop_timeout_seconds = inf", "jobs.stop_timeout_seconds"),
        ("[jobs]\nbackoff_cap_seconds = nan", "jobs.backoff_cap_seconds"),
        ("jobs = 3", "jobs"),
        ("[model]\nthreads = 0", "model.threads"),
    ],
)
def test_a_wrong_setting_is_named_with_its_file(file: Path, text: str, field: str) -> None:
    file.write_text(text)
    with pytest.raises(BadInput) as caught:
        load(file)
    assert str(file) in caught.value.message
    assert field in caught.value.message
    assert caught.value.data["field"] == field


def test_a_wrong_setting_that_was_given_is_not_blamed_on_a_file() -> None:
    with pytest.raises(BadInput) as caught:
        load(colour="red")
    assert "llmos.toml" not in caught.value.message
    assert "colour" in caught.value.message


@pytest.mark.parametrize("content", [b"a = \n", b"a = 1\na = 2\n", b"\xff\xfe"])
def test_what_is_no_toml_says_so(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    with pytest.raises(BadInput, match="is no TOML file"):
        load(file)


def test_a_file_that_was_named_must_be_there(file: Path) -> None:
    with pytest.raises(BadInput, match=r"cannot read the settings file .*No such file"):
        load(file)
    file.mkdir()
    with pytest.raises(BadInput, match="Is a directory"):
        load(file)


def test_a_default_file_that_cannot_be_read_is_said(tmp_path: Path) -> None:
    path = tmp_path / ".config/llmos/llmos.toml"
    path.mkdir(parents=True)
    with pytest.raises(BadInput, match="Is a directory"):
        load()
