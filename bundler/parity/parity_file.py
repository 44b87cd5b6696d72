"""A file with blocks of parity.

    MAGIC     8 bytes
    length    of the header, 4 bytes, big-endian
    header    JSON: the bundle's digest, the files, the grid, and which blocks of parity are in here
    digests   BLAKE3, 16 bytes each: of all cells of the files, then of those of parity in here, each row by row
    seal      BLAKE3 of all before it, 32 bytes
    blocks    the blocks of parity, one after the other
    again     all that is before the blocks, once more; its length in 8 bytes; MAGIC

The head stands twice, since without it a file of parity is worth nothing: if one is damaged, the other serves. Nothing
in it is believed beyond what it is for: which cells are good, and what a rebuilt one must be. Whether the files are
then what they were, the bundle's own digests say.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bundler.errors import FormatError
from bundler.files.digest import blake3_bytes
from bundler.parity.grid import Grid, starts_of
from bundler.parity.protected import ProtectedFile, identify, open_regular, write_at
from bundler.text.strict_json import StrictJsonError, read

MAGIC = b"BUNDPAR1"
VERSION = 1
_LENGTH_BYTES = 4
_SEAL_BYTES = 32
_TAIL_BYTES = 8 + len(MAGIC)
DIGEST_BYTES = 16
_MOST_HEADER_BYTES = 4 << 20
_SUFFIX = re.compile(r"(\.[0-9]{3,9})?")
_BUNDLE_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_KEYS = {"version", "digest", "files", "grid", "first", "count"}


@dataclass(frozen=True)
class Head:
    """What a file of parity says of itself.

    Attributes:
        digest: The bundle's digest.
        files: What is protected.
        grid: How it is cut.
        first: Number of the first block of parity in here.
        count: How many are in here.
        data_digests: Of the cells of the files, row by row.
        parity_digests: Of the cells of parity in here, row by row.
    """

    digest: str
    files: tuple[ProtectedFile, ...]
    grid: Grid
    first: int
    count: int
    data_digests: bytes
    parity_digests: bytes

    def dumps(self) -> bytes:
        """Return the bytes before the blocks."""
        header = json.dumps(
            {
                "version": VERSION,
                "digest": self.digest,
                "files": [[file.suffix, file.size_bytes] for file in self.files],
                "grid": asdict(self.grid),
                "first": self.first,
                "count": self.count,
            }
        ).encode()
        text = MAGIC + len(header).to_bytes(_LENGTH_BYTES) + header + self.data_digests + self.parity_digests
        return text + blake3_bytes(text)

    def data_digest(self, row: int, block: int) -> bytes:
        """Return what a cell of the files must hash to."""
        return _digest_at(self.data_digests, row * self.grid.blocks + block)

    def parity_digest(self, row: int, block: int) -> bytes:
        """Return what a cell of a block of parity, by its number in here, must hash to."""
        return _digest_at(self.parity_digests, row * self.count + block)


def hash_cell(content: bytes | memoryview) -> bytes:
    """Return the digest of a cell."""
    return blake3_bytes(content)[:DIGEST_BYTES]


def head_bytes(grid: Grid, files: Sequence[ProtectedFile], first: int, count: int) -> int:
    """Return how long a head is."""
    empty = Head(f"sha256:{'0' * 64}", tuple(files), grid, first, count, b"", b"")
    return len(empty.dumps()) + grid.rows * (grid.blocks + count) * DIGEST_BYTES


def write_ends(descriptor: int, head: Head) -> None:
    """Write the head of a file whose blocks are there, at its beginning and at its end."""
    text = head.dumps()
    write_at(descriptor, text, 0)
    end = len(text) + head.count * head.grid.block_bytes
    write_at(descriptor, text + len(text).to_bytes(8) + MAGIC, end)


class ParityFile:
    """An open file of parity; closed by whoever opened it.

    Args:
        path: The file.

    Raises:
        FormatError: It is none, or its head is damaged at both ends.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        descriptor = open_regular(path)
        if descriptor is None:
            raise FormatError(f"{path}: expected a parity file, found none that can be read")
        self._descriptor = descriptor
        try:
            self.head, self._head_bytes = self._read_head(os.fstat(self._descriptor).st_size)
        except BaseException:
            self.close()
            raise

    @property
    def identity(self) -> tuple[int, int]:
        """What tells the file from all others."""
        return identify(self._descriptor)

    def read_cell(self, row: int, block: int) -> bytes | None:
        """Return a cell of a block, by its number in here; None if it is damaged."""
        grid = self.head.grid
        at = self._head_bytes + block * grid.block_bytes + row * grid.cell_bytes
        try:
            content = os.pread(self._descriptor, grid.cell_bytes, at)
        except OSError:
            return None
        is_good = len(content) == grid.cell_bytes and hash_cell(content) == self.head.parity_digest(row, block)
        return content if is_good else None

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)

    def _read_head(self, size_bytes: int) -> tuple[Head, int]:
        problem = "its first bytes are those of another kind of file"
        for position, limit in ((0, size_bytes), self._last_head(size_bytes)):
            try:
                return _parse(self._descriptor, position, limit)
            except FormatError as error:
                problem = error.message
        raise FormatError(
            f"{self.path}: expected a parity file with one whole head, at its beginning or its end; {problem}",
            hint="name the others: each of them serves without this one",
        )

    def _last_head(self, size_bytes: int) -> tuple[int, int]:
        tail = os.pread(self._descriptor, _TAIL_BYTES, max(size_bytes - _TAIL_BYTES, 0))
        length = int.from_bytes(tail[:8])
        if tail[8:] != MAGIC or length > size_bytes:
            return 0, 0
        start = size_bytes - _TAIL_BYTES - length
        return max(start, 0), length


