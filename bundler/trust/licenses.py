"""What a policy says of licences, as SPDX expressions (SPDX 2.3, annex D).

A repo is acceptable if one of the ways to take its expression is: of ``A OR B`` one, of ``A AND B`` both. A licence
``WITH`` an exception gives more than the licence alone, so a rule that names the licence alone covers it. Names are
compared without regard to case, since cards write them small; no list of known names is asked for, since the Hub has
licences that SPDX does not list.
"""

from __future__ import annotations

import functools
from collections.abc import Collection
from typing import Any

from bundler.errors import DependencyError

# Expressions come from strangers, and reading one takes recursion.
_MOST_CHARACTERS = 200


class UnreadableLicenseError(Exception):
    """A text is no SPDX expression. The message is one sentence."""


def is_acceptable(expression: str, *, allowed: Collection[str] | None, forbidden: Collection[str]) -> bool:
    """Tell whether an expression can be taken within what is allowed and not forbidden.

    Args:
        expression: Of a repo.
        allowed: Licences that may be, or None for all that are not forbidden.
        forbidden: Licences that may not be.

    Raises:
        DependencyError: The package license-expression is not installed.
        UnreadableLicenseError: It is no SPDX expression.
    """
    may = None if allowed is None else {name.lower() for name in allowed}
    may_not = {name.lower() for name in forbidden}

    def is_ok(names: set[str]) -> bool:
        return not names & may_not and (may is None or bool(names & may))

    def walk(node: Any) -> bool:
        if node.__class__.__name__ in ("AND", "OR"):
            return (all if node.__class__.__name__ == "AND" else any)(walk(part) for part in node.args)
        base = getattr(node, "license_symbol", node)
        return is_ok({str(node).lower(), str(base).lower()})

    return walk(parse_expression(expression))


def parse_expression(expression: str) -> Any:
    """Read an SPDX expression.

    Raises:
        DependencyError: The package license-expression is not installed.
        UnreadableLicenseError: It is none.
    """
    try:
        from license_expression import ExpressionError, ExpressionParseError, Licensing
    except ImportError as error:
        raise DependencyError(
            "a policy restricts licences, and the package license-expression, which reads them, is not installed",
            hint="pip install license-expression",
        ) from error
    if len(expression) > _MOST_CHARACTERS:
        raise UnreadableLicenseError(f"an SPDX expression has more than {_MOST_CHARACTERS} characters")
    try:
        parsed = Licensing().parse(expression, simple=True)
    except (ExpressionError, ExpressionParseError) as error:
        raise UnreadableLicenseError(f"{expression[:80]!r} is no SPDX expression") from error
    if parsed is None:
        raise UnreadableLicenseError("an SPDX expression is empty")
    return parsed


@functools.cache
def normalize(word: str) -> str | None:
    """Return an expression as SPDX spells it; None if it is none, or names a licence that SPDX does not list.

    Raises:
        DependencyError: The package license-expression is not installed.
    """
    try:
        from license_expression import ExpressionError, ExpressionParseError
    except ImportError as error:
        raise DependencyError(
            "licences are spelt as SPDX does by the package license-expression, which is not installed",
            hint="pip install license-expression",
        ) from error
    if len(word) > _MOST_CHARACTERS:
        return None
    try:
        parsed = _spdx_licensing().parse(word, validate=True, strict=True)
    except (ExpressionError, ExpressionParseError):
        return None
    return None if parsed is None else str(parsed.render())


@functools.cache
def _spdx_licensing() -> Any:
    """Return what knows SPDX's list; making it reads the whole of that list."""
    from license_expression import get_spdx_licensing

    return get_spdx_licensing()
