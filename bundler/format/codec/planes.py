"""Split words of weights into byte planes and merge them, for codecs `planes2` and `planes4` (FORMAT.md, "Codecs").

A bf16 or fp32 number is a sign, eight bits of exponent, and the mantissa. After a rotation to the left by one bit, the
exponent is the top byte, and the sign is the lowest bit, beside the mantissa's noise. The plane of all top bytes then
compresses to the entropy of the exponents, about a third; the other planes compress hardly or not at all. fp16, with
five bits of exponent, gains from the same rotation.

`merge` restores any bytes exactly: nothing is assumed about the numbers.

numpy does the work block by block in scratch arrays that stay in the L2 cache; with new arrays of a chunk's size page
faults would take longer than the arithmetic. Each thread has its own scratch arrays. numpy releases the GIL.
"""

from __future__ import annotations

import threading

import numpy as np
from numpy.typing import NDArray

from bundler.format.codec.frames import BLOCK_BYTES

Bytes = NDArray[np.uint8]

# One step of the loops below makes exactly one block of a stored frame of each plane.
_STEP = BLOCK_BYTES


class _Scratch(threading.local):
    def __init__(self) -> None:
        self.word2 = np.empty(_STEP, "<u2")
        self.byte = np.empty(_STEP, np.uint8)
        self.word4 = np.empty(_STEP, "<u4")
        self.more4 = np.empty(_STEP, "<u4")


_scratch = _Scratch()


def split(raw: memoryview, planes: list[list[memoryview]]) -> None:
    """Split words into planes.

    Args:
        raw: Little-endian words of `len(planes)` bytes each.
        planes: One plane per byte of a word, the top byte first. A plane is a list of writable views of
            `BLOCK_BYTES`, the last one perhaps shorter, with together one byte per word.
    """
    width = len(planes)
    words = np.frombuffer(raw, f"<u{width}")
    split_block = _split2 if width == 2 else _split4
    for number, start in enumerate(range(0, len(words), _STEP)):
        places = [np.frombuffer(plane[number], np.uint8) for plane in planes]
        split_block(words[start : start + _STEP], places)


def merge(planes: list[list[memoryview]], out: memoryview) -> None:
    """Undo `split`: read `planes` (as described there), and write the words to `out`."""
    width = len(planes)
    words = np.frombuffer(out, f"<u{width}")
    merge_block = _merge2 if width == 2 else _merge4
    for number, start in enumerate(range(0, len(words), _STEP)):
        places = [np.frombuffer(plane[number], np.uint8) for plane in planes]
        merge_block(places, words[start : start + _STEP])


# These two use the fewest passes through the cache, and only operations that numpy has vectorised: division by a
# constant, multiplication and comparison. Shifts are half as fast.


def _split2(words: NDArray[np.uint16], places: list[Bytes]) -> None:
    word, sign = _scratch.word2[: len(words)], _scratch.byte[: len(words)]
    high, low = places
    # Copying to a byte array keeps the low eight bits, so the exponent needs no mask.
    np.floor_divide(words, 1 << 7, out=word)
    np.copyto(high, word, casting="unsafe")
    np.less(words.view("<i2"), 0, out=sign.view(np.bool_))
    np.copyto(low, words, casting="unsafe")
    np.add(low, low, out=low)
    np.bitwise_or(low, sign, out=low)


def _merge2(places: list[Bytes], out: NDArray[np.uint16]) -> None:
    word, mantissa = _scratch.word2[: len(out)], _scratch.byte[: len(out)]
    high, low = places
    np.multiply(high, 1 << 7, out=out, dtype=np.uint16)
    # Only the last bit of the low byte, the sign, has to be moved within the word.
    np.multiply(low, 1 << 15, out=word, dtype=np.uint16)
    np.bitwise_or(out, word, out=out)
    np.floor_divide(low, 2, out=mantissa)
    np.bitwise_or(out, mantissa, out=out)


def _split4(words: NDArray[np.uint32], places: list[Bytes]) -> None:
    word, more = _scratch.word4[: len(words)], _scratch.more4[: len(words)]
    np.left_shift(words, 1, out=word)
    np.right_shift(words, 31, out=more)
    np.bitwise_or(word, more, out=word)
    for place, shift in zip(places, (24, 16, 8, 0), strict=True):
        np.right_shift(word, shift, out=more)
        np.copyto(place, more, casting="unsafe")


def _merge4(places: list[Bytes], out: NDArray[np.uint32]) -> None:
    word = _scratch.word4[: len(out)]
    np.copyto(word, places[0])
    for place in places[1:]:
        np.left_shift(word, 8, out=word)
        np.bitwise_or(word, place, out=word)
    np.right_shift(word, 1, out=out)
    np.left_shift(word, 31, out=word)
    np.bitwise_or(out, word, out=out)
