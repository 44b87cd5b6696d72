"""Encode the chunks of large files while others are still being downloaded, so that packing has little left to do.

A chunk of a large file is cut and compressed by the file's bytes alone, so it does not matter that the lock, with which
a bundle begins, is complete only when everything has arrived and is proven.

Rule book:

* one thread encodes, a file after the other. It ends before the proof begins; what it has not done, packing does;
* a file counts only if the bytes that were encoded have the BLAKE3 that they had when they arrived;
* encoded chunks stand in a file without a name, which goes with this process, however that ends. When they are taken
  from there they are hashed again, and what was damaged is encoded again;
* it takes as much room as the bundle. Where that is not free, or the disk fills up, nothing is encoded ahead;
* it is never needed: whatever goes wrong with it ends it, and what was ready by then counts;
* it costs a little more than packing alone, so it waits for cores that have nothing to do: none are where the load
  average is above their number;
* where nothing has to be downloaded there is nothing to wait for, and the bundle may be there already: nothing either.
"""

from __future__ import annotations

import contextlib
import os
import queue
import shutil
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Self

from bundler.files.digest import Hasher, blake3_bytes
from bundler.files.parallel import available_cores
from bundler.format.codec.buffers import BufferPool
from bundler.format.codec.codecs import CodecChoice
from bundler.format.cut import LARGE_BLOB_BYTES, Chunk, choose_runs, cut_large_blob
from bundler.format.index import ChunkRecord
from bundler.format.writer import buffer_bytes, encode_chunk
from bundler.make.room import RepoPlan, count_bytes
from bundler.make.store import Store, StoredBlob
from bundler.plan.layout import Blob
from bundler.plan.lock import Lock


class Ahead:
    """Encodes stored files in a thread; a context manager, which gives the room back.

    Args:
        store: Where the files are; it also holds what is encoded.
        codec: As for packing.
        level: As for packing.
        lock: What is fetched.
        plans: What of it is missing.
    """

    def __init__(
        self, store: Store, codec: CodecChoice, level: int, lock: Lock, plans: Sequence[RepoPlan]
    ) -> None:
        counts = count_bytes(lock, plans)
        self._is_wanted = counts.download > 0
        # Of these some are written already when room is looked for: it is looked for with care.
        self._needed = counts.download + counts.staging + counts.bundle
        self._store = store
        self._codec = codec
        self._level = level
        self._file: IO[bytes] | None = None
        self._end = 0
        # BLAKE3 of a file -> offset of a chunk in it -> where it stands in ours.
        self._ready: dict[str, dict[int, tuple[ChunkRecord, int]]] = {}
        self._tasks: queue.SimpleQueue[StoredBlob | None] = queue.SimpleQueue()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="ahead", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.finish()
        if self._file is not None:
            self._file.close()

    def add(self, stored: StoredBlob) -> None:
        """Encode a file that is in the store, sooner or later; from any thread."""
        if self._is_wanted and stored.size_bytes >= LARGE_BLOB_BYTES:
            self._tasks.put(stored)

    def finish(self) -> None:
        """End the thread; a file that it is at is left to packing."""
        self._stop.set()
        self._tasks.put(None)
        if self._thread.ident is not None:
            self._thread.join()

    def take(self, chunk: Chunk) -> tuple[ChunkRecord, bytes] | None:
        """Return the record and the frames of a chunk; None if it is not ready. Safe to call from several threads."""
        [piece, *others] = chunk.pieces
        if piece.blob is None or others:
            return None
        record, start = self._ready.get(piece.blob.blake3, {}).get(piece.offset, (None, 0))
        if (
            self._file is None
            or record is None
            or (record.raw_bytes, record.codec) != (piece.size_bytes, chunk.codec.number)
        ):
            return None
        frames = _read(self._file.fileno(), record.stored_bytes, start)
        return (record, frames) if blake3_bytes(frames) == record.blake3 else None

    @property
    def files(self) -> int:
        """How many files are ready."""
        return len(self._ready)

    def _work(self) -> None:
        # Packing will meet it again, whatever it is, and say so; or the disk or the memory is full, and others need the
        # rest.
        with contextlib.suppress(Exception):
            buffers = BufferPool(buffer_bytes())
            while (stored := self._tasks.get()) is not None and not self._stop.is_set():
                if not _is_busy() and self._has_room(stored.size_bytes):
                    self._encode(stored, buffers)

    def _has_room(self, size_bytes: int) -> bool:
        return shutil.disk_usage(self._store.root).free > self._needed + size_bytes

    def _encode(self, stored: StoredBlob, buffers: BufferPool) -> None:
        blob = Blob(
            path=stored.etag,
            size_bytes=stored.size_bytes,
            sha256=stored.sha256,
            blake3=stored.blake3,
            etag=stored.etag,
        )

        def find(_: Blob) -> Path:
            return self._store.path(stored.etag)

        hasher = Hasher(("blake3",), size_bytes=stored.size_bytes)
        chunks: dict[int, tuple[ChunkRecord, int]] = {}
        for chunk in cut_large_blob(blob, choose_runs(self._codec, find)):
            if self._stop.is_set():
                return
            done = encode_chunk(chunk, find, self._level, buffers)
            assert done.raw is not None, "nothing is ready here"
            hasher.update(done.raw)
            chunks[chunk.pieces[0].offset] = (done.record, self._end)
            self._write(done.frames)
            buffers.give(done.buffer)
        if hasher.result().blake3 == stored.blake3:
            self._ready[stored.blake3] = chunks

    def _write(self, frames: Sequence[bytes | bytearray | memoryview]) -> None:
        if self._file is None:
            self._file = tempfile.TemporaryFile(dir=self._store.root / "work", buffering=0)  # noqa: SIM115
        for frame in frames:
            rest = memoryview(frame)
            while rest:
                count = os.pwrite(self._file.fileno(), rest, self._end)
                rest, self._end = rest[count:], self._end + count


def _is_busy() -> bool:
    return os.getloadavg()[0] > available_cores()


def _read(descriptor: int, count: int, start: int) -> bytes:
    content = os.pread(descriptor, count, start)
    while len(content) < count and (more := os.pread(descriptor, count - len(content), start + len(content))):
        content += more
    return content
