"""Files of a folder, and damage to them."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

TENTH = Fraction(1, 10)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}


def damage(path: Path, positions: list[int]) -> None:
    with path.open("r+b") as file:
        for position in positions:
            file.seek(position)
            [byte] = file.read(1)
            file.seek(position)
            file.write(bytes([byte ^ 1]))
