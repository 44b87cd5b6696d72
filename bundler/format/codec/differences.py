"""Subtract the words of a base from those of weights, and add them again (FORMAT.md, "Differences").

A number of a fine-tune lies near the one that it began as. Both read as integers, they are a few steps apart, whatever
their exponents, and equal where training changed nothing. Their difference, modulo the word's size, is written with its
sign in the lowest bit ("zigzag"), so that small differences of either sign leave all bytes but the lowest zero.

Where two numbers have one sign, the difference is that of their magnitudes. Where the sign changed it is far from zero,
as it would be in the order of the numbers too: between the two lie all smaller exponents. So that order is not needed.

Training moves all numbers by about as much, which is many steps of a small number and none of a large one. So the
differences of 16-bit words are sorted, where many changed, by the exponent of the base's word, which who decodes has:
an entropy coder, which makes its table block by block, then finds like beside like.

Each step can be undone for every word, a NaN or a part of some other type as well: nothing is assumed about them.
numpy works step by step in scratch arrays, as in `bundler.format.codec.planes`; what is sorted, is so as a whole.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bundler.format.codec.frames import BLOCK_BYTES

Words = NDArray[Any]
Bytes = NDArray[np.uint8]

_STEP = BLOCK_BYTES


class _Scratch(threading.local):
    def __init__(self) -> None:
        self._arrays = {(width, n): np.empty(_STEP, f"<u{width}") for width in (2, 4) for n in range(2)}

    def words(self, width: int, number: int, count: int) -> Words:
        return self._arrays[width, number][:count]


_scratch = _Scratch()


def split(raw: memoryview, base: memoryview, planes: list[list[memoryview]]) -> None:
    """Write the differences of words to byte planes.

    Args:
        raw: Little-endian words of `len(planes)` bytes each.
        base: As many words of the base.
        planes: One plane per byte of a word, the top byte first, as in `bundler.format.codec.planes.split`.
    """
    width = len(planes)
    for words, theirs, places in _steps(raw, base, planes):
        word, more = _scratch.words(width, 0, len(words)), _scratch.words(width, 1, len(words))
        np.subtract(words, theirs, out=word)
        # All ones where the difference is negative.
        np.right_shift(word.view(f"<i{width}"), 8 * width - 1, out=more.view(f"<i{width}"))
        np.add(word, word, out=word)
        np.bitwise_xor(word, more, out=word)
        np.copyto(places[-1], word, casting="unsafe")
        for place, bits in zip(places[-2::-1], range(8, 8 * width, 8), strict=True):
            np.right_shift(word, bits, out=more)
            np.copyto(place, more, casting="unsafe")


def merge(planes: list[list[memoryview]], base: memoryview, out: memoryview) -> None:
    """Undo `split`: read `planes` and `base`, and write the words to `out`."""
    width = len(planes)
    for words, theirs, places in _steps(out, base, planes):
        word, more = _scratch.words(width, 0, len(words)), _scratch.words(width, 1, len(words))
        np.copyto(word, places[0])
        for place in places[1:]:
            np.left_shift(word, 8, out=word)
            np.bitwise_or(word, place, out=word)
        np.bitwise_and(word, 1, out=more)
        np.negative(more, out=more)
        np.right_shift(word, 1, out=word)
        np.bitwise_xor(word, more, out=word)
        np.add(word, theirs, out=words)


def split_sorted(raw: memoryview, base: memoryview, planes: list[memoryview]) -> None:
    """Write the differences of 16-bit words to byte planes, sorted by the exponents of the base's words.

    Args:
        raw: Little-endian words.
        base: As many words of the base.
        planes: The top bytes' and the low bytes', each in one piece.
    """
    words, theirs = np.frombuffer(raw, "<u2"), np.frombuffer(base, "<u2")
    written = words - theirs
    # All ones where the difference is negative.
    signs = (written.view("<i2") >> 15).view("<u2")
    written += written
    written ^= signs
    written = written[_sort(theirs)]
    top, low = (np.frombuffer(plane, np.uint8) for plane in planes)
    np.copyto(top, written >> 8, casting="unsafe")
    np.copyto(low, written, casting="unsafe")


def merge_sorted(planes: list[memoryview], base: memoryview, out: memoryview) -> None:
    """Undo `split_sorted`: read `planes` and `base`, and write the words to `out`."""
    words, theirs = np.frombuffer(out, "<u2"), np.frombuffer(base, "<u2")
    top, low = (np.frombuffer(plane, np.uint8) for plane in planes)
    written = top.astype("<u2")
    written <<= 8
    written |= low
    signs = 0 - (written & 1)
    written >>= 1
    written ^= signs
    words[_sort(theirs)] = written
    words += theirs


def count_equal(raw: memoryview, base: memoryview) -> int:
    """Return how many 16-bit words of `raw` are those of `base`, which is as long."""
    return int(np.count_nonzero(np.frombuffer(raw, "<u2") == np.frombuffer(base, "<u2")))


def _sort(base: Words) -> NDArray[np.intp]:
    """Return the numbers of words by their exponents, the greatest first; where they are equal, in order."""
    return np.argsort(~(base >> 7).astype(np.uint8), kind="stable")


def _steps(
    words: memoryview, base: memoryview, planes: list[list[memoryview]]
) -> Iterator[tuple[Words, Words, list[Bytes]]]:
    """Yield words, words of the base, and their block of each plane, step by step."""
    width = len(planes)
    ours, theirs = np.frombuffer(words, f"<u{width}"), np.frombuffer(base, f"<u{width}")
    for number, start in enumerate(range(0, len(ours), _STEP)):
        places = [np.frombuffer(plane[number], np.uint8) for plane in planes]
        yield ours[start : start + _STEP], theirs[start : start + _STEP], places
