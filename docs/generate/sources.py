"""Read the project's Python files without importing them: packages, imports, definitions and docstrings."""

from __future__ import annotations

import ast
import functools
import inspect
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
_ATTRIBUTE = re.compile(r"^ {4}(\w+): (.*)$")


@functools.cache
def parsed(path: Path) -> ast.Module:
    """Return the syntax tree of a file."""
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def packages(project: str) -> list[str]:
    """Return the names of the packages directly in `project`, sorted."""
    return sorted(path.parent.name for path in (ROOT / project).glob("*/__init__.py"))


def arrows(project: str) -> dict[str, set[str]]:
    """Return package -> the packages beside it that it imports; a module directly in `project` counts as one."""
    folder = ROOT / project
    nodes = {*packages(project), *(path.stem for path in folder.glob("[a-z]*.py"))}
    found: dict[str, set[str]] = {node: set() for node in nodes}
    for path in sorted(folder.rglob("*.py")):
        node = path.relative_to(folder).parts[0].removesuffix(".py")
        if node in found:
            imported = {name.split(".")[1] for name in imports(path) if name.startswith(f"{project}.")}
            found[node] |= (imported & nodes) - {node}
    return found


@functools.cache
def imports(path: Path) -> frozenset[str]:
    """Return what a file imports, anywhere in it, by its full name; `from a import b` is `a.b`."""
    found: set[str] = set()
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return frozenset(found)


def definition(place: str) -> ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef:
    """Return the class, function or method at ``path:name`` or ``path:Class.method``.

    Raises:
        LookupError: There is no such file, or nothing of that name in it.
    """
    path, _, dotted = place.partition(":")
    file = ROOT / path
    if not file.is_file():
        raise LookupError(f"{place}: there is no file {path}")
    found: ast.AST = parsed(file)
    for name in dotted.split("."):
        named = [
            node
            for node in ast.iter_child_nodes(found)
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and node.name == name
        ]
        if not named:
            raise LookupError(f"{place}: there is no {name!r} in {path}")
        found = named[-1]
    assert isinstance(found, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
    return found


@functools.cache
def meanings(place: str) -> dict[str, str]:
    """Return attribute -> what the docstring of the class at `place` says of it, under "Attributes:".

    Raises:
        LookupError: There is no such class, or its docstring has no such section.
    """
    text = inspect.cleandoc(ast.get_docstring(definition(place)) or "")
    _, heading, section = text.partition("Attributes:\n")
    if not heading:
        raise LookupError(f"{place}: expected a docstring with a section 'Attributes:'")
    found: dict[str, str] = {}
    name = ""
    for line in section.splitlines():
        if match := _ATTRIBUTE.match(line):
            name = match[1]
            found[name] = match[2]
        elif line.startswith(" " * 8):
            found[name] += f" {line.strip()}"
        else:
            break
    return found


def field_types(place: str) -> dict[str, str]:
    """Return field -> its type, as written, of the dataclass at `place`."""
    return {
        node.target.id: ast.unparse(node.annotation)
        for node in definition(place).body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    }
