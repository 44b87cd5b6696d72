"""The contents of a bundle, read in any order: what chunks of it, or of another one, are differences from."""

from __future__ import annotations

from collections.abc import Mapping

from bundler.errors import FormatError
from bundler.format.codec.buffers import BufferPool
from bundler.format.contents.bases import TAMPERED_HINT, Bases
from bundler.format.contents.spans import ChunkReader, copy_span


class OwnContents:
    """See `bundler.format.contents.bases.Contents`.

    Args:
        reader: The bundle.
        spans: Content (SHA-256) -> where it begins and ends in the tar stream.
        bases: Which of them are stored as differences, and what from.
        buffers: For its chunks.
    """

    def __init__(
        self, reader: ChunkReader, spans: Mapping[str, tuple[int, int]], bases: Bases, buffers: BufferPool
    ) -> None:
        self._reader = reader
        self._spans = spans
        self._bases = bases
        self._buffers = buffers

    def __contains__(self, sha256: str) -> bool:
        """Tell whether the bundle holds a content, and all that it is the difference from."""
        return sha256 in self._spans and all(base in self for base in self._bases.get(sha256, ()))

    def read_into(self, sha256: str, offset: int, room: memoryview) -> None:
        """Fill `room` with the bytes of a content from `offset`.

        Raises:
            FormatError: It ends before, or a chunk is damaged.
        """
        start, stop = self._spans[sha256]
        if start + offset + len(room) > stop:
            what = f"it asks for bytes {offset} to {offset + len(room)} of base {sha256}, which ends before"
            raise FormatError(what, hint=TAMPERED_HINT)
        copy_span(self._reader, start + offset, room, self._buffers)
