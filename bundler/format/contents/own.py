"""The contents of a bundle, read in any order: what chunks of it, or of another one, are differences from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bundler.errors import FormatError
from bundler.format.codec.buffers import BufferPool
from bundler.format.codec.expansion import Work, work_bytes
from bundler.format.contents.bases import MAX_DIFFERENCE_BYTES, TAMPERED_HINT, Bases
from bundler.format.contents.spans import ChunkReader, copy_span
from bundler.format.index import ChunkRecord

# For what is read for another bundle, whose own length bounds how often: a chunk, and what it stores.
_EARNED = 2


class OwnContents:
    """See `bundler.format.contents.bases.Contents`.

    Args:
        reader: The bundle.
        chunks: All of its chunks.
        spans: Content (SHA-256) -> where it begins and ends in the tar stream.
        bases: Which of them are stored as differences, and what from.
        buffers: For its chunks.
    """

    def __init__(
        self,
        reader: ChunkReader,
        chunks: Sequence[ChunkRecord],
        spans: Mapping[str, tuple[int, int]],
        bases: Bases,
        buffers: BufferPool,
    ) -> None:
        self._reader = reader
        self._chunks = chunks
        self._spans = spans
        self._bases = bases
        self._buffers = buffers
        # What may be decoded for other bundles.
        self._work = reader.new_work()

    def __contains__(self, sha256: str) -> bool:
        """Tell whether the bundle holds a content, and all that it is the difference from."""
        return sha256 in self._spans and all(base in self for base in self._bases.get(sha256, ()))

    def read_into(self, sha256: str, offset: int, room: memoryview) -> None:
        """Fill `room` with the bytes of a content from `offset`, for another bundle.

        Raises:
            FormatError: As `read_counted`.
        """
        self._work.add(_EARNED * len(room))
        self.read_counted(sha256, offset, room, self._work)

    def read_counted(self, sha256: str, offset: int, room: memoryview, work: Work) -> None:
        """Fill `room` with the bytes of a content from `offset`, in a pass through this bundle.

        Raises:
            FormatError: It ends before, a chunk is damaged or too long, or the pass is more work than it may be.
        """
        start, stop = self._spans[sha256]
        if start + offset + len(room) > stop:
            what = f"it asks for bytes {offset} to {offset + len(room)} of base {sha256}, which ends before"
            raise FormatError(what, hint=TAMPERED_HINT)
        for number in self._reader.chunk_span(start + offset, start + offset + len(room)):
            chunk = self._chunks[number]
            if chunk.raw_bytes > MAX_DIFFERENCE_BYTES:
                what = f"base {sha256} has a chunk of {chunk.raw_bytes} bytes"
                raise FormatError(f"{what}, expected at most {MAX_DIFFERENCE_BYTES}", hint=TAMPERED_HINT)
            work.spend(work_bytes(chunk.raw_bytes, chunk.stored_bytes))
        copy_span(self._reader, start + offset, room, self._buffers, work)
