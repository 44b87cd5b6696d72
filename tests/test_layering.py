"""Data flows one way, and so do imports: a module may import what stands above it in this list, never below."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# A name covers the module, or the package and all in it. One line is one layer; within a layer all may import all.
LAYERS = [
    "bundler.errors bundler.wording",
    "bundler.access bundler.digest bundler.synced_file bundler.paths bundler.small_files bundler.names bundler.cores",
    "bundler.ahead bundler.file_digests",
    "bundler.strict_yaml bundler.manifest_rules bundler.manifest",
    "bundler.lock",
    "bundler.lockfile",
    "bundler.cache",
    "bundler.format",
    "bundler.store",
    "bundler.hub",
    "bundler.fetch",
    "bundler.receipt bundler.conflicts bundler.home_lock",
    "bundler.base",
    "bundler.pack bundler.packed",
    "bundler.verify",
    "bundler.publish bundler.set_aside",
    "bundler.prune",
    "bundler.unfinished bundler.found",
    "bundler.installed",
    "bundler.unpack",
    "bundler.install",
    "bundler.offline",
    "bundler.doctor",
    "bundler.proof",
    "bundler.cli bundler.__main__",
    "infini_llama",
    "demo",
]
EVERYWHERE = {"bundler"}  # the package itself: `__version__`, and names that are loaded on use
HEAVY = {"torch", "transformers", "datasets", "accelerate"}


def _modules() -> dict[str, Path]:
    found = {}
    for package in ("bundler", "infini_llama", "demo"):
        for path in sorted((ROOT / package).rglob("*.py")):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            found[name.removesuffix(".__init__")] = path
    return found


MODULES = _modules()


def _layer(module: str) -> int:
    for number, names in enumerate(LAYERS):
        if any(module == name or module.startswith(f"{name}.") for name in names.split()):
            return number
    raise AssertionError(f"{module} has no place in the list of layers: give it one")


def _imports(path: Path, *, at_import_only: bool = False) -> Iterator[str]:
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
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: imports are absolute here"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield whole if whole in MODULES else node.module


@pytest.mark.parametrize("module", [name for name in MODULES if name not in EVERYWHERE])
def test_a_module_imports_only_from_its_own_layer_and_those_above(module: str) -> None:
    below = {
        name
        for name in _imports(MODULES[module])
        if name.split(".")[0] in ("bundler", "infini_llama", "demo")
        and name not in EVERYWHERE
        and _layer(name) > _layer(module)
    }
    assert not below


@pytest.mark.parametrize("module", [name for name in MODULES if name.startswith("bundler")])
def test_bundler_imports_neither_the_trainer_nor_its_libraries_when_it_is_imported(module: str) -> None:
    child = ("bundler.proof.",)  # what runs in the child process of the proof exists to load things
    if module.startswith(child):
        return
    roots = {name.split(".")[0] for name in _imports(MODULES[module], at_import_only=True)}
    assert not roots & (HEAVY | {"infini_llama"})


@pytest.mark.parametrize("module", [name for name in MODULES if name.startswith("bundler")])
def test_only_one_module_hashes(module: str) -> None:
    if module != "bundler.digest":
        assert not {"hashlib", "blake3"} & set(_imports(MODULES[module]))
