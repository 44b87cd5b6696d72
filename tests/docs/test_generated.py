"""The pages that `make docs` writes are current, and cover all there is."""

from __future__ import annotations

import shutil
from pathlib import Path

import click
import pytest

from bundler.cli import main as bundle
from docs.generate import pages, parts
from docs.generate.outputs import fields
from docs.generate.reference import OUTPUTS
from docs.generate.sources import ROOT, definition, imports, meanings
from infini_llama.cli import main as infini_llama

GROUPS = {"bundle": bundle, "infini-llama": infini_llama}


def test_every_page_is_what_the_code_says() -> None:
    assert pages.stale() == [], "run `make docs`"


def test_a_stale_page_is_found_and_written(tmp_path: Path) -> None:
    for path in (*pages.WHOLE, *pages.PLACES):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, tmp_path / path)
    (tmp_path / "docs/reference/json.md").unlink()
    document = tmp_path / "docs/architecture.md"
    whole = document.read_text()
    pages.MARKS.write(document, "of yesterday")
    assert pages.stale(tmp_path) == ["docs/reference/json.md", "docs/architecture.md"]
    assert pages.write(tmp_path) == ["docs/reference/json.md", "docs/architecture.md"]
    assert pages.stale(tmp_path) == []
    assert document.read_text() == whole


def _with_commands(command: click.Command) -> list[click.Command]:
    """A command, and those below it if it is a group."""
    return [command, *(command.commands.values() if isinstance(command, click.Group) else [])]


@pytest.mark.parametrize("name", GROUPS)
def test_every_command_that_writes_json_is_documented_and_tried(name: str) -> None:
    group = GROUPS[name]
    context = click.Context(group)
    options = {
        command: {
            option for each in _with_commands(found) for parameter in each.params for option in parameter.opts
        }
        for command in group.list_commands(context)
        if (found := group.get_command(context, command))
    }
    writing = {command for command, names in options.items() if names & {"--json", "--report"}}
    documented = [output.call for output in OUTPUTS if output.call.startswith(f"{name} ")]
    assert {call.split()[1] for call in documented} == writing
    assert len(set(documented)) == len(documented)
    tests = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*_outputs.py"))
    assert [call for call in documented if f'check("{call}"' not in tests] == []


def test_every_package_is_on_one_level_and_imports_only_lower_ones() -> None:
    for project in parts.PROJECTS:
        levels = parts.order(project)
        position = {name: number for number, level in enumerate(levels) for name in level}
        assert all(position[below] < position[name] for name, below in parts.direct(project))


def test_bundler_imports_nothing_of_the_trainer() -> None:
    files = sorted((ROOT / "bundler").rglob("*.py"))
    assert [str(path) for path in files if any(name.startswith("infini_llama") for name in imports(path))] == []


def test_a_definition_that_is_not_there_is_an_error_that_names_it() -> None:
    with pytest.raises(LookupError, match=r"there is no file bundler/absent\.py"):
        definition("bundler/absent.py:x")
    with pytest.raises(LookupError, match="there is no 'absent'"):
        definition("bundler/errors.py:BundleError.absent")


def test_a_field_of_an_unknown_type_or_without_a_meaning_is_an_error() -> None:
    with pytest.raises(LookupError, match="entries is a"):
        fields("bundler/make/proof/run.py:Proof")
    with pytest.raises(LookupError, match="expected a docstring with a section"):
        meanings("bundler/errors.py:UsageError")
