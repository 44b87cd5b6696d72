"""Write a bundle: tar stream -> chunks -> zstd frames -> file, on all cores, in bounded memory.

Rule book:

* equal locks give equal bytes, whatever the number of jobs: chunks are cut by position in the tar stream alone,
  compressed independently, and written in order;
* all content is hashed while it is packed, and must match the lock; of large blobs it may have been before
  (`ReadyChunks`);
* at most a few chunks per job are in memory, however large the files are.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Protocol

from bundler.errors import IntegrityError
from bundler.files.digest import Hasher, blake3_bytes, sha256_bytes
from bundler.files.parallel import in_order
from bundler.format.codec.buffers import BufferPool
from bundler.format.codec.codecs import (
    BY_WIDTH,
    DEFAULT_LEVEL,
    ZSTD,
    Buffer,
    Codec,
    CodecChoice,
    room_bytes,
)
from bundler.format.codec.safetensors import Run, word_runs
from bundler.format.index import (
    PREAMBLE,
    BaseRecord,
    ChunkRecord,
    Index,
    chunk_header,
    index_frame,
)
from bundler.format.storage.destinations import Sink
from bundler.format.tar import END_OF_ARCHIVE, TarPlan
from bundler.plan.layout import Blob
from bundler.plan.lock import Lock

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
    """

    pieces: list[Piece]
    codec: Codec = ZSTD

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
            yield Chunk([part], BY_WIDTH[words.width])


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


class ReadyChunks(Protocol):
    """Chunks of large blobs that were encoded before, from bytes that have the digest in the lock."""

    def take(self, chunk: Chunk) -> tuple[ChunkRecord, bytes] | None:
        """Return the record and the frames of a chunk; None if it was not encoded before."""


@dataclass(frozen=True)
class Encoded:
    """A chunk as it is stored.

    Attributes:
        chunk: What it is made of.
        raw: Its bytes, before; None if they were checked already.
        record: What the index says of it.
        frames: Its bytes, stored.
        buffer: What the others stand in, for the pool that it was taken from.
    """

    chunk: Chunk
    raw: memoryview | None
    record: ChunkRecord
    frames: Sequence[Buffer]
    buffer: bytearray


def encode_chunk(
    chunk: Chunk,
    blob_path: Callable[[Blob], Path],
    level: int,
    buffers: BufferPool,
    ready: ReadyChunks | None = None,
) -> Encoded:
    """Read and compress a chunk, or take what is ready.

    Args:
        chunk: The chunk.
        blob_path: Returns the path at which a blob's content can be read.
        level: zstd level.
        buffers: Buffers of `buffer_bytes()`.
        ready: What was encoded before.

    Raises:
        IntegrityError: A blob is shorter than the lock says.
        OSError: It cannot be read.
    """
    if ready is not None and (found := ready.take(chunk)) is not None:
        return Encoded(chunk, None, found[0], [found[1]], bytearray())
    buffer = buffers.take()
    # One buffer for the raw bytes, and after them the codec's room.
    view, room = memoryview(buffer)[: chunk.size_bytes], memoryview(buffer)[CHUNK_BYTES:]
    position = 0
    for piece in chunk.pieces:
        target = view[position : position + piece.size_bytes]
        if piece.blob is None:
            target[:] = piece.content
        else:
            _read_into(blob_path(piece.blob), piece, target)
        position += piece.size_bytes
    frames = chunk.codec.encode(view, level, room)
    record = ChunkRecord(chunk.codec.number, len(view), sum(map(len, frames)), blake3_bytes(*frames))
    return Encoded(chunk, view, record, frames, buffer)


def buffer_bytes() -> int:
    """Return the size of the buffers that `encode_chunk` takes."""
    return CHUNK_BYTES + room_bytes(CHUNK_BYTES)


