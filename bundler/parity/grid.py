"""How the bytes of files are cut for a code: blocks, cells and columns.

The bytes of all files, one after the other, are cut into `blocks` of equal length. Each block is cut into cells, and
those into columns, at the same places; a file begins with a cell of its own, and what is free before the next one, and
after the last, counts as zeros:

                 row 0            row 1
    block 0   cell cell-       cell …
    block 1   cell             cell
    …

A column of all blocks together is what the code works on: as many strings of equal length as there are blocks. A row
of cells can be rebuilt as long as enough of its cells are good, those of parity among them, whatever has become of
other rows. Cells are hashed one by one: so it is known which are good, and a code need not find that out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import accumulate

from bundler.errors import UsageError

MOST_BLOCKS = 1000
_LEAST_BLOCK_BYTES = 4096
# What the code keeps in memory as one piece; above this, RaptorQ arranges the bytes of a column otherwise.
_MOST_COLUMN_BYTES = 10 << 20
# A symbol's length fits 16 bits, and is a multiple of 8.
_MOST_SYMBOL_BYTES = (1 << 16) - 8
_CELL_BYTES = 64 << 10
# RaptorQ fails once in a hundred million times with so many strings more than there are blocks (RFC 6330, section 1).
_SPARE_BLOCKS = 3


@dataclass(frozen=True)
class Grid:
    """The measures of a grid.

    Attributes:
        size_bytes: Bytes of all files, and of the zeros between them.
        block_bytes: Length of a block, a multiple of that of a cell.
        cell_bytes: Length of a cell, a multiple of that of a column.
        column_bytes: Length of a column.
        parity_blocks: How many blocks of parity there are.
    """

    size_bytes: int
    block_bytes: int
    cell_bytes: int
    column_bytes: int
    parity_blocks: int

    @property
    def blocks(self) -> int:
        """How many blocks the files have."""
        return -(-self.size_bytes // self.block_bytes)

    @property
    def rows(self) -> int:
        """How many cells a block has."""
        return self.block_bytes // self.cell_bytes

    @property
    def columns(self) -> int:
        """How many columns a cell has."""
        return self.cell_bytes // self.column_bytes

    def is_sound(self) -> bool:
        """Tell whether the measures fit each other, and what the code can do."""
        return (
            0 < self.size_bytes < 1 << 60
            and 0 < self.column_bytes <= _MOST_SYMBOL_BYTES
            and self.column_bytes % 8 == 0
            and 0 < self.cell_bytes <= 16 << 20
            and self.cell_bytes % self.column_bytes == 0
            and self.block_bytes > 0
            and self.block_bytes % self.cell_bytes == 0
            and self.blocks * self.column_bytes <= _MOST_COLUMN_BYTES
            and self.blocks <= MOST_BLOCKS
            and 0 < self.parity_blocks < 1 << 20
        )


def choose_grid(sizes: Sequence[int], share: Fraction) -> Grid:
    """Return the grid that rebuilds a share of some files.

    Args:
        sizes: The lengths of the files. A file that is lost may take a part of one block more than its length says.
        share: Which share of the bytes may be lost, more than 0 and at most 1.

    Raises:
        UsageError: There are no bytes.
    """
    if not sum(sizes):
        raise UsageError("expected files with content, found only empty ones")
    cell = 1
    while True:
        found = _measure(starts_of(sizes, cell)[-1], len(sizes), share)
        # A cell may be longer than was thought, and then files begin elsewhere.
        if found.cell_bytes <= cell:
            return replace(found, size_bytes=starts_of(sizes, found.cell_bytes)[-1])
        cell = found.cell_bytes


def starts_of(sizes: Sequence[int], cell_bytes: int) -> list[int]:
    """Return where each file begins, at a cell's beginning; and, last, where all ends."""
    return [0, *accumulate(-(-size // cell_bytes) * cell_bytes for size in sizes)]


def _measure(size_bytes: int, files: int, share: Fraction) -> Grid:
    least = max(-(-size_bytes // MOST_BLOCKS), min(_LEAST_BLOCK_BYTES, size_bytes))
    blocks = -(-size_bytes // least)
    # A short block is one column; a long one has as many as it takes.
    column = min(_MOST_COLUMN_BYTES // blocks, _MOST_SYMBOL_BYTES, least + 7) // 8 * 8
    cell = column * max(1, min(_CELL_BYTES, least) // column)
    block = -(-least // cell) * cell
    found = -(-size_bytes // block)
    parity = math.ceil(found * share) + math.ceil(files * share) + _SPARE_BLOCKS
    return Grid(size_bytes, block, cell, column, parity)
