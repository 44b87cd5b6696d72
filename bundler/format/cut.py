"""Cut a tar stream into chunks, by position and by the words of weights (FORMAT.md, "How a writer cuts chunks")."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bundler.format.codec.codecs import BY_WIDTH, ZSTD, Codec, CodecChoice
from bundler.format.codec.safetensors import Run, word_runs
from bundler.format.contents.bases import BaseSpan, DifferenceRun
from bundler.format.tar import END_OF_ARCHIVE, TarPlan
from bundler.plan.layout import Blob

# A chunk is the unit of parallel work and of random access. With 4 MiB zstd compresses within 1 % of one long
# frame, and a terabyte needs a quarter of a million index records.
CHUNK_BYTES = 4 << 20

# The chunks of a blob of this size or more hold nothing else, so that reading it decodes no byte of its neighbours.
# Smaller blobs share chunks: a hundred thousand tiny files would otherwise need a frame each.
LARGE_BLOB_BYTES = 1 << 20


@dataclass(frozen=True)
class Piece:
    """A run of the tar stream from one source: bytes in memory, or a range of a blob."""

    size_bytes: int
    content: bytes = b""
    blob: Blob | None = None
    offset: int = 0


@dataclass(frozen=True)
class Chunk:
    """A run of the tar stream that is stored together.

    Attributes:
        pieces: Its parts, in order.
        codec: The codec to store it with.
        base: Where the bytes stand that it may be stored as a difference from; None where there are none.
    """

    pieces: list[Piece]
    codec: Codec = ZSTD
    base: BaseSpan | None = None

    @property
    def size_bytes(self) -> int:
        """Raw length."""
        return sum(piece.size_bytes for piece in self.pieces)


def no_word_runs(blob: Blob) -> list[Run]:
    """Return no runs for any blob, so that everything is stored with codec `zstd`."""
    return [Run(0, blob.size_bytes, 1)]


def cut_into_chunks(plan: TarPlan, runs_of: Callable[[Blob], list[Run]] = no_word_runs) -> Iterator[Chunk]:
    """Cut the tar stream into chunks (FORMAT.md, "How a writer cuts chunks").

    The lock, a delta's list of omitted contents, and each run of each large blob starts a new chunk; everything else
    fills chunks of `CHUNK_BYTES`.

    Args:
        plan: The stream.
        runs_of: Returns which parts of a large blob have words of which width.
    """
    run: list[Piece] = []
    room = CHUNK_BYTES
    for number, member in enumerate(plan.members):
        header = member.header
        pieces = [Piece(len(header), header)]
        content = Piece(member.size_bytes, member.content, member.blob)
        tail = bytes(member.padding)
        is_large = member.blob is not None and member.size_bytes >= LARGE_BLOB_BYTES
        if not is_large:
            pieces.append(content)
            pieces.append(Piece(len(tail), tail))
        for piece in pieces:
            for part in _split(piece, room):
                run.append(part)
                room -= part.size_bytes
                if room == 0:
                    yield Chunk(run)
                    run, room = [], CHUNK_BYTES
        if (is_large or number < len(plan.front)) and run:
            yield Chunk(run)
            run, room = [], CHUNK_BYTES
        if is_large:
            assert member.blob is not None
            yield from cut_large_blob(member.blob, runs_of)
            if tail:
                run, room = [Piece(len(tail), tail)], CHUNK_BYTES - len(tail)
    for part in _split(Piece(len(END_OF_ARCHIVE), END_OF_ARCHIVE), room):
        run.append(part)
        room -= part.size_bytes
        if room == 0:
            yield Chunk(run)
            run, room = [], CHUNK_BYTES
    if run:
        yield Chunk(run)


def cut_large_blob(blob: Blob, runs_of: Callable[[Blob], list[Run]]) -> Iterator[Chunk]:
    """Cut a blob of `LARGE_BLOB_BYTES` or more into chunks of its own; see `cut_into_chunks`."""
    for words in runs_of(blob):
        whole = Piece(words.size_bytes, blob=blob, offset=words.start)
        for part in _split(whole, CHUNK_BYTES):
            base = words.base.moved(part.offset - words.start) if isinstance(words, DifferenceRun) else None
            yield Chunk([part], BY_WIDTH[words.width], base)


def choose_runs(codec: CodecChoice, blob_path: Callable[[Blob], Path]) -> Callable[[Blob], list[Run]]:
    """Return what `cut_into_chunks` takes for a choice of codec."""
    return no_word_runs if codec == "zstd" else lambda blob: word_runs(blob_path(blob), blob.size_bytes)


def _split(piece: Piece, room: int) -> Iterator[Piece]:
    """Cut a piece so that the first part fits in `room`, the others in `CHUNK_BYTES`; drop empty parts."""
    if 0 < piece.size_bytes <= room:
        yield piece
        return
    start = 0
    while start < piece.size_bytes:
        size = min(room, piece.size_bytes - start)
        yield Piece(size, piece.content[start : start + size], piece.blob, piece.offset + start)
        start += size
        room = CHUNK_BYTES
