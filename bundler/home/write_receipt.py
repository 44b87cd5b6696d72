"""Write the receipt of a generation, and make it the current one (`bundler.home.receipt` says what is in it)."""

from __future__ import annotations

import os
from pathlib import Path

from bundler.files.atomic import atomic_write
from bundler.home.common.set_aside import move_aside
from bundler.home.generation import generation_path
from bundler.home.receipt import Receipt, receipt_path


def write_receipt(hf_home: Path, receipt: Receipt) -> bytes:
    """Write the receipt of a generation whose content and view are in place; it is not the current one by that.

    Returns:
        What was written.
    """
    path = generation_path(hf_home, receipt.lock.name, receipt.digest)
    _clear_place(hf_home, path)
    text = receipt.dumps()
    atomic_write(path, text)
    return text


def set_current(hf_home: Path, name: str, digest: str, *, text: bytes | None = None) -> None:
    """Move the pointer of a bundle to one of its generations, in one step.

    Args:
        hf_home: The cache root.
        name: The bundle's name.
        digest: Which generation.
        text: What its receipt says, if it was read already.
    """
    _clear_place(hf_home, receipt_path(hf_home, name))
    # A file of its own, and no link: damage to one of the two leaves the other.
    content = generation_path(hf_home, name, digest).read_bytes() if text is None else text
    atomic_write(receipt_path(hf_home, name), content)


def _clear_place(hf_home: Path, path: Path) -> None:
    """Move out of the way what a receipt cannot replace: a folder of its name, or a file in place of its folder."""
    in_the_way = [path] if path.is_dir() and not path.is_symlink() else []
    if os.path.lexists(path.parent) and not path.parent.is_dir():
        in_the_way = [path.parent]
    for place in in_the_way:
        move_aside(hf_home, place.relative_to(hf_home).as_posix())
