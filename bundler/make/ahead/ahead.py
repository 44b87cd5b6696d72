"""Encode the chunks of large files while others are downloaded and all is proven, so that packing has little to do.

A chunk of a large file is cut and compressed by the file's bytes alone, so it does not matter that the lock, with which
a bundle begins, is complete only when everything has arrived and is proven.

Rule book:

* another process encodes (`bundler.make.ahead.encoder`), a file after the other. The proof forks, which is not safe
  beside threads, and downloads want the interpreter for themselves. It has a lower priority than both;
* it ends when packing begins, or this process does; what it has not done, packing does;
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
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from typing import IO, Self

from bundler.files.digest import blake3_bytes
from bundler.files.parallel import available_cores
from bundler.format.codec.codecs import CodecChoice
from bundler.format.cut import LARGE_BLOB_BYTES, Chunk
from bundler.format.index import ChunkRecord
from bundler.make.ahead.encoder import Job, ReadyChunk
from bundler.make.room import RepoPlan, count_bytes
from bundler.make.store import Store, StoredBlob
from bundler.plan.lock import Lock


class Ahead:
    """Has stored files encoded; a context manager, which gives the room back.

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
        self._is_wanted = counts.download > 0 and any(
            file.size_bytes >= LARGE_BLOB_BYTES for repo in lock.repos for file in repo.files
        )
        # Of these some are written already when room is looked for: it is looked for with care.
        self._needed = counts.download + counts.staging + counts.bundle
        self._most_load = float(available_cores())
        self._store = store
        self._codec = codec
        self._level = level
        self._process: subprocess.Popen[bytes] | None = None
        self._frames: IO[bytes] | None = None
        self._results: IO[bytes] | None = None
        # BLAKE3 of a file -> offset of a chunk in it -> the chunk.
        self._ready: dict[str, dict[int, ReadyChunk]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.finish()
        if self._frames is not None:
            self._frames.close()

    def start(self) -> None:
        """Start the encoder, if it has something to do; by a thread that stays as long as it shall."""
        if not self._is_wanted:
            return
        # Without it packing does all.
        with contextlib.suppress(OSError):
            work = self._store.root / "work"
            self._frames = tempfile.TemporaryFile(dir=work, buffering=0)  # noqa: SIM115
            self._results = tempfile.TemporaryFile(dir=work)  # noqa: SIM115
            self._process = self._launch(self._frames.fileno(), self._results.fileno())

    def _launch(self, frames: int, results: int) -> subprocess.Popen[bytes]:
        job = Job(
            store=os.fspath(self._store.root.absolute()),
            codec=self._codec,
            level=self._level,
            needed_bytes=self._needed,
            most_load=self._most_load,
            frames=frames,
            results=results,
        )
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "bundler.make.ahead.encoder", job.dumps()],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            pass_fds=(frames, results),
            # Ctrl-C is for this process, which ends that one.
            start_new_session=True,
        )
        assert process.stdin is not None
        # No download waits for it.
        os.set_blocking(process.stdin.fileno(), False)
        return process

    def add(self, stored: StoredBlob) -> None:
        """Have a file that is in the store encoded, sooner or later; from any thread."""
        if self._process is None or self._process.stdin is None or stored.size_bytes < LARGE_BLOB_BYTES:
            return
        # It is far behind, or has ended. A line is shorter than PIPE_BUF, so none is written in part.
        with contextlib.suppress(OSError, ValueError):
            os.write(self._process.stdin.fileno(), (json.dumps(asdict(stored)) + "\n").encode())

    def finish(self) -> None:
        """End the encoder, and see what is ready; a file that it is at is left to packing."""
        process, self._process = self._process, None
        if process is not None:
            assert process.stdin is not None
            process.kill()
            process.stdin.close()
            process.wait()
        self._read_results()

    def _read_results(self) -> None:
        results, self._results = self._results, None
        if results is None:
            return
        with results:
            results.seek(0)
            for line in results:
                # The last one may be cut off.
                with contextlib.suppress(ValueError, TypeError, KeyError):
                    found = json.loads(line)
                    chunks = [ReadyChunk(**chunk) for chunk in found["chunks"]]
                    self._ready[found["blake3"]] = {chunk.offset: chunk for chunk in chunks}

    def take(self, chunk: Chunk) -> tuple[ChunkRecord, bytes] | None:
        """Return the record and the frames of a chunk; None if it is not ready. Safe to call from several threads."""
        [piece, *others] = chunk.pieces
        if piece.blob is None or others or self._frames is None:
            return None
        ready = self._ready.get(piece.blob.blake3, {}).get(piece.offset)
        if ready is None or (ready.raw_bytes, ready.codec) != (piece.size_bytes, chunk.codec.number):
            return None
        frames = _read(self._frames.fileno(), ready.stored_bytes, ready.start)
        record = ChunkRecord(ready.codec, ready.raw_bytes, ready.stored_bytes, bytes.fromhex(ready.blake3))
        return (record, frames) if blake3_bytes(frames) == record.blake3 else None

    @property
    def files(self) -> int:
        """How many files are ready."""
        return len(self._ready)


def _read(descriptor: int, count: int, start: int) -> bytes:
    content = os.pread(descriptor, count, start)
    while len(content) < count and (more := os.pread(descriptor, count - len(content), start + len(content))):
        content += more
    return content
