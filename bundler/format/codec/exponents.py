"""Code planes of exponents as zstd frames of literals alone (FORMAT.md, "Planes of exponents"): a writer's part only.

Exponents of weights are drawn from some thirty values, and nearly independent: a search for matches finds none, and a
Huffman code comes to within a hundredth of their entropy. So each block of the frame has a tree of its own, for which
an eighth of its bytes is counted, and no sequences. Any zstd decodes it.

This is the reference for `_exponents.h`, which takes a tenth of the time; both write the same bytes.
"""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray

from bundler.format.codec.frames import (
    BLOCK_BYTES,
    BLOCK_HEADER_BYTES,
    HEADER_BYTES,
    lay_out_stored_frame,
    stored_frame_bytes,
)

Bytes = NDArray[np.uint8]
# Of two bytes: their codes, and in the low byte how many bits these have.
Entries = NDArray[np.uint32]

# A shorter last block is stored.
_CODED_FROM = 1024
# Of a code (RFC 8878, 4.2.1).
_MOST_BITS = 11
# The greatest value that the direct form of a tree can say (RFC 8878, 4.2.1.1).
_MOST_VALUE = 128
_SAMPLE_BYTES, _SAMPLE_STEP = 64, 512
# Between the values of a block that is sampled.
_MOST_APART = 40
_QUARTERS = 4
# Among the samples of so many blocks repeats are looked for, by the first bytes of each.
_GROUP_BLOCKS, _WINDOW_BYTES, _REPEATS_SHARE = 16, 16, 32
# Squares, so that no length of a row makes all samples be of the same columns.
_NUMBERS = np.arange(BLOCK_BYTES // _SAMPLE_STEP)
_STARTS = np.minimum(_NUMBERS * _SAMPLE_STEP + 197 * _NUMBERS**2 % 509, BLOCK_BYTES - _SAMPLE_BYTES)
_SAMPLES = (_STARTS[:, None] + np.arange(_SAMPLE_BYTES)).ravel()
_WINDOWS = _STARTS[:, None] + np.arange(_WINDOW_BYTES)


def encode(plane: memoryview, frame: memoryview) -> int:
    """Write the frame of a plane.

    Args:
        plane: The top bytes of words.
        frame: Where to write, as long as the stored frame of the plane.

    Returns:
        The length of the frame; 0 where the plane is not for this code: it is shorter than a block, or a block has a
        value over 128, or one that makes up more than half of it, or quarters that are not alike, or there are repeats.

    Raises:
        ValueError: `frame` has another length.
    """
    expected = stored_frame_bytes(len(plane))
    if len(frame) != expected:
        raise ValueError(f"expected a frame of {expected} bytes for a plane of {len(plane)}, found {len(frame)}")
    if len(plane) < BLOCK_BYTES:
        return 0
    if _has_repeats(np.frombuffer(plane, np.uint8)):
        return 0
    # For the header alone; what is stored of the blocks' follows below.
    lay_out_stored_frame(frame, len(plane))
    position = HEADER_BYTES
    for start in range(0, len(plane), BLOCK_BYTES):
        block = plane[start : start + BLOCK_BYTES]
        coded = _code_block(np.frombuffer(block, np.uint8)) if len(block) >= _CODED_FROM else bytes(block)
        if coded is None:
            return 0
        is_coded = len(coded) < len(block)
        content = coded if is_coded else block
        lead = len(content) << 3 | is_coded << 2 | (start + BLOCK_BYTES >= len(plane))
        frame[position : position + BLOCK_HEADER_BYTES] = lead.to_bytes(BLOCK_HEADER_BYTES, "little")
        position += BLOCK_HEADER_BYTES
        frame[position : position + len(content)] = content
        position += len(content)
    return position


def _code_block(block: Bytes) -> bytes | None:
    """Return the content of a compressed block (RFC 8878, 3.1.1.3.1): a tree, four streams, no sequences."""
    counts = _count_values(block)
    if counts is None:
        return None
    lengths = _choose_lengths(counts)
    codes = _make_codes(lengths)
    pairs = _pair(codes, lengths)
    quarter = -(-len(block) // 4)
    streams = [_write_stream(block[n * quarter :][:quarter], codes, lengths, pairs) for n in range(4)]
    jumps = b"".join(len(stream).to_bytes(2, "little") for stream in streams[:3])
    coded = _tree(lengths) + jumps + b"".join(streams)
    # Compressed literals in four streams, sizes of 18 bits.
    header = 2 | 3 << 2 | len(block) << 4 | len(coded) << 22
    return header.to_bytes(5, "little") + coded + b"\0"


def _has_repeats(plane: Bytes) -> bool:
    """Tell whether samples begin with bytes that others of the same 2 MiB begin with, more than one of 32."""
    whole = plane[: len(plane) // BLOCK_BYTES * BLOCK_BYTES].reshape(-1, BLOCK_BYTES)
    for first in range(0, len(whole), _GROUP_BLOCKS):
        windows = whole[first : first + _GROUP_BLOCKS, _WINDOWS].reshape(-1, _WINDOW_BYTES)
        distinct = len(np.unique(windows.view(f"V{_WINDOW_BYTES}")))
        if len(windows) - distinct > len(windows) // _REPEATS_SHARE:
            return True
    return False


def _count_values(block: Bytes) -> list[int] | None:
    """Return how often each value occurs, or about so; None where the block is not for this code."""
    most = int(block.max())
    if most > _MOST_VALUE or most == 0:
        return None
    # One more than the least of those less one, modulo 256: the least that is not zero.
    least = int((block - np.uint8(1)).min()) + 1
    is_sampled = len(block) == BLOCK_BYTES and most - least <= _MOST_APART
    counted = block[_SAMPLES] if is_sampled else block
    length = -(-len(counted) // _QUARTERS)
    quarters = [np.bincount(counted[n * length :][:length], minlength=most + 1) for n in range(_QUARTERS)]
    counts = np.sum(quarters, axis=0)
    total = int(counts.sum())
    if counts.max() > total // 2:
        return None
    # One code does not suit quarters of which one differs from the whole in more than half of its bytes.
    if any(np.abs(_QUARTERS * quarter - counts).sum() > total // 2 for quarter in quarters):
        return None
    if is_sampled:
        counts *= _SAMPLE_STEP // _SAMPLE_BYTES
        counts[least:] += 1
        counts[0] += not block.all()
    return [int(count) for count in counts]


def _choose_lengths(counts: list[int]) -> list[int]:
    """Return the lengths, at most 11, of the shortest code: package-merge (Larmore and Hirschberg, 1990)."""
    values = sorted((value for value, count in enumerate(counts) if count), key=lambda value: counts[value])
    packages: list[int] = []
    is_leaf: list[list[bool]] = []
    for _ in range(_MOST_BITS):
        # The sort is stable: of equal weights a value comes before a package.
        items = sorted(
            [(counts[value], True) for value in values] + [(weight, False) for weight in packages],
            key=lambda item: item[0],
        )
        is_leaf.append([leaf for _, leaf in items])
        weights = [weight for weight, _ in items]
        packages = [one + other for one, other in zip(weights[::2], weights[1::2], strict=False)]
    lengths = [0] * len(counts)
    taken = 2 * len(values) - 2
    for leaves in reversed(is_leaf):
        chosen = sum(leaves[:taken])
        for value in values[:chosen]:
            lengths[value] += 1
        taken = 2 * (taken - chosen)
    return lengths


def _make_codes(lengths: list[int]) -> list[int]:
    """Return the codes in the order of RFC 8878, 4.2.1.3: the longest first, of one length by value."""
    codes, code, before = [0] * len(lengths), 0, 0
    for value in sorted(filter(lengths.__getitem__, range(len(lengths))), key=lambda value: -lengths[value]):
        code >>= max(before - lengths[value], 0)
        codes[value], before = code, lengths[value]
        code += 1
    return codes


def _tree(lengths: list[int]) -> bytes:
    """Return the direct form of a tree (RFC 8878, 4.2.1.1), which leaves out the last value."""
    longest = max(lengths)
    weights = [longest + 1 - length if length else 0 for length in lengths[:-1]]
    halves = itertools.zip_longest(weights[::2], weights[1::2], fillvalue=0)
    return bytes([127 + len(weights), *(high << 4 | low for high, low in halves)])


def _pair(codes: list[int], lengths: list[int]) -> Entries:
    """Return codes and lengths of two bytes read as one little-endian word: first comes the code of its high byte."""
    size = len(codes)
    code, length = np.array(codes, np.uint32), np.array(lengths, np.uint32)
    entries = np.zeros((size, 256), np.uint32)
    both = code[:, None] | code[None, :] << length[:, None]
    entries[:, :size] = both << np.uint32(8) | (length[:, None] + length[None, :])
    return entries.ravel()


def _write_stream(part: Bytes, codes: list[int], lengths: list[int], pairs: Entries) -> bytes:
    """Return the codes from the last byte to the first, and a one behind them (RFC 8878, 4.2.2)."""
    # Bytes beyond the last whole four are written one by one.
    odd = len(part) % 4
    head = head_bits = 0
    for value in part[len(part) - odd :][::-1].tolist():
        head |= codes[value] << head_bits
        head_bits += lengths[value]
    two = part[: len(part) - odd].view("<u2")[::-1]
    one, other = pairs[two[0::2]].astype(np.uint64), pairs[two[1::2]].astype(np.uint64)
    width = one & np.uint64(0xFF)
    # Codes of four bytes, of at most 44 bits.
    four = one >> np.uint64(8) | other >> np.uint64(8) << width
    width += other & np.uint64(0xFF)
    ends = np.cumsum(width) + np.uint64(head_bits)
    starts = ends - width
    words, shift = starts >> np.uint64(6), starts & np.uint64(63)
    # In each word of 64 bits some code begins, as none is that long; it reaches at most into the next word.
    lasts = np.append(np.flatnonzero(words[1:] != words[:-1]), len(words) - 1)
    firsts = np.append(0, lasts[:-1] + 1)
    first_word, total = int(words[0]), int(ends[-1])
    out = np.zeros(total // 64 + 2, "<u8")
    out[first_word : first_word + len(firsts)] = np.bitwise_or.reduceat(four << shift, firsts)
    # In two steps, since a shift by 64 is undefined.
    out[first_word + 1 : first_word + 1 + len(lasts)] |= (
        four[lasts] >> (np.uint64(63) - shift[lasts]) >> np.uint64(1)
    )
    out[0] |= np.uint64(head)
    out[total // 64] |= np.uint64(1 << total % 64)
    return out.tobytes()[: total // 8 + 1]
