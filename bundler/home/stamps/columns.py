"""The stamps of many files, in columns: 100,000 of them are read and compared in a fraction of a second."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property

from bundler.files.stamp import Stamp

_HEX_DIGITS = 64


class Columns(Mapping[str, tuple[Stamp, str]]):
    """Path -> the stamp of a file, and its BLAKE3 in hex.

    Args:
        raw: The columns as `dump_columns` gives them.

    Raises:
        ValueError: They are not of one length, or not what they should be.
    """

    def __init__(self, raw: Mapping[str, object]) -> None:
        paths, blake3 = raw["paths"], raw["blake3"]
        numbers = [raw[name] for name in Stamp._fields]
        if not isinstance(paths, list) or not isinstance(blake3, str):
            raise ValueError("expected a list of paths and their digests")
        if len(blake3) != _HEX_DIGITS * len(paths):
            raise ValueError("expected a digest for each path")
        for column in numbers:
            if not isinstance(column, list) or len(column) != len(paths):
                raise ValueError("expected a number for each path")
        self.paths: list[str] = paths
        self._blake3 = blake3
        self._numbers: list[list[int]] = numbers  # type: ignore[assignment]

    @cached_property
    def _items(self) -> dict[str, tuple[Stamp, str]]:
        starts = range(0, len(self._blake3), _HEX_DIGITS)
        digests = [self._blake3[start : start + _HEX_DIGITS] for start in starts]
        stamps = map(Stamp._make, zip(*self._numbers, strict=True))
        return dict(zip(self.paths, zip(stamps, digests, strict=True), strict=True))

    def __getitem__(self, path: str) -> tuple[Stamp, str]:
        """Return what is known of one file."""
        return self._items[path]

    def __iter__(self) -> Iterator[str]:
        """Iterate over the paths."""
        return iter(self.paths)

    def __len__(self) -> int:
        """Return the number of files."""
        return len(self.paths)

    def hold(self, root: str, is_allowed: Callable[[os.stat_result], bool]) -> bool:
        """Tell whether every file below a root has its stamp, and is allowed to be what it is.

        Raises:
            OSError: One is not there, or cannot be looked at.
        """
        lstat = os.lstat
        # Of 100,000 files nearly all are alike, and need not be asked about one by one.
        allowed = (-1, -1, -1)
        for path, inode, size, modified, changed in zip(self.paths, *self._numbers, strict=True):
            status = lstat(f"{root}/{path}")
            if (
                status.st_ctime_ns != changed
                or status.st_mtime_ns != modified
                or status.st_size != size
                or status.st_ino != inode
            ):
                return False
            if (status.st_uid, status.st_gid, status.st_mode) != allowed:
                if not is_allowed(status):
                    return False
                allowed = (status.st_uid, status.st_gid, status.st_mode)
        return True


def spell_columns(items: Mapping[str, tuple[Stamp, str]]) -> Iterator[str]:
    """Yield what `dump_columns` returns as JSON, a column at a time."""
    between = "{"
    for name, column in _list_columns(items):
        yield f'{between}"{name}":{json.dumps(column, separators=(",", ":"))}'
        between = ","
    yield "}"


def dump_columns(items: Mapping[str, tuple[Stamp, str]]) -> dict[str, object]:
    """Return the columns of some files, for JSON."""
    return dict(_list_columns(items))


def _list_columns(items: Mapping[str, tuple[Stamp, str]]) -> Iterator[tuple[str, object]]:
    yield "paths", list(items)
    for number, name in enumerate(Stamp._fields):
        yield name, [stamp[number] for stamp, _ in items.values()]
    yield "blake3", "".join(blake3 for _, blake3 in items.values())
