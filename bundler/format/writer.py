"""Write a bundle: tar stream -> chunks -> zstd frames -> file, on all cores, in bounded memory.

Rule book:

* equal locks give equal bytes, whatever the number of jobs: chunks are cut by position in the tar stream alone,
  compressed independently, and written in order;
* all content is hashed while it is packed, and must match the lock; of large blobs it may have been before
  (`ReadyChunks`);
* at most a few chunks per job are in memory, however large the files are;
* what shrinks so far that a reader would refuse it has a chunk stored as it is, now and then (FORMAT.md, "Expansion").
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Protocol

from bundler.errors import IntegrityError
from bundler.files.digest import Digests, Hasher, blake3_bytes, hash_bytes, sha256_bytes
from bundler.files.parallel import Lane, in_order
from bundler.format.base_records import BaseRecord
from bundler.format.chunk import decode_chunk
from bundler.format.codec.buffers import BufferPool
from bundler.format.codec.codecs import (
    DEFAULT_LEVEL,
    ZSTD,
    Buffer,
    CodecChoice,
    encode_difference,
    room_bytes,
)
from bundler.format.codec.frames import stored_frame
from bundler.format.codec.safetensors import Run
from bundler.format.contents.bases import bases_record
from bundler.format.contents.burden import Burden
from bundler.format.cut import CHUNK_BYTES, Chunk, choose_runs, cut_into_chunks
from bundler.format.index import (
    PREAMBLE,
    ChunkRecord,
    Index,
    chunk_header,
    index_frame,
)
from bundler.format.storage.destinations import Sink
from bundler.format.tar import TarPlan
from bundler.plan.layout import Blob
from bundler.plan.lock import Lock

# Of the raw bytes. No weights are stored in less as they are, so that this need not be tried too.
_CLEARLY_SMALLER = 0.4


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
            read_blob(blob_path(piece.blob), piece.blob, piece.offset, target)
        position += piece.size_bytes
    number, frames = _encode(chunk, view, level, room)
    record = ChunkRecord(number, len(view), sum(map(len, frames)), blake3_bytes(*frames))
    return Encoded(chunk, view, record, frames, buffer)


def _encode(chunk: Chunk, raw: memoryview, level: int, room: memoryview) -> tuple[int, list[Buffer]]:
    """Return the number of the codec, and the frames: as a difference from the base where that is smaller."""
    ways: list[tuple[int, list[Buffer]]] = []
    if chunk.base is not None:
        theirs = room[: len(raw)]
        chunk.base.read_into(theirs)
        codec, frames = encode_difference(raw, theirs, chunk.codec.width)
        ways = [(codec.number, [chunk.base.place.pack(), *frames])]
        if sum(map(len, ways[0][1])) < _CLEARLY_SMALLER * len(raw):
            return ways[0]
    ways.append((chunk.codec.number, chunk.codec.encode(raw, level, room)))
    return min(ways, key=lambda way: sum(map(len, way[1])))


def buffer_bytes() -> int:
    """Return the size of the buffers that `encode_chunk` takes."""
    return CHUNK_BYTES + room_bytes(CHUNK_BYTES)


def read_blob(path: Path, blob: Blob, offset: int, target: memoryview) -> None:
    """Fill `target` with the bytes of a blob's file from `offset`.

    Raises:
        IntegrityError: The file ends before.
        OSError: It cannot be read.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        done = 0
        while done < len(target):
            count = os.preadv(descriptor, [target[done:]], offset + done)
            if count == 0:
                raise IntegrityError(
                    f"{path}: expected {blob.size_bytes} bytes, the file ends at {offset + done}",
                    hint="run the same command again; it brings damaged files anew",
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
    runs_of: Callable[[Blob], list[Run]] | None = None,
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
        ready: What was encoded before, by the same codec and level: of a blob all chunks, or none.
        runs_of: Returns the words of a large blob, those with a base among them; by default what `codec` means.
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
    burden = Burden(lambda sha256: first.offset if (first := plan.first_of.get(sha256)) else None)
    buffers = BufferPool(buffer_bytes())
    encode = partial(encode_chunk, blob_path=blob_path, level=level, buffers=buffers, ready=ready)
    chunks = enumerate(cut_into_chunks(plan, runs_of or choose_runs(codec, blob_path)))
    calls = (partial(checker.encode, encode, number, chunk) for number, chunk in chunks)
    with closing(in_order(calls, jobs=jobs, name="pack")) as encoded:
        for done in encoded:
            if not burden.admits(done.record, done.chunk.base):
                done = _store(done)
            burden.add(done.record, done.chunk.base)
            for part in (chunk_header(done.record), *done.frames):
                out.write(part)
            # It is hashed by now: by its own call, or by that of a chunk before it, whose result came first.
            buffers.give(done.buffer)
            records.append(done.record)
            progress(done.record.raw_bytes)
    index = _make_index(lock, plan, records, base, whole)
    out.write(index_frame(index))
    return index


def _store(encoded: Encoded) -> Encoded:
    """Return a chunk whose bytes are stored as they are: a reader takes more after it than after one of a few bytes."""
    raw = encoded.raw
    if raw is None:
        raw = memoryview(decode_chunk(encoded.record, memoryview(encoded.frames[0]), number=0))
    frame = stored_frame(raw)
    record = ChunkRecord(ZSTD.number, len(raw), len(frame), blake3_bytes(frame))
    return replace(encoded, record=record, frames=[frame])


def _make_index(
    lock: Lock, plan: TarPlan, records: list[ChunkRecord], base: BaseRecord | None, whole: Index | None
) -> Index:
    text = lock.encoded
    index = Index(
        lock.name,
        len(text),
        sha256_bytes(text),
        plan.size_bytes,
        tuple(records),
        base,
        bases=bases_record(plan.bases),
    )
    if base is None or whole is None:
        return index
    return replace(index, base=replace(base, whole=whole.digest), whole=whole.payload())


class _BlobChecker:
    """Hashes the pieces of blobs in stream order, and compares the digest at each blob's end.

    That is done by the threads that encode, by whichever comes with the chunk that is next.
    """

    def __init__(self) -> None:
        self._hasher: Hasher | None = None
        self._lane = Lane()

    def encode(self, encode: Callable[[Chunk], Encoded], number: int, chunk: Chunk) -> Encoded:
        """Encode a chunk, and hash it once all before it are: now, or in the call for one before it, still under way.

        Raises:
            IntegrityError: A blob, of this chunk or of one that waited for it, does not match the lock.
        """
        done = encode(chunk)
        self._lane.put(number, number + 1, partial(self._feed, done))
        return done

    def _feed(self, done: Encoded) -> None:
        position = 0
        for piece in done.chunk.pieces if done.raw is not None else ():
            if (blob := piece.blob) is not None and done.raw is not None:
                part = done.raw[position : position + piece.size_bytes]
                if piece.size_bytes == blob.size_bytes:
                    _compare(blob, hash_bytes(part, "blake3"))
                else:
                    if piece.offset == 0 or self._hasher is None:
                        self._hasher = Hasher(("blake3",), size_bytes=blob.size_bytes)
                    self._hasher.update(part)
                    if piece.offset + piece.size_bytes == blob.size_bytes:
                        _compare(blob, self._hasher.result())
            position += piece.size_bytes


def _compare(blob: Blob, found: Digests) -> None:
    if found.blake3 != blob.blake3:
        raise IntegrityError(
            f"{blob.path}: expected blake3 {blob.blake3}, found {found.blake3} while packing",
            hint="run the same command again; it brings damaged files anew",
        )
