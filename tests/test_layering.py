"""Imports point one way, at every level of the folder tree. Each test lists all that breaks its rule."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = ("bundler", "infini_llama", "demo", "benchmarks", "docs")
HEAVY = {"torch", "transformers", "datasets", "accelerate", "infini_llama"}


def _name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {_name(path): path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))}


def _imports(path: Path, *, at_import_only: bool = False) -> Iterator[str]:
    """Yield what a module imports by its full name; `from package import name` counts as `package.name`."""

    def walk(node: ast.AST) -> Iterator[ast.AST]:
        for child in ast.iter_child_nodes(node):
            yield child
            is_function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            types_only = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test)
            if not (at_import_only and (is_function or types_only)):
                yield from walk(child)

    for node in walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute here"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield whole if whole in MODULES else node.module or ""


def test_no_two_neighbours_in_a_folder_import_each_other_even_by_way_of_others() -> None:
    # folder -> a module or package in it -> those beside it that it imports. A package's own `__init__` stands for
    # none of them: it names what is loaded on use, the one arrow that points up.
    arrows: dict[str, dict[str, set[str]]] = {}
    for module, path in MODULES.items():
        for imported in _imports(path):
            ours, theirs = module.split("."), imported.split(".")
            shared = next((n for n, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b), None)
            if shared is not None:
                arrows.setdefault(".".join(ours[:shared]), {}).setdefault(ours[shared], set()).add(theirs[shared])
    circles = []
    for folder, neighbours in arrows.items():
        try:
            TopologicalSorter(neighbours).prepare()
        except CycleError as error:
            circles.append((folder, error.args[1]))
    assert circles == []


def test_what_must_stay_light_or_apart_imports_nothing_of_the_others() -> None:
    wrong = []
    for module, path in MODULES.items():
        package = module.split(".")[0]
        if package == "bundler" and not module.startswith("bundler.make.proof."):  # those run in a child process
            roots = {name.split(".")[0] for name in _imports(path, at_import_only=True)}
            wrong += [(module, name) for name in sorted(roots & HEAVY)]
        if package == "infini_llama":
            wrong += [(module, name) for name in _imports(path) if name.startswith("bundler.cli")]
    assert wrong == []


def test_only_one_module_hashes() -> None:
    hashing = {name for name, path in MODULES.items() if {"hashlib", "blake3"} & set(_imports(path))}
    assert {name for name in hashing if name.startswith("bundler.")} == {"bundler.files.digest"}
