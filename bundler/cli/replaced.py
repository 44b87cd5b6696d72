"""What a command replaces, in text and for `--json`: no command writes over something without a word."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bundler.console.output import say
from bundler.errors import TrustError
from bundler.text.wording import name_some, size

if TYPE_CHECKING:
    from bundler.format.replaced import Replaced
    from bundler.trust.signature_file import SignedStatement


def describe_replaced(replaced: Replaced) -> str:
    """Say what a new bundle takes the place of."""
    paths, what = name_some(map(str, replaced.paths)), replaced.digest or "which is no bundle, or a damaged one"
    return f"replaces {paths}: {size(replaced.size_bytes)}, {what}"


def replaced_json(replaced: Replaced) -> dict[str, Any]:
    """Return the same for `--json`."""
    paths = [str(path) for path in replaced.paths]
    return {"paths": paths, "digest": replaced.digest, "size_bytes": replaced.size_bytes}


def describe_old_signature(old: SignedStatement | TrustError) -> str:
    """Say which signature a new one takes the place of."""
    if isinstance(old, TrustError):
        return "replaces a file there that says nothing by itself"
    return f"replaces the signature of release {old.statement.sequence}, {old.statement.digest}"


def old_signature_json(old: SignedStatement | TrustError) -> dict[str, Any]:
    """Return the same for `--json`."""
    if isinstance(old, TrustError):
        return {"sequence": None, "digest": None}
    return {"sequence": old.statement.sequence, "digest": old.statement.digest}


def say_replaced_file(path: Path) -> None:
    """Say that a file is about to be replaced, where there is one."""
    with contextlib.suppress(FileNotFoundError):
        say(f"replaces {path}: {size(path.lstat().st_size)}")