def _parse(descriptor: int, position: int, limit: int) -> tuple[Head, int]:
    begin = os.pread(descriptor, len(MAGIC) + _LENGTH_BYTES, position)
    if len(begin) < len(MAGIC) + _LENGTH_BYTES or not begin.startswith(MAGIC):
        raise FormatError("its first bytes are those of another kind of file")
    length = int.from_bytes(begin[len(MAGIC) :])
    if length > _MOST_HEADER_BYTES:
        raise FormatError(f"its header claims {length:,} bytes")
    raw = os.pread(descriptor, length, position + len(begin))
    head = _parse_header(raw)
    digests = head.grid.rows * (head.grid.blocks + head.count) * DIGEST_BYTES
    total = len(begin) + length + digests + _SEAL_BYTES
    if total > limit:
        raise FormatError(f"its head claims {total:,} bytes, and {limit:,} are there")
    rest = os.pread(descriptor, digests + _SEAL_BYTES, position + len(begin) + length)
    if len(rest) < digests + _SEAL_BYTES or blake3_bytes(begin + raw + rest[:digests]) != rest[digests:]:
        raise FormatError("its head is damaged")
    cut = head.grid.rows * head.grid.blocks * DIGEST_BYTES
    whole = Head(head.digest, head.files, head.grid, head.first, head.count, rest[:cut], rest[cut:digests])
    return whole, total


def _parse_header(raw: bytes) -> Head:
    try:
        value: Any = read(raw.decode())
        if set(value) != _KEYS or value["version"] != VERSION:
            raise FormatError(f"its header is of another version than {VERSION}")
        digest = str(value["digest"])
        files = tuple(ProtectedFile(str(suffix), _number(size)) for suffix, size in value["files"])
        grid = Grid(**{key: _number(number) for key, number in value["grid"].items()})
        first, count = _number(value["first"]), _number(value["count"])
    except (StrictJsonError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise FormatError("its header is damaged") from error
    suffixes = [file.suffix for file in files]
    is_set = len(set(suffixes)) == len(suffixes) and all(map(_SUFFIX.fullmatch, suffixes))
    is_set = is_set and (suffixes == [""] or "" not in suffixes) and bool(_BUNDLE_DIGEST.fullmatch(digest))
    starts = starts_of([file.size_bytes for file in files], max(1, grid.cell_bytes))
    is_sound = is_set and grid.is_sound() and starts[-1] == grid.size_bytes
    if not is_sound or first + count > grid.parity_blocks or not count:
        raise FormatError("its header contradicts itself")
    return Head(digest, files, grid, first, count, b"", b"")


def _number(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"expected a number, found {value!r}")
    return value


def _digest_at(digests: bytes, number: int) -> bytes:
    return digests[number * DIGEST_BYTES : (number + 1) * DIGEST_BYTES]
