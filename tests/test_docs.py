"""What is generated from the registry is up to date, complete and checked."""

from pathlib import Path

from llmos import client_source, docs
from llmos.errors import BY_CODE
from llmos.kernel.openrpc import discover
from llmos.syscalls import SYSCALLS


def test_the_generated_files_are_up_to_date() -> None:
    assert docs.check() == []


def test_a_stale_file_is_found_and_written(tmp_path: Path) -> None:
    assert docs.write(tmp_path) == list(docs.GENERATED)
    assert docs.check(tmp_path) == []
    page = tmp_path / "docs/verbs.md"
    page.write_text(page.read_text().replace("kill", "keel"))
    (difference,) = docs.check(tmp_path)
    assert "-| `keel`" in difference and "+| `kill`" in difference
    assert docs.write(tmp_path) == ["docs/verbs.md"]


def test_every_verb_is_a_row() -> None:
    page = docs.verbs_page()
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    assert [row.split("`")[1] for row in rows] == list(SYSCALLS)
    assert all(row.replace("\\|", "").count("|") == 6 for row in rows)


def test_every_command_has_its_help() -> None:
    page = docs.commands_page()
    for name in [f"llmos {syscall.verb}" for syscall in client_source.callable_verbs()] + [
        "llmos ask",
        "llmos model pull",
    ]:
        assert f"\n## {name}\n" in page
    assert "Traceback" not in page and str(Path.home()) not in page


def test_every_method_and_error_is_on_the_page() -> None:
    page = docs.methods_page()
    for method in discover()["methods"]:
        assert f"## `{method['name']}`" in page
    for code in BY_CODE:
        assert f"| `{code}` |" in page
