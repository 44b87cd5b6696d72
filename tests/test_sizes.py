"""No module, folder or function grows past what can be read in one go. ruff's C901 keeps complexity to 15.

An exception has a reason beside it, and goes when it is no longer needed: a stale one fails too.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = ("bundler", "infini_llama", "demo", "benchmarks", "docs", "tests")

MOST_LINES = 350
MOST_MODULES = 15
MOST_FUNCTION_LINES = 60

ARGUMENTS = "a dozen arguments, each with a line that describes it"
ONE_SUBJECT = "tests of one module share their set-up"

MODULES = {
    "docs/generate/bundle_outputs.py": "a table, a row for each key of each output",
    "tests/hub/selection/test_files.py": ONE_SUBJECT,
    "tests/infini_llama/model/test_modeling.py": ONE_SUBJECT,
    "tests/make/test_proof.py": ONE_SUBJECT,
    "tests/offline/kernel/test_seccomp.py": ONE_SUBJECT,
    "tests/plan/test_manifest.py": ONE_SUBJECT,
}
FOLDERS = {
    "bundler/cli": "a module for each command",
}
FUNCTIONS = {
    "bundler/cli/fetch.py: fetch": ARGUMENTS,
    "bundler/home/installation/install.py: install": ARGUMENTS,
    "bundler/make/bundle.py: make_bundle": ARGUMENTS,
    "bundler/make/trained/pack.py: pack_folder": ARGUMENTS,
    "bundler/offline/run.py: run_offline": ARGUMENTS,
}


def _paths() -> Iterator[Path]:
    for package in PACKAGES:
        # Each checkpoint that a benchmark writes has the file of its model.
        yield from sorted(
            path for path in (ROOT / package).rglob("*.py") if ROOT / "benchmarks/work" not in path.parents
        )


def _function_lines(path: Path) -> Iterator[tuple[str, int]]:
    """Yield the name and length of each function, its docstring included and its decorators not."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            yield node.name, node.end_lineno - node.lineno + 1


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def test_no_module_is_longer_than_can_be_read_in_one_go() -> None:
    lines = {_name(path): len(path.read_text().splitlines()) for path in _paths()}
    assert {name for name, count in lines.items() if count > MOST_LINES} == set(MODULES)


def test_no_folder_holds_more_modules_than_a_list_shows_at_a_glance() -> None:
    modules: dict[str, int] = {}
    for path in _paths():
        modules[_name(path.parent)] = modules.get(_name(path.parent), 0) + (path.name != "__init__.py")
    assert {name for name, count in modules.items() if count > MOST_MODULES} == set(FOLDERS)


def test_no_function_is_longer_than_a_screen() -> None:
    longer = {
        f"{_name(path)}: {name}"
        for path in _paths()
        for name, count in _function_lines(path)
        if count > MOST_FUNCTION_LINES
    }
    assert longer == set(FUNCTIONS)
