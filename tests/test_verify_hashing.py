"""bundler.verify.hashing: all cores are busy until the last file."""

from __future__ import annotations

import pytest

from bundler.verify.hashing import to_split


@pytest.mark.parametrize(
    ("sizes", "cores", "split"),
    [
        ([900, 50, 50], 2, [0]),  # one file outweighs the rest
        ([5, 5, 5, 5, 2], 2, [4]),  # the last one would keep a core waiting
        ([5, 5, 5, 5], 2, []),
        ([5, 5, 5, 5, 5], 64, []),  # a core for each: splitting is slower
        ([9, 8, 7], 1, []),
        ([1] * 1000, 2, []),
        ([], 2, []),
    ],
)
def test_files_are_split_only_where_a_core_would_be_idle(sizes: list[int], cores: int, split: list[int]) -> None:
    assert to_split(sizes, cores) == split
