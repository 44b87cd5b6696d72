"""Put what came through a pipe that left bytes out, or sent some twice, where it was in the bundle.

What is left out moves all behind it, and parity knows damage by its place. But each chunk begins with a header that has
its digest, and the index, which comes last, says where it belongs.
"""

from __future__ import annotations

import mmap
import os
import tempfile
from collections import defaultdict, deque
from itertools import pairwise
from typing import IO

from bundler.errors import FormatError
from bundler.format.index import (
    CHUNK_HEADER_BYTES,
    TRAILER_BYTES,
    chunk_header,
    index_frame_bytes,
    parse_index_frame,
)
from bundler.format.storage.volume_header import VOLUME_HEAD_BYTES, is_volume_head
from bundler.parity.protected import write_at

_BLOCK_BYTES = 4 << 20
# Of a chunk's header, what all have in common (FORMAT.md, "Chunk header").
_COMMON_BYTES = 12


def lay_again(copy: int) -> IO[bytes] | None:
    """Return a file without a name in which all that came stands where it belongs.

    None where it stands there already, and where that cannot be told, which is so of volumes.

    Args:
        copy: A descriptor of a file with the bytes of a bundle in one file, its index whole.
    """
    size_bytes = os.fstat(copy).st_size
    try:
        trailer = os.pread(copy, TRAILER_BYTES, max(0, size_bytes - TRAILER_BYTES))
        index_bytes = index_frame_bytes(trailer)
        index = parse_index_frame(os.pread(copy, index_bytes, max(0, size_bytes - index_bytes)))
    except FormatError:
        return None
    if is_volume_head(os.pread(copy, VOLUME_HEAD_BYTES, 0)):
        return None
    starts = [start - CHUNK_HEADER_BYTES for start in index.stored_starts()]
    if not starts:
        return None
    places: dict[bytes, deque[int]] = defaultdict(deque)
    for record, start in zip(index.chunks, starts, strict=True):
        places[chunk_header(record)].append(start)
    end = starts[-1] + CHUNK_HEADER_BYTES + index.chunks[-1].stored_bytes
    moved = _find_runs(copy, places)
    if not moved and end + index_bytes == size_bytes:
        return None
    # (where it belongs, where it is) of all that does not follow what is before it.
    runs = [(0, 0), *moved, (end, size_bytes - index_bytes), (end + index_bytes, size_bytes)]
    laid: IO[bytes] = tempfile.TemporaryFile(dir=tempfile.gettempdir())  # noqa: SIM115
    try:
        for (place, at), (next_place, next_at) in pairwise(runs):
            _copy(copy, at, laid.fileno(), place, min(next_at - at, next_place - place))
        os.truncate(laid.fileno(), end + index_bytes)
    except BaseException:
        laid.close()
        raise
    return laid


def _find_runs(copy: int, places: dict[bytes, deque[int]]) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    shift = reached = 0
    common = next(iter(places))[:_COMMON_BYTES]
    with mmap.mmap(copy, 0, access=mmap.ACCESS_READ) as content:
        at = content.find(common)
        while at >= 0:
            those = places.get(content[at : at + CHUNK_HEADER_BYTES], deque())
            # What came twice belongs nowhere the second time.
            while those and those[0] < reached:
                those.popleft()
            if those:
                reached = those.popleft()
                if reached - at != shift:
                    shift = reached - at
                    found.append((reached, at))
            at = content.find(common, at + 1)
    return found


def _copy(source: int, at: int, target: int, place: int, count: int) -> None:
    while count > 0:
        block = os.pread(source, min(count, _BLOCK_BYTES), at)
        if not block:
            return
        write_at(target, block, place)
        at, place, count = at + len(block), place + len(block), count - len(block)
