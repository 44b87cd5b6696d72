"""Bundles of 1,000 bytes each, and what two of them have in common."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.bundles import locked_repo, tiny_bundle

SHARED = b"s" * 400
OWN_BYTES = 600


@pytest.fixture
def bundles(tmp_path: Path) -> dict[str, Path]:
    """Of `a` and `b` 400 bytes are the same file of the same repo; `c` has nothing in common with them."""

    def make(name: str, shared: str) -> Path:
        base = locked_repo(shared, {"base": SHARED if shared == "org/base" else b"c" * 400})
        own = {"w": name.encode() * OWN_BYTES}
        contents = [SHARED, b"c" * 400, *own.values()]
        return tiny_bundle(
            tmp_path / f"made-{name}", base, locked_repo(f"org/{name}", own), contents=contents, name=name
        )

    return {"a": make("a", "org/base"), "b": make("b", "org/base"), "c": make("c", "org/other")}
