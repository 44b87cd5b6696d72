"""The list of bases: which contents a bundle stores as their difference from which others (FORMAT.md, "Differences").

Rule book:

* the list stands at the front of the tar stream, so that a reader knows what it needs before it writes anything, of a
  pipe too;
* a base is a content, named by its SHA-256. It comes before what is stored as a difference from it: so there are no
  circles, and whoever reads a stream front to back has it when it is needed;
* only a delta may name a base that is not in its stream: its index says which bundle brings it;
* a difference may be from content that is a difference too, a few times over and no more: each takes a chunk's memory.
"""

from __future__ import annotations

import re
import struct
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from bundler.errors import FormatError
from bundler.files.digest import sha256_bytes
from bundler.format.base_records import BasesRecord
from bundler.format.codec.safetensors import Run
from bundler.format.index import SKIPPABLE_MAGIC

# Content (SHA-256) that is stored as a difference -> its bases, in the order in which its chunks number them.
Bases = Mapping[str, tuple[str, ...]]

# How many differences may lie one upon the other.
MAX_DEPTH = 4
# Smaller content is not worth it, and shares chunks with its neighbours.
MIN_BASE_BYTES = 1 << 20
# Of a chunk that is a difference: its base's bytes are in memory beside it. A writer makes half of it.
MAX_DIFFERENCE_BYTES = 8 << 20

TAMPERED_HINT = "it was tampered with, or made by a faulty program: do not use it"

_LINE = re.compile(r"[0-9a-f]{64}(?: [0-9a-f]{64})+")
_PLACE = struct.Struct("<II4sIQ")
_PLACE_MAGIC = b"HFBD"
PLACE_BYTES = _PLACE.size


class Contents(Protocol):
    """Where content can be read that is not decoded from a bundle's own stream."""

    def __contains__(self, sha256: str, /) -> bool:
        """Tell whether this content can be read."""

    def read_into(self, sha256: str, offset: int, room: memoryview) -> None:
        """Fill `room` with the content's bytes from `offset`.

        Raises:
            BundleError: They are not there.
        """


@dataclass(frozen=True)
class BasePlace:
    """Where the words stand that a chunk is the difference from.

    Attributes:
        number: Number of the base among those of the content, from 0.
        offset: Offset in it of the first byte.
    """

    number: int
    offset: int

    def pack(self) -> bytes:
        """Return the skippable frame with which the stored bytes of the chunk begin."""
        size = PLACE_BYTES - 8
        return _PLACE.pack(SKIPPABLE_MAGIC, size, _PLACE_MAGIC, self.number, self.offset)

    @classmethod
    def parse(cls, stored: memoryview) -> BasePlace:
        """Read what the stored bytes of a chunk begin with.

        Raises:
            FormatError: It is something else.
        """
        if len(stored) >= PLACE_BYTES:
            *_, number, offset = _PLACE.unpack_from(stored)
            place = cls(number, offset)
            if place.pack() == stored[:PLACE_BYTES]:
                return place
        raise FormatError("it is a difference, and does not begin with the place of its base")


@dataclass(frozen=True)
class BaseSpan:
    """What a run of words may be stored as the difference from.

    Attributes:
        place: Where its first byte stands.
        sha256: The base.
        contents: Where the base can be read.
    """

    place: BasePlace
    sha256: str
    contents: Contents

    def moved(self, count: int) -> BaseSpan:
        """Return the span that begins `count` bytes later."""
        return replace(self, place=replace(self.place, offset=self.place.offset + count))

    def read_into(self, room: memoryview) -> None:
        """Fill `room` with its first bytes."""
        self.contents.read_into(self.sha256, self.place.offset, room)


@dataclass(frozen=True)
class DifferenceRun(Run):
    """Words that have a base, of which as many follow one another.

    Attributes:
        base: Where they begin.
    """

    base: BaseSpan


# Fills the room with the bytes that stand at that place.
ReadBase = Callable[[BasePlace, memoryview], None]


class Differences:
    """Finds what a chunk may be the difference from, by where it stands in the tar stream.

    Args:
        spans: Start, end and bases of each content that has bases, in order.
    """

    def __init__(self, spans: Iterable[tuple[int, int, tuple[str, ...]]]) -> None:
        self._spans = list(spans)
        self._starts = [start for start, _, _ in self._spans]

    def bases_at(self, start: int, stop: int) -> tuple[str, ...]:
        """Return the bases of the content that holds all bytes from `start` to `stop`; none, if none does."""
        number = bisect_right(self._starts, start) - 1
        if number < 0 or stop > self._spans[number][1]:
            return ()
        return self._spans[number][2]

    def find_base(self, start: int, stop: int, place: BasePlace) -> str:
        """Return the content (SHA-256) that a chunk from `start` to `stop` is the difference from.

        Raises:
            FormatError: The list of bases has none there.
        """
        bases = self.bases_at(start, stop)
        if place.number >= len(bases):
            raise FormatError(
                f"it is the difference from base {place.number} of its content, which has {len(bases)}",
                hint=TAMPERED_HINT,
            )
        return bases[place.number]


def bases_text(bases: Bases) -> bytes:
    """Return the list: for each content a line with its SHA-256 and those of its bases, sorted by content."""
    return "".join(f"{' '.join((content, *bases[content]))}\n" for content in sorted(bases)).encode()


def bases_record(bases: Bases) -> BasesRecord | None:
    """Return what the index says of a list; None where there is none."""
    text = bases_text(bases)
    return BasesRecord(len(text), sha256_bytes(text)) if bases else None


def parse_bases(text: bytes) -> Bases:
    """Parse what `bases_text` wrote.

    Raises:
        FormatError: It is malformed.
    """
    lines = text.decode("ascii", "replace").splitlines()
    if not lines or not all(_LINE.fullmatch(line) for line in lines):
        raise FormatError("list of bases is malformed: expected lines of SHA-256 digests")
    bases = {content: tuple(others) for content, *others in map(str.split, lines)}
    if bases_text(bases) != text:
        raise FormatError("list of bases is not in canonical form")
    return bases


def check_bases(bases: Bases, sizes: Mapping[str, int], is_delta: bool) -> None:
    """Make sure that all that the list names can be there when it is needed.

    Args:
        bases: The list.
        sizes: Lengths of the contents of the tar stream, in their order in it.
        is_delta: Whether a base may be elsewhere.

    Raises:
        FormatError: Something cannot; the message names the content and its base.
    """
    depths: dict[str, int] = {}
    problems = [
        f"list of bases names content {content}, which is not in the bundle"
        for content in sorted(bases.keys() - sizes.keys())
    ]
    for content, size in sizes.items():
        depths[content] = 0
        for base in bases.get(content, ()):
            what = f"content {content} is stored as a difference from {base}"
            if (base in sizes and base not in depths) or base == content:
                problems.append(f"{what}, which does not come before it")
            elif base not in sizes and not is_delta:
                problems.append(f"{what}, which is not in the bundle, and the bundle is not a delta")
            elif min(size, sizes.get(base, size)) < MIN_BASE_BYTES:
                problems.append(f"{what}, and one of them is shorter than {MIN_BASE_BYTES} bytes")
            depths[content] = max(depths[content], 1 + depths.get(base, 0))
        if depths[content] > MAX_DEPTH:
            problems.append(
                f"content {content} is a difference from a difference, more than {MAX_DEPTH} times over"
            )
    if problems:
        raise FormatError(problems[0], hint=TAMPERED_HINT)
