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

What is lost as one piece, a volume or a chunk, takes a cell of a row for each block that it is long, and sometimes one
more. Of pieces that are shorter than a block, a tenth taken at random is not a tenth of every row: some rows lose more,
and there is parity for that.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import accumulate

from bundler.errors import UsageError

# With more of them the code is slower: half as fast with four times as many.
MOST_BLOCKS = 1000
_LEAST_BLOCK_BYTES = 4096
# What is coded at once. Above 10 MiB, RaptorQ arranges the bytes otherwise; less stays in a core's cache.
_MOST_COLUMN_BYTES = 10 << 20
_COLUMN_BYTES = 5 << 20
# What is in memory while a row is coded or rebuilt; twice what is chosen here.
_MOST_ROW_BYTES = 128 << 20
# A symbol's length fits 16 bits, and is a multiple of 8.
_MOST_SYMBOL_BYTES = (1 << 16) - 8
# A cell is what one damaged byte costs: as long as that, or less where whatever is lost at once is short.
_CELL_BYTES = 64 << 10
_LEAST_CELL_BYTES = 1 << 10
_CELLS_PER_PIECE = 16
# RaptorQ fails once in a hundred million times with so many strings more than there are blocks (RFC 6330, section 1).
_SPARE_BLOCKS = 3
# Standard deviations. A row of a terabyte, one of thousands, has more than that once in ten thousand losses.
_DEVIATIONS = 5


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

    @property
    def columns_at_once(self) -> int:
        """How many columns of a cell can be decoded together."""
        return max(1, min(_MOST_COLUMN_BYTES // self.blocks, _MOST_SYMBOL_BYTES) // self.column_bytes)

    def place(self, row: int, block: int) -> int:
        """Return where a cell begins in the run of all files."""
        return block * self.block_bytes + row * self.cell_bytes

    def is_sound(self) -> bool:
        """Tell whether the measures fit each other, and what the code can do."""
        # The code takes the same time for a short column as for a long one.
        return (
            0 < self.size_bytes < 1 << 60
            and min(_LEAST_CELL_BYTES, self.block_bytes) <= self.column_bytes <= _MOST_SYMBOL_BYTES
            and self.column_bytes % 8 == 0
            and self.cell_bytes > 0
            and self.cell_bytes % self.column_bytes == 0
            and self.block_bytes > 0
            and self.block_bytes % self.cell_bytes == 0
            and self.blocks * self.column_bytes <= _MOST_COLUMN_BYTES
            and self.blocks * self.cell_bytes <= _MOST_ROW_BYTES
            and self.blocks <= MOST_BLOCKS
            and 0 < self.parity_blocks < 1 << 20
        )


def choose_grid(sizes: Sequence[int], share: Fraction, pieces: Sequence[int] = ()) -> Grid:
    """Return the grid that rebuilds a share of some files, with the least parity.

    Args:
        sizes: The lengths of the files. A file that is lost may take a part of one block more than its length says.
        share: Which share of the files, of their bytes in one run, or of `pieces` may be lost; above 0, at most 1.
        pieces: The lengths of the pieces in the files that may be lost one by one, wherever they are.

    Raises:
        UsageError: There are no bytes.
    """
    if not sum(sizes):
        raise UsageError("expected files with content, found only empty ones")
    least = max(-(-sum(sizes) // MOST_BLOCKS), min(_LEAST_BLOCK_BYTES, sum(sizes)))
    # In blocks that are longer than every piece, each lost one takes a cell of a row and no more.
    longer = max([least, *(length + 2 * _CELL_BYTES for length in pieces)])
    grids = [_choose_grid(sizes, share, pieces, blocks) for blocks in {least, longer}]
    return min(grids, key=lambda grid: (grid.parity_blocks * grid.block_bytes, grid.blocks))


def _choose_grid(sizes: Sequence[int], share: Fraction, pieces: Sequence[int], least: int) -> Grid:
    most_bytes = _CELL_BYTES
    if pieces:
        most_bytes = max(_LEAST_CELL_BYTES, min(most_bytes, sum(pieces) // len(pieces) // _CELLS_PER_PIECE))
    cell = 1
    while True:
        size_bytes = starts_of(sizes, cell)[-1]
        found = _measure(size_bytes, max(least, -(-size_bytes // MOST_BLOCKS)), most_bytes)
        # A cell may be longer than was thought, and then files begin elsewhere.
        if found.cell_bytes <= cell:
            blocks = max(math.ceil(found.blocks * share), _count_lost_cells(found, share, pieces))
            parity = min(blocks, found.blocks) + math.ceil(len(sizes) * share) + _SPARE_BLOCKS
            return replace(found, size_bytes=starts_of(sizes, found.cell_bytes)[-1], parity_blocks=parity)
        cell = found.cell_bytes


def _count_lost_cells(grid: Grid, share: Fraction, pieces: Sequence[int]) -> int:
    """Return how many cells of a row a share of the pieces takes: any of them, or, if that is less, random ones."""
    lost = math.floor(len(pieces) * share)
    if not lost:
        return 0
    # A piece meets the cells of a row that begin in it, or less than a cell before it.
    spans = [(length + grid.cell_bytes - 1) / grid.block_bytes for length in pieces]
    most = sum(math.ceil(span) for span in heapq.nlargest(lost, spans))
    # Where it begins is chance: it meets so many cells as its length says, rounded up or down.
    mean = math.fsum(spans) / len(spans)
    squares = math.fsum(int(span) ** 2 + (2 * int(span) + 1) * (span % 1) for span in spans) / len(spans)
    deviation = math.sqrt(lost * max(0.0, squares - mean**2) * (1 - lost / len(pieces)))
    return min(most, math.ceil(lost * mean + _DEVIATIONS * deviation))


def starts_of(sizes: Sequence[int], cell_bytes: int) -> list[int]:
    """Return where each file begins, at a cell's beginning; and, last, where all ends."""
    return [0, *accumulate(-(-size // cell_bytes) * cell_bytes for size in sizes)]


def _measure(size_bytes: int, least: int, most_cell_bytes: int) -> Grid:
    """Return a grid, without parity, of blocks of that length or a little more."""
    blocks = -(-size_bytes // least)
    # A short cell is one column; a long one has as many as it takes.
    column = max(8, min(_COLUMN_BYTES // blocks, _MOST_SYMBOL_BYTES, least + 7, most_cell_bytes) // 8 * 8)
    cell = column * max(1, min(most_cell_bytes, least) // column)
    return Grid(size_bytes, -(-least // cell) * cell, cell, column, 0)
