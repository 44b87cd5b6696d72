"""What an expression in a program may be, as far as its own file tells: without importing or running anything.

Known are literals, names and attributes that are assigned one literal in the file, defaults of parameters, of class
fields and of `argparse` options, what `os.environ.get` falls back to, and f-strings and sums of these. What is assigned
twice, with different values, is not known.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass


class UnknownValueError(Exception):
    """An expression cannot be known from its file; the message says which."""


@dataclass(frozen=True)
class Known:
    """A value, and where it comes from if it may be another when the program runs.

    Attributes:
        value: Text, number, boolean, None, list or dictionary of these.
        origin: Such as ``the default of --model``; empty for what stands in the call.
    """

    value: object
    origin: str = ""


class Values:
    """The values of one file.

    Args:
        tree: Its syntax tree.
    """

    def __init__(self, tree: ast.AST) -> None:
        self._options: dict[str, Known] = {}
        self._names: dict[str, list[tuple[ast.expr, str]]] = {}
        for node in ast.walk(tree):
            for name, value, origin in _assignments(node):
                self._names.setdefault(name, []).append((value, origin))

    def resolve(self, node: ast.expr, depth: int = 0) -> Known:
        """Return what an expression is.

        Raises:
            UnknownValueError: Its file does not tell.
        """
        if depth > 8:
            raise UnknownValueError(ast.unparse(node))
        match node:
            case ast.Constant(value=value):
                return Known(value)
            case ast.Name(id=name) | ast.Attribute(attr=name):
                return self._resolve_name(name, node, depth)
            case ast.JoinedStr(values=parts):
                return self._join(parts, node, depth)
            case ast.BinOp(left=left, op=ast.Add(), right=right):
                return self._join([left, right], node, depth)
            case ast.BoolOp(op=ast.Or(), values=[first, *rest]):
                # `name or "default"`: the default, where the name is not known.
                return self._resolve_or(first, rest, depth)
            case ast.List(elts=items) | ast.Tuple(elts=items):
                known = [self.resolve(item, depth + 1) for item in items]
                return Known([one.value for one in known], _origin(known))
            case ast.Dict(keys=keys, values=values) if all(keys):
                pairs = [
                    (self.resolve(key, depth + 1), self.resolve(value, depth + 1))
                    for key, value in zip(keys, values, strict=True)
                    if key is not None
                ]
                return Known({str(key.value): value.value for key, value in pairs}, _origin([v for _, v in pairs]))
            case ast.Call(func=ast.Attribute(attr="get" | "getenv"), args=[_, default]):
                return Known(self.resolve(default, depth + 1).value, f"the default of {ast.unparse(node)}")
        raise UnknownValueError(ast.unparse(node))

    def _resolve_name(self, name: str, node: ast.expr, depth: int) -> Known:
        found: list[Known] = []
        for value, origin in self._names.get(name, []):
            try:
                known = self.resolve(value, depth + 1)
            except UnknownValueError:
                raise UnknownValueError(ast.unparse(node)) from None
            found.append(Known(known.value, origin or known.origin))
        if not found or any(known.value != found[0].value for known in found):
            raise UnknownValueError(ast.unparse(node))
        return found[0]

    def _resolve_or(self, first: ast.expr, rest: list[ast.expr], depth: int) -> Known:
        try:
            known = self.resolve(first, depth + 1)
        except UnknownValueError:
            known = Known(None)
        if known.value or not rest:
            return known
        return self._resolve_or(rest[0], rest[1:], depth + 1)

    def _join(self, parts: list[ast.expr], node: ast.expr, depth: int) -> Known:
        known = []
        for part in parts:
            plain = part.value if isinstance(part, ast.FormattedValue) else part
            one = self.resolve(plain, depth + 1)
            if not isinstance(one.value, str | int):
                raise UnknownValueError(ast.unparse(node))
            known.append(one)
        return Known("".join(str(one.value) for one in known), _origin(known))


def _origin(known: list[Known]) -> str:
    return next((one.origin for one in known if one.origin), "")


def _assignments(node: ast.AST) -> Iterator[tuple[str, ast.expr, str]]:
    """Yield what a statement gives a value to: name, expression, and what may change it."""
    match node:
        case ast.Assign(targets=targets, value=value):
            for target in targets:
                yield from _targets(target, value)
        case ast.AnnAssign(target=ast.Name(id=name), value=value) if value is not None:
            default = _field_default(value)
            yield name, default or value, f"the default of the field {name}" if default else ""
        case ast.AugAssign(target=ast.Name(id=name)) | ast.For(target=ast.Name(id=name)):
            # What changes, or runs through several, has no one value.
            yield name, ast.Name(id="", ctx=ast.Load()), ""
        case ast.FunctionDef(args=arguments) | ast.AsyncFunctionDef(args=arguments):
            yield from _defaults(arguments)
        case ast.Call(func=ast.Attribute(attr="add_argument")):
            yield from _option(node)


def _targets(target: ast.expr, value: ast.expr) -> Iterator[tuple[str, ast.expr, str]]:
    if isinstance(target, ast.Name):
        yield target.id, value, ""
    elif isinstance(target, ast.Attribute):
        yield target.attr, value, ""
    elif isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple) and len(target.elts) == len(value.elts):
        for one, other in zip(target.elts, value.elts, strict=True):
            yield from _targets(one, other)


def _defaults(arguments: ast.arguments) -> Iterator[tuple[str, ast.expr, str]]:
    positional = [*arguments.posonlyargs, *arguments.args]
    pairs = [
        *zip(positional[len(positional) - len(arguments.defaults) :], arguments.defaults, strict=True),
        *zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True),
    ]
    for argument, default in pairs:
        # A parameter without a value says nothing of what is passed.
        if default is not None and not (isinstance(default, ast.Constant) and default.value is None):
            yield argument.arg, default, f"the default of the parameter {argument.arg}"


def _option(node: ast.Call) -> Iterator[tuple[str, ast.expr, str]]:
    """Yield what an option of `argparse` is called on the result, and its default."""
    flags = [arg.value for arg in node.args if isinstance(arg, ast.Constant) and isinstance(arg.value, str)]
    keywords = {keyword.arg: keyword.value for keyword in node.keywords}
    default, dest = keywords.get("default"), keywords.get("dest")
    if not flags or default is None or (isinstance(default, ast.Constant) and default.value is None):
        return
    flag = next((flag for flag in flags if flag.startswith("--")), flags[0])
    name = flag.lstrip("-").replace("-", "_")
    if isinstance(dest, ast.Constant) and isinstance(dest.value, str):
        name = dest.value
    yield name, default, f"the default of {flag}"


def _field_default(value: ast.expr) -> ast.expr | None:
    """Return the default of a dataclass field that is written with `field(default=...)`."""
    if isinstance(value, ast.Call) and ast.unparse(value.func).rpartition(".")[2] == "field":
        return next((keyword.value for keyword in value.keywords if keyword.arg == "default"), None)
    return None
