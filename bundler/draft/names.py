"""The name of a bundle, from that of its manifest."""

from __future__ import annotations

import re
from pathlib import Path

_NO_NAMES = frozenset({"manifest", "bundle", ""})


def name_bundle(manifest_path: Path) -> str:
    """Return a name for the bundle of a new manifest: that of the file, or of its folder where that says nothing."""
    path = manifest_path.absolute()
    for text in (path.stem, path.parent.name):
        name = re.sub(r"[^a-z0-9._-]+", "-", text.lower())
        name = re.sub(r"\.{2,}", ".", name).strip("-._")[:80]
        if name not in _NO_NAMES:
            return name
    return "bundle"
