"""Write the model as one file into checkpoints, which `from_pretrained(folder, trust_remote_code=True)` runs elsewhere.

Rule book:

* the file is made from the modules of this folder whenever a configuration is saved, so there is no second copy to
  maintain;
* it holds `infini_llama.model.modeling` and the modules of this folder that it imports, in the order of imports, with
  unchanged lines;
* two things that need this package are left out: calls at the top of a module, which register classes, and functions
  marked `package_only`;
* joined modules share one namespace. So they import only names from each other, never modules, and never under another
  name, and no two define the same name. All their other imports are from outside this project.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Callable, Iterable, Iterator
from importlib import resources
from pathlib import Path
from typing import TypeVar

from bundler import __version__

MODELING_FILE = "modeling_infini_llama.py"
# Auto class -> the class that config.json names for it.
AUTO_MAP = {
    "AutoConfig": "modeling_infini_llama.InfiniLlamaConfig",
    "AutoModel": "modeling_infini_llama.InfiniLlamaModel",
    "AutoModelForCausalLM": "modeling_infini_llama.InfiniLlamaForCausalLM",
}
_PACKAGE = "infini_llama.model"
_FIRST = "modeling"
_OWN = ("infini_llama", "bundler")
_HEADER = f"""\
# SPDX-License-Identifier: Apache-2.0
# Infini-Llama {__version__}, a Llama with Infini-attention (arXiv 2404.07143), in one file for transformers.
# Made by infini_llama/model/standalone.py from the modules that are named below; change those, not this.
from __future__ import annotations
"""

_Function = TypeVar("_Function", bound=Callable[..., object])


def package_only(function: _Function) -> _Function:
    """Mark a function or method that is left out of the file in a checkpoint."""
    return function


def write_modeling_file(folder: Path) -> None:
    """Write `MODELING_FILE` into an existing folder."""
    (folder / MODELING_FILE).write_text(modeling_source(), encoding="utf-8")


@functools.cache
def modeling_source() -> str:
    """Return the text of `MODELING_FILE`.

    Raises:
        ValueError: A module breaks a rule of this file; the message says where and how.
    """
    modules = {name: ast.parse(_source(name)) for name in _import_order(_FIRST)}
    _check_names(modules)
    parts = []
    for name, tree in modules.items():
        heading = [f"{_PACKAGE}.{name}", *(ast.get_docstring(tree) or "").splitlines()]
        comment = "\n".join(f"# {line}".rstrip() for line in heading)
        parts.append(f"\n# {'-' * 100}\n{comment}\n\n\n{_body(name, tree)}")
    body = "\n".join(parts)
    used = {node.id for node in ast.walk(ast.parse(body)) if isinstance(node, ast.Name)}
    return "\n".join((_HEADER, *_imports(modules.values(), used), body))


def _source(name: str) -> str:
    return resources.files(_PACKAGE).joinpath(f"{name}.py").read_text(encoding="utf-8")


def _import_order(first: str) -> list[str]:
    """Return the modules of this folder that `first` needs; each comes after those that it imports."""
    order: list[str] = []

    def visit(name: str) -> None:
        for node in ast.parse(_source(name)).body:
            if isinstance(node, ast.ImportFrom) and _is_own(node) and node.module != __name__:
                visit(_imported_module(name, node))
        if name not in order:
            order.append(name)

    visit(first)
    return order


def _is_own(node: ast.ImportFrom) -> bool:
    """Return whether an import is from this project."""
    return str(node.module).split(".")[0] in _OWN


def _imported_module(importer: str, node: ast.ImportFrom) -> str:
    where = f"{importer}.py, line {node.lineno}"
    package, _, module = str(node.module).rpartition(".")
    if package != _PACKAGE:
        raise ValueError(
            f"{where}: expected imports from {_PACKAGE}.* or from other projects, found {node.module}"
        )
    renamed = [alias.name for alias in node.names if alias.asname]
    if renamed:
        raise ValueError(f"{where}: expected names imported as they are, found another name for {renamed[0]}")
    return module


def _check_names(modules: dict[str, ast.Module]) -> None:
    """Check that no two modules define the same name at the top level.

    Raises:
        ValueError: Two do.
    """
    homes: dict[str, str] = {}
    for module, tree in modules.items():
        for name in _defined_names(tree):
            if homes.setdefault(name, module) != module:
                raise ValueError(f"{module}.py: expected a name of its own, found {name}, as in {homes[name]}.py")


def _defined_names(tree: ast.Module) -> Iterator[str]:
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            yield from (target.id for target in targets if isinstance(target, ast.Name))


def _imports(trees: Iterable[ast.Module], used: set[str]) -> list[str]:
    """Return the imports from other projects of names that are used, one statement per module."""
    plain: set[str] = set()
    names: dict[str, set[str]] = {}
    for node in (node for tree in trees for node in tree.body):
        if isinstance(node, ast.Import):
            plain |= {ast.unparse(ast.Import([alias])) for alias in node.names if alias.name in used}
        elif isinstance(node, ast.ImportFrom) and not _is_own(node) and node.module != "__future__":
            wanted = {ast.unparse(alias) for alias in node.names if (alias.asname or alias.name) in used}
            names.setdefault(str(node.module), set()).update(wanted)
    lists = {module: ",\n    ".join(sorted(wanted)) for module, wanted in sorted(names.items()) if wanted}
    return [*sorted(plain), *(f"from {module} import (\n    {listed},\n)" for module, listed in lists.items())]


def _body(name: str, tree: ast.Module) -> str:
    """Return a module's text without docstring, imports and parts that only the package needs."""
    lines = _source(name).splitlines(keepends=True)
    for node in _left_out(tree):
        decorators = getattr(node, "decorator_list", [])
        first = min(part.lineno for part in (node, *decorators))
        lines[first - 1 : node.end_lineno] = [""] * (node.end_lineno - first + 1)
    return "".join(lines).strip("\n") + "\n"


def _left_out(tree: ast.Module) -> Iterator[ast.stmt]:
    yield from (node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom | ast.Expr))
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and "package_only" in map(ast.unparse, node.decorator_list):
            yield node
