"""How files of parity are named: as the bundle that they are of, and found beside it."""

from __future__ import annotations

import glob
from collections.abc import Iterable
from pathlib import Path

PARITY_SUFFIX = ".parity"


def find_parity(base: Path, folders: Iterable[Path]) -> list[Path]:
    """Return what is named as parity of a bundle.

    Args:
        base: The bundle's name, without a volume's number.
        folders: Where to look.
    """
    name = f"{base.name}{PARITY_SUFFIX}"
    found = [path for folder in folders for path in sorted(folder.glob(f"{glob.escape(name)}*"))]
    return [path for path in found if path.name == name or path.name[len(name) + 1 :].isdigit()]
