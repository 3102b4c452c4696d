"""`llmos model`: the list, and the choice written into a person's settings file."""

import json
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from llmos.cli import model, run
from llmos.errors import BadInput
from nlui.shipped import ship
from nlui.training_model import write_random_model

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def llmos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    monkeypatch.setenv("LLMOS_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("LLMOS_SOCKET", str(tmp_path / "none"))
    monkeypatch.setattr(model, "default_config", lambda: tmp_path / "config" / "llmos.toml")
    monkeypatch.setattr("llmos.settings.default_config", lambda: tmp_path / "config" / "llmos.toml")

    def command(*words: str) -> tuple[int, str, str]:
        code = run(list(words))
        sys.stdout.flush()
        captured = capfd.readouterr()
        return code, captured.out, captured.err

    return command


@pytest.fixture
def own_file(tmp_path: Path) -> Path:
    path = tmp_path / "own.gguf"
    path.write_bytes(b"GGUF" + bytes(100))
    return path


def test_the_list_says_what_is_known_here_and_used(llmos: Command, own_file: Path) -> None:
    assert llmos("model", "pull", str(own_file))[0] == 0
    rows = {row["name"]: row for row in json.loads(llmos("model", "list", "--json")[1])}
    assert rows["default"]["in_use"] and not rows["default"]["installed"]
    assert rows["own"]["installed"] and rows["own"]["path"] == str(own_file)
    assert rows["own"]["size_bytes"] == 104
    assert "Qwen" in llmos("model", "list")[1]


def test_a_choice_is_what_the_settings_say_from_then_on(llmos: Command, own_file: Path) -> None:
    llmos("model", "pull", str(own_file))
    assert llmos("model", "use", "own")[0] == 0
    rows = {row["name"]: row for row in json.loads(llmos("model", "list", "--json")[1])}
    assert rows["own"]["in_use"] and not rows["default"]["in_use"]


def test_what_is_not_here_cannot_be_used_or_removed(llmos: Command) -> None:
    code, _, err = llmos("model", "use", "default")
    assert code == 11 and "llmos model pull default" in err
    assert llmos("model", "rm", "default")[0] == 3


def test_a_registered_file_is_forgotten_but_kept(llmos: Command, own_file: Path) -> None:
    llmos("model", "pull", str(own_file))
    assert llmos("model", "rm", "own")[0] == 0
    assert own_file.exists()


@pytest.fixture
def adapted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model that an adapter is shipped for."""
    path = write_random_model(tmp_path / "own.gguf", "llama")
    ship(path, tmp_path / "trained", monkeypatch)
    return path


def test_a_model_is_merged_with_its_adapter(llmos: Command, adapted: Path, tmp_path: Path) -> None:
    code, out, err = llmos("model", "pull", str(adapted), "--json")
    assert (code, err) == (0, "")
    path = Path(json.loads(out)["merged"])
    assert path.is_file() and path.parent == tmp_path / "models/merged"
    rows = {row["name"]: row for row in json.loads(llmos("model", "list", "--json")[1])}
    assert rows["own"]["merged"] is True and rows["default"]["merged"] is None
    path.unlink()
    rows = {row["name"]: row for row in json.loads(llmos("model", "list", "--json")[1])}
    assert rows["own"]["merged"] is False
    llmos("model", "pull", "own")
    assert path.is_file()
    assert llmos("model", "rm", "own")[0] == 0
    assert not list(path.parent.iterdir()) and adapted.is_file()


def test_a_model_that_cannot_be_merged_is_used_all_the_same(
    llmos: Command, adapted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=1000))
    code, out, err = llmos("model", "pull", str(adapted), "--json")
    assert code == 0 and json.loads(out)["merged"] is None
    assert "no room" in err and "unmerged" in err


def test_what_is_no_model_is_refused(llmos: Command, tmp_path: Path) -> None:
    (tmp_path / "x").write_text("hello")
    assert llmos("model", "pull", str(tmp_path / "x"))[0] == 11
    assert llmos("model", "pull", "nonsense")[0] == 11


@pytest.mark.parametrize("words", [["list"], ["pull", "default"], ["rm", "tiny"], ["use", "tiny"]])
def test_dry_run_does_nothing(llmos: Command, tmp_path: Path, words: list[str]) -> None:
    code, out, _ = llmos("model", *words, "--dry-run", "--json")
    assert code == 0 and json.loads(out)["dry_run"] is True
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "before",
    [
        "",
        "# mine\ngroup = 'x'",
        "[model]\n",
        "[model]",
        "[model] # mine\nthreads = 2\nname = 'other' # was\n\n[policy]\nmax_targets = 3\n",
        "[policy]\nmax_targets = 3\n[model]\nthreads = 2\n[jobs]\nlog_bytes = 70000\n",
        "[jobs]\n# name = 'not this'\n[model]\nidle_unload_seconds = 1\n",
    ],
)
def test_the_choice_changes_nothing_else_in_the_file(tmp_path: Path, before: str) -> None:
    config = tmp_path / "llmos.toml"
    config.write_text(before)
    for name in ("other", '/models/a "b".gguf', "C:\\x"):
        model.write_choice(config, name)
        wanted = tomllib.loads(before)
        wanted.setdefault("model", {})["name"] = name
        assert tomllib.loads(config.read_text()) == wanted
    assert [line for line in before.splitlines() if "#" in line and "name =" not in line] == [
        line for line in config.read_text().splitlines() if "#" in line and "name =" not in line
    ]


@pytest.mark.parametrize(("before", "name"), [("[[[", "other"), ("model = {threads = 2}", "other"), ("", "it's")])
def test_a_file_that_cannot_be_changed_is_left_alone(tmp_path: Path, before: str, name: str) -> None:
    config = tmp_path / "llmos.toml"
    config.write_text(before)
    with pytest.raises(BadInput):
        model.write_choice(config, name)
    assert config.read_text() == before
