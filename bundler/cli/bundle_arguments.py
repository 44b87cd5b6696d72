"""How commands are told which bundle to read or write, and how large a volume may be."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import click

from bundler.console.paths import GivenPath, OrAddress

_VOLUME_NAME = re.compile(r".*\.zst\.[0-9]{3,}")
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?([kKMGT]i?)?B?")
_POWERS = {"k": 1, "K": 1, "M": 2, "G": 3, "T": 4}


class OutputFile(GivenPath):
    """A file to write, in a folder that is there: a mistyped one must not be made, and filled with gigabytes."""

    def __init__(self) -> None:
        super().__init__(dir_okay=False)

    def convert(
        self, value: str | os.PathLike[str], param: click.Parameter | None, ctx: click.Context | None
    ) -> Any:
        path = Path(os.fsdecode(super().convert(value, param, ctx)))
        folder = path.absolute().parent
        if not folder.is_dir():
            there = next(parent for parent in folder.parents if parent.exists())
            found = f"there is {there}, and nothing of that name in it"
            if folder.exists() or not there.is_dir():
                found = f"{folder if folder.exists() else there} is no folder"
            self.fail(f"expected an existing folder {folder} to write {path.name!r} in; {found}", param, ctx)
        if path.exists() and not path.is_file():
            self.fail(
                f"expected a new name or a file, found a pipe or a device at {path}, which would be replaced; "
                "write a file, and send that on",
                param,
                ctx,
            )
        return path


class OutputPlace(OrAddress, OutputFile):
    """A file to write, or the address of a registry."""


class VolumeSize(click.ParamType[int]):
    """A size: ``3900M`` in powers of 1000, as media are sold, ``4GiB`` in powers of 1024, or a number of bytes."""

    name = "SIZE"

    def convert(self, value: str | int, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        match = _SIZE.fullmatch(value.strip())
        if match is None:
            self.fail(f"{value!r}: expected a size such as 3900M, 25GB or 4GiB", param, ctx)
        unit = match[2] or ""
        factor = (1024 if unit.endswith("i") else 1000) ** (_POWERS[unit[0]] if unit else 0)
        from decimal import Decimal

        count = int(Decimal(match[1]) * factor)
        if count < 1:
            self.fail(f"{value!r}: expected more than nothing", param, ctx)
        return count


VOLUME_SIZE_HELP = "No file longer than SIZE: 4200M, 25G (powers of 1000), 4GiB (of 1024), or bytes."


def is_file_name(text: str) -> bool:
    """Tell whether `text` means a bundle file or a volume rather than the name of an installed bundle."""
    if "/" in text or text.endswith(".zst") or _VOLUME_NAME.fullmatch(text):
        return True
    return Path(text).is_file()