def _read_into(path: Path, piece: Piece, target: memoryview) -> None:
    assert piece.blob is not None
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        done = 0
        while done < len(target):
            count = os.preadv(descriptor, [target[done:]], piece.offset + done)
            if count == 0:
                raise IntegrityError(
                    f"{path}: expected {piece.blob.size_bytes} bytes, the file ends at {piece.offset + done}",
                    hint="run the same `bundle fetch` again; it fetches damaged files again",
                )
            done += count
    finally:
        os.close(descriptor)


def write_bundle(
    lock: Lock,
    plan: TarPlan,
    blob_path: Callable[[Blob], Path],
    out: Sink,
    *,
    base: BaseRecord | None = None,
    whole: Index | None = None,
    codec: CodecChoice = "auto",
    level: int = DEFAULT_LEVEL,
    jobs: int = 1,
    ready: ReadyChunks | None = None,
    progress: Callable[[int], None] = lambda count: None,
) -> Index:
    """Write a whole bundle to `out`, front to back.

    Args:
        lock: A complete lock.
        plan: `tar_plan(lock)`; for a delta with the contents that it leaves out.
        blob_path: Returns the path at which a blob's content can be read.
        out: Where to write; only its `write` is used.
        base: For a delta, the record of its base.
        whole: For a delta, the index of the whole bundle, whose digest an installation will have.
        codec: "auto" stores weights as byte planes; with "zstd" the standard tools can unpack everything.
        level: zstd level.
        jobs: Number of threads that compress.
        ready: What was encoded before, by the same codec and level.
        progress: Called with the number of tar-stream bytes done since the last call.

    Returns:
        The index; its `digest` is the bundle's.

    Raises:
        IntegrityError: A blob's content does not match the lock; the bytes in `out` are then not a bundle.
        OSError: Reading or writing failed.
    """
    out.write(PREAMBLE)
    records: list[ChunkRecord] = []
    checker = _BlobChecker()
    buffers = BufferPool(buffer_bytes())
    chunks = cut_into_chunks(plan, choose_runs(codec, blob_path))
    calls = (partial(encode_chunk, chunk, blob_path, level, buffers, ready) for chunk in chunks)
    with closing(in_order(calls, jobs=jobs, name="pack")) as encoded:
        for done in encoded:
            if done.raw is not None:
                checker.feed(done.chunk.pieces, done.raw)
            out.write(chunk_header(done.record))
            for frame in done.frames:
                out.write(frame)
            buffers.give(done.buffer)
            records.append(done.record)
            progress(done.record.raw_bytes)
    index = _make_index(lock, plan, records, base, whole)
    out.write(index_frame(index))
    return index


def _make_index(
    lock: Lock, plan: TarPlan, records: list[ChunkRecord], base: BaseRecord | None, whole: Index | None
) -> Index:
    text = lock.encoded
    index = Index(lock.name, len(text), sha256_bytes(text), plan.size_bytes, tuple(records), base)
    if base is None or whole is None:
        return index
    return replace(index, base=replace(base, whole=whole.digest), whole=whole.payload())


class _BlobChecker:
    """Hashes the pieces of blobs in stream order, and compares the digest at each blob's end."""

    def __init__(self) -> None:
        self._hasher: Hasher | None = None

    def feed(self, pieces: list[Piece], raw: memoryview) -> None:
        position = 0
        for piece in pieces:
            if (blob := piece.blob) is not None:
                if piece.offset == 0 or self._hasher is None:
                    self._hasher = Hasher(("blake3",), size_bytes=blob.size_bytes)
                self._hasher.update(raw[position : position + piece.size_bytes])
                if piece.offset + piece.size_bytes == blob.size_bytes:
                    self._compare(blob, self._hasher)
            position += piece.size_bytes

    def _compare(self, blob: Blob, hasher: Hasher) -> None:
        found = hasher.result()
        if found.blake3 != blob.blake3:
            raise IntegrityError(
                f"{blob.path}: expected blake3 {blob.blake3}, found {found.blake3} while packing",
                hint="run the same `bundle fetch` again; it fetches damaged files again",
            )
