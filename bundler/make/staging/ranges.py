"""Which ranges of a content are there, while several connections bring it.

    content, with holes | padding | note (a page)

Rule book:

* a partial file no longer than its content is a prefix of it: no range but the first is there;
* a longer one has a note behind the content that names the ranges. The note is written before the first byte that
  leaves a hole, so no file with holes can be taken for a prefix;
* a note stands within one page, so a killed process leaves the old one or the new one. It may name less than is there,
  never more: the bytes were handed to the kernel before;
* a note that makes no sense counts as none, and then nothing of the content is there.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterable, Iterator

PAGE_BYTES = 4096
_MAGIC = b"bundle ranges 1\n"
_COUNT = struct.Struct("<I")
_RANGE = struct.Struct("<QQ")
# More are forgotten, and fetched again: each connection leaves one hole at most.
MOST_RANGES = (PAGE_BYTES - len(_MAGIC) - _COUNT.size) // _RANGE.size


class Ranges:
    """Ranges of bytes, sorted, apart from each other; not safe to use from several threads.

    Args:
        ranges: First byte and the byte after the last of each.
    """

    def __init__(self, ranges: Iterable[tuple[int, int]] = ()) -> None:
        self._ranges: list[tuple[int, int]] = []
        for start, end in ranges:
            self.add(start, end)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(self._ranges)

    @property
    def size_bytes(self) -> int:
        """How many bytes are there."""
        return sum(end - start for start, end in self._ranges)

    @property
    def front_bytes(self) -> int:
        """How many bytes are there from the first one on, without a hole."""
        return self._ranges[0][1] if self._ranges and self._ranges[0][0] == 0 else 0

    def add(self, start: int, end: int) -> None:
        """Take a range for there, which may touch or overlap others."""
        if start >= end:
            return
        apart = []
        for other_start, other_end in self._ranges:
            if other_end < start or end < other_start:
                apart.append((other_start, other_end))
            else:
                start, end = min(start, other_start), max(end, other_end)
        self._ranges = sorted([*apart, (start, end)])

    def missing(self, length: int) -> Iterator[tuple[int, int]]:
        """Yield what is not there of a content of `length` bytes, in order."""
        at = 0
        for start, end in self._ranges:
            if at < start:
                yield at, start
            at = end
        if at < length:
            yield at, length


def note_offset(content_bytes: int) -> int:
    """Return where the note behind a content of this length begins."""
    return -(-content_bytes // PAGE_BYTES) * PAGE_BYTES


def write_note(ranges: Ranges) -> bytes:
    """Return the note that names `ranges`: a page."""
    named = list(ranges)[:MOST_RANGES]
    text = _MAGIC + _COUNT.pack(len(named)) + b"".join(_RANGE.pack(*pair) for pair in named)
    return text.ljust(PAGE_BYTES, b"\0")


def read_note(note: bytes, content_bytes: int) -> Ranges:
    """Return what a note names; nothing if it makes no sense for a content of this length."""
    head = len(_MAGIC) + _COUNT.size
    if len(note) != PAGE_BYTES or not note.startswith(_MAGIC):
        return Ranges()
    (count,) = _COUNT.unpack_from(note, len(_MAGIC))
    if count > MOST_RANGES:
        return Ranges()
    pairs = [_RANGE.unpack_from(note, head + number * _RANGE.size) for number in range(count)]
    bounds = [bound for pair in pairs for bound in pair]
    if any(before >= after for before, after in itertools.pairwise(bounds)):
        return Ranges()
    return Ranges(pairs) if not bounds or bounds[-1] <= content_bytes else Ranges()
