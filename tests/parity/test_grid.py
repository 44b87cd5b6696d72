"""bundler.parity.grid: how bytes are cut, so that there is parity for a share of whatever is lost."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest

from bundler.parity.grid import MOST_BLOCKS, choose_grid

TENTH = Fraction(1, 10)


@pytest.mark.parametrize("size_bytes", [1, 7, 4096, 4097, 100_000, 5_000_000, 3_000_000_000, 150_000_000_000])
@pytest.mark.parametrize("share", [Fraction(1, 1000), TENTH, Fraction(1)])
def test_a_grid_of_any_size_is_sound_and_has_parity_for_the_share(size_bytes: int, share: Fraction) -> None:
    grid = choose_grid([size_bytes, 0, 5], share)
    assert grid.is_sound()
    assert 1 <= grid.blocks <= MOST_BLOCKS
    assert grid.blocks * grid.block_bytes >= grid.size_bytes >= size_bytes + 5
    assert grid.parity_blocks >= grid.blocks * share


def test_parity_is_for_any_pieces_of_the_share_or_for_random_ones_of_many() -> None:
    """Of pieces no longer than a block any; of more and shorter ones a random tenth, with five deviations to spare."""
    share_of = {}
    for count in (100, 900, 25_000):
        grid = choose_grid([count << 22], TENTH, [1 << 22] * count)
        share_of[count] = grid.parity_blocks / grid.blocks
        assert grid.is_sound()
    assert max(share_of[100], share_of[900]) < 0.11
    assert 0.145 < share_of[25_000] < 0.155


def test_a_grid_whose_rows_would_fill_the_memory_is_refused() -> None:
    grid = choose_grid([4 << 30], TENTH)
    assert grid.is_sound()
    cell_bytes = 4 * grid.cell_bytes
    assert not replace(grid, cell_bytes=cell_bytes, block_bytes=cell_bytes * 20).is_sound()
