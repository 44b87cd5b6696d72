"""Which code splits words into byte planes, merges them and codes exponents: the compiled `_words`, or numpy.

Both make the same bytes. The compiled code takes one pass over memory where numpy takes up to ten. It is optional: an
installation without a compiler, or for a machine that has no wheel, has numpy's way, and nothing else differs.

`BUNDLE_COMPILED=0` chooses numpy's way where both are there, to compare them and to rule one out.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache
from typing import Protocol

VARIABLE = "BUNDLE_COMPILED"


class Split(Protocol):
    """As `bundler.format.codec.planes.split`."""

    def __call__(self, raw: memoryview, planes: list[list[memoryview]], /) -> None: ...


class Merge(Protocol):
    """As `bundler.format.codec.planes.merge`."""

    def __call__(self, planes: list[list[memoryview]], out: memoryview, /) -> None: ...


class SplitDifferences(Protocol):
    """As `bundler.format.codec.differences.split`."""

    def __call__(self, raw: memoryview, base: memoryview, planes: list[list[memoryview]], /) -> None: ...


class MergeDifferences(Protocol):
    """As `bundler.format.codec.differences.merge`."""

    def __call__(self, planes: list[list[memoryview]], base: memoryview, out: memoryview, /) -> None: ...


class SplitSorted(Protocol):
    """As `bundler.format.codec.differences.split_sorted`."""

    def __call__(self, raw: memoryview, base: memoryview, planes: list[memoryview], /) -> None: ...


class MergeSorted(Protocol):
    """As `bundler.format.codec.differences.merge_sorted`."""

    def __call__(self, planes: list[memoryview], base: memoryview, out: memoryview, /) -> None: ...


class CountEqual(Protocol):
    """As `bundler.format.codec.differences.count_equal`."""

    def __call__(self, raw: memoryview, base: memoryview, /) -> int: ...


class EncodeExponents(Protocol):
    """As `bundler.format.codec.exponents.encode`."""

    def __call__(self, plane: memoryview, frame: memoryview, /) -> int: ...


@dataclass(frozen=True)
class Way:
    """One implementation of all that is done to words.

    Attributes:
        name: What people are told.
        split: Words to planes.
        merge: Planes to words.
        split_differences: Words and those of a base to planes of their differences.
        merge_differences: Planes of differences, and the words of the base, to words.
        split_sorted: 16-bit words and those of a base to planes of their differences, sorted.
        merge_sorted: Planes of sorted differences, and the words of the base, to words.
        count_equal: How many 16-bit words are those of a base.
        encode_exponents: A plane of exponents to a frame.
    """

    name: str
    split: Split
    merge: Merge
    split_differences: SplitDifferences
    merge_differences: MergeDifferences
    split_sorted: SplitSorted
    merge_sorted: MergeSorted
    count_equal: CountEqual
    encode_exponents: EncodeExponents


@cache
def numpy_way() -> Way:
    """Return numpy's implementation."""
    # A tenth of a second, which is most of what a short command takes.
    from bundler.format.codec import differences, exponents, planes

    return Way(
        "numpy",
        planes.split,
        planes.merge,
        differences.split,
        differences.merge,
        differences.split_sorted,
        differences.merge_sorted,
        differences.count_equal,
        exponents.encode,
    )


@cache
def compiled_way() -> Way | None:
    """Return the compiled implementation; None where this installation has none."""
    try:
        from bundler.format.codec import _words
    except ImportError:
        return None
    return Way(
        "compiled",
        _words.split,
        _words.merge,
        _words.split_differences,
        _words.merge_differences,
        _words.split_sorted,
        _words.merge_sorted,
        _words.count_equal,
        _words.encode_exponents,
    )


@cache
def chosen_way() -> Way:
    """Return the implementation that this process uses, by its environment when it is first asked."""
    if os.environ.get(VARIABLE) == "0":
        return numpy_way()
    return compiled_way() or numpy_way()
